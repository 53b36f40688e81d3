//! Generates messages, service stubs and the descriptor set from `proto/` and from Envoy's discovery protos.

use std::error::Error;
use std::path::PathBuf;

use prost::Message;
use tonic_prost_build::Config;

const ENVOY_PROTO: &str = "../common/envoy-api/proto";

const ROOTS: &[&str] = &[
    "kuma/mesh/v1alpha1/dataplane.proto",
    "kuma/mesh/v1alpha1/dataplane_insight.proto",
    "kuma/mesh/v1alpha1/envoy_admin.proto",
    "kuma/mesh/v1alpha1/envoy_admin_inter_cp_forward.proto",
    "kuma/mesh/v1alpha1/kds.proto",
    "kuma/mesh/v1alpha1/mesh.proto",
    "kuma/mesh/v1alpha1/selector.proto",
    "kuma/system/v1alpha1/datasource.proto",
    "kuma/system/v1alpha1/inter_cp_ping.proto",
    "kuma/system/v1alpha1/system.proto",
    "kuma/system/v1alpha1/zone_overview.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed={ENVOY_PROTO}/envoy/service/discovery/v3/discovery.proto");

    let mut config = Config::new();
    // Ordered maps make equal messages equal bytes, which the versions on the wire are hashes of.
    config
        .btree_map(["."])
        .enable_type_names()
        .type_name_domain(["."], "type.googleapis.com")
        .include_file("protos.rs");
    let mut descriptors = config.load_fds(ROOTS, &["proto", ENVOY_PROTO])?;
    // Comments stay for the doc comments and schemas of our own messages; those of other projects are not rustdoc.
    for file in &mut descriptors.file {
        if !file.package().starts_with("kuma.") {
            file.source_code_info = None;
        }
    }
    tonic_prost_build::configure().compile_fds_with_config(descriptors.clone(), config)?;

    let path =
        PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?).join("descriptors.bin");
    std::fs::write(path, descriptors.encode_to_vec())?;
    Ok(())
}
