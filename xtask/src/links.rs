//! Links between the documents: each must lead to a file that is there.

use std::path::Path;

use anyhow::bail;

use crate::workspace;

pub(crate) fn check() -> anyhow::Result<()> {
    let mut broken = Vec::new();
    for file in workspace::files(".md")? {
        let text = std::fs::read_to_string(&file)?;
        let folder = file.parent().unwrap_or(Path::new("."));
        for target in targets(&text) {
            let path = target.split('#').next().unwrap_or_default();
            if !path.is_empty() && !folder.join(path).exists() {
                broken.push(format!("{}: {target}", file.display()));
            }
        }
    }
    if !broken.is_empty() {
        bail!("these lead nowhere:\n{}", broken.join("\n"));
    }
    Ok(())
}

/// The targets of inline links to files, outside code blocks.
fn targets(markdown: &str) -> Vec<&str> {
    let mut in_code = false;
    let mut targets = Vec::new();
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for rest in line.split("](").skip(1) {
            let target = rest.split(')').next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") {
                targets.push(target);
            }
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_files_are_found_and_others_left_alone() {
        let text = "see [a](docs/a.md#part) and [b](https://b.example)\n```\n[c](c.md)\n```\n[d](d.md)";
        assert_eq!(targets(text), ["docs/a.md#part", "d.md"]);
    }
}
