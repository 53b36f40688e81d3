//! `cargo xtask conformance FOLDER`: recorded exchanges replayed against the binaries.
//!
//! A floor is how many cases of a suite have passed before; fewer is a failure.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::{shell, tools, workspace};

/// Runner of a suite, and the suite's folder beside it.
const SUITES: [(&str, &str); 3] =
    [("run_api.py", "api"), ("run_labels.py", "labels"), ("run_envoyconfig.py", "envoyconfig")];

/// `suite = passed`, one a line.
const FLOORS: &str = "tests/conformance-floors.toml";

pub(crate) fn run(folder: &Path) -> anyhow::Result<()> {
    let folder = folder.canonicalize().with_context(|| format!("no folder {}", folder.display()))?;
    tools::python_yaml()?;
    let floors =
        std::fs::read_to_string(workspace::root().join(FLOORS)).with_context(|| FLOORS.to_owned())?;
    let floors = parse_floors(&floors)?;
    tools::protoc()?;
    shell::build_with_tests()?;
    let binaries = workspace::binaries();
    let mut below = Vec::new();
    for (runner, suite) in SUITES {
        let floor = floors.get(suite).copied().unwrap_or(0);
        let (passed, failed) = run_suite(&folder, runner, suite, &binaries)?;
        println!("conformance {suite}: {passed} passed, {failed} failed (floor {floor})");
        if passed < floor {
            below.push(suite);
        } else if passed > floor {
            println!("conformance {suite}: raise its floor in {FLOORS} to {passed}");
        }
    }
    if !below.is_empty() {
        bail!("fewer cases than before pass in: {}", below.join(", "));
    }
    Ok(())
}

/// Passed and failed cases: the runner's last line.
fn run_suite(folder: &Path, runner: &str, suite: &str, binaries: &Path) -> anyhow::Result<(u64, u64)> {
    println!("$ python3 {runner} {suite}");
    let child = Command::new("python3")
        .current_dir(folder)
        .args(["-B", runner, suite])
        .env("ISTHMUS_BIN", binaries)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run python3")?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    // Failing cases are expected above the floor; the exit status says nothing more than the counts.
    counts(text.trim_end().lines().last().unwrap_or_default())
        .with_context(|| format!("{runner} did not end with its counts: {}", output.status))
}

fn counts(line: &str) -> Option<(u64, u64)> {
    let (passed, failed) = line.split_once(" passed, ")?;
    Some((passed.parse().ok()?, failed.strip_suffix(" failed")?.parse().ok()?))
}

fn parse_floors(text: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (suite, floor) = line.split_once('=').with_context(|| format!("{FLOORS}: {line:?}"))?;
            Ok((
                suite.trim().to_owned(),
                floor.trim().parse().with_context(|| format!("{FLOORS}: {line:?}"))?,
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_floors_are_read() {
        assert_eq!(counts("12 passed, 3 failed"), Some((12, 3)));
        assert_eq!(counts("needs PyYAML"), None);
        let floors = parse_floors("# note\napi = 12 # more\n\nlabels = 0\n").unwrap();
        assert_eq!(floors, BTreeMap::from([("api".to_owned(), 12), ("labels".to_owned(), 0)]));
        assert!(parse_floors("api twelve").is_err());
    }
}
