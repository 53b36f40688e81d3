//! A small receiver of telemetry: what proxies send to a port, as text.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// What answers a request.
const ACCEPTED: &[u8] = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";

/// The end of a body in chunks, with the line break before it.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// A port on loopback and the bytes that came to it. It is closed with the value.
pub struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Vec<u8>>>,
    is_over: Arc<AtomicBool>,
}

impl Collector {
    /// Takes bytes as they come and answers nothing.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn of_bytes() -> std::io::Result<Self> {
        Self::start(false)
    }

    /// Takes HTTP/1.1 requests and accepts each.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn of_requests() -> std::io::Result<Self> {
        Self::start(true)
    }

    fn start(answers: bool) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let received = Arc::new(Mutex::new(Vec::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let (shared, over) = (Arc::clone(&received), Arc::clone(&is_over));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&shared);
                // Ends with the sender.
                thread::spawn(move || drain(stream, &shared, answers));
            }
        });
        Ok(Self { address, received, is_over })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that came so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts; there is nobody to tell when that is over already.
        let _ = TcpStream::connect(self.address);
    }
}

fn drain(mut stream: TcpStream, received: &Mutex<Vec<u8>>, answers: bool) {
    let mut request = Vec::new();
    let mut part = [0; 16 << 10];
    while let Ok(length @ 1..) = stream.read(&mut part) {
        let part = part.get(..length).unwrap_or_default();
        received.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(part);
        request.extend_from_slice(part);
        while let Some(end) = end_of_request(&request).filter(|_| answers) {
            request.drain(..end);
            if stream.write_all(ACCEPTED).is_err() {
                return;
            }
        }
    }
}

/// Where the first request ends, once all of it is there.
fn end_of_request(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(bytes.get(..head)?).to_ascii_lowercase();
    if text.contains("\r\ntransfer-encoding: chunked\r\n") {
        let last =
            bytes.get(head - 2..)?.windows(LAST_CHUNK.len()).position(|window| window == LAST_CHUNK)?;
        return Some(head - 2 + last + LAST_CHUNK.len());
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let end = head + length.map_or(Some(0), |length| length.trim().parse().ok())?;
    (end <= bytes.len()).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_with_its_body() {
        let whole = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET";
        assert_eq!(end_of_request(whole), Some(whole.len() - 3));
        assert_eq!(end_of_request(&whole[..whole.len() - 4]), None);
        let chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        assert_eq!(end_of_request(chunked), Some(chunked.len()));
        assert_eq!(end_of_request(&chunked[..chunked.len() - 7]), None);
        assert_eq!(end_of_request(b"GET / HTTP/1.1\r\n\r\n"), Some(18));
    }
}
