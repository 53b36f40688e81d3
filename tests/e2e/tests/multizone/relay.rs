//! Stands in front of a zone ingress and notes which server names are asked for.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A relay; it ends with the test's process.
#[derive(Debug)]
pub(crate) struct Relay {
    port: u16,
    server_names: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    /// Passes connections on to a loopback port.
    pub(crate) fn start(target: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let server_names = Arc::new(Mutex::new(Vec::new()));
        let names = Arc::clone(&server_names);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let names = Arc::clone(&names);
                std::thread::spawn(move || relay(stream, target, &names));
            }
        });
        Ok(Self { port, server_names })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The names asked for so far, one a connection.
    pub(crate) fn server_names(&self) -> Vec<String> {
        self.server_names.lock().unwrap().clone()
    }
}

fn relay(mut client: TcpStream, target: u16, names: &Mutex<Vec<String>>) -> Option<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).ok()?;
    let mut hello = Vec::new();
    let mut buffer = [0; 4096];
    // The record's header tells how much of the hello is still to come.
    while hello.len() < 5 || hello.len() < 5 + usize::from(u16::from_be_bytes([hello[3], hello[4]])) {
        let read = client.read(&mut buffer).ok()?;
        if read == 0 {
            return None;
        }
        hello.extend_from_slice(&buffer[..read]);
    }
    names.lock().unwrap().push(server_name(&hello).unwrap_or_else(|| "none".to_owned()));
    server.write_all(&hello).ok()?;
    let (mut from_client, mut to_server) = (client.try_clone().ok()?, server.try_clone().ok()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    std::io::copy(&mut server, &mut client).ok()?;
    client.shutdown(Shutdown::Write).ok()
}

/// The server name of a TLS ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3).
fn server_name(record: &[u8]) -> Option<String> {
    // Record header 5, handshake header 4, version 2, random 32.
    let rest = record.get(43..)?;
    let rest = skip(rest, 1)?; // session id
    let rest = skip(rest, 2)?; // cipher suites
    let rest = skip(rest, 1)?; // compression methods
    let mut extensions = rest.get(2..)?;
    while let [kind_high, kind_low, length_high, length_low, rest @ ..] = extensions {
        let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
        let body = rest.get(..length)?;
        if u16::from_be_bytes([*kind_high, *kind_low]) == 0 {
            // List length 2, name type 1, name length 2.
            return String::from_utf8(body.get(5..)?.to_vec()).ok();
        }
        extensions = &rest[length..];
    }
    None
}

/// What follows a field that is led by its length in `bytes` bytes.
fn skip(data: &[u8], bytes: usize) -> Option<&[u8]> {
    let length = data.get(..bytes)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    data.get(bytes + length..)
}
