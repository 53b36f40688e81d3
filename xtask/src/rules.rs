//! House rules that neither rustfmt nor clippy knows: sizes, file names, what opens a file, forbidden words,
//! and which crate may use which.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{shell, workspace};

/// Lines of a file, tests left out.
const FILE_LINES: usize = 500;

/// Lines of a function between its head and its end, without blank ones and comments.
const FUNCTION_LINES: usize = 100;

/// The crates of the workspace that each of them may use; tests may use more.
/// INVARIANT: arrows point from binaries to libraries and never back.
const MAY_USE: &[(&str, &[&str])] = &[
    ("auth", &["model", "store"]),
    ("control-api", &["auth", "kds", "model", "policy", "proxy-config", "runtime", "store"]),
    ("control-plane", &["auth", "control-api", "model", "runtime", "store"]),
    ("e2e", &[]),
    ("envoy-api", &[]),
    (
        "global-cp",
        &[
            "auth",
            "control-api",
            "control-plane",
            "kds",
            "kds-proto",
            "model",
            "policy",
            "proxy-config",
            "runtime",
            "store",
        ],
    ),
    ("kds", &["kds-proto", "model", "runtime", "store"]),
    ("kds-proto", &[]),
    ("load", &["e2e", "envoy-api", "kds", "kds-proto", "model", "runtime", "store"]),
    ("mesh-dp", &["runtime"]),
    ("meshctl", &["model", "runtime"]),
    ("model", &["kds-proto"]),
    ("policy", &["model"]),
    ("proxy-config", &["envoy-api", "kds-proto", "model", "policy", "store"]),
    ("runtime", &[]),
    ("store", &["kds-proto", "model"]),
    ("xtask", &["e2e"]),
    (
        "zone-cp",
        &[
            "auth",
            "control-api",
            "control-plane",
            "envoy-api",
            "kds",
            "kds-proto",
            "model",
            "policy",
            "proxy-config",
            "runtime",
            "store",
        ],
    ),
];

/// Reports every breach.
pub(crate) fn check() -> anyhow::Result<()> {
    let mut breaches = Vec::new();
    for file in workspace::files(".rs")? {
        let text = std::fs::read_to_string(&file)?;
        let shown = file.strip_prefix(workspace::root()).unwrap_or(&file);
        breaches.extend(
            file_breaches(shown, &text).into_iter().map(|what| format!("{}: {what}", shown.display())),
        );
    }
    let metadata = shell::capture(shell::cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    breaches.extend(forbidden_edges(&serde_json::from_str(&metadata)?)?);
    if !breaches.is_empty() {
        bail!("{} broken:\n{}", breaches.len(), breaches.join("\n"));
    }
    Ok(())
}

fn file_breaches(path: &Path, text: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    if path.file_name().is_some_and(|name| name == "mod.rs") {
        breaches.push("name it after its folder, beside the folder".to_owned());
    }
    if !text.starts_with("//!") {
        breaches.push("opens without `//!` and its place in the flow".to_owned());
    }
    let is_test = path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
    let lines = text.lines().position(|line| line == "#[cfg(test)]").unwrap_or(text.lines().count());
    if !is_test && lines > FILE_LINES {
        breaches.push(format!("{lines} lines without tests, more than {FILE_LINES}"));
    }
    for (name, lines) in long_functions(text) {
        breaches.push(format!("{name} has {lines} lines, more than {FUNCTION_LINES}"));
    }
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.starts_with("#[ignore") {
            breaches.push(format!("line {}: a test starts what it needs, or fails", number + 1));
        }
        if line.starts_with("// TODO") || line.starts_with("// FIXME") {
            breaches.push(format!("line {}: write an issue instead", number + 1));
        }
    }
    breaches
}

