//! From a snapshot and a proxy to Envoy's configuration.
//!
//! Between the index and the configuration stream: a [`MeshView`] holds what all proxies of a mesh share and is made
//! once per snapshot, [`generate()`] answers for one proxy. Nothing here does I/O or reads a clock; equal input gives
//! equal bytes, in whatever order resources arrived, and a resource that cannot be read takes only itself away.

mod config;
pub mod documents;
mod draft;
mod generate;
mod identity;
mod metadata;
mod note;
mod outbounds;
mod parts;
mod policies;
mod proxy;
mod routes;
mod settings;
pub mod spiffe;
mod view;

pub use config::{ConfigResource, ProxyConfig, ResourceType, Resources, Version};
pub use generate::{Inputs, contributors, generate};
pub use identity::Identity;
pub use metadata::{Feature, Metadata};
pub use note::Note;
pub use proxy::{AdminTls, Proxy};
pub use settings::{Cidr, Settings};
pub use view::MeshView;

use model::{Kind, Violations};
use serde_json::Value;

/// Whether a change of a resource of this kind can change the configuration of any proxy. Observations can not.
pub fn concerns(kind: Kind) -> bool {
    const CONCERNING: [Kind; 10] = [
        Kind::DATAPLANE,
        Kind::MESH,
        Kind::MESH_EXTERNAL_SERVICE,
        Kind::MESH_IDENTITY,
        Kind::MESH_MULTI_ZONE_SERVICE,
        Kind::MESH_OPEN_TELEMETRY_BACKEND,
        Kind::MESH_SERVICE,
        Kind::MESH_TRUST,
        Kind::MESH_ZONE_ADDRESS,
        Kind::SECRET,
    ];
    kind.policy.is_some() || CONCERNING.contains(&kind)
}

/// Checks what only Envoy's API can tell of a spec, after everything that its kind says of itself.
pub fn check_spec(kind: Kind, spec: &Value, violations: &mut Violations) {
    if kind == Kind::MESH_PROXY_PATCH {
        policies::check_patch(spec, violations);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_and_destinations_concern_proxies_and_insights_do_not() {
        for name in ["Dataplane", "MeshService", "MeshTimeout", "MeshTrust", "Secret"] {
            assert!(concerns(Kind::by_name(name).expect(name)), "{name}");
        }
        for name in ["DataplaneInsight", "Zone", "ZoneInsight", "MeshInsight", "Config", "GlobalSecret"] {
            assert!(!concerns(Kind::by_name(name).expect(name)), "{name}");
        }
    }
}
