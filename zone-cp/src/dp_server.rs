//! What proxies talk to: bootstrap, delta ADS, health.
