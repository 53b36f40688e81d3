//! Resources in YAML files.

use std::path::Path;

use anyhow::Context;
use serde_json::Value;

/// The resources of one file: a stream of YAML documents.
///
/// # Errors
/// When it cannot be read or is no YAML.
pub fn load(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| path.display().to_string())
}

/// The resources of all `.yaml` files of a folder, in the order of the files' names.
///
/// # Errors
/// As [`load`].
pub fn load_folder(folder: &Path) -> anyhow::Result<Vec<Value>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    let mut resources = Vec::new();
    for path in paths {
        resources.extend(load(&path)?);
    }
    Ok(resources)
}

/// The documents of a YAML stream.
///
/// # Errors
/// When it is no YAML.
pub fn parse(text: &str) -> anyhow::Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// Puts values for `{{ name }}` into a template.
pub fn render(template: &str, values: &[(&str, String)]) -> String {
    values
        .iter()
        .fold(template.to_owned(), |text, (name, value)| text.replace(&format!("{{{{ {name} }}}}"), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_templates() {
        let text =
            render("type: Mesh\nname: {{ mesh }}\n---\n# nothing\n---\ntype: Zone", &[("mesh", "m".into())]);
        let resources = parse(&text).unwrap();
        assert_eq!(resources.len(), 2);
        assert_eq!(resources[0]["name"], "m");
        assert!(parse("a: [").is_err());
    }
}
