//! Why a command did not do what it was asked, in words for the person who asked.

use std::io;

use crate::client::ClientError;
use crate::config_file::ConfigError;
use crate::kinds::UnknownKind;
use crate::source::SourceError;

/// The end of a command that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Several forms of input were possible and none or too many were given.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Kind(#[from] UnknownKind),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Source(#[from] SourceError),
    /// What was asked of one thing failed.
    #[error("cannot {action}")]
    Failed {
        /// What was asked, for example `delete Mesh demo`.
        action: String,
        source: ClientError,
    },
    /// Each failure has been told already.
    #[error("{failed} of {total} resources {what}")]
    Incomplete { failed: usize, total: usize, what: &'static str },
    /// The server's answer does not have the shape that the API promises.
    #[error("the answer to {what} is not understood: {reason}")]
    Answer { what: String, reason: String },
    /// `diff` found differences, and has shown them.
    #[error("something would change")]
    Differs,
    /// `diff` could not find out.
    #[error(transparent)]
    Untold(Box<Error>),
    #[error("cannot write YAML: {0}")]
    Yaml(String),
    #[error("cannot write the output")]
    Output(#[from] io::Error),
    #[error("cannot start")]
    Runtime(#[source] io::Error),
}

impl From<serde_json::Error> for Error {
    /// Values are already in memory: only the writer can fail.
    fn from(error: serde_json::Error) -> Self {
        Self::Output(error.into())
    }
}
