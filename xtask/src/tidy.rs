//! `cargo xtask tidy`: mends what can be mended, tells the rest.

use crate::{links, rules, shell, workspace};

/// Endings of files that a tool left behind: snapshots not reviewed, and what patches leave.
const LEFT_OVER: [&str; 4] = [".snap.new", ".pending-snap", ".orig", ".rej"];

pub(crate) fn run() -> anyhow::Result<()> {
    shell::run(shell::cargo().args(["fmt", "--all"]))?;
    for folder in ["common", "global-cp", "kds-proto", "mesh-dp", "meshctl", "tests", "xtask", "zone-cp"] {
        remove_left_over(&workspace::root().join(folder))?;
    }
    rules::check()?;
    links::check()
}

fn remove_left_over(folder: &std::path::Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !path.is_symlink() {
            remove_left_over(&path)?;
        } else if LEFT_OVER.iter().any(|suffix| name.ends_with(suffix)) {
            std::fs::remove_file(&path)?;
            println!("removed {}", path.display());
        }
    }
    Ok(())
}
