//! A small HTTP service that says who it is and what reached it.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::json;

/// A client that says nothing this long is dropped.
const IDLE: Duration = Duration::from_secs(60);

/// Answers every request on a loopback port with JSON: the service's name, the path and the headers that came. Each
/// request is a line of its output.
///
/// # Errors
/// When the port is taken.
pub fn serve(name: &str, port: u16) -> std::io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    for stream in listener.incoming() {
        let (name, stream) = (name.to_owned(), stream?);
        std::thread::spawn(move || answer_all(&name, &stream));
    }
    Ok(())
}

/// Answers on one connection until the client leaves.
fn answer_all(name: &str, stream: &TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            lines.push(line.to_owned());
        }
        let path = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
        let headers: serde_json::Map<_, _> = lines
            .iter()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.trim().to_lowercase(), value.trim().into()))
            .collect();
        let method = lines.first().and_then(|line| line.split(' ').next()).unwrap_or_default();
        writeln!(std::io::stdout(), "{method} {path}")?;
        let is_last = headers.get("connection").is_some_and(|value| value == "close");
        let body = json!({"service": name, "path": path, "headers": headers}).to_string();
        let length = body.len();
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
        // One write: pieces would wait for each other's acknowledgement.
        let mut stream = stream;
        stream.write_all((head + &body).as_bytes())?;
        if is_last {
            return stream.shutdown(std::net::Shutdown::Both);
        }
    }
}
