//! A body that comes line by line, for as long as the server likes.

use bytes::{Buf, BytesMut};
use serde::de::DeserializeOwned;

use super::connection::Stream;
use super::{ClientError, json};

/// One resource is at most a few MiB.
const MAX_LINE: usize = 64 << 20;

/// The lines of a body.
pub(crate) struct Lines {
    path: String,
    body: Stream,
    held: BytesMut,
}

impl Lines {
    pub(super) fn new(path: &str, body: Stream) -> Self {
        Self { path: path.to_owned(), body, held: BytesMut::new() }
    }

    /// The document on the next line; `None` when the server has ended the body.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        let failed = |reason: String| ClientError::Answer { path: self.path.clone(), reason };
        let mut searched = 0;
        loop {
            let rest = self.held.get(searched..).unwrap_or_default();
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = self.held.split_to(searched + end);
                self.held.advance(1);
                return json(&self.path, &line).map(Some);
            }
            searched = self.held.len();
            if searched > MAX_LINE {
                return Err(failed(format!("a line is longer than {MAX_LINE} bytes")));
            }
            match self.body.next().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(failed(error.to_string())),
                Some(Ok(data)) => self.held.extend_from_slice(&data),
            }
        }
    }
}
