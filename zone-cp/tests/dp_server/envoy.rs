//! The server with a real Envoy.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use control_api::{AdminQuery, ProxyInspector};
use http::StatusCode;
use kds_proto::mesh::dataplane::networking::inbound::State;
use model::{Key, Kind, Payload, Resource};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bootstrap::{envoy_config, post, request};
use crate::support::{Zone, dataplane_key, insight, networking};

/// An Envoy that ends with the test.
struct Envoy {
    process: Child,
    dir: TempDir,
}

impl Drop for Envoy {
    #[expect(clippy::print_stderr, reason = "a failed test shows what Envoy says")]
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.dir.path().join("envoy.log")).unwrap_or_default());
        }
    }
}

fn binary() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/envoy/envoy");
    assert!(path.exists(), "{} is missing: `cargo xtask test` installs it", path.display());
    path
}

/// A port of this host that nobody had a moment ago.
fn free_port(address: &str) -> u16 {
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port()
}

impl Envoy {
    /// Asks for a bootstrap and starts an Envoy with it.
    async fn start(zone: &Zone, name: &str, document: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut request = request(zone, name, dir.path().to_str().unwrap());
        request["dataplaneResource"] = json!(document.to_string());
        request["readinessPort"] = json!(free_port("127.0.0.1"));
        let (status, body) = post(zone, "localhost", request.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let file = dir.path().join("bootstrap.yaml");
        std::fs::write(&file, envoy_config(&body).to_string()).unwrap();
        let log = std::fs::File::create(dir.path().join("envoy.log")).unwrap();
        let process = Command::new(binary())
            .args(["--disable-hot-restart", "--concurrency", "1", "--config-path"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { process, dir }
    }

    fn terminate(&self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }
}

/// The document of a Dataplane with one probed inbound in front of `service`.
fn probed(name: &str, address: &str, service: u16, admin: u16) -> Value {
    let inbound = json!({
        "port": free_port(address), "servicePort": service, "serviceAddress": "127.0.0.1",
        "protocol": "tcp", "serviceProbe": {"tcp": {}, "interval": "0.1s"},
    });
    json!({
        "type": "Dataplane", "mesh": "default", "name": name,
        "networking": {"address": address, "inbound": [inbound], "admin": {"port": admin}},
    })
}

/// Whether everything sent to the proxy was taken, and listeners were sent.
fn is_settled(snapshot: &store::Snapshot, name: &str) -> bool {
    let status = insight(snapshot, name).and_then(|insight| insight.subscriptions.last()?.status);
    status.is_some_and(|status| {
        let total = status.total.unwrap_or_default();
        assert_eq!(total.responses_rejected, 0, "Envoy refused something");
        status.lds.unwrap_or_default().responses_acknowledged > 0
            && total.responses_sent == total.responses_acknowledged
    })
}

#[tokio::test]
async fn envoy_takes_its_configuration_probes_and_answers() {
    let zone = Zone::start_with(|config| config.health.interval = Duration::from_secs(1)).await;
    let application = TcpListener::bind("127.0.0.1:0").unwrap();
    let service = application.local_addr().unwrap().port();
    let document = probed("web", "127.0.0.1", service, free_port("127.0.0.1"));
    let envoy = Envoy::start(&zone, "web", &document).await;
    let state = |snapshot: &store::Snapshot| networking(snapshot, "web").map(|held| held.inbound[0].state());
    zone.until("the configuration is taken", |snapshot| is_settled(snapshot, "web")).await;
    zone.until("the application is found ready", |snapshot| state(snapshot) == Some(State::Ready)).await;
    let key = dataplane_key("web");
    let dump = zone.handle.admin(&key, AdminQuery::ConfigDump { include_eds: false }).await.unwrap();
    let dump = String::from_utf8(dump.to_vec()).unwrap();
    let port = document["networking"]["inbound"][0]["port"].as_u64().unwrap();
    assert!(dump.contains(&format!("self_inbound_dp_{port}")));
    let clusters = zone.handle.admin(&key, AdminQuery::Clusters { json: false }).await.unwrap();
    assert!(String::from_utf8(clusters.to_vec()).unwrap().contains("system_ads::"));

    drop(application);
    zone.until("the application is missed", |snapshot| state(snapshot) == Some(State::NotReady)).await;
    envoy.terminate();
    zone.until("the proxy left", |snapshot| networking(snapshot, "web").is_none()).await;
    zone.stop().await;
}

#[tokio::test]
async fn envoy_elsewhere_answers_to_the_control_planes_certificate_only() {
    let zone = Zone::start_with(|config| config.admin_socket = false).await;
    let admin = free_port("127.0.0.2");
    let document = probed("web", "127.0.0.2", 1, admin);
    let envoy = Envoy::start(&zone, "web", &document).await;
    zone.until("the configuration is taken", |snapshot| is_settled(snapshot, "web")).await;
    let key = dataplane_key("web");
    let stats = AdminQuery::Stats { json: true, used_only: true };
    let answer = zone.handle.admin(&key, stats).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert!(answer["stats"].is_array());
    drop(envoy);
    zone.until("the proxy was killed", |snapshot| networking(snapshot, "web").is_none()).await;
    assert!(zone.handle.admin(&key, stats).await.unwrap_err().to_string().contains("not connected"));
    zone.stop().await;
}

const LISTENERS: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";

#[tokio::test]
async fn what_envoy_refuses_is_held_back_with_the_policy_behind_it_and_the_rest_is_taken() {
    let zone = Zone::start().await;
    let document = probed("web", "127.0.0.1", 1, free_port("127.0.0.1"));
    let port = document["networking"]["inbound"][0]["port"].as_u64().unwrap();
    let _envoy = Envoy::start(&zone, "web", &document).await;
    zone.until("the configuration is taken", |snapshot| is_settled(snapshot, "web")).await;

    let policy = |name: &str, modification: Value| {
        let spec = json!({"default": {"appendModifications": [modification]}});
        let mut policy = Resource::builder(Key::new(Kind::MESH_PROXY_PATCH, "default", name));
        policy.spec = Payload::from_bytes(spec.to_string());
        policy.build()
    };
    // Nothing comes after the filter that forwards bytes: Envoy refuses the listener.
    let filter = "name: last\ntypedConfig: {'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, statPrefix: x, cluster: x}";
    let wrong =
        json!({"networkFilter": {"operation": "AddLast", "match": {"origin": "inbound"}, "value": filter}});
    let own = format!(
        "name: own\naddress: {{socketAddress: {{address: 127.0.0.1, portValue: 1}}}}\nbindToPort: false\nfilterChains: [{{filters: [{{{}}}]}}]",
        filter.replace('\n', ", ")
    );
    let added = json!({"listener": {"operation": "Add", "value": own}});
    let nowhere =
        json!({"cluster": {"operation": "Patch", "jsonPatches": [{"op": "remove", "path": "/nowhere"}]}});
    zone.put(policy("wrong", wrong)).await;
    zone.put(policy("added", added)).await;
    zone.put(policy("nowhere", nowhere)).await;
    let name = format!("self_inbound_dp_{port}");
    let snapshot = zone
        .until("the refusal is told", |snapshot| {
            let problems = insight(snapshot, "web").map(|seen| seen.subscriptions[0].problems.clone());
            let problems = problems.unwrap_or_default();
            problems.iter().any(|one| one.type_url == LISTENERS && one.resource == name)
                && problems.iter().any(|one| one.type_url.is_empty())
        })
        .await;
    let problems = insight(&snapshot, "web").unwrap().subscriptions[0].problems.clone();
    let refused = problems.iter().find(|one| one.resource == name).unwrap();
    assert!(refused.reason.contains("tcp_proxy") || refused.reason.contains("terminal"), "{refused:?}");
    assert_eq!(refused.policies, ["kri_mpp_default___wrong_"]);
    let part = problems.iter().find(|one| one.type_url.is_empty()).unwrap();
    assert_eq!(part.resource, "spec.default.appendModifications[0].cluster");
    assert!(part.reason.contains("/nowhere"), "{part:?}");
    assert_eq!(part.policies, ["kri_mpp_default___nowhere_"]);

    let key = dataplane_key("web");
    zone.until("the listener that is right is taken", |snapshot| {
        let status = insight(snapshot, "web").and_then(|seen| seen.subscriptions.last()?.status);
        status.and_then(|status| status.lds).is_some_and(|lds| lds.responses_rejected >= 1)
    })
    .await;
    let dump = zone.handle.admin(&key, AdminQuery::ConfigDump { include_eds: false }).await.unwrap();
    let dump = String::from_utf8(dump.to_vec()).unwrap();
    assert!(dump.contains("\"own\"") && dump.contains(&name), "the new one, and the last good one");

    zone.delete(Key::new(Kind::MESH_PROXY_PATCH, "default", "wrong")).await;
    zone.delete(Key::new(Kind::MESH_PROXY_PATCH, "default", "nowhere")).await;
    zone.until("nothing is wrong any more", |snapshot| {
        insight(snapshot, "web").is_some_and(|seen| seen.subscriptions[0].problems.is_empty())
    })
    .await;
    zone.stop().await;
}

#[tokio::test]
async fn a_port_that_becomes_free_is_taken_without_a_change() {
    let zone = Zone::start_with(|config| config.nack_backoff = Duration::from_millis(100)).await;
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut document = probed("web", "127.0.0.1", 1, free_port("127.0.0.1"));
    document["networking"]["inbound"][0]["port"] = json!(holder.local_addr().unwrap().port());
    let _envoy = Envoy::start(&zone, "web", &document).await;
    let problems = |snapshot: &store::Snapshot| {
        insight(snapshot, "web").map(|seen| seen.subscriptions[0].problems.clone()).unwrap_or_default()
    };
    let snapshot = zone.until("the port is missed", |snapshot| !problems(snapshot).is_empty()).await;
    let problem = &problems(&snapshot)[0];
    assert!(problem.reason.contains("Address already in use"), "{problem:?}");
    assert!(problem.policies.is_empty(), "no policy is behind it: {problem:?}");
    drop(holder);
    zone.until("the port is taken", |snapshot| problems(snapshot).is_empty()).await;
    zone.stop().await;
}
