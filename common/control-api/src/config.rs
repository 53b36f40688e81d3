//! The section `api` of a control plane's configuration.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use auth::access::AccessControl;
use serde::{Deserialize, Serialize};

use crate::OriginPattern;

/// The section `api`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiConfig {
    /// Where to listen. Off loopback, HTTPS is served there and plain HTTP stays on loopback.
    pub address: IpAddr,
    /// The port of plain HTTP; 0 for any free one.
    pub port: u16,
    /// Serve plain HTTP off loopback too: tokens and secrets then cross the network in clear.
    pub plain_http_off_loopback: bool,
    /// HTTPS on a port of its own.
    pub https: HttpsConfig,
    /// Whether callers on this host are the administrator without a token.
    pub localhost_is_admin: bool,
    /// Serve callers without a token too, as the anonymous user: they read and write all but secrets.
    pub allow_anonymous: bool,
    /// Origins whose web pages may read answers: whole origins such as `https://mesh.example`, or regular
    /// expressions that match a whole origin. None by default.
    pub cors_allowed_domains: Vec<OriginPattern>,
    /// Refuse every write.
    pub read_only: bool,
    /// Whether tokens can be issued here.
    pub enable_token_issuer: bool,
    /// Let a mesh with dataplanes and a zone that is online be deleted.
    pub unsafe_delete: bool,
    /// Accept resources whose origin label is not this control plane's.
    pub disable_origin_label_validation: bool,
    /// Who may do what.
    pub access: AccessControl,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::LOCALHOST.into(),
            port: 5681,
            plain_http_off_loopback: false,
            https: HttpsConfig::default(),
            localhost_is_admin: true,
            allow_anonymous: false,
            cors_allowed_domains: Vec::new(),
            read_only: false,
            enable_token_issuer: true,
            unsafe_delete: false,
            disable_origin_label_validation: false,
            access: AccessControl::default(),
        }
    }
}

/// The section `api.https`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpsConfig {
    /// Whether to serve HTTPS on loopback too; off loopback it always is.
    pub enabled: bool,
    /// The port; 0 for any free one.
    pub port: u16,
    /// PEM file of the certificate and its issuers; without it the control plane's own is used.
    pub cert_file: Option<PathBuf>,
    /// PEM file of the certificate's key.
    pub key_file: Option<PathBuf>,
}

impl Default for HttpsConfig {
    fn default() -> Self {
        Self { enabled: false, port: 5682, cert_file: None, key_file: None }
    }
}
