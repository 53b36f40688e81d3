//! Where a control plane is.

use std::fmt;
use std::net::IpAddr;

use http::Uri;
use http::uri::Authority;

use super::ClientError;

/// Scheme, host and port of a control plane, and the path under which its API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    https: bool,
    authority: Authority,
    base: String,
}

impl Address {
    pub(crate) fn parse(text: &str) -> Result<Self, ClientError> {
        let refused = || ClientError::Address(text.to_owned());
        let uri: Uri = text.trim().parse().map_err(|_| refused())?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refused()),
        };
        let authority = uri.authority().ok_or_else(refused)?.clone();
        // Credentials in an address would end up in messages and histories.
        if uri.query().is_some() || authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(refused());
        }
        Ok(Self { https, authority, base: uri.path().trim_end_matches('/').to_owned() })
    }

    pub(crate) fn is_https(&self) -> bool {
        self.https
    }

    /// Host and port as the `Host` header has them.
    pub(crate) fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// The host without the brackets of an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    pub(crate) fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.https { 443 } else { 80 })
    }

    /// The request target of a path of the API.
    pub(crate) fn target(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Whether traffic to it stays on this host.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_scheme_and_host_and_no_credentials() {
        for (text, host, port, target) in [
            ("http://127.0.0.1:5681", "127.0.0.1", 5681, "/meshes"),
            ("https://[::1]:5682/", "::1", 5682, "/meshes"),
            ("https://cp.example/api/", "cp.example", 443, "/api/meshes"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.host(), address.port()), (host, port));
            assert_eq!(address.target("/meshes"), target);
        }
        for text in ["127.0.0.1:5681", "ftp://a", "http://u:p@a", "http://a?b=c", "/x", "", "http://"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn loopback_is_an_address_or_localhost() {
        let loopback = |text| Address::parse(text).unwrap().is_loopback();
        assert!(loopback("http://localhost") && loopback("http://127.8.0.1:1") && loopback("http://[::1]:1"));
        assert!(!loopback("http://10.0.0.1") && !loopback("http://localhost.example"));
    }
}
