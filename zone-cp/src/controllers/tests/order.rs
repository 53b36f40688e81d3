//! The order in which changes arrive does not matter.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use auth::pki::Authority;
use model::{Kind, Resource, labels};
use proptest::prelude::*;
use serde_json::json;
use store::Snapshot;

use super::fixture::*;

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| authority(Duration::from_secs(1_000_000)));

/// The end state of a small mesh.
fn resources() -> Vec<Resource> {
    let multi = json!({"selector": {"meshService": {"matchLabels": {"kuma.io/zone": "east"}}}, "ports": [{"port": 80}]});
    let mut resources = vec![
        identity("identity"),
        hostname_generator("one", "{{ .DisplayName }}.svc.mesh.local"),
        hostname_generator("two", "same.svc.mesh.local"),
        json_spec(own(Kind::MESH_MULTI_ZONE_SERVICE, "all", &[]), &multi).build(),
        json_spec(own(Kind::MESH_EXTERNAL_SERVICE, "api", &[]), &json!({"match": {"port": 443}})).build(),
        insight("web-1", true),
    ];
    for workload in ["web", "db", "cache"] {
        for instance in 1..=2 {
            let name = format!("{workload}-{instance}");
            resources.push(dataplane(&name, workload, &[(80, "", instance == 1)]));
        }
    }
    resources
}

fn contents(snapshot: &Snapshot) -> BTreeMap<String, String> {
    let describe = |held: &Resource| {
        format!(
            "{:?} {:?} {:?}",
            held.labels(),
            held.raw_spec().bytes(),
            held.raw_status().map(|s| s.bytes().clone())
        )
    };
    Kind::all()
        .flat_map(|kind| snapshot.kind(kind))
        .map(|held| (held.key().to_string(), describe(held)))
        .collect()
}

fn start() -> Snapshot {
    snapshot([
        secret("identity-root-ca", AUTHORITY.certificate_pem()),
        secret("identity-private-key", AUTHORITY.key().expose()),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Resources arrive in any order, some twice, some leave and come back, and controllers run after some of them.
    #[test]
    fn any_order_of_changes_ends_in_the_same_state(
        order in Just((0..resources().len()).collect::<Vec<_>>()).prop_shuffle(),
        runs in prop::collection::vec(any::<bool>(), resources().len()),
        flapping in 0..resources().len(),
    ) {
        let all = resources();
        let want = settle(all.iter().cloned().fold(start(), Snapshot::with), now());
        let mut snapshot = start();
        for (at, run) in order.iter().zip(runs) {
            snapshot = snapshot.with(all[*at].clone());
            if run {
                snapshot = settle(snapshot, now());
            }
        }
        // What the others made of it must follow it out and in again.
        if all[flapping].kind() == Kind::DATAPLANE {
            snapshot = settle(snapshot.without(all[flapping].key()), now());
            snapshot = settle(snapshot.with(all[flapping].clone()), now());
        }
        let settled = settle(snapshot, now());
        prop_assert_eq!(contents(&settled), contents(&want));
        let marked = settled.kind(Kind::MESH_SERVICE).any(|held| held.label(labels::GRACE_PERIOD_STARTED_AT).is_some());
        prop_assert!(!marked);
    }
}
