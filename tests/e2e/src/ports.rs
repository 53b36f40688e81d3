//! Free ports.

use std::io::{Error, ErrorKind};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the ports that systems give to connections (Linux: from 32768): one of those could be taken by the time that
/// somebody listens.
const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;

/// How many ports this process has looked at.
static LOOKED_AT: AtomicU32 = AtomicU32::new(0);

/// Different loopback ports that were free a moment ago, and that this process gives to nobody else.
///
/// # Errors
/// When the system has none.
pub fn free<const N: usize>() -> std::io::Result<[u16; N]> {
    let mut ports = [0; N];
    for port in &mut ports {
        *port = next().ok_or_else(|| Error::new(ErrorKind::AddrInUse, "no loopback port is free"))?;
    }
    Ok(ports)
}

fn next() -> Option<u16> {
    // Processes begin at different places.
    let start = std::process::id().wrapping_mul(97);
    (0..COUNT).find_map(|_| {
        let at = LOOKED_AT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + start.wrapping_add(at) % COUNT).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(port)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn ports_differ() {
        let [a, b] = super::free().unwrap();
        let [c] = super::free().unwrap();
        assert!(a != b && b != c && a != c && a != 0);
    }
}
