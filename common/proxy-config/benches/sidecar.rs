//! What the configuration of one sidecar costs, by the number of its destinations: from scratch, and after a change
//! of one endpoint, of a policy for it, of a policy for another proxy, and of a proxy that serves nothing it calls. A
//! change includes following it in the view of the mesh that all proxies share.

#[path = "../tests/generation/mesh.rs"]
#[allow(dead_code, reason = "tests use more of the small mesh")]
mod mesh;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use mesh::{MESH, PEM, ZONE, identity, inbound, mesh_identity, metadata, policy, service, trust, workload};
use model::{Key, Kind, Resource};
use proxy_config::{AdminTls, Identity, Inputs, MeshView, Proxy, Settings, generate};
use serde_json::json;
use store::Snapshot;

/// Destinations of the sidecar.
const SIZES: [usize; 3] = [50, 300, 1000];

/// Of so many destinations one has a route.
const ROUTED: usize = 10;

fn address(network: u8, number: usize) -> String {
    format!("{network}.0.{}.{}", number / 250, number % 250 + 1)
}

/// Services with one endpoint each, some of them with a route, and the policies that a new mesh has.
fn snapshot(size: usize) -> Snapshot {
    let name = |number: usize| format!("service-{number:04}");
    let protocol = |number: usize| if number.is_multiple_of(3) { "tcp" } else { "http" };
    let services = (0..size).flat_map(|number| {
        let (name, protocol) = (name(number), protocol(number));
        [
            workload(&name, &address(10, number), inbound(8080, 0, protocol)),
            service(ZONE, &name, &address(241, number), 8080, protocol),
        ]
    });
    let routes = (1..size).step_by(ROUTED).map(|number| {
        let target = json!({"kind": "MeshService", "labels": {"kuma.io/display-name": name(number)}});
        let matches = json!([{"path": {"type": "PathPrefix", "value": "/api"}}]);
        let rules = json!([{"matches": matches, "default": {}}]);
        policy(Kind::MESH_HTTP_ROUTE, &name(number), &json!({"to": [{"targetRef": target, "rules": rules}]}))
    });
    let to_all = |default| json!({"to": [{"targetRef": {"kind": "Mesh"}, "default": default}]});
    let rest = [
        mesh_identity(),
        trust(ZONE, PEM),
        timeout("10s"),
        policy(
            Kind::MESH_RETRY,
            "retry",
            &to_all(json!({"http": {"numRetries": 5}, "tcp": {"maxConnectAttempt": 5}})),
        ),
        policy(
            Kind::MESH_CIRCUIT_BREAKER,
            "breaker",
            &to_all(json!({"connectionLimits": {"maxConnections": 1024, "maxRequests": 1024}})),
        ),
    ];
    services.chain(routes).chain(rest).fold(Snapshot::default(), Snapshot::with)
}

fn timeout(time: &str) -> Resource {
    let default = json!({"http": {"requestTimeout": time}});
    policy(
        Kind::MESH_TIMEOUT,
        "timeout",
        &json!({"to": [{"targetRef": {"kind": "Mesh"}, "default": default}]}),
    )
}

/// A policy for another proxy.
fn for_others() -> Resource {
    let target = json!({"kind": "Dataplane", "labels": {"app": "service-0002"}});
    let rules = json!([{"default": {"idleTimeout": "1h"}}]);
    policy(Kind::MESH_TIMEOUT, "others", &json!({"targetRef": target, "rules": rules}))
}

struct Sidecar {
    proxy: Proxy,
    identity: Identity,
    settings: Settings,
}

impl Sidecar {
    fn of(snapshot: &Snapshot) -> Self {
        let name = "service-0001";
        let dataplane = snapshot.resource(&Key::new(Kind::DATAPLANE, MESH, name)).expect("it is there");
        let proxy =
            Proxy::new(Arc::clone(dataplane), metadata("/tmp")).with_admin_tls(Arc::new(AdminTls::blank()));
        Self { proxy, identity: identity(name), settings: Settings::default() }
    }

    fn generate(&self, view: &MeshView) -> usize {
        generate(view, &self.proxy, Some(&self.identity), &self.settings).iter().count()
    }
}

fn sidecar(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sidecar");
    group.sample_size(10);
    for size in SIZES {
        let before = snapshot(size);
        let sidecar = Sidecar::of(&before);
        let view = MeshView::new(&before, MESH, ZONE);
        assert!(
            sidecar.generate(&view) > 3 * size,
            "a cluster, endpoints and a listener for each destination"
        );
        group.bench_function(BenchmarkId::new("view", size), |bencher| {
            bencher.iter(|| black_box(MeshView::new(&before, MESH, ZONE)));
        });
        group.bench_function(BenchmarkId::new("scratch", size), |bencher| {
            bencher.iter(|| black_box(sidecar.generate(&view)));
        });
        let changes = [
            ("endpoint", workload("service-0002", "10.9.9.9", inbound(8080, 0, "http")), false),
            ("policy", timeout("11s"), false),
            ("other-policy", for_others(), true),
            ("other-proxy", workload("batch", "10.9.9.9", inbound(8080, 0, "http")), true),
        ];
        for (name, change, is_kept) in changes {
            let after = before.clone().with(change);
            // With routes a proxy looks at every destination.
            let mut inputs =
                Inputs::of(&view, &sidecar.proxy, &sidecar.settings).expect("its Dataplane can be read");
            let view_after = view.advance(&before, &after);
            assert_eq!(inputs.stand(&view_after, &sidecar.proxy, &sidecar.settings), is_kept, "{name}");
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                let make = || Inputs::of(&view, &sidecar.proxy, &sidecar.settings).expect("as before");
                bencher.iter_batched(
                    make,
                    |mut inputs| {
                        let view = view.advance(&before, &after);
                        if !inputs.stand(&view, &sidecar.proxy, &sidecar.settings) {
                            black_box(sidecar.generate(&view));
                        }
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

criterion_group!(benches, sidecar);
criterion_main!(benches);
