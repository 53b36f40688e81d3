//! A small HTTP/1.1 client for loopback: one connection a request.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

/// For connecting, and between two pieces of an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A request to send.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// `GET`, `PUT` and so on.
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// What the host header says.
    pub host: &'a str,
    /// Further headers.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body, if any, with its content type.
    pub body: Option<(&'a str, &'a [u8])>,
}

impl<'a> Request<'a> {
    /// A GET without further headers.
    pub fn get(path: &'a str) -> Self {
        Self { method: "GET", path, host: "localhost", headers: &[], body: None }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When the status is no success or the body is no JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        if !(200..300).contains(&self.status) {
            bail!("answered {}: {}", self.status, self.text());
        }
        serde_json::from_slice(&self.body).with_context(|| format!("answered no JSON: {}", self.text()))
    }
}

/// Sends a request to a loopback port.
///
/// # Errors
/// When nobody answers in time or the answer is no HTTP.
pub fn send(port: u16, request: &Request<'_>) -> anyhow::Result<Response> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut head = format!(
        "{} {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n",
        request.method, request.path, request.host
    );
    for (name, value) in request.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if let Some((content_type, body)) = request.body {
        head += &format!("content-type: {content_type}\r\ncontent-length: {}\r\n", body.len());
    }
    head += "\r\n";
    let mut message = head.into_bytes();
    message.extend_from_slice(request.body.map_or(&[], |(_, body)| body));
    stream.write_all(&message)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(|| format!("no complete answer from {address}"))?;
    parse(&answer).with_context(|| format!("no HTTP answer from {address}"))
}

fn parse(answer: &[u8]) -> anyhow::Result<Response> {
    let end = find(answer, b"\r\n\r\n").context("its head does not end")?;
    let (head, body) = (&answer[..end], &answer[end + 4..]);
    let head = std::str::from_utf8(head)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?.parse()?;
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned()))
        .collect();
    let mut response = Response { status, headers, body: Vec::new() };
    let chunked = response.header("transfer-encoding").is_some_and(|value| value.contains("chunked"));
    let length = response.header("content-length").map(str::parse::<usize>).transpose()?;
    response.body = match length {
        _ if chunked => join_chunks(body)?,
        Some(length) if body.len() < length => bail!("its body is cut off"),
        Some(length) => body[..length].to_vec(),
        None => body.to_vec(),
    };
    Ok(response)
}

fn join_chunks(mut rest: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = find(rest, b"\r\n").context("a chunk without its size")?;
        let size = std::str::from_utf8(&rest[..end])?.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size.trim(), 16)?;
        if size == 0 {
            return Ok(body);
        }
        let chunk = rest.get(end + 2..end + 2 + size).context("a chunk is cut off")?;
        body.extend_from_slice(chunk);
        rest = rest.get(end + 2 + size + 2..).context("a chunk does not end")?;
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_or_refused() {
        let plain = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\n\r\nhi and more").unwrap();
        assert_eq!((plain.status, plain.text().as_str(), plain.header("x-a")), (200, "hi", Some("b")));
        let chunked =
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n1;x\r\n!\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).unwrap().text(), "hi!");
        for broken in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi"[..],
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhi",
            b"HTTP/1.1 200 OK\r\n",
            b"what?\r\n\r\n",
        ] {
            assert!(parse(broken).is_err(), "{}", String::from_utf8_lossy(broken));
        }
    }
}
