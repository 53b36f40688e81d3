//! The Dataplane that a proxy brings along is in the store while the proxy is there.
//!
//! A stream whose node carries a Dataplane writes it, with the labels that this zone computes. When the proxy
//! closes the stream or its connection, and has none here again after a while, its Dataplane and insight are
//! removed: the process is gone, and others must not be sent to it. Nothing is removed
//! - when this control plane stops, because proxies go on without it,
//! - when a proxy falls silent, because it may go on behind a network that is broken,
//! - when the newest stream of the proxy is another control plane's,
//! - for Dataplanes that were in the store without a proxy's doing.
//!
//! [`super::absence`] tells what happens meanwhile.

use kds_proto::mesh::dataplane::networking::inbound::{Health, State};
use kds_proto::mesh::dataplane::networking::{Inbound, Listener, listener};
use model::labels::{Plane, ZoneListeners};
use model::resource::Builder;
use model::spec::{Dataplane, DataplaneInsight};
use model::validation::Violations;
use model::{Key, Kind, Resource, Timestamp, labels, rest, validation};
use serde_json::Value;
use store::{Backend, Expect, Op, Snapshot, StoreError, Stored, retry_conflicts};

use super::credentials::{Credentials, Refusal};

/// A Dataplane that cannot be registered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistrationError {
    /// Not a document.
    #[error("the Dataplane is neither JSON nor YAML: {0}")]
    Syntax(String),
    /// Not a Dataplane.
    #[error("the Dataplane cannot be read: {0}")]
    Parse(#[from] rest::ParseError),
    /// Somebody else's.
    #[error("the proxy is {expected}, its Dataplane is {actual}")]
    Other {
        /// What the proxy says it is.
        expected: String,
        /// What its Dataplane says.
        actual: String,
    },
    /// A Dataplane that cannot be served.
    #[error("the Dataplane is not valid: {0}")]
    Invalid(#[from] Violations),
    /// A Dataplane of the same name is there and is not this bearer's.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store does not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RegistrationError {
    /// What a stream is ended with.
    pub(crate) fn status(&self) -> tonic::Status {
        match self {
            Self::Refused(refusal) => refusal.status(),
            Self::Store(error) => tonic::Status::unavailable(error.to_string()),
            error => tonic::Status::invalid_argument(error.to_string()),
        }
    }
}

/// Reads the Dataplane of a proxy, JSON or YAML.
pub(crate) fn parse(text: &str, mesh: &str, name: &str) -> Result<Builder, RegistrationError> {
    let document: Value = match serde_json::from_str(text) {
        Ok(document) => document,
        Err(_) => {
            let documents = model::yaml::documents(text).map_err(RegistrationError::Syntax)?;
            documents.into_iter().next().unwrap_or(Value::Null)
        }
    };
    let given = rest::parse(&document)?.resource;
    let expected = Key::new(Kind::DATAPLANE, mesh, name);
    if given.key != expected {
        let (expected, actual) = (expected.to_string(), given.key.to_string());
        return Err(RegistrationError::Other { expected, actual });
    }
    Ok(given)
}

/// The Dataplane as this zone stores it: a proxy does not choose its zone or mesh by a label.
pub(crate) fn prepare(plane: &Plane, mut given: Builder) -> Result<Resource, RegistrationError> {
    let dataplane = given.clone().build();
    validation::validate(&dataplane).into_result()?;
    for computed in [labels::ZONE, labels::MESH] {
        given.labels.remove(computed);
    }
    let listeners = dataplane.spec::<Dataplane>().ok().and_then(|spec| spec.networking.as_ref());
    let listeners = listeners.map_or(&[][..], |networking| &networking.listeners);
    let has = |kind: listener::Type| listeners.iter().any(|one: &Listener| one.r#type() == kind);
    let zone_listeners =
        ZoneListeners { ingress: has(listener::Type::ZoneIngress), egress: has(listener::Type::ZoneEgress) };
    let (mesh, name) = (dataplane.mesh(), dataplane.name());
    given.labels = labels::compute(plane, Kind::DATAPLANE, mesh, name, &given.labels, Some(zone_listeners));
    Ok(given.build())
}

/// Writes a prepared Dataplane; nothing is written where the store has the same. A proxy that was not ready before
/// is not until [`ready`] says so: it has no listeners yet.
pub(crate) async fn register(
    store: &dyn Backend,
    snapshot: &Snapshot,
    credentials: &Credentials,
    token: Option<&str>,
    prepared: &Resource,
    now: Timestamp,
) -> Result<(), RegistrationError> {
    let mut refused = None;
    let written = retry_conflicts(store, prepared.key(), |stored| {
        // A token that allows what the proxy brings along need not allow what it would replace.
        let held = stored.map(|stored| credentials.check_token(snapshot, token, &stored.resource));
        if let Some(Err(refusal)) = held {
            refused = Some(refusal);
            return None;
        }
        next(stored, prepared, now)
    })
    .await;
    let written = match written {
        Err(error) if is_registered(snapshot, prepared, now) => {
            tracing::warn!(dataplane = %prepared.key(), %error, "registered already, as far as is known");
            let held = snapshot.resource(prepared.key()).map_or(prepared, |held| &**held);
            credentials.check_token(snapshot, token, held)?;
            false
        }
        written => written?,
    };
    if let Some(refusal) = refused {
        return Err(refusal.into());
    }
    if written {
        tracing::info!(dataplane = %prepared.key(), "dataplane registered");
    }
    Ok(())
}

/// Whether the newest snapshot has the Dataplane: proxies must come back while the store is away.
fn is_registered(snapshot: &Snapshot, prepared: &Resource, now: Timestamp) -> bool {
    let held = snapshot.get(prepared.key());
    held.is_some() && next(held, prepared, now).is_none()
}

/// Writes that a registered proxy has its listeners: what it brought along as ready is, but for what is probed.
/// Whatever else was changed in its Dataplane meanwhile stays.
pub(crate) async fn ready(
    store: &dyn Backend,
    prepared: &Resource,
    now: Timestamp,
) -> Result<bool, StoreError> {
    retry_conflicts(store, prepared.key(), |stored| {
        let held = &stored?.resource;
        let next = serving(held.spec::<Dataplane>().ok()?, prepared.spec::<Dataplane>().ok()?)?;
        let mut builder = held.to_builder().spec(&next);
        builder.modified = now;
        Some(builder.build())
    })
    .await
}

/// The Dataplane of a proxy that has its listeners; `None` where it says so already.
fn serving(held: &Dataplane, brought: &Dataplane) -> Option<Dataplane> {
    let mut next = held.clone();
    let brought = brought.networking.as_ref()?;
    let networking = next.networking.as_mut()?;
    for inbound in networking.inbound.iter_mut().filter(|inbound| inbound.service_probe.is_none()) {
        let same = brought.inbound.iter().find(|brought| same_place(brought, inbound));
        if let Some(brought) = same.filter(|_| inbound.state() == State::NotReady) {
            inbound.set_state(brought.state());
            inbound.health = brought.health;
        }
    }
    for listener in &mut networking.listeners {
        if let Some(brought) = brought.listeners.iter().find(|brought| same_listener(brought, listener)) {
            listener.set_state(brought.state());
        }
    }
    (next != *held).then_some(next)
}

fn next(stored: Option<&Stored>, prepared: &Resource, now: Timestamp) -> Option<Resource> {
    let held = stored.map(|stored| &*stored.resource);
    let mut spec = prepared.spec::<Dataplane>().ok()?.clone();
    let held_spec = held.and_then(|held| held.spec::<Dataplane>().ok()?.networking.as_ref());
    // Nobody is sent to an application before its first probe, nor to a proxy before it has its listeners; a new
    // stream of a known one changes nothing.
    if let Some(networking) = &mut spec.networking {
        for inbound in networking.inbound.iter_mut().filter(|inbound| inbound.state() == State::Ready) {
            let known = held_spec.and_then(|held| held.inbound.iter().find(|held| same_place(held, inbound)));
            inbound.health = known.map_or(Some(Health { ready: false }), |known| known.health);
            inbound.set_state(known.map_or(State::NotReady, Inbound::state));
        }
        for listener in &mut networking.listeners {
            let known =
                held_spec.and_then(|held| held.listeners.iter().find(|held| same_listener(held, listener)));
            listener.set_state(known.map_or(listener::State::NotReady, Listener::state));
        }
    }
    let mut builder = prepared.to_builder().spec(&spec).at(now);
    if let Some(held) = held {
        builder.created = held.created();
    }
    let next = builder.build();
    held.is_none_or(|held| !held.same_content(&next)).then_some(next)
}

fn same_place(a: &Inbound, b: &Inbound) -> bool {
    (a.port, a.service_port, &a.address, &a.service_address)
        == (b.port, b.service_port, &b.address, &b.service_address)
        && a.service_probe == b.service_probe
}

fn same_listener(a: &Listener, b: &Listener) -> bool {
    (a.port, &a.address, a.r#type) == (b.port, &b.address, b.r#type)
}

/// Removes a Dataplane and its insight, unless the newest stream of the proxy is another control plane's.
pub(crate) async fn deregister(
    store: &dyn Backend,
    dataplane: &Key,
    instance: &str,
) -> Result<bool, StoreError> {
    let insight_key = Key::new(Kind::DATAPLANE_INSIGHT, &dataplane.mesh, &dataplane.name);
    let (held, insight) = (store.get(dataplane).await?, store.get(&insight_key).await?);
    let Some(held) = held else { return Ok(false) };
    let subscriptions = insight.as_ref().and_then(|stored| stored.resource.spec::<DataplaneInsight>().ok());
    let newest = subscriptions.and_then(|insight| insight.subscriptions.last());
    if newest.is_some_and(|newest| newest.control_plane_instance_id != instance) {
        return Ok(false);
    }
    // A write in between is somebody who still cares for it.
    let mut ops = vec![Op::Delete(dataplane.clone(), Expect::At(held.revision))];
    let insight = insight.map(|stored| Op::Delete(insight_key, Expect::At(stored.revision)));
    ops.extend(insight);
    match store.commit(ops).await {
        Ok(_) => Ok(true),
        Err(StoreError::Conflict { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
