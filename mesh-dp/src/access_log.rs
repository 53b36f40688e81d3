//! Access logs for TCP backends: Envoy writes lines into a named pipe, each with its backend's
//! address, and mesh-dp forwards them over one connection per backend.
//!
//! Logging never holds traffic up: a line that no backend takes is dropped and counted.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::Mode;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::metrics::Metrics;
use crate::workdir;

/// A longer line is no access log entry.
const MAX_LINE: u64 = 1 << 20;
/// Lines waiting for one backend: at a thousand requests a second, one second of a stalled network.
const QUEUE: usize = 1024;
/// A backend that is not reached in this time is down; the line is dropped.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A backend that takes nothing for this long is treated as gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// One line of Envoy.
#[derive(Debug, Deserialize)]
struct Entry {
    address: String,
    message: Value,
}

/// The pipe, removed when this is dropped.
#[derive(Debug)]
pub(crate) struct AccessLog {
    path: PathBuf,
    receiver: pipe::Receiver,
    metrics: Metrics,
}

impl AccessLog {
    /// Makes the pipe. Envoy opens it as it would a file.
    pub(crate) fn open(path: &Path, metrics: Metrics) -> io::Result<Self> {
        workdir::remove(path)?;
        nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        // Also open for writing, so that the pipe does not end when Envoy restarts.
        let receiver = pipe::OpenOptions::new().read_write(true).open_receiver(path)?;
        Ok(Self { path: path.to_owned(), receiver, metrics })
    }

    /// Forwards until it is dropped.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        let mut backends = BTreeMap::new();
        let mut connections = JoinSet::new();
        let mut reader = BufReader::new(&mut self.receiver);
        let mut line = Vec::new();
        loop {
            line.clear();
            if (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line).await? == 0 {
                return Ok(());
            }
            let Some((address, message)) = parse(&line) else {
                self.metrics.access_logs_dropped.inc();
                continue;
            };
            let queue = backends.entry(address).or_insert_with_key(|address: &String| {
                let (tx, rx) = mpsc::channel(QUEUE);
                connections.spawn(forward(address.clone(), rx, self.metrics.clone()));
                tx
            });
            if queue.try_send(message).is_err() {
                self.metrics.access_logs_dropped.inc();
            }
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        // A given work folder is left as it was found; in a temporary one this changes nothing.
        let _ = workdir::remove(&self.path);
    }
}

/// Writes to one backend. A failed connection is made anew for the next line.
async fn forward(address: String, mut lines: mpsc::Receiver<Vec<u8>>, metrics: Metrics) {
    let mut connection = None;
    while let Some(line) = lines.recv().await {
        match write(&mut connection, &address, &line).await {
            Ok(()) => {}
            Err(error) => {
                connection = None;
                metrics.access_logs_dropped.inc();
                tracing::debug!(%address, %error, "access log line dropped");
            }
        }
    }
}

async fn write(connection: &mut Option<TcpStream>, address: &str, line: &[u8]) -> io::Result<()> {
    let stream = match connection {
        Some(stream) => stream,
        None => {
            let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
            connection.insert(stream)
        }
    };
    tokio::time::timeout(WRITE_TIMEOUT, stream.write_all(line)).await?
}

/// The backend and the bytes for it: text as it is, anything else as a line of JSON. The older form
/// is `address;message`.
fn parse(line: &[u8]) -> Option<(String, Vec<u8>)> {
    if let Ok(entry) = serde_json::from_slice::<Entry>(line) {
        let message = match entry.message {
            Value::String(text) => text,
            other => format!("{other}\n"),
        };
        return Some((entry.address, message.into_bytes()));
    }
    let (address, message) = std::str::from_utf8(line).ok()?.split_once(';')?;
    let is_address = address.contains(':') && !address.contains(char::is_whitespace);
    is_address.then(|| (address.to_owned(), message.as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_name_their_backend() {
        let text = parse(br#"{"address":"a:1","message":"GET /\n"}"#).unwrap();
        assert_eq!(text, ("a:1".to_owned(), b"GET /\n".to_vec()));
        let object = parse(br#"{"address":"a:1","message":{"code":200}}"#).unwrap();
        assert_eq!(object.1, b"{\"code\":200}\n");
        assert_eq!(parse(b"a:1;old form\n").unwrap().1, b"old form\n");
        for bad in [&b"\xff\n"[..], b"no backend\n", b"some text; more\n", b"{}\n"] {
            assert_eq!(parse(bad), None);
        }
    }

    #[tokio::test]
    async fn lines_reach_their_backend_and_lost_ones_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        let metrics = Metrics::default();
        let backend = runtime::serve::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = backend.local_addr().unwrap();
        let tasks = runtime::Tasks::new();
        let log = AccessLog::open(&path, metrics.clone()).unwrap();
        tasks.spawn_fallible("access log", runtime::OnExit::Ignore, log.run());

        let mut envoy = std::fs::File::options().write(true).open(&path).unwrap();
        writeln!(envoy, "garbage").unwrap();
        writeln!(envoy, r#"{{"address":"{address}","message":"one\n"}}"#).unwrap();
        writeln!(envoy, r#"{{"address":"{address}","message":"two\n"}}"#).unwrap();
        let (mut stream, _) = backend.accept().await.unwrap();
        let mut got = [0; 8];
        stream.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"one\ntwo\n");
        assert_eq!(metrics.access_logs_dropped.get(), 1);

        tasks.shutdown(Duration::ZERO).await;
        assert!(!path.exists());
    }
}
