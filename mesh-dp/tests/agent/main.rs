//! The shipped binary against a small control plane and a real Envoy.
//!
//! Envoy is taken from `ISTHMUS_ENVOY`, or from `.tools/envoy/envoy` of the workspace.

#![expect(clippy::unwrap_used, reason = "a test program: clippy sees only the test functions as tests")]

mod support;
mod transparent_proxy;

use nix::sys::signal::Signal;
use support::{Agent, ControlPlane, Reply, eventually, is_running};

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_recovers_and_drains() {
    let control_plane = ControlPlane::start(vec![Reply::UnknownDataplane, Reply::Bootstrap]);
    let dns = support::free_port();
    let mut agent = Agent::start(&control_plane, &["--dns-port", &dns.to_string(), "--drain-time", "5s"]);

    let request = control_plane.request().await;
    assert_eq!(request["name"], "web-1");
    assert_eq!(request["dataplaneToken"], "the-token");
    assert_eq!(request["dnsPort"], dns);
    assert_eq!(request["operatingSystem"], "linux");
    assert!(request["version"]["envoy"]["build"].as_str().unwrap().contains("/1."));
    let resource: serde_json::Value =
        serde_json::from_str(request["dataplaneResource"].as_str().unwrap()).unwrap();
    assert_eq!(resource["networking"]["address"], "127.0.0.9");
    let workdir = std::path::PathBuf::from(request["workdir"].as_str().unwrap());

    let ready = support::url(&request);
    eventually("ready", || support::is_ready(ready)).await;
    assert!(support::resolve(dns, "backend.mesh").await.contains("10.9.8.7"));

    let first = agent.envoy_pid(1).await;
    support::signal(first, Signal::SIGKILL);
    let second = agent.envoy_pid(2).await;
    assert_ne!(first, second);
    eventually("ready again", || support::is_ready(ready)).await;

    agent.signal(Signal::SIGTERM);
    let status = agent.wait().await;
    assert!(status.success(), "{status}\n{}", agent.log());
    assert!(!is_running(second));
    assert!(!workdir.exists());
    assert!(agent.log().contains("drained"), "{}", agent.log());
    assert!(!agent.log().contains("the-token"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_leaves_no_envoy_behind() {
    let control_plane = ControlPlane::start(vec![Reply::Bootstrap]);
    let folder = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(&control_plane, &["--workdir", folder.path().to_str().unwrap()]);
    let ready = support::url(&control_plane.request().await);
    eventually("ready", || support::is_ready(ready)).await;
    let envoy = agent.envoy_pid(1).await;
    agent.signal(Signal::SIGKILL);
    agent.wait().await;
    eventually("Envoy gone", || async { !is_running(envoy) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_given_folder_is_kept_and_emptied_and_a_second_signal_does_not_wait() {
    let control_plane = ControlPlane::start(vec![Reply::Bootstrap]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let mut agent = Agent::start(&control_plane, &["--workdir", path, "--drain-time", "1h"]);
    let request = control_plane.request().await;
    let ready = support::url(&request);
    eventually("ready", || support::is_ready(ready)).await;
    let envoy = agent.envoy_pid(1).await;
    // A connection that stays: without the second signal, draining would take the hour.
    let application = support::connect(folder.path()).await;
    agent.signal(Signal::SIGTERM);
    eventually("terminating", || async { support::status(ready).await == Some(503) }).await;
    eventually("draining", || async { agent.log().contains("draining") }).await;
    assert!(is_running(envoy));
    agent.signal(Signal::SIGINT);
    let status = agent.wait().await;
    assert!(status.success(), "{status}\n{}", agent.log());
    assert!(!is_running(envoy));
    let left = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["app.sock"], "only what the bootstrap asked Envoy for");
    drop(application);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stands_in_for_kuma_dp_with_its_environment() {
    let control_plane = ControlPlane::start(vec![Reply::Bootstrap]);
    let dns = support::free_port();
    let mut agent = Agent::start_as_peer(
        &control_plane,
        &[
            ("KUMA_DATAPLANE_RUNTIME_RESOURCE", "type: Dataplane\nname: web-2\nmesh: default"),
            ("KUMA_DATAPLANE_RUNTIME_TOKEN", "the-token"),
            ("KUMA_DATAPLANE_RUNTIME_CONCURRENCY", "1"),
            ("KUMA_DATAPLANE_RUNTIME_TRANSPARENT_PROXY", "true"),
            ("KUMA_TRANSPARENT_PROXY_REDIRECT_INBOUND_PORT", "15106"),
            ("KUMA_DNS_PROXY_PORT", &dns.to_string()),
            ("KUMA_DATAPLANE_DRAIN_TIME", "1h"),
            ("KUMA_DATAPLANE_RUNTIME_SPIRE_SUPPORTED", "false"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"),
            ("HOST_IP", "10.0.0.1"),
        ],
    );
    let request = control_plane.request().await;
    assert_eq!((&request["name"], &request["dataplaneToken"]), (&"web-2".into(), &"the-token".into()));
    assert_eq!(request["caCert"], control_plane.ca);
    assert_eq!(request["dataplaneConfig"]["redirect"]["inbound"]["port"], 15106);
    assert_eq!(request["dataplaneConfig"]["redirect"]["outbound"]["port"], 15001);
    assert_eq!(request["otelEnv"]["shared"]["endpoint"], true);
    assert_eq!(request["dynamicMetadata"]["hostIP"], "10.0.0.1");
    let features = request["features"].as_array().unwrap();
    assert!(features.contains(&"feature-transparent-proxy-in-dataplane-metadata".into()), "{features:?}");
    eventually("ready", || support::is_ready(support::url(&request))).await;
    assert!(support::resolve(dns, "backend.mesh").await.contains("10.9.8.7"));
    assert!(agent.log().contains("KUMA_DATAPLANE_RUNTIME_SPIRE_SUPPORTED"), "{}", agent.log());

    // After the listeners have drained, nobody waits for the hour.
    agent.signal(Signal::SIGUSR2);
    eventually("drained listeners", || async { agent.log().contains("the listeners of Envoy drain") }).await;
    agent.signal(Signal::SIGTERM);
    let status = agent.wait().await;
    assert!(status.success(), "{status}\n{}", agent.log());
    assert!(!agent.log().contains("the-token"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_final_and_told_in_the_servers_words() {
    let control_plane = ControlPlane::start(vec![Reply::Refusal]);
    let mut agent = Agent::start(&control_plane, &[]);
    assert!(!agent.wait().await.success());
    assert!(
        agent.log().contains("mesh \\\"default\\\" does not exist")
            || agent.log().contains("mesh \"default\" does not exist"),
        "{}",
        agent.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impostor_gets_no_token() {
    let control_plane = ControlPlane::start(vec![Reply::Bootstrap]);
    let other = ControlPlane::start(vec![Reply::Bootstrap]);
    let mut agent = Agent::start_trusting(&control_plane, &other.fingerprint, &[]);
    assert!(!agent.wait().await.success());
    assert!(agent.log().contains("not trusted"), "{}", agent.log());
    assert!(control_plane.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_cannot_work_is_given_up_with_its_own_words() {
    let control_plane = ControlPlane::start(vec![Reply::BrokenBootstrap]);
    let mut agent = Agent::start(&control_plane, &[]);
    assert!(!agent.wait().await.success());
    let log = agent.log();
    assert!(log.contains("giving up"), "{log}");
    assert!(log.contains("no_such_field"), "{log}");
}
