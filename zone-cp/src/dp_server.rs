//! What proxies talk to: bootstrap, delta ADS, health.

#[cfg_attr(not(test), expect(dead_code, reason = "served as soon as streams are accepted"))]
mod session;
