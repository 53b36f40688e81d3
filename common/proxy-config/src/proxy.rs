//! The proxy that a configuration is for.

use std::fmt;
use std::sync::Arc;

use model::Resource;

use crate::metadata::Metadata;

/// Certificates with which a proxy serves its admin endpoint to the control plane.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AdminTls {
    /// The proxy's certificate.
    pub certificate_pem: String,
    /// Its key.
    pub private_key_pem: String,
    /// The authority that signed the control plane's certificate.
    pub ca_pem: String,
}

impl AdminTls {
    /// A place without certificates, for inspection.
    pub fn blank() -> Self {
        Self::default()
    }
}

impl fmt::Debug for AdminTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminTls").finish_non_exhaustive()
    }
}

/// The proxy that a configuration is for.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Its Dataplane resource.
    pub dataplane: Arc<Resource>,
    /// What it said about itself.
    pub metadata: Metadata,
    /// How it serves its admin endpoint to the control plane; `None` closes that door.
    pub admin_tls: Option<Arc<AdminTls>>,
}

impl Proxy {
    /// A proxy whose admin endpoint is not served to the control plane.
    pub fn new(dataplane: Arc<Resource>, metadata: Metadata) -> Self {
        Self { dataplane, metadata, admin_tls: None }
    }

    /// The same proxy with an admin endpoint for the control plane.
    pub fn with_admin_tls(self, admin_tls: Arc<AdminTls>) -> Self {
        Self { admin_tls: Some(admin_tls), ..self }
    }
}
