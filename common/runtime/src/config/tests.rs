//! Layering, refusals and what is printed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Sample {
    kds: Kds,
    api: Api,
    dp_server: DpServer,
    labels: BTreeMap<String, String>,
}

/// A section whose variables look like those of mesh-dp.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct DpServer {
    port: Option<u16>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Kds {
    zone_auth: Auth,
    max_message_bytes: u32,
    keepalive: HumanDuration,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Api {
    port: Option<u16>,
    name: Option<String>,
    password: Secret<String>,
    hosts: Vec<String>,
    read_only: bool,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Auth {
    ZoneToken,
    None,
}

impl Default for Sample {
    fn default() -> Self {
        let kds = Kds {
            zone_auth: Auth::ZoneToken,
            max_message_bytes: 10,
            keepalive: HumanDuration::from_secs(15),
        };
        let api = Api { read_only: true, ..Api::default() };
        Self { kds, api, dp_server: DpServer::default(), labels: BTreeMap::new() }
    }
}

impl Default for Kds {
    fn default() -> Self {
        Sample::default().kds
    }
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

fn env(vars: &[(&str, &str)]) -> Vec<(String, String)> {
    vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn from_file(text: &str) -> Result<Loaded<Sample>, ConfigError> {
    load(Some(file(text).path()), [], vec![])
}

fn from_env(vars: &[(&str, &str)]) -> Result<Loaded<Sample>, ConfigError> {
    load(None, env(vars), vec![])
}

#[test]
fn each_layer_wins_over_the_one_below_and_is_named() {
    let yaml = file("kds: {maxMessageBytes: 20, keepalive: 1m}\napi:\n  readOnly: false\n  hosts: [a]\n");
    let vars = env(&[("ISTHMUS_KDS_KEEPALIVE", "30s"), ("ISTHMUS_KDS_ZONE_AUTH", "none"), ("PATH", "/bin")]);
    let flags = vec![("kds.zoneAuth".to_owned(), json!("zoneToken"))];
    let loaded = load::<Sample>(Some(yaml.path()), vars, flags).unwrap();
    assert_eq!(loaded.value.kds.max_message_bytes, 20);
    assert_eq!(loaded.value.kds.keepalive, HumanDuration::from_secs(30));
    assert_eq!(loaded.value.kds.zone_auth, Auth::ZoneToken);
    assert!(!loaded.value.api.read_only);
    assert_eq!(loaded.sources["kds.maxMessageBytes"], Source::File(yaml.path().to_owned()));
    assert_eq!(loaded.sources["kds.keepalive"], Source::Env("ISTHMUS_KDS_KEEPALIVE".to_owned()));
    assert_eq!(loaded.sources["kds.zoneAuth"], Source::Flag);
    assert_eq!(loaded.sources["api.password"], Source::Default);
}

#[test]
fn nothing_given_is_the_default() {
    assert_eq!(from_env(&[]).unwrap().value, Sample::default());
    assert_eq!(from_file("# nothing\n").unwrap().value, Sample::default());
    assert_eq!(from_file("kds:\n").unwrap().value, Sample::default());
}

#[test]
fn unknown_keys_name_the_nearest() {
    let error = from_file("kds: {zoneAut: none}").unwrap_err().to_string();
    assert!(error.contains("unknown key kds.zoneAut (file "), "{error}");
    assert!(error.ends_with("did you mean kds.zoneAuth?"), "{error}");
    let error = from_file("keepalive: 1s").unwrap_err().to_string();
    assert!(error.ends_with("did you mean kds.keepalive?"), "{error}");
    let error = from_env(&[("ISTHMUS_KDS_ZONEAUTH", "none")]).unwrap_err().to_string();
    assert_eq!(
        error,
        "unknown environment variable ISTHMUS_KDS_ZONEAUTH, did you mean ISTHMUS_KDS_ZONE_AUTH?"
    );
    let error = load::<Sample>(None, [], vec![("nope".to_owned(), json!(1))]).unwrap_err().to_string();
    assert_eq!(error, "unknown key nope (flag)");
}

#[test]
fn wrong_types_name_the_key_and_its_source() {
    let error = from_file("kds: {maxMessageBytes: many}").unwrap_err().to_string();
    assert!(error.starts_with("invalid value for kds.maxMessageBytes (file "), "{error}");
    let error = from_env(&[("ISTHMUS_KDS_KEEPALIVE", "soon")]).unwrap_err().to_string();
    let start =
        "invalid value for kds.keepalive (environment ISTHMUS_KDS_KEEPALIVE): \"soon\" is not a duration";
    assert!(error.starts_with(start), "{error}");
    let error = from_file("api: 7").unwrap_err().to_string();
    assert!(error.starts_with("invalid value for api (file "), "{error}");
    assert!(matches!(from_file("- a"), Err(ConfigError::Syntax { .. })));
    assert!(matches!(from_file("a: [").unwrap_err(), ConfigError::Syntax { .. }));
}

#[test]
fn variables_are_read_by_the_type_of_their_key() {
    let loaded = from_env(&[
        ("ISTHMUS_API_PORT", "5681"),
        ("ISTHMUS_API_NAME", "123"),
        ("ISTHMUS_API_HOSTS", "a, b"),
        ("ISTHMUS_API_READ_ONLY", "false"),
        ("ISTHMUS_LABELS", "{team: mesh}"),
        ("ISTHMUS_ENVOY", "/usr/bin/envoy"),
        ("ISTHMUS_DP_TOKEN_FILE", "of-mesh-dp"),
        ("ISTHMUS_DP_SERVER_PORT", "5678"),
    ])
    .unwrap();
    assert_eq!(loaded.value.dp_server.port, Some(5678));
    assert_eq!(loaded.value.api.port, Some(5681));
    assert_eq!(loaded.value.api.name.as_deref(), Some("123"));
    assert_eq!(loaded.value.api.hosts, ["a", "b"]);
    assert!(!loaded.value.api.read_only);
    assert_eq!(loaded.value.labels["team"], "mesh");
}

#[test]
fn secrets_are_masked_everywhere() {
    let loaded = from_file("api: {password: hunter2}").unwrap();
    assert_eq!(loaded.value.api.password.expose(), "hunter2");
    let shown = format!("{loaded:?}{}{}", loaded.print(), loaded.value.api.password);
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(loaded.print().contains("api.password: \"*****\""), "{}", loaded.print());
    let number = from_file("api: {password: 1234567}").unwrap();
    assert_eq!(number.value.api.password.expose(), "1234567");
    let error = from_file("api: {password: 12345.67}").unwrap_err().to_string();
    assert!(!error.contains("12345"), "{error}");
}

#[test]
fn the_listing_gives_each_key_its_value_and_source() {
    let loaded = from_env(&[("ISTHMUS_KDS_MAX_MESSAGE_BYTES", "7")]).unwrap();
    let listing = loaded.print();
    let line = |key: &str| listing.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    assert!(line("kds.maxMessageBytes: 7 ").ends_with("# environment ISTHMUS_KDS_MAX_MESSAGE_BYTES"));
    assert!(line("kds.keepalive: \"15s\" ").ends_with("# default"));
    assert_eq!(listing.lines().count(), 10);
}
