//! Where a signal goes.

use http::Uri;
use http::uri::Authority;

/// Where a signal goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    /// Host and port.
    pub(crate) authority: Authority,
    /// With TLS.
    pub(crate) tls: bool,
    /// The path of OTLP over HTTP; `None` for OTLP over gRPC.
    pub(crate) path: Option<String>,
    /// Headers of each request.
    pub(crate) headers: Vec<(String, String)>,
}

impl Destination {
    /// What a URL of an environment variable says: authority, TLS, path.
    pub(crate) fn of_url(url: &str) -> Result<(Authority, bool, String), String> {
        let refused = || format!("{url:?} is no URL of a collector, such as http://127.0.0.1:4317");
        let uri: Uri = url.trim().parse().map_err(|_| refused())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(refused()),
        };
        let authority = uri.authority().ok_or_else(refused)?.clone();
        Ok((authority, tls, uri.path().trim_end_matches('/').to_owned()))
    }

    /// Host without brackets, and port.
    pub(crate) fn host_and_port(&self) -> (&str, u16) {
        let host = self.authority.host().trim_start_matches('[').trim_end_matches(']');
        let default = if self.tls { 443 } else { 80 };
        (host, self.authority.port_u16().unwrap_or(default))
    }
}
