//! `cargo xtask check`: everything that can be said without running a test.

use anyhow::bail;

use crate::{links, rules, shell, tools};

/// A part of the check.
type Part = fn() -> anyhow::Result<()>;

/// Reports every failing part, not just the first.
pub(crate) fn run() -> anyhow::Result<()> {
    tools::protoc()?;
    let parts: [(&str, Part); 5] = [
        ("formatting", formatting),
        ("house rules", rules::check),
        ("links", links::check),
        ("clippy", clippy),
        ("documentation", documentation),
    ];
    let mut failed = Vec::new();
    for (name, part) in parts {
        match part() {
            Ok(()) => println!("{name}: ok"),
            Err(error) => {
                eprintln!("{name}: {error:#}");
                failed.push(name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("check failed: {}", failed.join(", "));
    }
    Ok(())
}

fn formatting() -> anyhow::Result<()> {
    shell::run(shell::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> anyhow::Result<()> {
    let lints = ["--", "-D", "warnings"];
    shell::run(shell::cargo().args(["clippy", "--workspace", "--all-targets", "--locked"]).args(lints))
}

/// Links in comments lead somewhere. Generated code is left out: its comments are other projects'.
fn documentation() -> anyhow::Result<()> {
    let mut doc = shell::cargo();
    doc.args(["doc", "--workspace", "--locked", "--no-deps", "--document-private-items"])
        .args(["--exclude", "envoy-api", "--exclude", "kds-proto"])
        .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links");
    shell::run(&mut doc)
}
