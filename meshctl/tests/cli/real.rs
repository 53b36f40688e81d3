//! The binary against the API that the control planes serve, over a store in memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use control_api::defaults::{self, DefaultsConfig};
use control_api::{Api, ApiConfig, BuildInfo, NoProxies};
use model::labels::Plane;
use model::payload::Typed;
use model::spec::{Dataplane, DataplaneInsight, Secret, Zone, ZoneInsight};
use model::{Key, Kind, Resource, Timestamp};
use runtime::{OnExit, Tasks};
use serde_json::json;
use store::index::{self, SnapshotReceiver};
use store::{Expect, MemoryStore, Op, Store};

use crate::run::Home;

/// A control plane's API.
struct Real {
    address: SocketAddr,
    store: Store,
    snapshots: SnapshotReceiver,
    tasks: Tasks,
}

impl Drop for Real {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

impl Real {
    async fn start(config: ApiConfig) -> Self {
        let tasks = Tasks::new();
        let store: Store = Arc::new(MemoryStore::new());
        let plane = Plane::Global;
        defaults::ensure(&store, &plane, &DefaultsConfig::default()).await.unwrap();
        let (snapshots, follow) = index::start(Arc::clone(&store)).await.unwrap();
        tasks.spawn("index", OnExit::Shutdown, follow);
        let api = Api {
            store: Arc::clone(&store),
            snapshots: snapshots.clone(),
            plane,
            build: BuildInfo {
                version: "1.0.0".into(),
                instance_id: "global-1".into(),
                cluster_id: "cluster".into(),
            },
            proxies: Arc::new(NoProxies),
            config_json: json!({}),
            tls: None,
            mesh_defaults: true,
            guard: kds::Guard::default(),
            metrics: control_api::Metrics::default(),
        };
        let handle = control_api::spawn(&tasks, ApiConfig { port: 0, ..config }, api).unwrap();
        Self { address: handle.http, store, snapshots, tasks }
    }

    fn flag(&self) -> String {
        format!("--address http://{}", self.address)
    }

