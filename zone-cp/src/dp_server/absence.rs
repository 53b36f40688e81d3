//! What becomes of a proxy that has no stream any more.
//!
//! It may come back at once: after a moment without it, its inbounds count as not ready. One that left (it closed
//! its stream or its connection) takes its registration along after a while; one that fell silent keeps it. When
//! most proxies of a mesh are gone, the fault is more likely on this side: then nothing is said of those who are
//! gone, and they stay as ready as they were.

use std::time::Duration;

use kds_proto::mesh::dataplane::networking::inbound::{Health, State};
use kds_proto::mesh::dataplane::networking::listener;
use model::spec::{Dataplane, DataplaneInsight};
use model::{Key, Kind, Resource};
use store::retry_conflicts;

use super::context::Context;
use super::insight;
use super::registration;

/// Time in which a proxy is back whose connection broke, or whose Envoy was started again.
const MOMENT: Duration = Duration::from_secs(2);
/// Time in which all proxies are back after a restart of this control plane: Envoy pauses for 30 s at most between
/// attempts.
const ALL_BACK: Duration = Duration::from_secs(60);

/// Waits for a proxy to come back, and draws the consequences when it does not. `registered`: whether it left and
/// its registration is its own.
pub(super) async fn after(context: &Context, key: &Key, registered: bool) {
    let delay = context.config.deregistration_delay;
    let moment = MOMENT.min(delay);
    if !is_absent_after(context, key, moment).await {
        return;
    }
    {
        let _turn = context.turns.of(key).await;
        if context.proxies.get(key).is_some() {
            return;
        }
        if is_fault_ours(context, &key.mesh) {
            tracing::debug!(dataplane = %key, "proxy is gone, as most of its mesh: it stays as ready as it is");
        } else {
            mark(context, key).await;
        }
    }
    if !registered || !is_absent_after(context, key, delay - moment).await {
        return;
    }
    // Whoever registers this proxy meanwhile waits, and is not robbed of what it found registered already.
    let _turn = context.turns.of(key).await;
    if context.proxies.get(key).is_none() {
        remove(context, key).await;
    }
}

/// Whether a proxy is still not back after some time, and this control plane still here.
async fn is_absent_after(context: &Context, key: &Key, time: Duration) -> bool {
    let stop = context.tasks.token();
    tokio::select! {
        () = tokio::time::sleep(time) => context.proxies.get(key).is_none(),
        () = stop.cancelled() => false,
    }
}

async fn remove(context: &Context, key: &Key) {
    match registration::deregister(&*context.deps.store, key, &context.config.instance).await {
        Ok(true) => tracing::info!(dataplane = %key, "dataplane removed: its proxy left"),
        Ok(false) => {}
        Err(error) => tracing::warn!(dataplane = %key, %error, "cannot remove a dataplane whose proxy left"),
    }
}

fn is_fault_ours(context: &Context, mesh: &str) -> bool {
    let known = context.deps.snapshots.borrow().in_mesh(Kind::DATAPLANE, mesh).count();
    context.proxies.count(mesh) * 2 < known
}

async fn mark(context: &Context, key: &Key) {
    let now = (context.now)();
    let written = retry_conflicts(&*context.deps.store, key, |stored| {
        let held = &stored?.resource;
        let next = gone(held.spec::<Dataplane>().ok()?)?;
        let mut builder = Resource::to_builder(held).spec(&next);
        builder.modified = now;
        Some(builder.build())
    });
    match written.await {
        Ok(true) => tracing::warn!(dataplane = %key, "proxy is gone: its inbounds count as not ready"),
        Ok(false) => {}
        Err(error) => tracing::warn!(dataplane = %key, %error, "cannot mark a proxy that is gone"),
    }
}

/// The Dataplane of a proxy that is gone; `None` where it says so already.
fn gone(dataplane: &Dataplane) -> Option<Dataplane> {
    let mut next = dataplane.clone();
    let networking = next.networking.as_mut()?;
    for inbound in networking.inbound.iter_mut().filter(|inbound| inbound.state() == State::Ready) {
        inbound.set_state(State::NotReady);
        inbound.health = Some(Health { ready: false });
    }
    for listener in &mut networking.listeners {
        listener.set_state(listener::State::NotReady);
    }
    (next != *dataplane).then_some(next)
}

/// Ends the subscriptions that an instance before this one left open, for proxies that have not come back.
pub(super) async fn of_earlier_instances(context: &Context) {
    let stop = context.tasks.token();
    tokio::select! {
        () = tokio::time::sleep(ALL_BACK) => {}
        () = stop.cancelled() => return,
    }
    let snapshot = std::sync::Arc::clone(&context.deps.snapshots.borrow());
    for resource in snapshot.kind(Kind::DATAPLANE_INSIGHT) {
        let key = Key::new(Kind::DATAPLANE, resource.mesh(), resource.name());
        let is_open = resource
            .spec::<DataplaneInsight>()
            .is_ok_and(|insight| insight.subscriptions.iter().any(|held| held.disconnect_time.is_none()));
        if is_open && context.proxies.get(&key).is_none() {
            insight::end(&context.deps.store, &key, (context.now)()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use kds_proto::mesh::dataplane::Networking;
    use kds_proto::mesh::dataplane::networking::Inbound;

    use super::*;

    #[test]
    fn a_proxy_that_is_gone_is_marked_once() {
        let inbound = Inbound { port: 80, ..Default::default() };
        let networking = Networking { inbound: vec![inbound], ..Default::default() };
        let next = gone(&Dataplane { networking: Some(networking) }).unwrap();
        assert_eq!(next.networking.as_ref().unwrap().inbound[0].state(), State::NotReady);
        assert_eq!(gone(&next), None);
    }
}
