//! Which control plane a command speaks with: flags and environment first, then the current one of the
//! configuration file, then the local one.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use runtime::tls::{Fingerprint, Trust};

use crate::client::{Address, Client, ClientError};
use crate::config_file::{self, ConfigError, ControlPlane};
use crate::error::Error;
use crate::terminal::Terminal;

/// Where a control plane on this host listens.
pub(crate) const DEFAULT_ADDRESS: &str = "http://127.0.0.1:5681";

/// How to reach a control plane.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Control plane")]
pub(crate) struct ServerArgs {
    /// Address of the control plane's API.
    #[arg(long, global = true, env = "ISTHMUS_ADDRESS", value_name = "URL")]
    pub(crate) address: Option<String>,

    /// Name of a control plane that `meshctl config` knows, in place of the current one; goes before --address.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) control_plane: Option<String>,

    /// User token. Others on this host may see it: prefer --token-file or the environment.
    #[arg(long, global = true, env = "ISTHMUS_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub(crate) token: Option<Token>,

    /// File that holds the user token; goes before --token.
    #[arg(long, global = true, env = "ISTHMUS_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// PEM file of the authority that signed the control plane's certificate.
    #[arg(long, global = true, env = "ISTHMUS_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,

    /// SHA-256 of that authority's certificate, as the control plane prints it at its first start; goes
    /// before --ca-file.
    #[arg(long, global = true, value_name = "SHA256", conflicts_with = "skip_verify")]
    pub(crate) ca_fingerprint: Option<Fingerprint>,

    /// Do not check the control plane's certificate. The token may then be sent to an impostor.
    #[arg(long, global = true)]
    pub(crate) skip_verify: bool,

    /// The configuration file; else meshctl/config.yaml in $XDG_CONFIG_HOME or ~/.config.
    #[arg(long, global = true, env = "ISTHMUS_MESHCTL_CONFIG", value_name = "FILE")]
    pub(crate) config_file: Option<PathBuf>,

    /// The folder of every program's configuration.
    #[arg(long, global = true, env = "XDG_CONFIG_HOME", hide = true)]
    pub(crate) config_home: Option<PathBuf>,
}

/// A user token; never shown.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct Token(String);

impl Token {
    pub(crate) fn reveal(&self) -> &str {
        self.0.trim()
    }
}

impl From<String> for Token {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

impl ServerArgs {
    /// The configuration file in force.
    pub(crate) fn config_path(&self) -> Result<PathBuf, ConfigError> {
        if let Some(path) = given(self.config_file.as_ref()) {
            return Ok(path.clone());
        }
        let home = || std::env::home_dir().map(|home| home.join(".config"));
        // The XDG base directory specification: a relative path is to be ignored.
        let base = self.config_home.clone().filter(|path| path.is_absolute()).or_else(home);
        Ok(base.ok_or(ConfigError::NoHome)?.join("meshctl").join("config.yaml"))
    }

    /// The control plane as flags and file describe it. What the file says of one control plane is never
    /// mixed with another's address: a token must not reach a stranger.
    pub(crate) fn control_plane(&self) -> Result<ControlPlane, Error> {
        let address = self.address.as_deref().filter(|address| !address.is_empty());
        let mut chosen = match address.filter(|_| self.control_plane.is_none()) {
            Some(address) => ControlPlane::at(address),
            None => self.remembered()?,
        };
        if let Some(path) = given(self.token_file.as_ref()) {
            chosen.token = None;
            chosen.token_file = Some(path.clone());
        } else if let Some(token) = self.token.as_ref().filter(|token| !token.reveal().is_empty()) {
            chosen.token = Some(token.clone());
            chosen.token_file = None;
        }
        if given(self.ca_file.as_ref()).is_some() || self.ca_fingerprint.is_some() || self.skip_verify {
            chosen.ca_file = given(self.ca_file.as_ref()).cloned();
            chosen.ca_fingerprint = self.ca_fingerprint.map(|pin| pin.to_string());
            chosen.skip_verify = self.skip_verify;
        }
        Ok(chosen)
    }

