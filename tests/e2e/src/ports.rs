//! Free ports.

use std::net::{Ipv4Addr, TcpListener};

/// Different loopback ports that were free a moment ago.
///
/// # Errors
/// When the system has none.
pub fn free<const N: usize>() -> std::io::Result<[u16; N]> {
    // All are held before one is given back: the system would hand out the same one again.
    let held: Vec<_> =
        (0..N).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    #[test]
    fn ports_differ() {
        let [a, b, c] = super::free().unwrap();
        assert!(a != b && b != c && a != c && a != 0);
    }
}