    /// Writes past the API, as zones and proxies do, and waits until the API shows it.
    async fn observe(&self, key: Key, spec: &impl Typed) {
        let time = Timestamp::from_system(SystemTime::now());
        let mut builder = Resource::builder(key).spec(spec).at(time);
        if builder.key.kind.is_mesh_scoped() {
            builder = builder.label("kuma.io/zone", "east").label("kuma.io/origin", "zone");
        }
        let write = vec![Op::Put(Arc::new(builder.build()), Expect::Any)];
        let revision = self.store.commit(write).await.unwrap();
        self.snapshots.clone().wait_for(|shown| shown.revision() >= revision).await.unwrap();
    }
}

/// A spec from its JSON form.
fn of_json<T: Typed + Clone>(kind: Kind, mut document: serde_json::Value) -> T {
    document["type"] = json!(kind.name);
    document["name"] = json!("x");
    let resource = model::rest::parse(&document).unwrap().resource.build();
    resource.spec::<T>().unwrap().clone()
}

const MANIFEST: &str = "
type: MeshTimeout
mesh: demo
name: slow
spec:
  targetRef: {kind: Mesh}
  to:
  - targetRef: {kind: Mesh}
    default: {idleTimeout: 10s}
---
type: MeshMultiZoneService
mesh: demo
name: backend
spec:
  selector: {meshService: {matchLabels: {app: backend}}}
  ports: [{port: 80, appProtocl: http}]
---
type: Mesh
name: demo
";

#[tokio::test]
async fn resources_are_written_read_and_deleted() {
    let (cp, home) = (Real::start(ApiConfig::default()).await, Home::new());
    home.file("demo.yaml", MANIFEST);
    let ended = home.run(&format!("apply -f demo.yaml {}", cp.flag())).await;
    assert!(ended.success, "{ended:?}");
    let want = ["Mesh demo", "MeshTimeout demo/slow", "MeshMultiZoneService demo/backend"];
    let lines = |verb: &str| want.map(|name| format!("{name} {verb}\n")).concat();
    assert_eq!(ended.out, lines("created"));
    assert!(ended.err.contains("did you mean \"appProtocol\"?"), "{ended:?}");
    assert_eq!(home.ok(&format!("apply -f demo.yaml {}", cp.flag())).await, lines("unchanged"));

    let table = home.ok(&format!("get meshes {}", cp.flag())).await;
    assert!(table.starts_with("NAME      AGE\ndefault   "), "{table}");
    let table = home.ok(&format!("get mzsvc --mesh demo {}", cp.flag())).await;
    assert!(table.contains("demo   backend   80      0"), "{table}");
    for kind in ["meshtimeouts", "mzsvc", "hostnamegenerators"] {
        let printed = home.ok(&format!("get {kind} --mesh demo -o yaml {}", cp.flag())).await;
        let applied = home.run_with(&format!("apply -f - {}", cp.flag()), &[], &printed).await;
        assert!(applied.success && !applied.out.is_empty(), "{applied:?}");
        assert!(applied.out.lines().all(|line| line.ends_with("unchanged")), "{applied:?}");
    }

    let out = home.ok(&format!("delete meshtimeout slow --mesh demo {}", cp.flag())).await;
    assert_eq!(out, "MeshTimeout demo/slow deleted\n");
    let ended = home.run(&format!("get meshtimeout slow --mesh demo {}", cp.flag())).await;
    assert!(!ended.success && ended.err.contains("(Not found)"), "{ended:?}");
}

#[tokio::test]
async fn refusals_name_file_document_and_field() {
    let (cp, home) = (Real::start(ApiConfig::default()).await, Home::new());
    let manifest = "type: MeshTimeout\nmesh: nowhere\nname: a\nspec: {}\n---\n\
        type: Zone\nname: Not_A_Zone\n---\n\
        type: MeshMultiZoneService\nname: b\nspec: {ports: [{port: 0}]}\n---\n\
        type: Zone\nname: east\n";
    home.file("m.yaml", manifest);
    let ended = home.run(&format!("apply -f m.yaml {}", cp.flag())).await;
    assert_eq!((ended.success, ended.out.as_str()), (false, "Zone east created\n"), "{ended:?}");
    for told in [
        "m.yaml, document 1 (line 1): MeshTimeout nowhere/a: Failed to retrieve Mesh (Not found)\n",
        "m.yaml, document 2 (line 6): Zone Not_A_Zone: Could not process a resource (Resource is not valid)\n  * name: ",
        "m.yaml, document 3 (line 9): MeshMultiZoneService default/b: Could not process a resource",
        "  * spec.ports[0].port: ",
        "error: 3 of 4 resources are not applied\n",
    ] {
        assert!(ended.err.contains(told), "{told:?} is not in\n{}", ended.err);
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_in_words() {
    let (cp, home) = (Real::start(ApiConfig::default()).await, Home::new());
    let label = "x".repeat(20 << 20);
    home.file(
        "m.yaml",
        &format!("type: Mesh\nname: large\nlabels: {{a: {label}}}\n---\ntype: Mesh\nname: small\n"),
    );
    let ended = home.run(&format!("apply -f m.yaml {}", cp.flag())).await;
    assert_eq!((ended.success, ended.out.as_str()), (false, "Mesh small created\n"), "{ended:?}");
    assert!(ended.err.contains("document 1 (line 1): Mesh large: "), "{ended:?}");
}

#[tokio::test]
async fn issued_tokens_open_the_api() {
    let config = ApiConfig { localhost_is_admin: false, ..ApiConfig::default() };
    let (cp, home) = (Real::start(config).await, Home::new());
    let ended = home.run(&format!("get secrets {}", cp.flag())).await;
    assert!(!ended.success && ended.err.contains("hint: present a user token"), "{ended:?}");

    let stored =
        cp.store.get(&Key::global(Kind::GLOBAL_SECRET, defaults::ADMIN_TOKEN)).await.unwrap().unwrap();
    let secret = stored.resource.spec::<Secret>().unwrap().clone();
    let admin = home.file("admin.token", &String::from_utf8(secret.data.unwrap()).unwrap());
    let flags = format!("--token-file {} {}", admin.display(), cp.flag());
    home.ok(&format!("config control-planes add --name here {flags}")).await;
    for kind in [
        "user-token --name alice --group mesh-system:admin --valid-for 1h",
        "zone-token --zone east --valid-for 30d",
        "dataplane-token --name d --tag kuma.io/service=d",
    ] {
        let token = home.ok(&format!("generate {kind}")).await;
        assert_eq!(token.trim().split('.').count(), 3, "{kind}: {token}");
        home.file(&format!("{}.token", kind.split('-').next().unwrap()), &token);
    }
    home.ok(&format!("get secrets --token-file user.token {}", cp.flag())).await;
    let ended = home.run(&format!("get secrets --token-file zone.token {}", cp.flag())).await;
    assert!(!ended.success && ended.err.contains("Invalid authentication data"), "{ended:?}");
}

#[tokio::test]
async fn observations_are_shown() {
    let (cp, home) = (Real::start(ApiConfig::default()).await, Home::new());
    let zone = Zone::default();
    let insight: ZoneInsight = of_json(
        Kind::ZONE_INSIGHT,
        json!({"subscriptions": [{"connectTime": "2026-01-01T00:00:00Z",
            "version": {"kumaCp": {"version": "1.2.3"}},
            "status": {"total": {"responsesSent": 5, "responsesAcknowledged": 4, "responsesRejected": 1},
                "stat": {"MeshTimeout": {"responsesSent": 5, "responsesAcknowledged": 4, "responsesRejected": 1}}}}]}),
    );
    cp.observe(Key::global(Kind::ZONE, "east"), &zone).await;
    cp.observe(Key::global(Kind::ZONE, "west"), &zone).await;
    cp.observe(Key::global(Kind::ZONE_INSIGHT, "east"), &insight).await;
    let dataplane: Dataplane = of_json(
        Kind::DATAPLANE,
        json!({"mesh": "default", "networking": {"address": "10.0.0.1", "inbound": [{"port": 80}]}}),
    );
    let insight: DataplaneInsight = of_json(
        Kind::DATAPLANE_INSIGHT,
        json!({"mesh": "default", "subscriptions": [{"connectTime": "2026-01-01T00:00:00Z",
            "version": {"envoy": {"version": "1.40.0"}, "kumaDp": {"version": "0.1.0"}},
            "status": {"total": {"responsesSent": 2, "responsesAcknowledged": 1}}}]}),
    );
    cp.observe(Key::new(Kind::DATAPLANE, "default", "d"), &dataplane).await;
    cp.observe(Key::new(Kind::DATAPLANE_INSIGHT, "default", "d"), &insight).await;

    let status = home.ok(&format!("status {}", cp.flag())).await;
    for told in [
        "Control plane global-1 version ",
        "zone east: refused 1 of 5 updates (MeshTimeout 1)",
        "zone west: has never connected",
        "proxy default/d in east: has not answered 1 update\n",
    ] {
        assert!(status.contains(told), "{told:?} is not in\n{status}");
    }
    let zones = home.ok(&format!("get zones {}", cp.flag())).await;
    assert!(zones.contains("east   Online    "), "{zones}");
    let proxy = home.ok(&format!("inspect dataplane d {}", cp.flag())).await;
    assert!(proxy.contains("Envoy:        1.40.0\n"), "{proxy}");
    let zone = home.ok(&format!("inspect zone east {}", cp.flag())).await;
    assert!(zone.contains("  MeshTimeout: 5 sent, 4 acknowledged, 1 rejected\n"), "{zone}");
    let ended = home.run(&format!("inspect dataplane d --type config-dump {}", cp.flag())).await;
    assert!(!ended.success && ended.err.contains("cannot inspect dataplane default/d: "), "{ended:?}");
}

#[tokio::test]
async fn a_dry_run_and_a_diff_tell_what_an_apply_would_do() {
    let (cp, home) = (Real::start(ApiConfig::default()).await, Home::new());
    home.file("demo.yaml", MANIFEST);
    let flag = cp.flag();
    // The mesh comes with the same manifest: what is in it is checked as far as that goes without.
    let out = home.ok(&format!("apply -f demo.yaml --dry-run {flag}")).await;
    assert!(out.contains("# Mesh demo would be created, with "), "{out}");
    assert!(out.contains("# MeshTimeout demo/slow would be created\n"), "{out}");
    let ended = home.run(&format!("get mesh demo {flag}")).await;
    assert!(!ended.success, "nothing was written");
    home.ok(&format!("apply -f demo.yaml {flag}")).await;

    let same = home.run(&format!("diff -f demo.yaml {flag}")).await;
    assert!(same.success && same.out.is_empty(), "{same:?}");
    home.file("more.yaml", &MANIFEST.replace("10s", "90s"));
    let out = home.ok(&format!("apply -f more.yaml --dry-run {flag}")).await;
    assert!(out.contains("# MeshTimeout demo/slow would be updated\n"), "{out}");
    assert!(out.contains("kuma.io/origin: global") && out.contains("idleTimeout: 1m30s"), "{out}");
    let ended = home.run(&format!("diff -f more.yaml {flag}")).await;
    assert!(!ended.success, "{ended:?}");
    assert!(ended.out.contains("-      idleTimeout: 10s\n+      idleTimeout: 1m30s\n"), "{ended:?}");
    assert!(ended.out.contains("--- MeshTimeout demo/slow (stored)\n+++ MeshTimeout demo/slow (more.yaml"));
    assert!(!ended.err.contains("error"), "{ended:?}");
    assert!(!ended.out.contains("modificationTime"), "{ended:?}");

    home.file("bad.yaml", &MANIFEST.replace("10s", "never"));
    let ended = home.run(&format!("diff -f bad.yaml {flag}")).await;
    assert!(
        ended.err.contains("idleTimeout") && ended.err.contains("1 of 3 resources cannot be compared"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn what_is_exported_makes_an_empty_control_plane_the_same() {
    let (old, new, home) =
        (Real::start(ApiConfig::default()).await, Real::start(ApiConfig::default()).await, Home::new());
    home.file("demo.yaml", MANIFEST);
    home.file("secret.yaml", "type: Secret\nmesh: demo\nname: s\ndata: aGVsbG8=\n");
    home.ok(&format!("apply -f demo.yaml -f secret.yaml {}", old.flag())).await;
    home.ok(&format!("delete meshtimeout mesh-timeout-all-demo --mesh demo {}", old.flag())).await;
    old.observe(
        Key::new(Kind::DATAPLANE, "demo", "d"),
        &of_json::<Dataplane>(
            Kind::DATAPLANE,
            json!({
        "mesh": "demo", "networking": {"address": "127.0.0.1", "inbound": [{"port": 80}]}}),
        ),
    )
    .await;

    home.ok(&format!("export -o all.yaml {}", old.flag())).await;
    let path = home.path().join("all.yaml");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "others may not read it");
    assert!(
        !std::fs::read_to_string(&path).unwrap().contains("type: Dataplane\n"),
        "the zone brings it back"
    );
    assert!(
        !home.run(&format!("export -o all.yaml {}", old.flag())).await.success,
        "a file is not overwritten"
    );

    let out = home.ok(&format!("import -f all.yaml --dry-run {}", new.flag())).await;
    assert!(out.contains("MeshTimeout demo/slow would be created"), "{out}");
    home.ok(&format!("import -f all.yaml {}", new.flag())).await;
    let both = [&old, &new].map(|cp| format!("export {}", cp.flag()));
    assert_eq!(home.ok(&both[0]).await, home.ok(&both[1]).await);
    let ended = home.run(&format!("import -f all.yaml {}", new.flag())).await;
    assert!(ended.success && ended.out.contains("MeshTimeout demo/slow unchanged"), "{ended:?}");

    // What is there and differs is left alone.
    home.file("other.yaml", &MANIFEST.replace("10s", "20s"));
    home.ok(&format!("apply -f other.yaml {}", new.flag())).await;
    let ended = home.run(&format!("import -f all.yaml {}", new.flag())).await;
    assert!(
        !ended.success && ended.err.contains("MeshTimeout demo/slow is there already and differs"),
        "{ended:?}"
    );
    home.ok(&format!("import -f all.yaml --overwrite {}", new.flag())).await;
    assert!(home.ok(&format!("get mt slow --mesh demo -o yaml {}", new.flag())).await.contains("10s"));
}

#[tokio::test]
async fn a_watch_shows_what_is_there_and_what_changes() {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let (cp, home) = (Real::start(ApiConfig::default()).await, Home::new());
    home.file("demo.yaml", MANIFEST);
    home.ok(&format!("apply -f demo.yaml {}", cp.flag())).await;
    let address = format!("http://{}", cp.address);
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_meshctl"))
        .args(["get", "mt", "-m", "demo", "--name-contains", "slow", "-w", "--address", &address])
        .env_clear()
        .env("HOME", home.path())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = tokio::time::timeout(std::time::Duration::from_secs(20), lines.next_line()).await;
        line.unwrap().unwrap().unwrap().split_whitespace().take(3).collect::<Vec<_>>().join(" ")
    };
    assert_eq!([next().await, next().await], ["EVENT MESH NAME", "ADDED demo slow"]);
    home.file("more.yaml", &MANIFEST.replace("10s", "20s"));
    home.ok(&format!("apply -f more.yaml {}", cp.flag())).await;
    assert_eq!(next().await, "MODIFIED demo slow");
    home.ok(&format!("delete mt slow -m demo {}", cp.flag())).await;
    assert_eq!(next().await, "DELETED demo slow");
    child.kill().await.unwrap();
}

#[tokio::test]
async fn fields_are_explained_without_a_control_plane() {
    let home = Home::new();
    let out = home.ok("explain mt.spec.to.default").await;
    assert!(out.starts_with("MeshTimeout.spec.to.default  <object>\n"), "{out}");
    assert!(out.contains("connectionTimeout"), "{out}");
    let out = home.ok("explain dataplane.networking.inbound.state").await;
    assert!(out.contains("NotReady"), "{out}");
    let all = home.ok("explain meshhttproute --recursive").await;
    assert!(all.contains("backendRefs"), "{all}");
    let ended = home.run("explain mt.spec.too").await;
    assert!(ended.err.contains("MeshTimeout.spec has no field \"too\", did you mean \"to\"?"), "{ended:?}");
    for kind in Kind::all().filter(|kind| kind.path.is_some()) {
        home.ok(&format!("explain {} --recursive", kind.info().name)).await;
    }
}
