//! The configuration file: control planes by name, and which one is in use. It may hold tokens, so only its
//! owner may read it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::server::Token;

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("there is no home directory for the configuration: name a file with --config-file")]
    NoHome,
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is not a configuration of meshctl: {reason}", path.display())]
    Syntax { path: PathBuf, reason: String },
    #[error("no control plane is called {name:?}{}", known(names))]
    Unknown { name: String, names: Vec<String> },
    #[error("a control plane is called {0:?} already: use --overwrite to replace it")]
    Taken(String),
}

fn known(names: &[String]) -> String {
    match names {
        [] => "; `meshctl config control-planes add` adds one".to_owned(),
        names => format!(": known are {names:?}"),
    }
}

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Name of the control plane in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    control_planes: BTreeMap<String, ControlPlane>,
}

/// How one control plane is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct ControlPlane {
    pub(crate) address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<Token>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_fingerprint: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) skip_verify: bool,
}

impl ControlPlane {
    /// One that is reached without token and with the host's trust.
    pub(crate) fn at(address: &str) -> Self {
        Self { address: address.to_owned(), ..Self::default() }
    }
}

impl Config {
    pub(crate) fn find(&self, name: &str) -> Result<&ControlPlane, ConfigError> {
        let unknown = || ConfigError::Unknown {
            name: name.to_owned(),
            names: self.names().map(str::to_owned).collect(),
        };
        self.control_planes.get(name).ok_or_else(unknown)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.control_planes.keys().map(String::as_str)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &ControlPlane)> {
        self.control_planes.iter().map(|(name, control_plane)| (name.as_str(), control_plane))
    }

    /// Adds or replaces one.
    pub(crate) fn put(&mut self, name: &str, control_plane: ControlPlane) {
        self.control_planes.insert(name.to_owned(), control_plane);
    }

    /// Forgets one, also as the current one.
    pub(crate) fn remove(&mut self, name: &str) -> Result<(), ConfigError> {
        self.find(name)?;
        self.control_planes.remove(name);
        self.current.take_if(|current| current == name);
        Ok(())
    }

    /// The same without tokens: fit to be shown.
    pub(crate) fn masked(&self) -> Self {
        let mut shown = self.clone();
        for control_plane in shown.control_planes.values_mut() {
            control_plane.token = control_plane.token.take().map(|_| Token::from("*****".to_owned()));
        }
        shown
    }
}

/// Reads the configuration; a missing file is an empty one.
pub(crate) fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Config::default()),
        Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
    };
    if text.trim().is_empty() {
        return Ok(Config::default());
    }
    // The parser quotes the lines around an error, and they may hold a token: only its place is told.
    serde_saphyr::from_str(&text).map_err(|error| {
        let place = error.location().map(|at| format!("line {}, column {}", at.line(), at.column()));
        ConfigError::Syntax { path: path.to_owned(), reason: place.unwrap_or_else(|| "broken YAML".into()) }
    })
}

/// Writes the configuration as a whole: after a crash either the old or the new one is there.
pub(crate) fn save(path: &Path, config: &Config) -> Result<(), ConfigError> {
    let failed = |source| ConfigError::Write { path: path.to_owned(), source };
    let text =
        serde_saphyr::to_string(config).map_err(|error| failed(io::Error::other(error.to_string())))?;
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    // Temporary files are made with mode 0600; set it anyway, the token depends on it.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o600)).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Reads a token file.
pub(crate) fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/config.yaml");
        assert_eq!(load(&path).unwrap(), Config::default());
        let mut config = Config::default();
        let token = Some(Token::from("yes".to_owned()));
        config.put("east", ControlPlane { token, ..ControlPlane::at("https://east:5682") });
        config.current = Some("east".to_owned());
        save(&path, &config).unwrap();
        assert_eq!(load(&path).unwrap(), config);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(dir.path().join("a/b")).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 1, "no temporary file is left");
        config.remove("east").unwrap();
        assert_eq!(config, Config::default());
        assert!(config.remove("east").is_err());
    }

    #[test]
    fn a_broken_file_is_refused_without_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        for text in ["controlPlanes: {a: {tokn: hush}}", "controlPlanes: {a: {token: [hush]}}", "a: [hush"] {
            fs::write(&path, text).unwrap();
            let error = load(&path).unwrap_err().to_string();
            assert!(error.contains("line 1") && !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn the_shown_form_has_no_token() {
        let mut config = Config::default();
        let token = Some(Token::from("hush".to_owned()));
        config.put("east", ControlPlane { token, ..ControlPlane::at("https://east:5682") });
        let shown = serde_saphyr::to_string(&config.masked()).unwrap();
        assert!(shown.contains("*****") && !shown.contains("hush"), "{shown}");
    }
}
