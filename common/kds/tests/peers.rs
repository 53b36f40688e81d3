//! The serving session against peers that answer what nobody asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use kds::{Everything, Outgoing, ServerSession, View, node};
use kds_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use kds_proto::rpc::Status;
use model::{Key, Kind, Resource, labels};
use store::Snapshot;

fn policy(number: usize, padding: usize) -> Resource {
    let mut builder = Resource::builder(Key::new(Kind::MESH_TIMEOUT, "default", &format!("policy-{number}")))
        .label(labels::ORIGIN, "global");
    let spec = format!(
        r#"{{"x":"{}","to":[{{"targetRef":{{"kind":"Mesh"}},"default":{{"idleTimeout":"1s"}}}}]}}"#,
        "x".repeat(padding)
    );
    builder.spec = model::Payload::from_bytes(spec.into_bytes());
    builder.build()
}

fn view(older: &View, policies: std::ops::Range<usize>, padding: usize) -> Arc<View> {
    let snapshot = policies
        .map(|number| policy(number, padding))
        .fold(Snapshot::clone(older.snapshot()), Snapshot::with);
    Arc::new(older.advance(Arc::new(snapshot), &Outgoing::FromGlobal { public_key_of: |_| None }))
}

fn session(view: Arc<View>) -> ServerSession {
    ServerSession::new("global", view, Box::new(Everything))
}

fn request(nonce: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(node("east", "test", "test", "{}")),
        type_url: Kind::MESH_TIMEOUT.name.into(),
        response_nonce: nonce.into(),
        ..Default::default()
    }
}

/// Names of resources, without the hash that synchronised names end in.
fn names(responses: &[DeltaDiscoveryResponse]) -> Vec<&str> {
    let resources = responses.iter().flat_map(|one| &one.resources);
    resources.filter_map(|resource| resource.name.rsplit_once('-')).map(|(name, _)| name).collect()
}

#[test]
fn answers_to_other_responses_change_nothing() {
    let first = view(&View::default(), 0..1, 0);
    let mut session = session(Arc::clone(&first));
    let sent = session.request(request(""));
    assert_eq!(names(&sent), ["policy-0"]);
    let nonce = sent[0].nonce.clone();
    assert!(session.advance(view(&first, 0..2, 0)).is_empty(), "one response is unanswered at a time");
    let refusal = Some(Status { message: "no".into(), ..Default::default() });
    for wrong in ["", "0", "99", "not a nonce"] {
        assert!(session.request(request(wrong)).is_empty(), "{wrong:?}");
        assert!(
            session
                .request(DeltaDiscoveryRequest { error_detail: refusal.clone(), ..request(wrong) })
                .is_empty()
        );
    }
    let counters = session.counters()[&Kind::MESH_TIMEOUT];
    assert_eq!((counters.sent, counters.acknowledged, counters.rejected), (1, 0, 0));
    // The nonce of one kind answers nothing of another.
    let other = DeltaDiscoveryRequest { type_url: Kind::MESH.name.into(), ..request(&nonce) };
    assert!(names(&session.request(other)).is_empty());
    assert_eq!(session.counters()[&Kind::MESH_TIMEOUT].acknowledged, 0);

    let next = session.request(request(&nonce));
    assert_eq!(names(&next), ["policy-1"]);
    assert!(session.request(request(&nonce)).is_empty(), "an answer that is repeated counts once");
    let counters = session.counters()[&Kind::MESH_TIMEOUT];
    assert_eq!((counters.sent, counters.acknowledged), (2, 1));
}

#[test]
fn what_was_refused_is_not_sent_again_before_it_changes() {
    let first = view(&View::default(), 0..1, 0);
    let mut session = session(Arc::clone(&first));
    let nonce = session.request(request(""))[0].nonce.clone();
    let refusal = Some(Status { message: "policy-0.default: no".into(), ..Default::default() });
    let refused = DeltaDiscoveryRequest { error_detail: refusal, ..request(&nonce) };
    assert!(session.request(refused).is_empty());
    assert_eq!(names(&session.advance(view(&first, 0..1, 1))), ["policy-0"]);
}

#[test]
fn unknown_types_and_very_many_names_cost_nothing() {
    let mut session = session(view(&View::default(), 0..1, 0));
    for unknown in ["", "MeshOfTomorrow", "type.googleapis.com/x", &"y".repeat(1 << 20)] {
        assert!(
            session.request(DeltaDiscoveryRequest { type_url: unknown.into(), ..request("") }).is_empty()
        );
    }
    let many = DeltaDiscoveryRequest {
        resource_names_subscribe: (0..100_000).map(|name| name.to_string()).collect(),
        ..request("")
    };
    assert_eq!(names(&session.request(many)), ["policy-0"]);
    assert_eq!(session.counters().len(), 1);
}

#[test]
fn a_first_answer_larger_than_a_message_comes_in_parts() {
    const COUNT: usize = 30;
    let mut session = session(view(&View::default(), 0..COUNT, 500_000));
    let mut responses = session.request(request(""));
    let (mut seen, mut parts) = (Vec::new(), 0);
    while let Some(response) = responses.pop() {
        let bytes: usize = response
            .resources
            .iter()
            .filter_map(|one| one.resource.as_ref())
            .map(|any| any.value.len())
            .sum();
        assert!(bytes < kds::MAX_MESSAGE, "{bytes}");
        seen.extend(names(std::slice::from_ref(&response)).into_iter().map(ToOwned::to_owned));
        parts += 1;
        responses = session.request(request(&response.nonce));
    }
    seen.sort();
    seen.dedup();
    assert!(seen.len() == COUNT && parts > 1, "{} in {parts}", seen.len());
}

#[test]
fn a_peer_that_claims_to_hold_what_is_not_there_is_told() {
    let mut session = session(view(&View::default(), 0..1, 0));
    let held = BTreeMap::from([("gone.default".to_owned(), "1".to_owned()), (String::new(), String::new())]);
    let sent = session.request(DeltaDiscoveryRequest { initial_resource_versions: held, ..request("") });
    assert_eq!(names(&sent), ["policy-0"]);
    assert!(sent[0].removed_resources.contains(&"gone.default".to_owned()));
}

#[test]
fn a_peer_that_does_not_answer_skips_the_states_between() {
    let mut newest = view(&View::default(), 0..1, 0);
    let mut session = session(Arc::clone(&newest));
    let nonce = session.request(request(""))[0].nonce.clone();
    for padding in 1..100 {
        newest = view(&newest, 0..1, padding);
        assert!(session.advance(Arc::clone(&newest)).is_empty(), "nothing piles up");
    }
    let sent = session.request(request(&nonce));
    assert_eq!((sent.len(), names(&sent)), (1, vec!["policy-0"]));
    let bytes = &sent[0].resources[0].resource.as_ref().expect("a body").value;
    assert!(bytes.windows(99).any(|part| part == "x".repeat(99).as_bytes()), "the newest of all");
    let nonce = sent[0].nonce.clone();
    assert!(session.request(request(&nonce)).is_empty());
}
