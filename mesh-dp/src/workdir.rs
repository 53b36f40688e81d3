//! The folder that mesh-dp and Envoy share: the bootstrap and Unix sockets.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Where Envoy serves its admin interface: the control plane's bootstrap says so too.
const ADMIN_SOCKET: &str = "kuma-envoy-admin.sock";
/// Where Envoy serves what the control plane tells mesh-dp.
const DYNAMIC_CONFIG_SOCKET: &str = "kuma-mesh-metric-config.sock";
/// Bytes of `sockaddr_un.sun_path` (unix(7)), one of which ends the string.
const MAX_SOCKET_PATH: usize = 107;
/// Access log pipes and the metrics socket have their path cut to this before `.sock`, on both sides.
const MAX_PIPE_STEM: usize = 98;

#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkdirError {
    #[error("cannot use the folder {} for Envoy's files", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "the folder {} is too long for Unix sockets: choose a --workdir of at most {max} bytes (it has {length})",
        path.display()
    )]
    TooLong { path: PathBuf, length: usize, max: usize },
}

/// The folder. A temporary one is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Workdir {
    path: PathBuf,
    _temporary: Option<TempDir>,
}

impl Workdir {
    /// Uses the given folder (made if missing), or makes a temporary one.
    pub(crate) fn open(given: Option<&Path>) -> Result<Self, WorkdirError> {
        let workdir = match given {
            Some(path) => {
                let at = |source| WorkdirError::Io { path: path.to_owned(), source };
                fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at)?;
                // Envoy gets the path in its bootstrap: it must not depend on the current folder.
                Self { path: path.canonicalize().map_err(at)?, _temporary: None }
            }
            None => {
                let at = |source| WorkdirError::Io { path: std::env::temp_dir(), source };
                let private = Permissions::from_mode(0o700);
                let mut builder = tempfile::Builder::new();
                let dir = builder.prefix("mesh-dp-").permissions(private).tempdir().map_err(at)?;
                Self { path: dir.path().to_owned(), _temporary: Some(dir) }
            }
        };
        workdir.check_length()?;
        Ok(workdir)
    }

    fn check_length(&self) -> Result<(), WorkdirError> {
        let max = MAX_SOCKET_PATH - 1 - DYNAMIC_CONFIG_SOCKET.len();
        let length = self.path.as_os_str().len();
        if length <= max {
            return Ok(());
        }
        Err(WorkdirError::TooLong { path: self.path.clone(), length, max })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn bootstrap(&self) -> PathBuf {
        self.path.join("bootstrap.yaml")
    }

    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.path.join(ADMIN_SOCKET)
    }

    pub(crate) fn dynamic_config_socket(&self) -> PathBuf {
        self.path.join(DYNAMIC_CONFIG_SOCKET)
    }

    /// The named pipe to which Envoy writes access logs for TCP backends.
    pub(crate) fn access_log_pipe(&self, name: &str, mesh: &str) -> PathBuf {
        self.cut(&format!("kuma-al-{name}-{mesh}"))
    }

    /// Where Envoy fetches the metrics that it serves to Prometheus.
    pub(crate) fn metrics_socket(&self, name: &str, mesh: &str) -> PathBuf {
        self.cut(&format!("kuma-mh-{name}-{mesh}"))
    }

    fn cut(&self, file: &str) -> PathBuf {
        let stem = self.path.join(file).to_string_lossy().into_owned();
        let cut =
            stem.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= MAX_PIPE_STEM);
        PathBuf::from(format!("{}.sock", &stem[..cut.last().unwrap_or(0)]))
    }

    /// Writes the bootstrap, readable by this user only: it contains the dataplane's token.
    pub(crate) fn write_bootstrap(&self, bootstrap: &[u8]) -> Result<(), WorkdirError> {
        let path = self.bootstrap();
        let written = (|| {
            remove(&path)?;
            File::options().write(true).create_new(true).mode(0o600).open(&path)?.write_all(bootstrap)
        })();
        written.map_err(|source| WorkdirError::Io { path, source })
    }

    /// Removes what mesh-dp and Envoy put into a folder that was given.
    pub(crate) fn clean(&self) {
        for path in [self.bootstrap(), self.admin_socket(), self.dynamic_config_socket()] {
            if let Err(error) = remove(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove a file");
            }
        }
    }
}

/// Removes a file that may be missing.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The file of a socket, removed when its server ends.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl SocketFile {
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove a file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_folder_is_private_and_goes_away() {
        let workdir = Workdir::open(None).unwrap();
        let path = workdir.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        workdir.write_bootstrap(b"first").unwrap();
        workdir.write_bootstrap(b"second").unwrap();
        assert_eq!(fs::read(workdir.bootstrap()).unwrap(), b"second");
        assert_eq!(fs::metadata(workdir.bootstrap()).unwrap().permissions().mode() & 0o777, 0o600);
        drop(workdir);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_too_long_for_sockets_is_refused_with_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(80));
        let error = Workdir::open(Some(&long)).unwrap_err().to_string();
        assert!(error.contains("at most 78 bytes"), "{error}");
        let workdir = Workdir::open(Some(&dir.path().join("short"))).unwrap();
        assert!(workdir.dynamic_config_socket().as_os_str().len() <= MAX_SOCKET_PATH);
    }

    #[test]
    fn access_log_pipes_are_cut_as_the_control_plane_cuts_them() {
        let workdir = Workdir { path: PathBuf::from("/tmp/w"), _temporary: None };
        assert_eq!(workdir.access_log_pipe("web", "m"), Path::new("/tmp/w/kuma-al-web-m.sock"));
        let long = workdir.access_log_pipe(&"n".repeat(200), "m");
        assert_eq!(long.as_os_str().len(), MAX_PIPE_STEM + ".sock".len());
    }
}