    fn remembered(&self) -> Result<ControlPlane, Error> {
        let path = self.config_path();
        let config = match (&path, &self.control_plane) {
            (Ok(path), _) => config_file::load(path)?,
            // Without a home there is nothing to remember.
            (Err(_), None) => return Ok(ControlPlane::at(DEFAULT_ADDRESS)),
            (Err(_), Some(_)) => return Err(path.err().map_or(ConfigError::NoHome, |error| error).into()),
        };
        match self.control_plane.as_ref().or(config.current.as_ref()) {
            Some(name) => Ok(config.find(name)?.clone()),
            None => Ok(ControlPlane::at(DEFAULT_ADDRESS)),
        }
    }

    /// A client of that control plane.
    pub(crate) fn client(&self, terminal: &mut Terminal) -> Result<Client, Error> {
        let client = self.control_plane()?.client()?;
        if client.exposes_token() {
            terminal.warning(format_args!(
                "the token travels unencrypted to {}: use its https address",
                client.address()
            ))?;
        }
        Ok(client)
    }
}

impl ControlPlane {
    /// A client that speaks with it.
    pub(crate) fn client(&self) -> Result<Client, Error> {
        let token = match &self.token_file {
            Some(path) => Some(Token(config_file::read(path)?)),
            None => self.token.clone(),
        };
        let address = Address::parse(&self.address)?;
        Ok(Client::new(address, &self.trust()?, token.as_ref().map(Token::reveal))?)
    }

    fn trust(&self) -> Result<Trust, Error> {
        Ok(match (&self.ca_fingerprint, &self.ca_file) {
            _ if self.skip_verify => Trust::SkipVerify,
            (Some(pin), _) => Trust::Fingerprint(pin.parse().map_err(ClientError::Tls)?),
            (None, Some(path)) => Trust::CaFile(path.clone()),
            (None, None) => Trust::System,
        })
    }
}

/// An empty variable is one that is not set.
fn given(path: Option<&PathBuf>) -> Option<&PathBuf> {
    path.filter(|path| path.as_path() != Path::new(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_file::Config;

    fn args() -> ServerArgs {
        ServerArgs {
            address: None,
            control_plane: None,
            token: None,
            token_file: None,
            ca_file: None,
            ca_fingerprint: None,
            skip_verify: false,
            config_file: None,
            config_home: None,
        }
    }

    fn with_file(dir: &tempfile::TempDir) -> ServerArgs {
        let mut config = Config::default();
        let token = Some(Token("stored".into()));
        config.put("east", ControlPlane { token, ..ControlPlane::at("https://east:5682") });
        config.put("west", ControlPlane::at("https://west:5682"));
        config.current = Some("east".into());
        let path = dir.path().join("config.yaml");
        config_file::save(&path, &config).unwrap();
        ServerArgs { config_file: Some(path), ..args() }
    }

    #[test]
    fn a_stored_token_goes_only_to_its_own_control_plane() {
        let dir = tempfile::tempdir().unwrap();
        let stored = with_file(&dir);
        let current = stored.control_plane().unwrap();
        assert_eq!((current.address.as_str(), current.token.is_some()), ("https://east:5682", true));
        let elsewhere = ServerArgs { address: Some("http://other:1".into()), ..stored.clone() };
        assert_eq!(elsewhere.control_plane().unwrap(), ControlPlane::at("http://other:1"));
        let west = ServerArgs { control_plane: Some("west".into()), ..elsewhere };
        assert_eq!(west.control_plane().unwrap(), ControlPlane::at("https://west:5682"));
        let unknown = ServerArgs { control_plane: Some("wst".into()), ..stored };
        assert!(unknown.control_plane().unwrap_err().to_string().contains("\"west\""));
    }

    #[test]
    fn flags_go_before_the_file_and_the_default_comes_last() {
        let dir = tempfile::tempdir().unwrap();
        let file = Some(PathBuf::from("token"));
        let flags =
            ServerArgs { token: Some(Token("x".into())), token_file: file.clone(), ..with_file(&dir) };
        let chosen = flags.control_plane().unwrap();
        assert_eq!((chosen.token, chosen.token_file), (None, file));
        let missing = ServerArgs { config_file: Some(dir.path().join("none.yaml")), ..args() };
        assert_eq!(missing.control_plane().unwrap(), ControlPlane::at(DEFAULT_ADDRESS));
    }

    #[test]
    fn tokens_are_not_shown() {
        assert_eq!(format!("{:?}", Token("secret".into())), "Token(***)");
    }
}
