//! Laying one source over another, blaming the source that brings an unusable value.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{ConfigError, Loaded, Source, shape};

/// The layers so far: always a tree that `T` can be read from.
pub(super) struct Layers<T> {
    /// The defaults: which keys exist.
    shape: Value,
    tree: Value,
    sources: BTreeMap<String, Source>,
    target: PhantomData<T>,
}

impl<T: DeserializeOwned> Layers<T> {
    pub(super) fn new(shape: Value) -> Self {
        let mut leaves = Vec::new();
        shape::leaves(&shape, "", &mut leaves);
        let sources = leaves.into_iter().map(|(path, _)| (path, Source::Default)).collect();
        Self { tree: shape.clone(), shape, sources, target: PhantomData }
    }

    pub(super) fn file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let syntax = |message: String| ConfigError::Syntax { path: path.to_owned(), message };
        let file: Option<Value> = serde_saphyr::from_str(text).map_err(|error| syntax(error.to_string()))?;
        match file {
            // An empty file, or one of comments only.
            None | Some(Value::Null) => Ok(()),
            Some(Value::Object(section)) => self.section("", section, &Source::File(path.to_owned())),
            Some(_) => Err(syntax("expected a mapping of keys to values".to_owned())),
        }
    }

    /// Whether a variable is the one of a key.
    pub(super) fn has_variable(&self, name: &str) -> bool {
        self.leaves().iter().any(|path| shape::variable(path) == name)
    }

    pub(super) fn variable(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        let paths: BTreeMap<_, _> = self.leaves().into_iter().map(|p| (shape::variable(&p), p)).collect();
        let Some(path) = paths.get(name) else {
            let nearest = shape::nearest(name, paths.keys()).cloned();
            return Err(ConfigError::UnknownVariable { name: name.to_owned(), nearest });
        };
        let candidates = readings(shape::get(&self.shape, path), text);
        self.put(path, candidates, &Source::Env(name.to_owned()))
    }

    pub(super) fn flag(&mut self, path: &str, value: Value) -> Result<(), ConfigError> {
        if shape::get(&self.shape, path).is_none() {
            return Err(self.unknown(path, &Source::Flag));
        }
        self.put(path, vec![value], &Source::Flag)
    }

    pub(super) fn finish(self) -> Result<Loaded<T>, ConfigError> {
        let value = T::deserialize(self.tree).map_err(ConfigError::shape)?;
        Ok(Loaded { value, sources: self.sources })
    }

    fn section(&mut self, path: &str, section: Map<String, Value>, from: &Source) -> Result<(), ConfigError> {
        for (key, value) in section {
            let path = shape::join(path, &key);
            let known = shape::get(&self.shape, &path);
            let is_section = known.and_then(Value::as_object).is_some_and(|known| !known.is_empty());
            match (known, value) {
                (None, _) => return Err(self.unknown(&path, from)),
                (Some(_), Value::Object(inner)) if is_section => self.section(&path, inner, from)?,
                // `section:` with everything below it commented out.
                (Some(_), Value::Null) if is_section => {}
                (Some(_), value) => self.put(&path, vec![value], from)?,
            }
        }
        Ok(())
    }

    /// Sets a key to the first reading of it that `T` accepts.
    fn put(&mut self, path: &str, readings: Vec<Value>, from: &Source) -> Result<(), ConfigError> {
        let mut message = String::new();
        for value in readings {
            let mut tree = self.tree.clone();
            shape::set(&mut tree, path, value);
            match T::deserialize(&tree) {
                Ok(_) => {
                    self.tree = tree;
                    self.sources.insert(path.to_owned(), from.clone());
                    return Ok(());
                }
                Err(error) if message.is_empty() => message = error.to_string(),
                Err(_) => {}
            }
        }
        Err(ConfigError::Invalid { key: path.to_owned(), origin: from.clone(), message })
    }

    fn unknown(&self, path: &str, from: &Source) -> ConfigError {
        let leaf = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
        let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
        let siblings = if parent.is_empty() { Some(&self.shape) } else { shape::get(&self.shape, parent) };
        let siblings: Vec<_> = siblings.and_then(Value::as_object).into_iter().flat_map(Map::keys).collect();
        let near = shape::nearest(&leaf(path), siblings.into_iter()).map(|key| shape::join(parent, key));
        let all = self.leaves();
        // Not in this section: perhaps the key is right and the section is wrong.
        let elsewhere = || all.iter().find(|known| leaf(known) == leaf(path)).cloned();
        let nearest = near.or_else(elsewhere).or_else(|| shape::nearest(path, all.iter()).cloned());
        ConfigError::UnknownKey { key: path.to_owned(), origin: from.clone(), nearest }
    }

    fn leaves(&self) -> Vec<String> {
        let mut leaves = Vec::new();
        shape::leaves(&self.shape, "", &mut leaves);
        leaves.into_iter().map(|(path, _)| path).collect()
    }
}

/// What the text of a variable may mean, the likeliest first, by the type of the key's default.
fn readings(default: Option<&Value>, text: &str) -> Vec<Value> {
    let verbatim = Value::String(text.to_owned());
    let parsed = serde_saphyr::from_str::<Value>(text).ok();
    match default {
        Some(Value::String(_)) => vec![verbatim],
        Some(Value::Array(_)) => match parsed {
            Some(list @ Value::Array(_)) => vec![list],
            _ => vec![text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()],
        },
        // The type of an optional key is not known here: text first, else what YAML makes of it.
        Some(Value::Null) => std::iter::once(verbatim).chain(parsed).collect(),
        _ => parsed.into_iter().chain([verbatim]).collect(),
    }
}
