//! How documents are printed: YAML or JSON, the keys that name a resource first.

use std::io::Write;

use clap::ValueEnum;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;

use crate::error::Error;

/// Keys that open a resource document, in the order people expect.
const FIRST: [&str; 7] = ["type", "mesh", "name", "creationTime", "modificationTime", "labels", "kri"];

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    Table,
    /// YAML; several resources are separate documents, which `apply -f -` reads again.
    Yaml,
    /// JSON; several resources are the `items` of one object.
    Json,
}

/// A resource document with its keys in order.
struct Ordered<'a>(&'a Value);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Value::Object(fields) = self.0 else { return self.0.serialize(serializer) };
        let mut map = serializer.serialize_map(Some(fields.len()))?;
        for key in FIRST {
            if let Some(value) = fields.get(key) {
                map.serialize_entry(key, value)?;
            }
        }
        for (key, value) in fields.iter().filter(|(key, _)| !FIRST.contains(&key.as_str())) {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

struct Items<'a>(&'a [Value]);

impl Serialize for Items<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut items = serializer.serialize_seq(Some(self.0.len()))?;
        for item in self.0 {
            items.serialize_element(&Ordered(item))?;
        }
        items.end()
    }
}

/// A list as JSON.
#[derive(serde::Serialize)]
struct List<'a> {
    total: usize,
    items: Items<'a>,
}

/// Writes one document; tables are the caller's, so [`Format::Table`] gives YAML.
pub(crate) fn write(out: &mut dyn Write, format: Format, document: &Value) -> Result<(), Error> {
    match format {
        Format::Json => json(out, &Ordered(document)),
        Format::Table | Format::Yaml => yaml(out, document),
    }
}

/// Writes several documents.
pub(crate) fn write_all(out: &mut dyn Write, format: Format, documents: &[Value]) -> Result<(), Error> {
    match format {
        Format::Json => json(out, &List { total: documents.len(), items: Items(documents) }),
        Format::Table | Format::Yaml => {
            for (at, document) in documents.iter().enumerate() {
                if at > 0 {
                    writeln!(out, "---")?;
                }
                yaml(out, document)?;
            }
            Ok(())
        }
    }
}

/// Writes what happened to a document: a line of JSON, or a document of YAML under a comment.
pub(crate) fn write_event(
    out: &mut dyn Write,
    format: Format,
    event: &str,
    document: &Value,
) -> Result<(), Error> {
    if format == Format::Json {
        let line = serde_json::json!({"type": event, "object": document});
        serde_json::to_writer(&mut *out, &line)?;
        return Ok(writeln!(out)?);
    }
    writeln!(out, "--- # {event}")?;
    yaml(out, document)
}

fn json(out: &mut dyn Write, document: &impl Serialize) -> Result<(), Error> {
    serde_json::to_writer_pretty(&mut *out, document)?;
    Ok(writeln!(out)?)
}

fn yaml(out: &mut dyn Write, document: &Value) -> Result<(), Error> {
    let text = model::yaml::to_string(&Ordered(document)).map_err(Error::Yaml)?;
    Ok(writeln!(out, "{}", text.trim_end_matches('\n'))?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(format: Format, documents: &[Value]) -> String {
        let mut out = Vec::new();
        write_all(&mut out, format, documents).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn several_documents_are_read_again_as_they_were() {
        let documents = [
            json!({"name": "a", "type": "Mesh", "extra": {"z": "yes", "y": [1, {"b": null}]}}),
            json!({"name": "b", "mesh": "m", "type": "MeshTimeout", "spec": {}}),
        ];
        let yaml = written(Format::Yaml, &documents);
        assert!(yaml.starts_with("type: Mesh\nname: a\n"), "{yaml}");
        assert!(yaml.contains("\n---\ntype: MeshTimeout\nmesh: m\nname: b\n"), "{yaml}");
        assert_eq!(model::yaml::documents(&yaml).unwrap(), documents);
        let list: Value = serde_json::from_str(&written(Format::Json, &documents)).unwrap();
        assert_eq!(list, json!({"total": 2, "items": documents}));
    }
}
