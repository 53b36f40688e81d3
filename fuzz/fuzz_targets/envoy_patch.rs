//! What a MeshProxyPatch carries: Envoy's messages as YAML, merged into held ones, and JSON patches.

#![no_main]

use envoy_api::envoy::config::cluster::v3::Cluster;
use envoy_api::envoy::config::listener::v3::Listener;
use envoy_api::{json, patch};
use libfuzzer_sys::fuzz_target;

const HELD: &str = "
name: a
connectTimeout: 5s
type: EDS
typedExtensionProtocolOptions:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    explicitHttpConfig: {http2ProtocolOptions: {}}
";

fuzz_target!(|text: &str| {
    if let Ok(cluster) = json::parse_yaml::<Cluster>(text) {
        let printed = json::print_message(&cluster).expect("what was read can be written");
        let read: Cluster = json::parse(&printed).expect("what was written can be read");
        assert_eq!(json::print_message(&read).expect("once more"), printed);
        let held: Cluster = json::parse_yaml(HELD).expect("the target's own message");
        let _ = patch::merge(&held, &cluster);
        let _ = patch::unheard(&printed, &held);
    }
    let _ = json::parse_yaml::<Listener>(text);
});
