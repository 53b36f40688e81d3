//! Compiles Envoy's interface definitions with ordered maps, so that equal messages have equal bytes.

use std::path::PathBuf;
use std::process::Command;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=roots.txt");
    let roots = std::fs::read_to_string("roots.txt")?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let descriptors = out.join("descriptors.bin");
    let protoc = std::env::var_os("PROTOC").unwrap_or_else(|| "protoc".into());
    let status = Command::new(&protoc)
        .args(["-I", "proto", "--include_imports"])
        .arg(format!("--descriptor_set_out={}", descriptors.display()))
        .args(roots.split_whitespace())
        .status()
        .map_err(|error| format!("cannot run {}: {error}; install protobuf-compiler", protoc.display()))?;
    if !status.success() {
        return Err("protoc refused the files of proto/".into());
    }
    let set = prost_types::FileDescriptorSet::decode(std::fs::read(&descriptors)?.as_slice())?;
    let mut config = tonic_prost_build::Config::new();
    config
        .enable_type_names()
        .type_name_domain(["."], "type.googleapis.com")
        .btree_map(["."])
        .disable_comments(["."])
        .include_file("api.rs");
    tonic_prost_build::configure().compile_fds_with_config(set, config)?;
    Ok(())
}
