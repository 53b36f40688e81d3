//! Stands between two processes: counts bytes, cuts connections, and notes which TLS server names are asked for.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Passes connections on to a loopback port; ends with this process.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicU64,
    server_names: Mutex<Vec<String>>,
    open: Mutex<Vec<TcpStream>>,
}

impl Relay {
    /// Starts to pass connections on to a loopback port.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(target: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let of_connections = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&of_connections);
                std::thread::spawn(move || shared.pass_on(stream, target));
            }
        });
        Ok(Self { port, shared })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server names asked for so far, one a connection; `none` where there was none.
    pub fn server_names(&self) -> Vec<String> {
        held(&self.shared.server_names).clone()
    }

    /// Bytes passed on so far, both ways.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Cuts every open connection.
    pub fn cut(&self) {
        for stream in held(&self.shared.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn pass_on(&self, mut client: TcpStream, target: u16) -> Option<()> {
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).ok()?;
        for stream in [&client, &server] {
            stream.set_nodelay(true).ok()?;
            held(&self.open).push(stream.try_clone().ok()?);
        }
        let hello = read_record(&mut client)?;
        held(&self.server_names).push(server_name(&hello).unwrap_or_else(|| "none".to_owned()));
        self.count(hello.len());
        server.write_all(&hello).ok()?;
        let (from_client, to_server) = (client.try_clone().ok()?, server.try_clone().ok()?);
        std::thread::scope(|scope| {
            scope.spawn(|| self.copy(from_client, to_server));
            self.copy(server, client);
        });
        Some(())
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            self.count(read);
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }

    fn count(&self, bytes: usize) {
        self.bytes.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a whole TLS record, and perhaps more.
fn read_record(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut record = Vec::new();
    let mut buffer = [0; 4096];
    // The record's header tells how much is still to come.
    while record.len() < 5 || record.len() < 5 + usize::from(u16::from_be_bytes([record[3], record[4]])) {
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        record.extend_from_slice(&buffer[..read]);
    }
    Some(record)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(name: &str) -> Vec<u8> {
        let length = u8::try_from(name.len()).unwrap();
        let mut record = vec![22, 3, 1, 0, 0, 1, 0, 0, 0, 3, 3];
        record.extend([7; 32]);
        record.extend([1, 9, 0, 2, 19, 1, 1, 0]);
        let names = [&[0, length + 3, 0, 0, length], name.as_bytes()].concat();
        let other = [0, 10, 0, 2, 0, 29];
        let extensions = [&other[..], &[0, 0, 0, length + 5], &names].concat();
        record.extend([0, u8::try_from(extensions.len()).unwrap()]);
        record.extend(extensions);
        record
    }

    #[test]
    fn the_server_name_is_found_or_nothing() {
        let whole = hello("sni.msvc.default");
        assert_eq!(server_name(&whole).as_deref(), Some("sni.msvc.default"));
        for cut in 0..whole.len() {
            assert_eq!(server_name(&whole[..cut]), None, "{cut}");
        }
    }
}
