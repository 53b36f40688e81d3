//! What the change of one dataplane costs the counts behind insights, by the size of the fleet: 10 meshes, and as many
//! proxies as the name of each run says, one service to twenty of them.

use std::hint::black_box;
use std::sync::Arc;

use control_api::tally::Tally;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use model::{Key, Kind, Payload, Resource};
use serde_json::{Value, json};
use store::Snapshot;

const SIZES: [usize; 3] = [2_000, 20_000, 200_000];
const MESHES: usize = 10;
/// Proxies of a service.
const REPLICAS: usize = 20;

fn resource(kind: Kind, number: usize, spec: &Value) -> Resource {
    let key = Key::new(kind, &format!("mesh-{}", number % MESHES), &format!("name-{number:06}"));
    let mut builder = Resource::builder(key);
    builder.spec = Payload::from_json(kind.format, spec).expect("the spec fits its kind");
    builder.build()
}

fn dataplane(number: usize, state: &str) -> Resource {
    let inbound = json!([{"port": 80, "state": state}]);
    resource(Kind::DATAPLANE, number, &json!({"networking": {"address": "10.0.0.1", "inbound": inbound}}))
}

fn insight(number: usize) -> Resource {
    let version = json!({"kumaDp": {"version": "1.0.0"}, "envoy": {"version": "1.40.0"}});
    let subscription = json!({"id": "1", "connectTime": "2026-01-01T00:00:00Z", "version": version});
    resource(Kind::DATAPLANE_INSIGHT, number, &json!({"subscriptions": [subscription]}))
}

fn fleet(size: usize) -> Arc<Snapshot> {
    let mut snapshot = Snapshot::default();
    for number in 0..size {
        snapshot = snapshot.with(dataplane(number, "Ready")).with(insight(number));
        if number % REPLICAS == 0 {
            let service = resource(Kind::MESH_SERVICE, number, &json!({"ports": [{"port": 80}]}));
            snapshot = snapshot.with(service);
        }
    }
    Arc::new(snapshot)
}

fn one_change(c: &mut Criterion) {
    let mut group = c.benchmark_group("one dataplane changes");
    for size in SIZES {
        let before = fleet(size);
        let after = Arc::new(Snapshot::clone(&before).with(dataplane(size / 2, "NotReady")));
        let mut counted = Tally::default();
        counted.advance(&before);
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let change = |mut tally: Tally| {
                tally.advance(black_box(&after));
                tally
            };
            bencher.iter_batched(|| counted.clone(), change, BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(benches, one_change);
criterion_main!(benches);
