//! Where things are in the workspace.

use std::path::{Path, PathBuf};

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask is a folder of the workspace").to_owned()
}

/// Where cargo puts what it builds in the dev profile.
pub(crate) fn binaries() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    root().join(target).join("debug")
}

/// Files below the root that git knows or would add, whose names end in `suffix`.
pub(crate) fn files(suffix: &str) -> anyhow::Result<Vec<PathBuf>> {
    let root = root();
    let listing = crate::shell::capture(std::process::Command::new("git").current_dir(&root).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    let mut files: Vec<_> = listing
        .lines()
        .filter(|name| name.ends_with(suffix))
        .map(|name| root.join(name))
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}
