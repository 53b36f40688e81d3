//! What a token says about its bearer. Names are capitalised on the wire.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

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