/// Functions that are too long. As rustfmt writes them, a function ends at the first `}` under its beginning.
fn long_functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut long = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = line.len() - line.trim_start().len();
        let body = lines.get(at + 1..).unwrap_or_default();
        let ends = |line: &&str| line.len() == indent + 1 && line.ends_with('}');
        let count = body
            .iter()
            .take_while(|line| !ends(line))
            .filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with("//"))
            .count();
        // A declaration without a body ends on its own line or with its arguments.
        if count > FUNCTION_LINES && body.iter().any(ends) && !line.ends_with(';') {
            long.push((name, count));
        }
    }
    long
}

/// The name of the function that a line begins.
fn function_name(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let modifiers = ["pub", "pub(crate)", "pub(super)", "async", "const", "extern", "default"];
    let first = words.find(|word| !modifiers.contains(word))?;
    (first == "fn").then_some(())?;
    words.next()?.split(['(', '<']).next()
}

/// Dependencies within the workspace that the table does not allow.
fn forbidden_edges(metadata: &Value) -> anyhow::Result<Vec<String>> {
    let packages = metadata["packages"].as_array().context("cargo metadata lists packages")?;
    let members: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut breaches = Vec::new();
    for package in packages {
        let Some(name) = package["name"].as_str() else { continue };
        let allowed = MAY_USE.iter().find(|(user, _)| *user == name).map(|(_, used)| *used);
        let Some(allowed) = allowed else {
            breaches.push(format!("crate {name} is not in the table of xtask/src/rules.rs"));
            continue;
        };
        let used = package["dependencies"].as_array().into_iter().flatten();
        for dependency in used.filter(|dependency| dependency["kind"].as_str() != Some("dev")) {
            let used = dependency["name"].as_str().unwrap_or_default();
            if members.contains(used) && !allowed.contains(&used) {
                breaches.push(format!("crate {name} may not use {used}"));
            }
        }
    }
    Ok(breaches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaches_of_a_file_are_named() {
        let long = "//! A file.\n".to_owned() + &"fn f() {}\n".repeat(FILE_LINES);
        assert_eq!(file_breaches(Path::new("a/src/b.rs"), &long).len(), 1);
        assert!(file_breaches(Path::new("a/tests/b.rs"), &long).is_empty());
        let tested = long.replacen("fn f() {}\n", "#[cfg(test)]\n", 1);
        assert!(file_breaches(Path::new("a/src/b.rs"), &tested).is_empty());
        assert_eq!(file_breaches(Path::new("a/src/mod.rs"), "fn f() {}").len(), 2);
        assert_eq!(file_breaches(Path::new("a.rs"), "//! A.\n    #[ignore]\n    // TODO: b\n").len(), 2);
    }

    #[test]
    fn functions_are_measured_without_blanks_and_comments() {
        let function = |lines: usize| {
            format!(
                "    pub async fn f<T>(a: T) {{\n{}    }}\n",
                "        x();\n\n        // y\n".repeat(lines)
            )
        };
        assert!(long_functions(&function(FUNCTION_LINES)).is_empty());
        let two = function(FUNCTION_LINES + 1) + &function(1);
        assert_eq!(long_functions(&two), [("f", FUNCTION_LINES + 1)]);
        assert_eq!(function_name("let f = fn_name(a);"), None);
    }

    #[test]
    fn a_new_edge_is_refused_unless_only_tests_use_it() {
        let edge = |kind: Value| {
            serde_json::json!({"packages": [
                {"name": "policy", "dependencies": [{"name": "store", "kind": kind}, {"name": "serde", "kind": null}]},
                {"name": "store", "dependencies": []},
            ]})
        };
        assert_eq!(forbidden_edges(&edge(Value::Null)).unwrap(), ["crate policy may not use store"]);
        assert!(forbidden_edges(&edge("dev".into())).unwrap().is_empty());
        let unknown = serde_json::json!({"packages": [{"name": "stranger", "dependencies": []}]});
        assert_eq!(forbidden_edges(&unknown).unwrap().len(), 1);
    }
}
