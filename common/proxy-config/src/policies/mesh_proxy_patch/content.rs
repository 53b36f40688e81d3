//! What a modification brings along: a message in YAML, or JSON patches.

use envoy_api::envoy::config::cluster::v3::Cluster;
use envoy_api::envoy::config::listener::v3::{Filter, Listener};
use envoy_api::envoy::config::route::v3::VirtualHost;
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_api::json::{JsonError, parse_yaml};
use envoy_api::patch::{self, PatchError, PatchOperation};
use model::spec::{FilterOperation, JsonPatch, Modification, ResourceOperation};
use prost::{Message, Name};
use serde_json::Value;

/// What a modification brings along.
#[derive(Clone, Debug)]
pub(crate) enum Content<M> {
    /// A message, or a part of one, and the document that it was read from.
    Value(M, Value),
    /// JSON patches.
    Patches(Vec<PatchOperation>),
}

impl<M: Message + Name + Default> Content<M> {
    /// Reads it.
    ///
    /// # Errors
    /// When there is neither, or it is not what it should be.
    pub(crate) fn read(value: Option<&str>, patches: Option<&[JsonPatch]>) -> Result<Self, String> {
        match (value, patches) {
            (Some(value), _) => {
                let message = parse_yaml(value).map_err(|error| error.to_string())?;
                let documents = model::yaml::documents(value)?;
                Ok(Self::Value(message, documents.into_iter().next().unwrap_or_default()))
            }
            (None, Some(patches)) => {
                let document = serde_json::to_value(patches).map_err(|error| error.to_string())?;
                serde_json::from_value(document).map(Self::Patches).map_err(|error| error.to_string())
            }
            (None, None) => Err("there is neither a value nor a JSON patch".into()),
        }
    }

    /// What a message becomes.
    ///
    /// # Errors
    /// When the change cannot be made.
    pub(crate) fn change(&self, held: &M) -> Result<Changed<M>, PatchError> {
        let unheard = match self {
            Self::Value(_, document) => patch::unheard(document, held),
            Self::Patches(_) => Vec::new(),
        };
        let message = match self {
            Self::Value(value, _) => patch::merge(held, value),
            Self::Patches(operations) => patch::apply_json(held, operations),
        }?;
        Ok(Changed { message, unheard })
    }
}

/// What a message became.
#[derive(Clone, Debug)]
pub(crate) struct Changed<M> {
    pub(super) message: M,
    /// Fields that were to get their default and could not.
    pub(super) unheard: Vec<String>,
}

/// A message with a name among its like.
pub(crate) trait Named: Message + Name + Default {
    fn name(&self) -> &str;
}

macro_rules! named {
    ($($message:ty),+ $(,)?) => {$(
        impl Named for $message {
            fn name(&self) -> &str {
                &self.name
            }
        }
    )+};
}

named!(Cluster, Listener, Filter, HttpFilter, VirtualHost);

/// A message to be added: it has a name.
///
/// # Errors
/// When it is not what it should be.
pub(crate) fn added<M: Named>(value: Option<&str>) -> Result<M, String> {
    let Some(value) = value else { return Err("there is no value".into()) };
    let message: M = parse_yaml(value).map_err(|error| error.to_string())?;
    if message.name().is_empty() { Err("the value has no name".into()) } else { Ok(message) }
}

/// What is wrong with the value of a modification, by the field that it stands in.
pub(super) fn problems(modification: &Modification) -> Vec<(&'static str, String)> {
    let Modification { cluster, listener, network_filter, http_filter, virtual_host } = modification;
    let mut problems = Vec::new();
    if let Some(cluster) = cluster {
        let is_new = cluster.operation == ResourceOperation::Add;
        problems.extend(problem::<Cluster>(cluster.value.as_deref(), is_new).map(|why| ("cluster", why)));
    }
    if let Some(listener) = listener {
        let is_new = listener.operation == ResourceOperation::Add;
        problems.extend(problem::<Listener>(listener.value.as_deref(), is_new).map(|why| ("listener", why)));
    }
    let is_new = |operation| !matches!(operation, FilterOperation::Patch | FilterOperation::Remove);
    if let Some(filter) = network_filter {
        let found = problem::<Filter>(filter.value.as_deref(), is_new(filter.operation));
        problems.extend(found.map(|why| ("networkFilter", why)));
    }
    if let Some(filter) = http_filter {
        let found = problem::<HttpFilter>(filter.value.as_deref(), is_new(filter.operation));
        problems.extend(found.map(|why| ("httpFilter", why)));
    }
    if let Some(host) = virtual_host {
        let is_new = host.operation == ResourceOperation::Add;
        problems
            .extend(problem::<VirtualHost>(host.value.as_deref(), is_new).map(|why| ("virtualHost", why)));
    }
    problems
}

/// A blank value is told elsewhere.
fn problem<M: Named>(value: Option<&str>, is_new: bool) -> Option<String> {
    let value = value.filter(|value| !value.trim().is_empty())?;
    let parsed: Result<M, JsonError> = parse_yaml(value);
    match parsed {
        Err(error) => Some(error.to_string()),
        Ok(message) if is_new && message.name().is_empty() => Some("name must not be empty".into()),
        Ok(_) => None,
    }
}
