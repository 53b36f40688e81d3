//! Compiles Envoy's interface definitions with ordered maps, so that equal messages have equal bytes.

use std::path::{Path, PathBuf};
use std::process::Command;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=roots.txt");
    println!("cargo::rerun-if-changed=extensions.txt");
    let roots = std::fs::read_to_string("roots.txt")?;
    let extensions = std::fs::read_to_string("extensions.txt")?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    // Extensions that only users write about are described and have no code.
    describe(&[&roots, &extensions], &out.join("descriptors.bin"))?;
    let typed = out.join("typed.bin");
    describe(&[&roots], &typed)?;
    let set = prost_types::FileDescriptorSet::decode(std::fs::read(&typed)?.as_slice())?;
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

/// Writes the descriptors of some files and of all that they use.
fn describe(files: &[&str], to: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let protoc = std::env::var_os("PROTOC").unwrap_or_else(|| "protoc".into());
    let status = Command::new(&protoc)
        .args(["-I", "proto", "--include_imports"])
        .arg(format!("--descriptor_set_out={}", to.display()))
        .args(files.iter().flat_map(|list| list.split_whitespace()))
        .status()
        .map_err(|error| format!("cannot run {}: {error}; install protobuf-compiler", protoc.display()))?;
    if status.success() { Ok(()) } else { Err("protoc refused the files of proto/".into()) }
}
