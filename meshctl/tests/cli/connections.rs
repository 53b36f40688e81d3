//! How the control plane is found, trusted and remembered, and what is said when it is not there.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use auth::pki::{Authority, Validity};
use runtime::tls::{Fingerprint, fixed_certificate, server_config};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::fake::Fake;
use crate::run::Home;

/// A control plane with a certificate for 127.0.0.1, and the PEM of its authority.
fn secure() -> (Fake, String) {
    runtime::tls::install_provider();
    let validity = Validity::starting(time::OffsetDateTime::now_utc(), Duration::from_secs(3600)).unwrap();
    let ca = Authority::generate("test", None, validity).unwrap();
    let issued = ca.issue_server("cp", &["127.0.0.1".to_owned()], validity).unwrap();
    let certificate = fixed_certificate(&issued.chain_pem, issued.key.expose()).unwrap();
    (Fake::start_tls(server_config(certificate, None).unwrap()), ca.certificate_pem().to_owned())
}

#[tokio::test]
async fn https_wants_an_authority_that_is_trusted() {
    let ((cp, ca), home) = (secure(), Home::new());
    let (_, other) = secure();
    let trusted = home.file("ca.pem", &ca).display().to_string();
    let stranger = home.file("other.pem", &other).display().to_string();
    let get = format!("get meshes {}", cp.flag());
    assert!(home.run(&format!("{get} --ca-file {trusted}")).await.success);
    assert!(home.run(&format!("{get} --skip-verify")).await.success);
    for (pem, is_trusted) in [(&ca, true), (&other, false)] {
        let pin = Fingerprint::of_pem(pem).unwrap();
        assert_eq!(home.run(&format!("{get} --ca-fingerprint {pin}")).await.success, is_trusted);
    }
    cp.seen();
    let ended = home.run_with(&format!("{get} --ca-file {stranger}"), &[("ISTHMUS_TOKEN", "hush")], "").await;
    assert!(!ended.success && ended.err.contains("is not trusted"), "{ended:?}");
    assert!(ended.err.contains("--ca-file") && !ended.err.contains("hush"), "{ended:?}");
    assert!(cp.seen().is_empty(), "the token did not travel");
    let ended = home.run(&format!("{get} --ca-file none.pem")).await;
    assert!(ended.err.contains("cannot set up TLS: cannot read none.pem"), "{ended:?}");
}

#[tokio::test]
async fn nobody_there_is_explained() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    home.file("m.yaml", "type: Mesh\nname: a\n---\ntype: Mesh\nname: b\n");
    for line in ["get meshes", "status", "delete mesh a b", "apply -f m.yaml"] {
        let ended = home.run(&format!("{line} --address http://{address}")).await;
        assert!(!ended.success && ended.out.is_empty(), "{ended:?}");
        let told = format!("nothing answers at http://{address} (Connection refused");
        assert!(ended.err.contains(&told) && ended.err.contains("global-cp run"), "{ended:?}");
        assert_eq!(ended.err.matches("nothing answers").count(), 1, "once is enough: {ended:?}");
    }
    let ended = home.run("get meshes --address 127.0.0.1:5681").await;
    assert!(ended.err.contains("expected http://host:port"), "{ended:?}");
}

#[tokio::test]
async fn a_stranger_at_the_port_is_noticed() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let line = format!("get meshes --address http://{address}");
    let stranger = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 64];
        let _ = stream.read(&mut request).await.unwrap();
        stream.write_all(b"220 mail.example ESMTP\r\n").await.unwrap();
    };
    let (ended, ()) = tokio::join!(home.run(&line), stranger);
    assert!(!ended.success && ended.err.contains("does not answer as a control plane does"), "{ended:?}");
}

#[tokio::test]
async fn connections_that_end_after_each_answer_are_made_again() {
    let (cp, home) = (Fake::start(), Home::new());
    cp.close_connections();
    home.file("m.yaml", "type: Mesh\nname: a\n---\ntype: Mesh\nname: b\n");
    assert_eq!(home.ok(&format!("apply -f m.yaml {}", cp.flag())).await, "Mesh a created\nMesh b created\n");
}

#[tokio::test]
async fn connections_that_end_unannounced_are_made_again() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let line = format!("status --address http://{}", listener.local_addr().unwrap());
    let hasty = async {
        let list = r#"{"items": []}"#;
        for body in ["{}", list, list, list] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        std::future::pending().await
    };
    let ended = tokio::select! {
        ended = home.run(&line) => ended,
        () = hasty => unreachable!("it serves until the program ends"),
    };
    assert!(ended.success && ended.out.contains("No zones"), "{ended:?}");
}

#[tokio::test]
async fn control_planes_are_remembered_for_their_owner_only() {
    let (east, west, home) = (Fake::start(), Fake::start(), Home::new());
    let add = |name: &str, cp: &Fake| format!("config control-planes add --name {name} {}", cp.flag());
    home.ok(&format!("{} --token stored-hush", add("east", &east))).await;
    home.file("west.token", "west-hush");
    home.ok(&format!("{} --token-file west.token", add("west", &west))).await;
    let path = home.path().join(".config/meshctl/config.yaml");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(&path).unwrap().contains("stored-hush"));

    let list = home.ok("config control-planes list").await;
    assert!(list.lines().any(|line| line.starts_with("*         west")), "{list}");
    let view = home.ok("config view").await;
    assert!(view.contains(&east.url()) && view.contains("*****"), "{view}");
    assert!(!view.contains("hush") && !list.contains("hush"));

    east.seen();
    west.seen();
    home.ok("get meshes").await;
    assert_eq!(west.seen()[0].authorization.as_deref(), Some("Bearer west-hush"));
    home.ok("config control-planes switch east").await;
    home.ok("get meshes").await;
    assert_eq!(east.seen()[0].authorization.as_deref(), Some("Bearer stored-hush"));
    home.ok(&format!("get meshes {}", west.flag())).await;
    assert_eq!(west.seen()[0].authorization, None, "a token goes only to its own control plane");
    home.ok("get meshes --control-plane west").await;
    assert_eq!(west.seen()[0].authorization.as_deref(), Some("Bearer west-hush"));

    let ended = home.run(&add("east", &east)).await;
    assert!(!ended.success && ended.err.contains("--overwrite"), "{ended:?}");
    let ended = home.run("config control-planes switch none").await;
    assert!(ended.err.contains(r#"known are ["east", "west"]"#), "{ended:?}");
    home.ok("config control-planes remove east").await;
    assert!(!std::fs::read_to_string(&path).unwrap().contains("stored-hush"));
}

#[tokio::test]
async fn only_control_planes_are_remembered() {
    let (cp, home) = (Fake::start(), Home::new());
    cp.put("/", json!({"product": "Other"}));
    let line = format!("config control-planes add --name a {}", cp.flag());
    let ended = home.run(&line).await;
    assert!(!ended.success && ended.err.contains("it is no control plane"), "{ended:?}");
    home.ok(&format!("{line} --no-check")).await;
    cp.put("/", json!({"product": "Kuma"}));
    cp.play("GET /who-am-i", 401, r#"{"title": "Invalid authentication data"}"#);
    let ended = home.run(&format!("{line} --overwrite --token wrong")).await;
    assert!(!ended.success && ended.err.contains("Invalid authentication data"), "{ended:?}");
    let elsewhere = home.path().join("xdg").display().to_string();
    let env = [("XDG_CONFIG_HOME", elsewhere.as_str())];
    let ended = home.run_with("config control-planes list", &env, "").await;
    assert_eq!(ended.out.lines().count(), 1, "another folder, another configuration");
}
