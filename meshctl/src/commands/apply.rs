//! `apply`: writes the resources of manifests. One that is refused does not hold up the others.

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::StatusCode;
use model::{Key, Kind};
use serde_json::Value;

use crate::client::{Client, ClientError};
use crate::document::{self, Format};
use crate::error::Error;
use crate::kinds;
use crate::server::ServerArgs;
use crate::source::{self, Manifest, Place};
use crate::terminal::{Terminal, chain};

pub(crate) const EXAMPLES: &str = "Examples:

  meshctl apply -f mesh.yaml -f policies/
  meshctl get meshtimeouts -o yaml | meshctl apply -f -
  meshctl apply -f policies/ --recursive --dry-run

Meshes are written first, the others in the order of the manifests. What is refused is told with its file, \
document and fields; the rest is written, and the exit status is 1.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file of YAML or JSON documents, a folder of such files, or - for standard input; may be repeated.
    #[arg(long = "file", short = 'f', required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Look into the folders of a folder too.
    #[arg(long, short = 'R')]
    recursive: bool,
    /// The mesh of resources that name none.
    #[arg(long, short, default_value = "default")]
    mesh: String,
    /// Check the manifests and print what would be sent; no control plane is asked.
    #[arg(long)]
    dry_run: bool,
}

/// A resource to write.
struct Entry {
    place: Place,
    key: Key,
    document: Value,
}

/// What writing a resource did.
enum Outcome {
    Created,
    Updated,
    Unchanged,
}

pub(crate) async fn run(args: Args, server: &ServerArgs, terminal: &mut Terminal) -> Result<(), Error> {
    let manifests = source::read(&args.files, args.recursive)?;
    let total = manifests.len();
    let mut entries = plan(manifests, &args.mesh, terminal)?;
    // Everything else is refused while its mesh is not there. The sort keeps the order of the rest.
    entries.sort_by_key(|entry| entry.key.kind != Kind::MESH);
    let written = if args.dry_run {
        show(&entries, terminal)?
    } else {
        write(entries, &mut server.client(terminal)?, terminal).await?
    };
    let what = if args.dry_run { "would not be applied" } else { "are not applied" };
    if written == total { Ok(()) } else { Err(Error::Incomplete { failed: total - written, total, what }) }
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
fn identify(mut document: Value, mesh: &str) -> Result<(Key, Value), String> {
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

fn path(key: &Key) -> String {
    kinds::item(key.kind, &key.mesh, &key.name)
}

/// Checks the resources by the rules that control planes share, and prints those that pass.
fn show(entries: &[Entry], terminal: &mut Terminal) -> Result<usize, Error> {
    let mut passed = 0;
    for Entry { place, key, document } in entries {
        let parsed = match model::rest::parse(document) {
            Ok(parsed) => parsed,
            Err(error) => {
                terminal.note(format_args!("error: {place}: {key}: {error}"))?;
                continue;
            }
        };
        for unknown in &parsed.unknown {
            terminal.warning(format_args!("{place}: {key}: {unknown}"))?;
        }
        let mut violations = model::validation::check_names(key.kind, &key.mesh, &key.name);
        violations.extend(model::validation::validate(&parsed.resource.build()));
        if !violations.is_empty() {
            terminal.note(format_args!("error: {place}: {key}: Resource is not valid"))?;
            for violation in violations.iter() {
                terminal.note(format_args!("  * {}: {}", violation.field, violation.message))?;
            }
            continue;
        }
        if passed > 0 {
            terminal.line("---")?;
        }
        passed += 1;
        terminal.line(format_args!("# PUT {}", path(key)))?;
        document::write(terminal.out(), Format::Yaml, document)?;
    }
    Ok(passed)
}

/// Sends the resources; answers how many were taken.
async fn write(entries: Vec<Entry>, client: &mut Client, terminal: &mut Terminal) -> Result<usize, Error> {
    let mut written = 0;
    for Entry { place, key, document } in entries {
        match put(client, &path(&key), &document).await {
            Ok((outcome, warnings)) => {
                written += 1;
                for warning in warnings {
                    terminal.warning(format_args!("{place}: {key}: {warning}"))?;
                }
                let outcome = match outcome {
                    Outcome::Created => "created",
                    Outcome::Updated => "updated",
                    Outcome::Unchanged => "unchanged",
                };
                terminal.line(format_args!("{key} {outcome}"))?;
            }
            Err(source) if source.is_fatal() => {
                return Err(Error::Failed { action: format!("apply {key} of {place}"), source });
            }
            Err(error) => terminal.note(format_args!("error: {place}: {key}: {}", chain(&error)))?,
        }
    }
    Ok(written)
}

/// Writes a document. What the server stores, not what was sent, tells whether something changed: the server
/// fills in defaults and drops what it does not know.
async fn put(
    client: &mut Client,
    path: &str,
    document: &Value,
) -> Result<(Outcome, Vec<String>), ClientError> {
    let before = match client.get_json(path).await {
        Ok(stored) => Some(stored),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error),
    };
    let answer = client.put(path, document).await?;
    let outcome = match before {
        None => Outcome::Created,
        Some(_) if answer.status == StatusCode::CREATED => Outcome::Created,
        Some(before) => match client.get_json(path).await {
            Ok(after) if same(&before, &after) => Outcome::Unchanged,
            _ => Outcome::Updated,
        },
    };
    Ok((outcome, answer.warnings))
}

/// Whether two documents differ in nothing that a user wrote.
fn same(before: &Value, after: &Value) -> bool {
    let (Some(before), Some(after)) = (before.as_object(), after.as_object()) else { return false };
    let written = |key: &&String| !matches!(key.as_str(), "modificationTime" | "status");
    let fields = |document| serde_json::Map::keys(document).filter(written);
    fields(before).eq(fields(after)) && fields(before).all(|key| before.get(key) == after.get(key))
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
        assert_eq!((path(&key).as_str(), &document["mesh"]), ("/meshes/demo/meshtimeouts/a", &json!("demo")));
        let (key, document) = identify(json!({"type": "Zone", "name": "east"}), "demo").unwrap();
        assert_eq!((path(&key).as_str(), document.get("mesh")), ("/zones/east", None));
    }

    #[test]
    fn only_what_a_user_writes_counts_as_a_change() {
        let before = json!({"name": "a", "modificationTime": "1", "spec": {"x": 1}, "status": {}});
        assert!(same(
            &before,
            &json!({"name": "a", "modificationTime": "2", "spec": {"x": 1}, "status": {"y": 1}})
        ));
        assert!(!same(&before, &json!({"name": "a", "modificationTime": "1", "spec": {"x": 2}})));
        assert!(!same(&before, &json!({"name": "a", "labels": {"l": "1"}, "spec": {"x": 1}})));
    }

    #[test]
    fn a_dry_run_counts_what_would_be_refused() {
        let entry = |document| {
            let (key, document) = identify(document, "default").unwrap();
            Entry { place: source_place(), key, document }
        };
        let entries = [
            entry(json!({"type": "Mesh", "name": "demo"})),
            entry(json!({"type": "Mesh", "name": "Not A Name"})),
            entry(json!({"type": "Dataplane", "name": "a", "networking": 3})),
        ];
        assert_eq!(show(&entries, &mut Terminal::sink()).unwrap(), 1);
    }

    fn source_place() -> Place {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a: 1").unwrap();
        source::read(&[file.path().to_owned()], false).unwrap().remove(0).place
    }
}
