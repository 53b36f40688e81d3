//! What is redirected: defaults, under files, under the environment, under flags.
//!
//! The keys of a file and the names of variables are those of `kumactl install transparent-proxy`.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::port::Ports;

/// What every variable of these settings starts with.
const ENV_PREFIX: &str = "KUMA_TRANSPARENT_PROXY_";

#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{from} is not a valid configuration: {problem}")]
    Syntax { from: String, problem: String },
}

/// The configuration in full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Settings {
    /// Name or uid of the user that mesh-dp and Envoy run as; empty to look for the usual ones.
    #[serde(rename = "kumaDPUser", deserialize_with = "text_or_number")]
    pub(crate) agent_user: String,
    pub(crate) ip_family_mode: FamilyMode,
    pub(crate) redirect: Redirect,
    pub(crate) drop_invalid_packets: bool,
    pub(crate) iptables_executables: Vec<String>,
    pub(crate) retry: Retry,
    pub(crate) log: Enabled,
    pub(crate) comments: Disabled,
    /// Seconds that iptables waits for its lock.
    pub(crate) wait: u32,
    pub(crate) wait_interval: u32,
    pub(crate) verbose: bool,
    /// What loads the rules. Not in Kuma, which has iptables only.
    pub(crate) backend: Backend,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FamilyMode {
    DualStack,
    Ipv4,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Backend {
    /// nftables where `nft` works, else iptables.
    Auto,
    Nftables,
    Iptables,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Redirect {
    pub(crate) inbound: Inbound,
    pub(crate) outbound: Outbound,
    pub(crate) dns: Dns,
    pub(crate) vnet: Vnet,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Inbound {
    pub(crate) enabled: bool,
    pub(crate) port: u16,
    pub(crate) include_ports: Ports,
    pub(crate) exclude_ports: Ports,
    #[serde(rename = "excludePortsForIPs")]
    pub(crate) exclude_ips: Vec<String>,
    #[serde(rename = "insertRedirectInsteadOfAppend")]
    pub(crate) insert: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Outbound {
    pub(crate) enabled: bool,
    pub(crate) port: u16,
    pub(crate) include_ports: Ports,
    pub(crate) exclude_ports: Ports,
    #[serde(rename = "excludePortsForIPs")]
    pub(crate) exclude_ips: Vec<String>,
    #[serde(rename = "excludePortsForUIDs")]
    pub(crate) exclude_uids: Vec<String>,
    #[serde(rename = "insertRedirectInsteadOfAppend")]
    pub(crate) insert: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Dns {
    pub(crate) enabled: bool,
    pub(crate) port: u16,
    /// Every query to port 53, rather than those to the servers of `resolvConfigPath`.
    pub(crate) capture_all: bool,
    pub(crate) skip_conntrack_zone_split: bool,
    pub(crate) resolv_config_path: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vnet {
    pub(crate) networks: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Retry {
    pub(crate) max_retries: u32,
    pub(crate) sleep_between_retries: runtime::config::HumanDuration,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Enabled {
    pub(crate) enabled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Disabled {
    pub(crate) disabled: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            agent_user: String::new(),
            ip_family_mode: FamilyMode::DualStack,
            redirect: Redirect::default(),
            drop_invalid_packets: false,
            iptables_executables: Vec::new(),
            retry: Retry {
                max_retries: 4,
                sleep_between_retries: runtime::config::HumanDuration::from_secs(2),
            },
            log: Enabled { enabled: false },
            comments: Disabled { disabled: false },
            wait: 5,
            wait_interval: 0,
            verbose: false,
            backend: Backend::Auto,
        }
    }
}

impl Default for Redirect {
    fn default() -> Self {
        Self {
            inbound: Inbound {
                enabled: true,
                port: 15006,
                include_ports: Ports::default(),
                exclude_ports: Ports::default(),
                exclude_ips: Vec::new(),
                insert: false,
            },
            outbound: Outbound {
                enabled: true,
                port: 15001,
                include_ports: Ports::default(),
                exclude_ports: Ports::default(),
                exclude_ips: Vec::new(),
                exclude_uids: Vec::new(),
                insert: false,
            },
            dns: Dns {
                enabled: false,
                port: 15053,
                capture_all: false,
                skip_conntrack_zone_split: false,
                resolv_config_path: "/etc/resolv.conf".into(),
            },
            vnet: Vnet { networks: Vec::new() },
        }
    }
}

impl Settings {
    /// Defaults under `files`, in their order, under variables, under `flags`.
    pub(crate) fn load(
        files: &[PathBuf],
        variables: impl Iterator<Item = (String, String)>,
        flags: Value,
    ) -> Result<Self, SettingsError> {
        let syntax = |from: String| move |problem: String| SettingsError::Syntax { from, problem };
        let mut value = serde_json::to_value(Self::default())
            .map_err(|error| syntax("the default".to_owned())(error.to_string()))?;
        let mut apply = |layer: Value, from: String| {
            merge(&mut value, layer);
            // Each layer by itself, so that the error tells where it comes from.
            Self::deserialize(&value).map_err(|error| syntax(from)(error.to_string()))
        };
        let mut settings = Self::default();
        for path in files {
            let from = path.display().to_string();
            let layer: Value = serde_saphyr::from_str(&read(path)?)
                .map_err(|error| syntax(from.clone())(error.to_string()))?;
            if !layer.is_null() {
                settings = apply(layer, from)?;
            }
        }
        let template = serde_json::to_value(&settings).unwrap_or_default();
        for (name, text) in variables {
            if let Some(layer) = variable(&template, &name, &text) {
                settings = apply(layer, format!("variable {name}"))?;
            }
        }
        if flags.as_object().is_some_and(|flags| !flags.is_empty()) {
            settings = apply(flags, "the command line".to_owned())?;
        }
        Ok(settings)
    }
}

fn read(path: &Path) -> Result<String, SettingsError> {
    let mut text = String::new();
    let result = match path.to_str() {
        Some("-") => std::io::stdin().read_to_string(&mut text),
        _ => std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)),
    };
    result.map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
    Ok(text)
}

/// Puts what `layer` says over `value`; lists are replaced.
fn merge(value: &mut Value, layer: Value) {
    match (value, layer) {
        (Value::Object(value), Value::Object(layer)) => {
            for (key, layer) in layer {
                merge(value.entry(key).or_insert(Value::Null), layer);
            }
        }
        (value, layer) => *value = layer,
    }
}

/// What a variable sets, in the form of a file; `None` for a variable that is not ours.
fn variable(template: &Value, name: &str, text: &str) -> Option<Value> {
    let rest = name.strip_prefix(ENV_PREFIX)?;
    fields(template, rest, text)
}

fn fields(template: &Value, rest: &str, text: &str) -> Option<Value> {
    template.as_object()?.iter().find_map(|(key, inner)| {
        let after = rest.strip_prefix(&screaming(key))?;
        let value = match (after.strip_prefix('_'), inner) {
            (Some(after), Value::Object(_)) => fields(inner, after, text)?,
            (None, _) if after.is_empty() => leaf(inner, text)?,
            _ => return None,
        };
        Some(Value::Object(Map::from_iter([(key.clone(), value)])))
    })
}

/// The text as what the field holds; left as it is where it does not fit, so that the error says so.
fn leaf(template: &Value, text: &str) -> Option<Value> {
    match template {
        Value::Object(_) => None,
        Value::Array(_) => {
            Some(text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(Value::from).collect())
        }
        Value::Bool(_) | Value::Number(_) => {
            Some(serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)))
        }
        _ => Some(Value::from(text)),
    }
}

/// `excludePortsForUIDs` as `EXCLUDE_PORTS_FOR_UIDS`.
fn screaming(key: &str) -> String {
    let key = key.replace("UIDs", "Uids").replace("IPs", "Ips").replace("DPUser", "DpUser");
    let mut name = String::new();
    for c in key.chars() {
        if c.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

/// A uid may be written without quotes.
fn text_or_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Number(u32),
        Text(String),
    }
    Ok(match Form::deserialize(deserializer)? {
        Form::Number(uid) => uid.to_string(),
        Form::Text(text) => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn load(file: &str, variables: &[(&str, &str)], flags: Value) -> Result<Settings, SettingsError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, file).unwrap();
        let variables = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Settings::load(&[path], variables, flags)
    }

    #[test]
    fn flags_are_over_variables_over_files_over_defaults() {
        let file =
            "kumaDPUser: 5678\nredirect:\n  inbound: {port: 1, excludePorts: [22]}\n  outbound: {port: 2}\n";
        let variables = [
            ("KUMA_TRANSPARENT_PROXY_REDIRECT_OUTBOUND_PORT", "3"),
            ("KUMA_TRANSPARENT_PROXY_REDIRECT_DNS_ENABLED", "true"),
            ("KUMA_TRANSPARENT_PROXY_REDIRECT_OUTBOUND_EXCLUDE_PORTS_FOR_UIDS", "80:1,tcp:2:3"),
            ("KUMA_TRANSPARENT_PROXY_KUMA_DP_USER", "77"),
            ("KUMA_TRANSPARENT_PROXY_IP_FAMILY_MODE", "ipv4"),
            ("PATH", "/bin"),
        ];
        let settings = load(file, &variables, json!({"redirect": {"dns": {"port": 4}}})).unwrap();
        assert_eq!(settings.agent_user, "77");
        assert_eq!(settings.ip_family_mode, FamilyMode::Ipv4);
        let Redirect { inbound, outbound, dns, .. } = settings.redirect;
        assert_eq!((inbound.port, outbound.port, dns.port, dns.enabled), (1, 3, 4, true));
        assert_eq!(inbound.exclude_ports.to_string(), "22");
        assert_eq!(outbound.exclude_uids, ["80:1", "tcp:2:3"]);
    }

    #[test]
    fn errors_say_where_the_value_is_from() {
        let error = load("redirect: {inbound: {prot: 1}}", &[], json!({})).unwrap_err();
        assert!(error.to_string().contains("config.yaml") && error.to_string().contains("prot"), "{error}");
        let variables = [("KUMA_TRANSPARENT_PROXY_REDIRECT_INBOUND_PORT", "many")];
        let error = load("", &variables, json!({})).unwrap_err();
        assert!(error.to_string().contains("REDIRECT_INBOUND_PORT"), "{error}");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = serde_json::to_string(&Settings::default()).unwrap();
        assert_eq!(load(&text, &[], json!({})).unwrap(), Settings::default());
    }
}
