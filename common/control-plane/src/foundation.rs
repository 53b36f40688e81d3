//! Opening what a control plane stands on, and its orderly end.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use prometheus_client::registry::Registry;
use runtime::tls::{ReloadingCertificate, fixed_certificate, server_config};
use runtime::{Blocker, OnExit, Readiness, Tasks};
use store::Store;
use store::index::SnapshotReceiver;
use tempfile::TempDir;

use crate::settings::{DiagnosticsConfig, StoreBackend, StoreConfig, TlsSection};

/// How long tasks have to end: streams are closed and a last insight is written.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// File in the data folder that tells which ports were bound.
const PORTS_FILE: &str = "ports.json";
/// Folder of the TLS identity in the data folder.
const TLS_FOLDER: &str = "tls";

/// What [`Foundation::open`] needs to know.
pub struct Parts<'a> {
    /// Name of the program.
    pub name: &'static str,
    /// The data folder, if one is configured.
    pub data_dir: Option<&'a Path>,
    /// Where resources are kept.
    pub store: &'a StoreConfig,
    /// Where to serve diagnostics; `None` for nowhere.
    pub diagnostics: Option<&'a DiagnosticsConfig>,
    /// The program's own metrics.
    pub metrics: Registry,
}

/// A running control plane's store, tasks and readiness.
pub struct Foundation {
    /// Its tasks.
    pub tasks: Tasks,
    /// Its readiness.
    pub readiness: Readiness,
    /// Its store.
    pub store: Store,
    /// Its data folder.
    pub data_dir: PathBuf,
    starting: Blocker,
    ports: BTreeMap<&'static str, u16>,
    /// The data folder of a store that keeps nothing.
    scratch: Option<TempDir>,
}

impl Foundation {
    /// Makes the data folder, serves diagnostics and opens the store.
    ///
    /// # Errors
    /// When one of these fails.
    pub async fn open(parts: Parts<'_>) -> anyhow::Result<Self> {
        let tasks = Tasks::new();
        let readiness = Readiness::new();
        let starting = readiness.blocker("start");
        let (data_dir, scratch) = data_folder(&parts)?;
        let mut ports = BTreeMap::new();
        if let Some(config) = parts.diagnostics {
            let address = SocketAddr::new(config.address, config.port);
            let metrics = Arc::new(parts.metrics);
            let bound = runtime::diagnostics::spawn(&tasks, address, readiness.clone(), metrics)
                .context("diagnostics.port")?;
            ports.insert("diagnostics", bound.port());
        }
        let store = parts.store.open(&data_dir).await.context("cannot open the store")?;
        tracing::info!(store = store.name(), data = %data_dir.display(), "store is open");
        Ok(Self { tasks, readiness, store, data_dir, starting, ports, scratch })
    }

    /// Starts the index.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn index(&self) -> anyhow::Result<SnapshotReceiver> {
        let (snapshots, follow) =
            store::index::start(Arc::clone(&self.store)).await.context("cannot read the store")?;
        self.tasks.spawn("index", OnExit::Shutdown, follow);
        Ok(snapshots)
    }

    /// TLS of a server: from the configured files, or generated, when the authority's fingerprint is told once.
    /// `None` when it is switched off.
    ///
    /// # Errors
    /// When files cannot be read or written, or hold no certificate and key.
    pub fn tls(&self, name: &str, section: &TlsSection) -> anyhow::Result<Option<ServerTls>> {
        if !section.enabled {
            return Ok(None);
        }
        match (&section.cert_file, &section.key_file) {
            (Some(cert), Some(key)) => {
                let certificate = ReloadingCertificate::load(cert, key)?;
                let certificate_pem = std::fs::read_to_string(cert)
                    .with_context(|| format!("cannot read {}", cert.display()))?;
                let ca_pem = certificate_pem.clone();
                Ok(Some(ServerTls { config: server_config(certificate, None)?, certificate_pem, ca_pem }))
            }
            (None, None) => self.generated(name, &section.names).map(Some),
            _ => anyhow::bail!("{name}: tls.certFile and tls.keyFile go together"),
        }
    }

    fn generated(&self, name: &str, more: &[String]) -> anyhow::Result<ServerTls> {
        let now = time::OffsetDateTime::now_utc();
        let names = host_names().into_iter().chain(more.iter().cloned()).collect::<Vec<_>>();
        let identity = auth::files::load_or_generate(&self.data_dir.join(TLS_FOLDER), name, &names, now)?;
        if identity.generated {
            tracing::info!(
                server = name,
                file = %identity.ca_file.display(),
                sha256 = %identity.ca_fingerprint_sha256,
                "a certificate authority was generated; peers are to trust it by file or fingerprint"
            );
        }
        let certificate = fixed_certificate(&identity.cert_chain_pem, identity.key.expose())?;
        let config = server_config(certificate, None)?;
        Ok(ServerTls { config, certificate_pem: identity.cert_chain_pem, ca_pem: identity.ca_pem })
    }

    /// Remembers a bound port for the file of ports.
    pub fn port(&mut self, name: &'static str, port: u16) {
        self.ports.insert(name, port);
    }

    /// Writes a file into the data folder that only its owner may read.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_private(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.data_dir.join(name);
        write_private(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Tells that everything is up, then waits for a signal or for a vital task to end, and stops in order.
    ///
    /// # Errors
    /// When a vital task was the cause, or the file of ports cannot be written.
    pub async fn run_until_stopped(self) -> anyhow::Result<()> {
        let signal = runtime::shutdown_signal()?;
        self.write_private(PORTS_FILE, &serde_json::to_string_pretty(&self.ports)?)?;
        drop(self.starting);
        tracing::info!(ports = ?self.ports, "ready");
        tokio::select! {
            name = signal => tracing::info!(signal = name, "stopping"),
            () = self.tasks.cancelled() => {}
        }
        let late = self.tasks.shutdown(SHUTDOWN).await;
        if !late.is_empty() {
            tracing::warn!(tasks = ?late, "stopped without waiting for some tasks");
        }
        drop(self.scratch);
        match self.tasks.failure() {
            Some(reason) => anyhow::bail!(reason),
            None => Ok(()),
        }
    }
}

