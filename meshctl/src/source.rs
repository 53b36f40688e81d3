//! Manifests: streams of documents in files, folders and standard input.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// What a folder is searched for.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Why there is nothing to read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("cannot read {name}")]
    Read { name: String, source: io::Error },
    #[error(
        "{0} has no file that ends in .yaml, .yml or .json{hint}",
        hint = "; --recursive looks into its folders"
    )]
    Empty(String),
    #[error("{0} holds no document")]
    NoDocument(String),
}

/// Where a document stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    file: String,
    /// Counted from 1; empty documents do not count.
    index: usize,
    /// The line at which it begins, counted from 1.
    line: usize,
    /// Whether the file holds others.
    is_one_of_many: bool,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.is_one_of_many {
            write!(f, ", document {} (line {})", self.index, self.line)?;
        }
        Ok(())
    }
}

/// A document, or why there is none.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) place: Place,
    pub(crate) document: Result<Value, String>,
}

/// Reads everything that is named: `-` is standard input, a folder stands for the manifests in it, by name.
pub(crate) fn read(names: &[PathBuf], recursive: bool) -> Result<Vec<Manifest>, SourceError> {
    let mut manifests = Vec::new();
    for name in names {
        if name.as_path() == Path::new("-") {
            let mut text = String::new();
            let failed = |source| SourceError::Read { name: "standard input".into(), source };
            io::stdin().read_to_string(&mut text).map_err(failed)?;
            manifests.extend(nonempty("standard input", &text)?);
            continue;
        }
        let failed = |path: &Path| {
            let name = path.display().to_string();
            move |source| SourceError::Read { name, source }
        };
        if fs::metadata(name).map_err(failed(name))?.is_dir() {
            let mut files = Vec::new();
            search(name, recursive, &mut files).map_err(failed(name))?;
            if files.is_empty() {
                return Err(SourceError::Empty(name.display().to_string()));
            }
            for file in files {
                let text = fs::read_to_string(&file).map_err(failed(&file))?;
                manifests.extend(parse(&file.display().to_string(), &text));
            }
        } else {
            let text = fs::read_to_string(name).map_err(failed(name))?;
            manifests.extend(nonempty(&name.display().to_string(), &text)?);
        }
    }
    Ok(manifests)
}

fn search(folder: &Path, recursive: bool, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            // Links may lead in circles.
            if recursive && !path.is_symlink() {
                search(&path, recursive, files)?;
            }
        } else if path.extension().is_some_and(|end| EXTENSIONS.iter().any(|known| end == *known)) {
            files.push(path);
        }
    }
    Ok(())
}

fn nonempty(name: &str, text: &str) -> Result<Vec<Manifest>, SourceError> {
    let manifests = parse(name, text);
    if manifests.is_empty() { Err(SourceError::NoDocument(name.to_owned())) } else { Ok(manifests) }
}

/// The documents of a text. They are parsed one by one, so that a broken one does not hide the others.
fn parse(file: &str, text: &str) -> Vec<Manifest> {
    let mut manifests = Vec::new();
    for (line, chunk) in chunks(text) {
        let found = match values(chunk) {
            Ok(values) => values.into_iter().flat_map(expand).map(Ok).collect(),
            Err(()) => vec![Err(explain(line, chunk))],
        };
        for document in found {
            let index = manifests.len() + 1;
            let line = line + heading(chunk);
            let place = Place { file: file.to_owned(), index, line, is_one_of_many: false };
            manifests.push(Manifest { place, document });
        }
    }
    let is_one_of_many = manifests.len() > 1;
    for manifest in &mut manifests {
        manifest.place.is_one_of_many = is_one_of_many;
    }
    manifests
}

/// Texts between lines of `---`, each with the number of its first line. YAML keeps such lines out of
/// scalars (1.2.2, 9.1.2), and JSON has no line breaks in strings.
fn chunks(text: &str) -> Vec<(usize, &str)> {
    let mut chunks = Vec::new();
    let (mut start, mut first_line, mut at) = (0, 1, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let rest = line.strip_prefix("---");
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])) && at > start
        {
            chunks.push((first_line, text.get(start..at).unwrap_or_default()));
            (start, first_line) = (at, number + 1);
        }
        at += line.len();
    }
    chunks.push((first_line, text.get(start..).unwrap_or_default()));
    chunks
}

