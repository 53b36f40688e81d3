//! Changes of whole clusters and listeners.

use std::collections::BTreeMap;

use envoy_api::envoy::config::cluster::v3::Cluster;
use envoy_api::envoy::config::listener::v3::Listener;
use model::spec::{ClusterModification, ListenerModification, ResourceOperation};
use prost_types::value::Kind;

use super::content::{Named, added};
use super::{ADDED, Content, Outcome};
use crate::draft::{Finished, Made};

/// Changes clusters.
pub(super) fn clusters(said: &ClusterModification, finished: &mut Finished) -> Result<Outcome, String> {
    let matches = |made: &Made<Cluster>| match &said.r#match {
        None => true,
        Some(wanted) => {
            is(wanted.origin.as_deref(), made.origin) && is(wanted.name.as_deref(), made.message.name())
        }
    };
    let content = || Content::read(said.value.as_deref(), said.json_patches.as_deref());
    apply(said.operation, said.value.as_deref(), content, &mut finished.clusters, matches)
}

/// Changes listeners.
pub(super) fn listeners(said: &ListenerModification, finished: &mut Finished) -> Result<Outcome, String> {
    let matches = |made: &Made<Listener>| match &said.r#match {
        None => true,
        Some(wanted) => {
            is(wanted.origin.as_deref(), made.origin)
                && is(wanted.name.as_deref(), made.message.name())
                && has_tags(&made.message, wanted.tags.as_ref())
        }
    };
    let content = || Content::read(said.value.as_deref(), said.json_patches.as_deref());
    apply(said.operation, said.value.as_deref(), content, &mut finished.listeners, matches)
}

fn apply<M: Named>(
    operation: ResourceOperation,
    value: Option<&str>,
    content: impl Fn() -> Result<Content<M>, String>,
    held: &mut BTreeMap<String, Made<M>>,
    matches: impl Fn(&Made<M>) -> bool,
) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    match operation {
        ResourceOperation::Add => {
            let message: M = added(value)?;
            held.insert(message.name().to_owned(), Made { origin: ADDED, message });
            outcome.changed = 1;
        }
        ResourceOperation::Remove => {
            let before = held.len();
            held.retain(|_, made| !matches(made));
            outcome.changed = before - held.len();
        }
        ResourceOperation::Patch => {
            let content = content()?;
            for (name, made) in held.iter_mut().filter(|(_, made)| matches(made)) {
                let changed = content.change(&made.message).map_err(|error| error.to_string());
                // Envoy is told it by this name, and others refer to it.
                let changed = changed.and_then(|changed| match changed.message.name() == name {
                    true => Ok(changed),
                    false => Err(format!("its name cannot become {:?}", changed.message.name())),
                });
                outcome.take(&mut made.message, changed, name);
            }
        }
    }
    Ok(outcome)
}

/// Whether something is what is wanted; nothing wanted is anything.
pub(super) fn is(wanted: Option<&str>, found: &str) -> bool {
    wanted.is_none_or(|wanted| wanted == found)
}

/// Whether a listener has all tags.
pub(super) fn has_tags(listener: &Listener, wanted: Option<&BTreeMap<String, String>>) -> bool {
    let tags = listener.metadata.as_ref().and_then(|metadata| metadata.filter_metadata.get("io.kuma.tags"));
    wanted.into_iter().flatten().all(|(key, value)| {
        let held = tags.and_then(|tags| tags.fields.get(key)).and_then(|held| held.kind.as_ref());
        matches!(held, Some(Kind::StringValue(held)) if held == value)
    })
}
