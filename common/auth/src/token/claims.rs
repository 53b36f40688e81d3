//! What a token says about its bearer. Names are capitalised on the wire.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The label of a dataplane that a token's workload is compared with.
const WORKLOAD_LABEL: &str = "kuma.io/workload";

/// A valid token that was issued for someone else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimMismatch {
    /// A claim names one thing, the bearer says it is another.
    #[error("token is for {claim} {expected:?}, not for {actual:?}")]
    Other {
        /// What differs: `zone`, `mesh`, `name`, `type` or `workload`.
        claim: &'static str,
        /// What the token says.
        expected: String,
        /// What the bearer says.
        actual: String,
    },
    /// The token may not be used for this.
    #[error("token has no scope {0:?}")]
    Scope(String),
    /// A label of the dataplane is missing or has a value that the token does not allow.
    #[error("token allows label {label} only with one of {allowed:?}, the dataplane has {actual:?}")]
    Tag {
        /// The label's name.
        label: String,
        /// The values that the token allows.
        allowed: Vec<String>,
        /// The dataplane's value, if it has that label.
        actual: Option<String>,
    },
}

/// The claims of one kind of token.
pub trait Claims: Serialize + DeserializeOwned {}

/// A user of the REST API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all(serialize = "PascalCase", deserialize = "lowercase"))]
pub struct UserClaims {
    /// The user's name.
    pub name: String,
    /// The groups that access lists name.
    #[serde(deserialize_with = "null_as_default")]
    pub groups: Vec<String>,
}

/// A dataplane. An empty field does not restrict which dataplane may use the token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all(serialize = "PascalCase", deserialize = "lowercase"))]
pub struct DataplaneClaims {
    /// The dataplane's name.
    pub name: String,
    /// Its mesh.
    pub mesh: String,
    /// For each key, the values that the dataplane's label of that name may have.
    #[serde(deserialize_with = "allowed_values")]
    pub tags: BTreeMap<String, Vec<String>>,
    /// The kind of proxy: `dataplane` or empty.
    #[serde(rename(serialize = "Type", deserialize = "type"))]
    pub proxy_type: String,
    /// The value that the label `kuma.io/workload` must have.
    pub workload: String,
}

/// A zone control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all(serialize = "PascalCase", deserialize = "lowercase"))]
pub struct ZoneClaims {
    /// The zone's name.
    pub zone: String,
    /// What the token may be used for, `cp` among them; empty for any use.
    #[serde(deserialize_with = "null_as_default")]
    pub scope: Vec<String>,
}

impl ZoneClaims {
    /// Whether this is the token of a zone, for a use.
    ///
    /// A token that names no zone is nobody's: it would let each zone speak for all others.
    pub fn check(&self, zone: &str, scope: &str) -> Result<(), ClaimMismatch> {
        equal("zone", &self.zone, zone)?;
        if self.scope.is_empty() || self.scope.iter().any(|allowed| allowed == scope) {
            return Ok(());
        }
        Err(ClaimMismatch::Scope(scope.to_owned()))
    }
}

impl DataplaneClaims {
    /// Whether a dataplane may use this token. `proxy_type` is `dataplane`.
    pub fn check(
        &self,
        mesh: &str,
        name: &str,
        proxy_type: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), ClaimMismatch> {
        let workload = labels.get(WORKLOAD_LABEL).map_or("", String::as_str);
        for (claim, expected, actual) in [
            ("mesh", &self.mesh, mesh),
            ("name", &self.name, name),
            ("type", &self.proxy_type, proxy_type),
            ("workload", &self.workload, workload),
        ] {
            if !expected.is_empty() {
                equal(claim, expected, actual)?;
            }
        }
        for (label, allowed) in &self.tags {
            let actual = labels.get(label);
            if !actual.is_some_and(|value| allowed.contains(value)) {
                let (label, allowed, actual) = (label.clone(), allowed.clone(), actual.cloned());
                return Err(ClaimMismatch::Tag { label, allowed, actual });
            }
        }
        Ok(())
    }
}

fn equal(claim: &'static str, expected: &str, actual: &str) -> Result<(), ClaimMismatch> {
    if expected == actual && !actual.is_empty() {
        return Ok(());
    }
    Err(ClaimMismatch::Other { claim, expected: expected.to_owned(), actual: actual.to_owned() })
}

impl Claims for UserClaims {}
impl Claims for DataplaneClaims {}
impl Claims for ZoneClaims {}

/// Go writes an empty list as null.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The allowed values of each tag, as a list or as the keys of a map.
fn allowed_values<'de, D>(deserializer: D) -> Result<BTreeMap<String, Vec<String>>, D::Error>
where
    D: Deserializer<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Values {
        List(Vec<String>),
        Set(BTreeMap<String, Value>),
    }
    let tags: BTreeMap<String, Option<Values>> = null_as_default(deserializer)?;
    let values = |values| match values {
        None => Vec::new(),
        Some(Values::List(list)) => list,
        Some(Values::Set(set)) => set.into_keys().collect(),
    };
    Ok(tags.into_iter().map(|(tag, allowed)| (tag, values(allowed))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_token_is_for_one_zone_and_its_scopes() {
        let east = ZoneClaims { zone: "east".to_owned(), scope: vec!["cp".to_owned()] };
        east.check("east", "cp").unwrap();
        assert_eq!(
            east.check("west", "cp").unwrap_err().to_string(),
            "token is for zone \"east\", not for \"west\""
        );
        assert_eq!(east.check("east", "egress"), Err(ClaimMismatch::Scope("egress".to_owned())));
        ZoneClaims { scope: vec![], ..east }.check("east", "cp").unwrap();
        for zone in ["", "east"] {
            assert!(ZoneClaims::default().check(zone, "cp").is_err(), "{zone:?}");
        }
    }

    #[test]
    fn a_dataplane_token_restricts_by_what_it_names() {
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let labels = BTreeMap::from([label("app", "web"), label(WORKLOAD_LABEL, "w")]);
        let check = |claims: DataplaneClaims| claims.check("m", "web-1", "dataplane", &labels);
        let text = |text: &str| text.to_owned();
        check(DataplaneClaims::default()).unwrap();
        check(DataplaneClaims {
            name: text("web-1"),
            mesh: text("m"),
            tags: [(text("app"), vec![text("api"), text("web")])].into(),
            proxy_type: text("dataplane"),
            workload: text("w"),
        })
        .unwrap();
        for (claim, claims) in [
            ("mesh", DataplaneClaims { mesh: text("x"), ..Default::default() }),
            ("name", DataplaneClaims { name: text("x"), ..Default::default() }),
            ("type", DataplaneClaims { proxy_type: text("x"), ..Default::default() }),
            ("workload", DataplaneClaims { workload: text("x"), ..Default::default() }),
        ] {
            let error = check(claims).unwrap_err().to_string();
            assert!(error.starts_with(&format!("token is for {claim} \"x\", not for ")), "{error}");
        }
        for (key, allowed) in [("app", vec![]), ("app", vec![text("api")]), ("version", vec![text("1")])] {
            let claims = DataplaneClaims { tags: [(text(key), allowed)].into(), ..Default::default() };
            assert!(matches!(check(claims), Err(ClaimMismatch::Tag { .. })), "{key}");
        }
    }
}
