//! Configuration sections that both control planes have.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use runtime::config::Secret;
use serde::{Deserialize, Serialize};
use store::{EmbeddedStore, EtcdConfig, EtcdStore, MemoryStore, Store};

/// File of the embedded store in the data folder.
const STORE_FILE: &str = "store.redb";

/// Where resources are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum StoreBackend {
    /// One file in the data folder; for one instance of the control plane.
    #[default]
    Embedded,
    /// Nothing is kept. For tests.
    Memory,
    /// An etcd cluster; for several instances of the control plane.
    Etcd,
}

/// The section `store`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreConfig {
    /// Where resources are kept.
    pub r#type: StoreBackend,
    /// How to reach etcd.
    pub etcd: EtcdSection,
}

/// The section `store.etcd`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct EtcdSection {
    /// URLs of the servers.
    pub endpoints: Vec<String>,
    /// In front of every key.
    pub prefix: String,
    /// User; empty for none.
    pub user: String,
    /// The user's password.
    pub password: Secret,
    /// PEM file of the servers' authority.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the client certificate.
    pub cert_file: Option<PathBuf>,
    /// PEM file of the client certificate's key.
    pub key_file: Option<PathBuf>,
}

impl Default for EtcdSection {
    fn default() -> Self {
        Self {
            endpoints: vec!["http://127.0.0.1:2379".into()],
            prefix: "/isthmus".into(),
            user: String::new(),
            password: Secret::default(),
            ca_file: None,
            cert_file: None,
            key_file: None,
        }
    }
}

impl EtcdSection {
    fn resolve(&self) -> anyhow::Result<EtcdConfig> {
        let identity_pem = match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => Some((read(cert)?, read(key)?)),
            (None, None) => None,
            _ => anyhow::bail!("store.etcd.certFile and store.etcd.keyFile go together"),
        };
        let auth = (!self.user.is_empty()).then(|| (self.user.clone(), self.password.expose().clone()));
        let ca_pem = self.ca_file.as_deref().map(read).transpose()?;
        Ok(EtcdConfig {
            endpoints: self.endpoints.clone(),
            prefix: self.prefix.clone(),
            auth,
            ca_pem,
            identity_pem,
        })
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

impl StoreConfig {
    /// Opens the store.
    ///
    /// # Errors
    /// When it cannot be opened or reached.
    pub async fn open(&self, data_dir: &Path) -> anyhow::Result<Store> {
        Ok(match self.r#type {
            StoreBackend::Memory => Arc::new(MemoryStore::new()),
            StoreBackend::Embedded => {
                let path = data_dir.join(STORE_FILE);
                let open = tokio::task::spawn_blocking(move || {
                    EmbeddedStore::open(&path, |error| tracing::error!(%error, "a stored record is left out"))
                });
                Arc::new(open.await??)
            }
            StoreBackend::Etcd => {
                let store = EtcdStore::connect(&self.etcd.resolve()?).await;
                Arc::new(store.with_context(|| format!("store.etcd.endpoints {:?}", self.etcd.endpoints))?)
            }
        })
    }
}

/// The section `diagnostics`: metrics, health and readiness.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct DiagnosticsConfig {
    /// Where to listen.
    pub address: IpAddr,
    /// The port; 0 for any free one.
    pub port: u16,
}

impl Default for DiagnosticsConfig {
    fn default() -> Self {
        Self { address: Ipv4Addr::LOCALHOST.into(), port: 5680 }
    }
}

/// The section `tls` of a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsSection {
    /// Whether the port is encrypted.
    pub enabled: bool,
    /// PEM file of the certificate and its issuers; read again when it changes. Without it a certificate is
    /// generated, signed by an authority of the control plane's own.
    pub cert_file: Option<PathBuf>,
    /// PEM file of the certificate's key.
    pub key_file: Option<PathBuf>,
    /// Further DNS names and IP addresses of the generated certificate, beside those of the host.
    pub names: Vec<String>,
}

impl Default for TlsSection {
    fn default() -> Self {
        Self { enabled: true, cert_file: None, key_file: None, names: Vec::new() }
    }
}
