//! Layered configuration: defaults < one YAML file < environment < flags.
//!
//! The shape of a configuration is the serde form of its `Default`: every key in it is known, every
//! other key is refused with the nearest known one. For that, sections are structs (not `Option`s),
//! carry `#[serde(default, rename_all = "camelCase", deny_unknown_fields)]` and skip nothing when
//! serialised. A key whose default is null, a list or an empty map takes what its type accepts.

mod error;
mod layer;
mod shape;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use error::ConfigError;
pub use value::{HumanDuration, Secret};

/// What every environment variable of this configuration starts with.
pub const ENV_PREFIX: &str = "ISTHMUS_";

/// Variables with our prefix that belong to other programs or to tests, so that a process which
/// inherits them does not refuse to start.
const FOREIGN_VARIABLES: [&str; 8] = [
    "ISTHMUS_DP_",
    "ISTHMUS_TEST_",
    "ISTHMUS_ENVOY",
    "ISTHMUS_BIN",
    "ISTHMUS_ADDRESS",
    "ISTHMUS_TOKEN",
    "ISTHMUS_CA_FILE",
    "ISTHMUS_MESHCTL_",
];

/// Where the value of a key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The program's own default.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// The named environment variable.
    Env(String),
    /// A command line flag.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// A configuration and where each of its keys comes from.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The effective configuration.
    pub value: T,
    /// Dotted path of each key to the source of its value.
    pub sources: BTreeMap<String, Source>,
}

impl<T: Serialize> Loaded<T> {
    /// One line a key, `path: value  # source`, secrets masked: what `--print-config` prints.
    pub fn print(&self) -> String {
        let tree = serde_json::to_value(&self.value).unwrap_or(Value::Null);
        let mut leaves = Vec::new();
        shape::leaves(&tree, "", &mut leaves);
        let lines: Vec<_> = leaves.iter().map(|(path, value)| (format!("{path}: {value}"), path)).collect();
        let width = lines.iter().map(|(text, _)| text.len()).max().unwrap_or(0).min(60);
        lines.iter().fold(String::new(), |out, (text, path)| {
            let source = self.source(path);
            out + &format!("{text:width$}  # {source}\n")
        })
    }

    /// The source of a key, or of the nearest section above it that was set as a whole.
    pub fn source(&self, path: &str) -> &Source {
        let mut at = path;
        loop {
            if let Some(source) = self.sources.get(at) {
                return source;
            }
            match at.rsplit_once('.') {
                Some((parent, _)) => at = parent,
                None => return &Source::Default,
            }
        }
    }
}

/// Loads a configuration.
///
/// `env` is the whole environment (`std::env::vars()`); what lacks [`ENV_PREFIX`] is passed over.
/// `flags` holds the flags that were given, by dotted path.
pub fn load<T>(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
    flags: Vec<(String, Value)>,
) -> Result<Loaded<T>, ConfigError>
where
    T: Serialize + DeserializeOwned + Default,
{
    let shape = serde_json::to_value(T::default()).map_err(ConfigError::shape)?;
    let mut layers = layer::Layers::<T>::new(shape);
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        layers.file(path, &text)?;
    }
    // Sorted, so that which of several errors is reported does not depend on the environment's order.
    let ours: BTreeMap<_, _> =
        env.into_iter().filter(|(name, _)| is_ours(name) || layers.has_variable(name)).collect();
    for (name, text) in ours {
        layers.variable(&name, &text)?;
    }
    for (path, value) in flags {
        layers.flag(&path, value)?;
    }
    layers.finish()
}

fn is_ours(name: &str) -> bool {
    name.starts_with(ENV_PREFIX) && !FOREIGN_VARIABLES.iter().any(|foreign| name.starts_with(foreign))
}

#[cfg(test)]
mod tests;