/// Lines of a chunk before its content: marks, comments and empty ones.
fn heading(chunk: &str) -> usize {
    let is_content =
        |line: &str| !line.starts_with("---") && !matches!(line.trim().bytes().next(), None | Some(b'#'));
    chunk.lines().position(is_content).unwrap_or_default()
}

/// The values of a chunk: YAML, or any number of JSON texts.
fn values(chunk: &str) -> Result<Vec<Value>, ()> {
    let bare = chunk.strip_prefix("---").unwrap_or(chunk).trim_start();
    if bare.starts_with(['{', '[']) {
        let json: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(bare).into_iter().collect();
        if let Ok(values) = json {
            return Ok(values);
        }
    }
    model::yaml::documents(chunk).map_err(drop)
}

/// What is wrong with a chunk, with the line numbers of the whole text.
fn explain(line: usize, chunk: &str) -> String {
    let padded = "\n".repeat(line - 1) + chunk;
    let reason = model::yaml::documents(&padded).err().unwrap_or_else(|| "broken document".to_owned());
    reason.strip_prefix("error: ").unwrap_or(&reason).trim_end().to_owned()
}

/// A list, as `get -o json` prints it, stands for its items.
fn expand(document: Value) -> Vec<Value> {
    match document {
        Value::Object(mut fields) if !fields.contains_key("type") => match fields.remove("items") {
            Some(Value::Array(items)) => items,
            Some(other) => {
                fields.insert("items".to_owned(), other);
                vec![Value::Object(fields)]
            }
            None => vec![Value::Object(fields)],
        },
        Value::Array(items) => items,
        other => vec![other],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn places(text: &str) -> Vec<(usize, usize, bool)> {
        let manifests = parse("f", text);
        manifests.iter().map(|found| (found.place.index, found.place.line, found.document.is_ok())).collect()
    }

    #[test]
    fn documents_know_their_index_and_line() {
        let text = "# comment\na: 1\n---\n---\nb: |\n  x\n  ---\n--- # c\nc: [\n---\nd: 2\n";
        assert_eq!(places(text), [(1, 2, true), (2, 5, true), (3, 9, false), (4, 11, true)]);
        let manifests = parse("f", text);
        assert_eq!(manifests[1].document, Ok(json!({"b": "x\n---\n"})));
        assert_eq!(manifests[1].place.to_string(), "f, document 2 (line 5)");
        assert_eq!(parse("f", "a: 1\n")[0].place.to_string(), "f");
    }

    #[test]
    fn a_broken_document_tells_the_line_of_the_file() {
        let manifests = parse("f", "a: 1\n---\nb: 2\nb: 3\n");
        let error = manifests[1].document.as_ref().unwrap_err();
        assert!(error.contains("line 4"), "{error}");
    }

    #[test]
    fn json_texts_and_lists_are_read() {
        let both = [Ok(json!({"a": 1})), Ok(json!({"b": 2}))];
        let read = |text: &str| parse("f", text).into_iter().map(|found| found.document).collect::<Vec<_>>();
        assert_eq!(read("{\"a\": 1}\n{\"b\": 2}"), both);
        assert_eq!(read("---\n{\"a\": 1}\n---\n{\"b\": 2}"), both);
        assert_eq!(read("{\n\t\"total\": 2, \"items\": [{\"a\": 1}, {\"b\": 2}]}"), both);
        assert_eq!(read("[{a: 1}, {b: 2}]"), both);
        assert!(parse("f", "# nothing\n---\n").is_empty());
        assert_eq!(parse("f", "\u{feff}a: 1")[0].document, Ok(json!({"a": 1})));
    }

    #[test]
    fn folders_give_their_manifests_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("b.yaml", "b: 1"), ("a.json", "{}"), ("c.txt", "no"), ("sub/d.yml", "d: 1")] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let names = |recursive| -> Vec<String> {
            let manifests = read(&[dir.path().to_owned()], recursive).unwrap();
            let prefix = format!("{}/", dir.path().display());
            manifests.iter().map(|found| found.place.to_string().replace(&prefix, "")).collect()
        };
        assert_eq!(names(false), ["a.json", "b.yaml"]);
        assert_eq!(names(true), ["a.json", "b.yaml", "sub/d.yml"]);
        assert!(matches!(read(&["/does/not/exist".into()], false), Err(SourceError::Read { .. })));
        fs::create_dir(dir.path().join("empty")).unwrap();
        assert!(matches!(read(&[dir.path().join("empty")], false), Err(SourceError::Empty(_))));
    }
}
