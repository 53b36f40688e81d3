//! Which dataplane this is: named by flags, or described by a template file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The mesh of a dataplane that names none.
const DEFAULT_MESH: &str = "default";

/// Who the bootstrap is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dataplane {
    pub(crate) mesh: String,
    pub(crate) name: String,
    /// JSON text of the resource to register, if any.
    pub(crate) resource: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DataplaneError {
    #[error("which dataplane? give --name (and --mesh), or --dataplane-file")]
    Unnamed,
    #[error("cannot read the dataplane file {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("dataplane file line {line}: {{{{ {name} }}}} has no value: add --dataplane-var {name}=...")]
    UnknownVariable { name: String, line: usize },
    #[error("dataplane file line {line}: {{{{ is not closed by }}}}")]
    Unclosed { line: usize },
    #[error("the dataplane file is not valid YAML: {0}")]
    Syntax(String),
    #[error("the dataplane file holds no Dataplane: {0}")]
    NotADataplane(String),
    #[error("--{flag} {given:?} contradicts the dataplane file, which says {found:?}: leave the flag out")]
    Contradiction { flag: &'static str, given: String, found: String },
}

/// The template that the flags name or hold, if any.
pub(crate) fn template(file: Option<&Path>, text: Option<&str>) -> Result<Option<String>, DataplaneError> {
    let Some(path) = file else { return Ok(text.map(str::to_owned)) };
    let read =
        if path == Path::new("-") { io::read_to_string(io::stdin()) } else { std::fs::read_to_string(path) };
    read.map(Some).map_err(|source| DataplaneError::Read { path: path.to_owned(), source })
}

/// Works out the dataplane from the flags.
pub(crate) fn load(
    mesh: Option<&str>,
    name: Option<&str>,
    template: Option<&str>,
    vars: &[(String, String)],
) -> Result<Dataplane, DataplaneError> {
    let Some(text) = template else {
        let name = name.ok_or(DataplaneError::Unnamed)?.to_owned();
        return Ok(Dataplane { mesh: mesh.unwrap_or(DEFAULT_MESH).to_owned(), name, resource: None });
    };
    let dataplane = parse(&render(text, &vars.iter().cloned().collect())?)?;
    for (flag, given, found) in [("mesh", mesh, &dataplane.mesh), ("name", name, &dataplane.name)] {
        if let Some(given) = given.filter(|given| given != found) {
            return Err(DataplaneError::Contradiction {
                flag,
                given: given.to_owned(),
                found: found.clone(),
            });
        }
    }
    Ok(dataplane)
}

fn parse(yaml: &str) -> Result<Dataplane, DataplaneError> {
    let resource: Value =
        serde_saphyr::from_str(yaml).map_err(|error| DataplaneError::Syntax(error.to_string()))?;
    let text = |key: &str| resource.get(key).and_then(Value::as_str);
    let refused = |what: &str| DataplaneError::NotADataplane(what.to_owned());
    match text("type") {
        Some("Dataplane") => {}
        Some(other) => return Err(DataplaneError::NotADataplane(format!("its type is {other}"))),
        None => return Err(refused("it has no type")),
    }
    let name = text("name").filter(|name| !name.is_empty()).ok_or_else(|| refused("it has no name"))?;
    let mesh = text("mesh").unwrap_or(DEFAULT_MESH).to_owned();
    Ok(Dataplane { mesh, name: name.to_owned(), resource: Some(resource.to_string()) })
}

/// Replaces each `{{ key }}` by its value.
fn render(template: &str, vars: &BTreeMap<String, String>) -> Result<String, DataplaneError> {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let line = 1 + template[..template.len() - after.len()].matches('\n').count();
        let (key, after) = after.split_once("}}").ok_or(DataplaneError::Unclosed { line })?;
        let key = key.trim();
        let value = vars.get(key);
        out.push_str(value.ok_or_else(|| DataplaneError::UnknownVariable { name: key.to_owned(), line })?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "type: Dataplane\nmesh: m\nname: {{ name }}\nnetworking: {address: {{address}}}\n";

    fn vars(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_template_is_filled_in() {
        let yaml = render(FILE, &vars(&[("name", "web"), ("address", "10.0.0.1")])).unwrap();
        let dataplane = parse(&yaml).unwrap();
        assert_eq!((dataplane.mesh.as_str(), dataplane.name.as_str()), ("m", "web"));
        let resource: Value = serde_json::from_str(&dataplane.resource.unwrap()).unwrap();
        assert_eq!(resource["networking"]["address"], "10.0.0.1");
    }

    #[test]
    fn what_is_missing_is_named_with_its_line() {
        let error = render(FILE, &vars(&[("name", "web")])).unwrap_err().to_string();
        assert_eq!(
            error,
            "dataplane file line 4: {{ address }} has no value: add --dataplane-var address=..."
        );
        let error = render("a\n{{ b", &vars(&[])).unwrap_err().to_string();
        assert_eq!(error, "dataplane file line 2: {{ is not closed by }}");
    }

    #[test]
    fn only_a_dataplane_with_a_name_is_accepted() {
        for (yaml, reason) in [
            ("type: Mesh\nname: a", "its type is Mesh"),
            ("name: a", "no type"),
            ("type: Dataplane", "no name"),
            ("just text", "no type"),
            ("a: [", "not valid YAML"),
        ] {
            let error = parse(yaml).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn flags_name_a_stored_dataplane_or_agree_with_the_file() {
        let stored = load(None, Some("web"), None, &[]).unwrap();
        assert_eq!(stored, Dataplane { mesh: "default".into(), name: "web".into(), resource: None });
        assert!(matches!(load(None, None, None, &[]), Err(DataplaneError::Unnamed)));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "type: Dataplane\nname: web").unwrap();
        let text = template(Some(file.path()), None).unwrap();
        load(Some("default"), Some("web"), text.as_deref(), &[]).unwrap();
        assert_eq!(template(None, Some("text")).unwrap().as_deref(), Some("text"));
        let error = template(Some(Path::new("/nonexistent")), None).unwrap_err();
        assert!(error.to_string().contains("/nonexistent"), "{error}");
        let error = load(Some("other"), None, text.as_deref(), &[]).unwrap_err();
        assert!(matches!(error, DataplaneError::Contradiction { flag: "mesh", .. }), "{error}");
    }
}
