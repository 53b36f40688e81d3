//! The resources that manifests hold, ready to be sent.

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::{Key, Kind};
use serde_json::Value;

use crate::error::Error;
use crate::kinds;
use crate::source::{self, Manifest, Place};
use crate::terminal::Terminal;

/// Where resources come from.
#[derive(Debug, clap::Args)]
pub(crate) struct SourceArgs {
    /// A file of YAML or JSON documents, a folder of such files, or - for standard input; may be repeated.
    #[arg(long = "file", short = 'f', required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Look into the folders of a folder too.
    #[arg(long, short = 'R')]
    recursive: bool,
    /// The mesh of resources that name none.
    #[arg(long, short, default_value = "default")]
    mesh: String,
}

/// A resource to write.
pub(crate) struct Entry {
    pub(crate) place: Place,
    pub(crate) key: Key,
    pub(crate) document: Value,
}

impl Entry {
    /// Where the resource is written.
    pub(crate) fn path(&self) -> String {
        kinds::item(self.key.kind, &self.key.mesh, &self.key.name)
    }
}

/// What was read.
pub(crate) struct Entries {
    /// Resources that can be sent, meshes first.
    pub(crate) list: Vec<Entry>,
    /// Documents that were read, with those that cannot be sent.
    pub(crate) total: usize,
}

impl SourceArgs {
    /// Reads the resources; tells why those that cannot be sent cannot.
    pub(crate) fn read(&self, terminal: &mut Terminal) -> Result<Entries, Error> {
        let manifests = source::read(&self.files, self.recursive)?;
        let total = manifests.len();
        let mut list = plan(manifests, &self.mesh, terminal)?;
        // Everything else is refused while its mesh is not there. The sort keeps the order of the rest.
        list.sort_by_key(|entry| entry.key.kind != Kind::MESH);
        Ok(Entries { list, total })
    }
}

/// The resources that can be sent; tells why the others cannot.
fn plan(manifests: Vec<Manifest>, mesh: &str, terminal: &mut Terminal) -> Result<Vec<Entry>, Error> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut places: BTreeMap<Key, Place> = BTreeMap::new();
    for Manifest { place, document } in manifests {
        let read = document.and_then(|document| identify(document, mesh));
        let refusal = match read {
            Ok((key, document)) => match places.get(&key) {
                None => {
                    places.insert(key.clone(), place.clone());
                    entries.push(Entry { place, key, document });
                    continue;
                }
                Some(first) => format!("{key} is a duplicate of {first}"),
            },
            Err(reason) => reason,
        };
        terminal.note(format_args!("error: {place}: {refusal}"))?;
    }
    Ok(entries)
}

/// What a document is about, and the document as it is sent.
pub(crate) fn identify(mut document: Value, mesh: &str) -> Result<(Key, Value), String> {
    let object = document.as_object_mut().ok_or(model::rest::ParseError::NotAnObject.to_string())?;
    if object.contains_key("apiVersion") && !object.contains_key("type") {
        return Err("this is a Kubernetes object: apply it with kubectl".to_owned());
    }
    let text = |field: &str| match object.get(field) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(format!("{field}: must be a string; numbers and yes or no need quotes")),
    };
    let kind = match text("type")? {
        "" => return Err(model::rest::ParseError::NoType.to_string()),
        name => Kind::by_name(name).filter(|kind| kind.path.is_some()).ok_or_else(|| {
            let nearest = Kind::nearest(name).map(|kind| kind.info().name);
            format!("type: {}", model::rest::ParseError::UnknownType { name: name.to_owned(), nearest })
        })?,
    };
    let name = text("name")?;
    if name.is_empty() {
        return Err(format!("{kind}: name: cannot be empty"));
    }
    let given = text("mesh")?;
    let key = Key::new(kind, if given.is_empty() { mesh } else { given }, name);
    if kind.is_mesh_scoped() {
        object.insert("mesh".to_owned(), key.mesh.as_ref().into());
    }
    Ok((key, document))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_that_cannot_be_sent_name_the_field() {
        let reason = |document| identify(document, "default").map(|(key, _)| key.to_string()).unwrap_err();
        assert!(reason(json!([1])).contains("a resource is an object"));
        assert!(reason(json!({"name": "a"})).contains("\"type\" is missing"));
        assert!(reason(json!({"type": "MeshTimeot", "name": "a"})).contains("did you mean \"MeshTimeout\""));
        assert!(reason(json!({"type": "Mesh"})).contains("name: cannot be empty"));
        assert!(reason(json!({"type": "Mesh", "name": true})).starts_with("name: must be a string"));
        assert!(reason(json!({"apiVersion": "v1", "kind": "Pod"})).contains("kubectl"));
    }

    #[test]
    fn a_resource_without_mesh_gets_the_one_asked_for() {
        let (key, document) = identify(json!({"type": "MeshTimeout", "name": "a"}), "demo").unwrap();
        assert_eq!(
            (kinds::item(key.kind, &key.mesh, &key.name).as_str(), &document["mesh"]),
            ("/meshes/demo/meshtimeouts/a", &json!("demo"))
        );
        let (key, document) = identify(json!({"type": "Zone", "name": "east"}), "demo").unwrap();
        assert_eq!(
            (kinds::item(key.kind, &key.mesh, &key.name).as_str(), document.get("mesh")),
            ("/zones/east", None)
        );
    }
}
