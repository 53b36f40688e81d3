//! `cargo xtask bench`: builds everything with --release and hands over to the load generator of `tests/load`.

use std::process::Command;

use crate::{shell, tools, workspace};

/// What is built: the generator and what it measures.
const PACKAGES: [&str; 3] = ["load", "global-cp", "zone-cp"];

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    tools::protoc()?;
    tools::etcd()?;
    let packages = PACKAGES.iter().flat_map(|name| ["-p", name]);
    shell::run(shell::cargo().args(["build", "--locked", "--release", "--bins"]).args(packages))?;
    let binaries = workspace::binaries().with_file_name("release");
    let folder = binaries.with_file_name("bench");
    let mut load = Command::new(binaries.join("load"));
    load.current_dir(workspace::root()).args(args);
    shell::run(load.arg("--binaries").arg(&binaries).arg("--folder").arg(&folder))
}
