//! Whether a request without credentials may act as the administrator because it is local.
//!
//! A loopback address alone proves little: a reverse proxy on the host, or a page that a browser on
//! the host shows, sends from there too. Any sign of either makes the request an anonymous one.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{HOST, ORIGIN};
use http::uri::{Authority, Uri};

/// What the decision looks at.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// The host and port of the request's URI: where HTTP/2 carries the host.
    pub authority: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
}

/// Headers that only a proxy adds.
const FORWARDED: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];

/// Whether a request comes from this host, through no proxy, and from no foreign web page.
pub fn is_local_admin(request: Request<'_>) -> bool {
    request.peer.ip().to_canonical().is_loopback()
        && !FORWARDED.iter().any(|name| request.headers.contains_key(*name))
        && host(request).is_some_and(|host| is_loopback_host(host.host()) && same_site(request, &host))
}

fn host(request: Request<'_>) -> Option<Authority> {
    let mut hosts = request.headers.get_all(HOST).iter();
    match (request.authority, hosts.next(), hosts.next()) {
        (_, _, Some(_)) => None,
        (Some(authority), _, None) => authority.parse().ok(),
        (None, header, None) => header?.to_str().ok()?.parse().ok(),
    }
}

fn same_site(request: Request<'_>, host: &Authority) -> bool {
    let fetch_site = request.headers.get_all("sec-fetch-site").iter();
    let asked_by_us = fetch_site.into_iter().all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"));
    asked_by_us && request.headers.get_all(ORIGIN).iter().all(|origin| is_origin(origin.as_bytes(), host))
}

/// Whether an `Origin` is loopback and names the host that the request went to.
fn is_origin(origin: &[u8], host: &Authority) -> bool {
    let Ok(origin) = Uri::try_from(origin) else { return false };
    let default_port = match origin.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return false,
    };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(default_port);
    origin.authority().is_some_and(|authority| {
        is_loopback_host(authority.host())
            && authority.host().eq_ignore_ascii_case(host.host())
            && port(authority) == port(host)
    })
}

fn is_loopback_host(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(peer: &str, authority: Option<&str>, headers: &[(&str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        is_local_admin(Request { peer: peer.parse().unwrap(), authority, headers: &map })
    }

    #[test]
    fn local_requests() {
        let (v4, v6, mapped) = ("127.0.0.1:4000", "[::1]:4000", "[::ffff:127.0.0.1]:4000");
        assert!(local(v4, None, &[("host", "localhost:5681")]));
        assert!(local(v4, None, &[("host", "LOCALHOST")]));
        assert!(local(v6, None, &[("host", "[::1]:5681")]));
        assert!(local(mapped, None, &[("host", "127.9.9.9")]));
        assert!(local(v4, Some("localhost:5682"), &[]));
        let browser = [("host", "localhost:5681"), ("sec-fetch-site", "same-origin")];
        assert!(local(v4, None, &browser));
        assert!(local(v4, None, &[("host", "localhost:5681"), ("sec-fetch-site", "none")]));
        assert!(local(v4, None, &[("host", "localhost:5681"), ("origin", "http://localhost:5681")]));
        assert!(local(v4, None, &[("host", "localhost"), ("origin", "http://localhost:80")]));
    }

    #[test]
    fn requests_that_only_look_local() {
        let v4 = "127.0.0.1:4000";
        let host = ("host", "localhost:5681");
        assert!(!local("10.0.0.1:4000", None, &[host]));
        assert!(!local(v4, None, &[]));
        assert!(!local(v4, None, &[("host", "example.com")]));
        assert!(!local(v4, None, &[("host", "localhost.example.com")]));
        assert!(!local(v4, Some("example.com"), &[host]));
        assert!(!local(v4, None, &[host, ("host", "localhost")]));
        for proxy in FORWARDED {
            assert!(!local(v4, None, &[host, (proxy, "127.0.0.1")]), "{proxy}");
        }
        for site in ["cross-site", "same-site", ""] {
            assert!(!local(v4, None, &[host, ("sec-fetch-site", site)]), "{site}");
        }
        let origins = [
            "null",
            "http://example.com",
            "http://localhost:1",
            "https://127.0.0.1:5681",
            "ftp://localhost:5681",
        ];
        for origin in origins {
            assert!(!local(v4, None, &[host, ("origin", origin)]), "{origin}");
        }
        let two = [host, ("origin", "http://localhost:5681"), ("origin", "http://example.com")];
        assert!(!local(v4, None, &two));
    }
}