/// TLS of a server.
pub struct ServerTls {
    /// For the listener.
    pub config: Arc<rustls::ServerConfig>,
    /// The certificate and its issuers, PEM.
    pub certificate_pem: String,
    /// What clients are to trust, PEM.
    pub ca_pem: String,
}

/// What clients may call this host: its name, loopback, and the addresses of its interfaces.
fn host_names() -> Vec<String> {
    let mut names: BTreeSet<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).into();
    names.extend(nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()));
    for interface in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let Some(address) = interface.address else { continue };
        names.extend(address.as_sockaddr_in().map(|v4| v4.ip().to_string()));
        // Link-local addresses mean nothing without an interface.
        let v6 = address.as_sockaddr_in6().map(|v6| v6.ip()).filter(|ip| !ip.is_unicast_link_local());
        names.extend(v6.map(|ip| ip.to_string()));
    }
    names.into_iter().collect()
}

/// The configured folder; without one, a folder that goes away with a store that keeps nothing, or the place
/// where programs keep their state.
fn data_folder(parts: &Parts<'_>) -> anyhow::Result<(PathBuf, Option<TempDir>)> {
    let dir = match parts.data_dir {
        Some(dir) => dir.to_owned(),
        None if parts.store.r#type == StoreBackend::Memory => {
            let scratch = tempfile::Builder::new().prefix(parts.name).tempdir()?;
            return Ok((scratch.path().to_owned(), Some(scratch)));
        }
        None => state_folder()?.join("isthmus").join(parts.name),
    };
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
    made.with_context(|| format!("dataDir: cannot make {}", dir.display()))?;
    Ok((dir, None))
}

fn state_folder() -> anyhow::Result<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Ok("/var/lib".into());
    }
    let home = std::env::home_dir().context("no home folder is known: set dataDir (--data-dir)")?;
    Ok(home.join(".local/state"))
}

/// Writes beside and renames, so that readers never see a part.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file =
        std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn parts<'a>(store: &'a StoreConfig, data_dir: Option<&'a Path>) -> Parts<'a> {
        Parts { name: "test", data_dir, store, diagnostics: None, metrics: Registry::default() }
    }

    #[tokio::test]
    async fn a_store_that_keeps_nothing_leaves_nothing() {
        let store = StoreConfig { r#type: StoreBackend::Memory, ..StoreConfig::default() };
        let foundation = Foundation::open(parts(&store, None)).await.unwrap();
        let dir = foundation.data_dir.clone();
        assert!(dir.exists());
        drop(foundation);
        assert!(!dir.exists());
    }

    #[tokio::test]
    async fn private_files_are_the_owners_and_the_embedded_store_is_one_process_s() {
        let dir = tempfile::tempdir().unwrap();
        let store = StoreConfig::default();
        let first = Foundation::open(parts(&store, Some(dir.path()))).await.unwrap();
        let path = first.write_private("token", "secret").unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        let second = Foundation::open(parts(&store, Some(dir.path()))).await.err().unwrap();
        assert!(format!("{second:#}").contains("store.redb"), "{second:#}");
    }
}
