//! Addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use envoy_api::envoy::config::core::v3::address::Address as AddressKind;
use envoy_api::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_api::envoy::config::core::v3::{Address, BindConfig, CidrRange, Pipe, SocketAddress};

/// Calls to the application behind redirection come from here, so that they are not redirected again.
const PASSTHROUGH_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));
const PASSTHROUGH_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6));

/// Path of a socket, cut so that the system accepts it: 108 bytes on Linux, 104 elsewhere.
const MAX_SOCKET_PATH: usize = 98;

fn socket_address(host: &str, port: u32) -> SocketAddress {
    SocketAddress {
        address: host.into(),
        port_specifier: Some(PortSpecifier::PortValue(port)),
        ..SocketAddress::default()
    }
}

/// A host, by address or name, and a port.
pub(crate) fn host(host: &str, port: u32) -> Address {
    Address { address: Some(AddressKind::SocketAddress(socket_address(host, port))) }
}

/// An address and a port.
pub(crate) fn socket(address: IpAddr, port: u32) -> Address {
    host(&address.to_string(), port)
}

/// A local socket.
pub(crate) fn pipe(path: &str) -> Address {
    Address { address: Some(AddressKind::Pipe(Pipe { path: path.into(), mode: 0 })) }
}

/// Path of a local socket in a directory.
pub(crate) fn socket_path(directory: &str, name: &str) -> String {
    let path = format!("{}/{name}", directory.trim_end_matches('/'));
    let cut = path.char_indices().map(|(at, _)| at).take_while(|at| *at <= MAX_SOCKET_PATH).last();
    match cut {
        Some(at) if path.len() > MAX_SOCKET_PATH => format!("{}.sock", path.get(..at).unwrap_or(&path)),
        _ => format!("{path}.sock"),
    }
}

/// Calls to the application leave from the address of this family that is not redirected.
pub(crate) fn bind_passthrough(v6: bool) -> Option<BindConfig> {
    let address = if v6 { PASSTHROUGH_V6 } else { PASSTHROUGH_V4 };
    let source_address = Some(socket_address(&address.to_string(), 0));
    Some(BindConfig { source_address, ..BindConfig::default() })
}

/// A range of addresses.
pub(crate) fn cidr(cidr: &crate::settings::Cidr) -> CidrRange {
    CidrRange { address_prefix: cidr.address.to_string(), prefix_len: Some(u32::from(cidr.prefix)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_socket_paths_are_cut() {
        assert_eq!(socket_path("/tmp/", "a"), "/tmp/a.sock");
        let long = socket_path(&"/ä".repeat(60), "a");
        assert!(long.len() <= MAX_SOCKET_PATH + ".sock".len() && long.ends_with(".sock"), "{long}");
    }
}
