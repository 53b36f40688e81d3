//! Configuration errors: each says which key, where it was set and what to write instead.

use std::io;
use std::path::PathBuf;

use super::Source;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not a YAML mapping.
    #[error("{} is not valid YAML: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's message with the place.
        message: String,
    },
    /// A key that does not exist.
    #[error("unknown key {key} ({origin}){}", hint(nearest.as_deref()))]
    UnknownKey {
        /// Dotted path as it was written.
        key: String,
        /// Where it was written.
        origin: Source,
        /// Dotted path of the most similar known key.
        nearest: Option<String>,
    },
    /// An environment variable that stands for no key.
    #[error("unknown environment variable {name}{}", hint(nearest.as_deref()))]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The most similar variable that stands for a key.
        nearest: Option<String>,
    },
    /// A value of the wrong type or form.
    #[error("invalid value for {key} ({origin}): {message}")]
    Invalid {
        /// Dotted path.
        key: String,
        /// Where it was set.
        origin: Source,
        /// What was expected.
        message: String,
    },
    /// The type's defaults cannot be serialised and read back: a bug in the program.
    #[error("the configuration's defaults are not usable: {message}")]
    Shape {
        /// What serde says.
        message: String,
    },
}

impl ConfigError {
    pub(super) fn shape(error: serde_json::Error) -> Self {
        Self::Shape { message: error.to_string() }
    }
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|name| format!(", did you mean {name}?")).unwrap_or_default()
}
