//! Configurations of whole proxies in small meshes: what they hold, that arrival order does not change them, that
//! one bad resource costs only itself, and that a real Envoy accepts them.

mod advance;
mod envoy;
mod mesh;
mod order;
mod patches;
mod peers;
mod random;
mod routes;
mod sidecars;
mod telemetry;
mod zones;
