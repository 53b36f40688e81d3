//! `POST /bootstrap`: who asks, whether it may, and the configuration its Envoy starts with.

mod envoy;
mod request;

use std::net::IpAddr;
use std::sync::Arc;

use auth::pki::CertificateInfo;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use model::spec::Dataplane;
use model::{Key, Kind, Resource};
use serde_json::json;

use self::request::Request;
use super::context::Context;
use super::credentials::Refusal;
use super::registration::{self, RegistrationError};

/// Why there is no bootstrap.
#[derive(Debug, thiserror::Error)]
enum BootstrapError {
    #[error("the request is not the JSON of a bootstrap request: {0}")]
    Json(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    BadRequest(String),
    #[error(
        "the certificate of this control plane is not for {host:?}, which proxies would have to verify: \
         use one of {names:?}, or add the name to the certificate"
    )]
    Host { host: String, names: Vec<String> },
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Dataplane(#[from] RegistrationError),
    /// Agents retry an empty answer with this status: the dataplane may be on its way.
    #[error("")]
    UnknownDataplane,
}

impl BootstrapError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Json(_) | Self::BadRequest(_) | Self::Host { .. } => StatusCode::BAD_REQUEST,
            Self::Invalid(_) | Self::Dataplane(_) | Self::Refused(Refusal::NoToken) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::Refused(refusal) if refusal.is_about_identity() => StatusCode::FORBIDDEN,
            Self::Refused(_) => StatusCode::UNAUTHORIZED,
            Self::UnknownDataplane => StatusCode::NOT_FOUND,
        }
    }
}

impl IntoResponse for BootstrapError {
    fn into_response(self) -> Response {
        tracing::info!(status = %self.status(), reason = %self, "bootstrap refused");
        (self.status(), self.to_string()).into_response()
    }
}

/// Answers a bootstrap request.
pub(super) async fn handle(
    State(context): State<Arc<Context>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match bootstrap(&context, &uri, &headers, &body) {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

fn bootstrap(
    context: &Context,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, BootstrapError> {
    let request: Request =
        serde_json::from_slice(body).map_err(|error| BootstrapError::Json(error.to_string()))?;
    let dataplane = dataplane(context, &request)?;
    let host = xds_host(context, uri, headers)?;
    let token = request.dataplane_token.as_deref().map(str::trim).filter(|token| !token.is_empty());
    let snapshot = Arc::clone(&context.deps.snapshots.borrow());
    context.credentials.check(&snapshot, token, &dataplane)?;
    let spec = dataplane.spec::<Dataplane>().map_err(|error| BootstrapError::Invalid(error.to_string()))?;
    let networking = spec.networking.clone().unwrap_or_default();
    if request.transparent_proxy.is_some() && !networking.outbound.is_empty() {
        return Err(BootstrapError::Invalid(
            "networking.outbound: should be empty since dataplane is in Transparent Proxying mode".into(),
        ));
    }
    let ca = match request.ca_cert.as_deref().filter(|pem| !pem.trim().is_empty()) {
        Some(pem) => checked_ca(pem)?,
        None => &context.config.ca_pem,
    };
    let made = envoy::Bootstrap { request: &request, dataplane: &dataplane, networking: &networking };
    let xds = envoy::Xds { host: &host, port: context.xds_port(), ca, token };
    let document = made.document(&context.config, &xds);
    tracing::info!(mesh = %request.mesh, name = %request.name, "bootstrap served");
    // JSON is YAML, and unlike it says of each text that it is one.
    let text = format!("{document:#}");
    let accepts_json = headers.get(header::ACCEPT).is_some_and(|accept| {
        accept
            .to_str()
            .is_ok_and(|accept| accept.split(',').any(|one| one.trim().starts_with("application/json")))
    });
    if !accepts_json {
        return Ok(([(header::CONTENT_TYPE, "text/x-yaml")], text).into_response());
    }
    let answer = json!({
        "bootstrap": STANDARD.encode(text),
        "kumaSidecarConfiguration": {
            "networking": {"address": networking.address},
            "metrics": {"aggregate": []},
        },
    });
    Ok(axum::Json(answer).into_response())
}

/// The Dataplane of the request, as it would be registered, or the one in the store.
fn dataplane(context: &Context, request: &Request) -> Result<Arc<Resource>, BootstrapError> {
    if !["", "dataplane"].contains(&request.proxy_type.as_str()) {
        let message = format!("proxyType: {:?} is not known; it is dataplane", request.proxy_type);
        return Err(BootstrapError::Invalid(message));
    }
    let snapshot = context.deps.snapshots.borrow();
    if snapshot.resource(&Key::global(Kind::MESH, &request.mesh)).is_none() {
        return Err(BootstrapError::Invalid(format!("mesh: mesh {:?} does not exist", request.mesh)));
    }
    match request.dataplane_resource.as_deref().filter(|text| !text.trim().is_empty()) {
        Some(text) => {
            let given = registration::parse(text, &request.mesh, &request.name)?;
            Ok(Arc::new(registration::prepare(&context.deps.plane, given)?))
        }
        None => {
            let key = Key::new(Kind::DATAPLANE, &request.mesh, &request.name);
            snapshot.resource(&key).cloned().ok_or(BootstrapError::UnknownDataplane)
        }
    }
}

/// The name under which the proxy is to reach and verify this control plane: the one under which it did.
fn xds_host(context: &Context, uri: &Uri, headers: &HeaderMap) -> Result<String, BootstrapError> {
    if let Some(host) = &context.config.xds_host {
        return Ok(host.clone());
    }
    let named = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = named.or_else(|| uri.authority().map(axum::http::uri::Authority::as_str));
    let authority: Option<axum::http::uri::Authority> = authority.and_then(|host| host.parse().ok());
    let host = authority.map(|authority| authority.host().trim_matches(['[', ']']).to_owned());
    let host = host.ok_or_else(|| BootstrapError::BadRequest("the request has no Host header".into()))?;
    if covers(&context.config.server_names, &host) {
        return Ok(host);
    }
    Err(BootstrapError::Host { host, names: context.config.server_names.clone() })
}

/// Whether a certificate with these names is good for a host.
fn covers(names: &[String], host: &str) -> bool {
    let address: Option<IpAddr> = host.parse().ok();
    names.iter().any(|name| match (address, name.strip_prefix("*.")) {
        (Some(address), _) => name.parse() == Ok(address),
        (None, Some(parent)) => {
            host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent))
        }
        (None, None) => name.eq_ignore_ascii_case(host),
    })
}

fn checked_ca(pem: &str) -> Result<&str, BootstrapError> {
    let infos = auth::pki::certificates(pem)
        .map_err(|error| BootstrapError::BadRequest(format!("caCert: {error}")))?;
    let is_ca = |info: &CertificateInfo| info.is_ca;
    if infos.iter().any(is_ca) {
        return Ok(pem);
    }
    Err(BootstrapError::BadRequest("caCert: no certificate in it is a CA".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_must_be_a_name_of_the_certificate() {
        let names: Vec<String> =
            ["localhost", "*.east.example", "127.0.0.1", "::1"].map(str::to_owned).into();
        for good in ["localhost", "LOCALHOST", "cp.east.example", "127.0.0.1", "0:0:0:0:0:0:0:1"] {
            assert!(covers(&names, good), "{good}");
        }
        for bad in ["east.example", "a.b.east.example", "127.0.0.2", "localhost.example", ""] {
            assert!(!covers(&names, bad), "{bad}");
        }
    }
}
