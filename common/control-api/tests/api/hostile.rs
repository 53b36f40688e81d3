//! Requests that are meant to hurt, or come from a program that has gone wrong: each is refused with words, and the
//! server goes on.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Answer, Server, standalone, timeout};

async fn server() -> Server {
    let server = Server::start(standalone()).await;
    server.mesh("default").await;
    server
}

/// What an answer blames, ordered as it says.
fn blamed(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text);
    let causes = answer.json()["causes"].as_array().cloned().unwrap_or_default();
    causes.iter().map(|cause| cause["field"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn depth_is_bounded() {
    let server = server().await;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        let body = format!(r#"{{"type": "MeshTimeout", "name": "a", "mesh": "default", "spec": {nested}}}"#);
        let answer = server.call("PUT", "/meshes/default/meshtimeouts/a", body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        let answer = server.call("PUT", "/meshes/default/meshtimeouts/a", nested).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    }
    let answer = server.put("/meshes/default/meshtimeouts/a", timeout("default", "a", None)).await;
    assert_eq!(answer.status, StatusCode::CREATED, "the server goes on");
}

#[tokio::test]
async fn an_alias_bomb_is_refused() {
    let server = server().await;
    let mut bomb = String::from(
        "type: MeshTimeout\nname: a\nmesh: default\nspec:\n  a0: &a0 [x, x, x, x, x, x, x, x, x]\n",
    );
    for level in 1..12 {
        let below = format!("*a{}, ", level - 1).repeat(9);
        bomb += &format!("  a{level}: &a{level} [{below}]\n");
    }
    let answer = server.call("PUT", "/meshes/default/meshtimeouts/a", bomb).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text);
    let answer = server.put("/meshes/default/meshtimeouts/a", timeout("default", "a", None)).await;
    assert_eq!(answer.status, StatusCode::CREATED, "the server goes on");
}

#[tokio::test]
async fn fields_that_are_not_known_fall_away() {
    let server = server().await;
    let mut document = timeout("default", "a", None);
    document["spec"]["later"] = json!({"a": 1});
    assert_eq!(server.put("/meshes/default/meshtimeouts/a", document).await.status, StatusCode::CREATED);
    let stored = server.get("/meshes/default/meshtimeouts/a").await.json();
    assert_eq!(stored["spec"].get("later"), None);
}

#[tokio::test]
async fn the_last_of_two_equal_keys_counts() {
    let server = server().await;
    let body = r#"{"type": "MeshService", "name": "a", "mesh": "default",
        "spec": {"ports": [{"port": 1, "port": 80}]}}"#;
    let answer = server.call("PUT", "/meshes/default/meshservices/a", body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let stored = server.get("/meshes/default/meshservices/a").await.json();
    assert_eq!(stored["spec"]["ports"][0]["port"], 80);
}

#[tokio::test]
async fn names_are_bounded_and_ascii() {
    let server = server().await;
    let long = "a".repeat(10_000);
    for (name, in_path) in
        [(long.as_str(), long.as_str()), ("ünïcode", "%C3%BCn%C3%AFcode"), ("a b", "a%20b"), ("A", "A")]
    {
        let path = format!("/meshes/default/meshtimeouts/{in_path}");
        let answer = server.put(&path, timeout("default", name, None)).await;
        assert_eq!(blamed(&answer), ["name"], "{in_path}");
        assert_eq!(server.get(&path).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn paths_do_not_climb() {
    let server = server().await;
    for name in ["..%2f..%2fzones", "..%2F..%2F..%2Fetc%2Fpasswd", "%2e%2e", "..", "a%00b", "%ff"] {
        let path = format!("/meshes/default/meshtimeouts/{name}");
        let answer = server.get(&path).await;
        assert!(answer.status.is_client_error(), "{name}: {}", answer.status);
        let answer = server.put(&path, timeout("default", "a", None)).await;
        assert!(answer.status.is_client_error(), "{name}: {}", answer.status);
    }
    assert_eq!(server.get("/meshes/default/meshtimeouts").await.json()["total"], 0);
}

#[tokio::test]
async fn a_page_past_the_end_is_empty_and_a_bad_one_is_refused() {
    let server = server().await;
    let answer = server.get("/meshes?offset=1000000&size=10").await;
    assert!(!answer.status.is_server_error(), "{}", answer.text);
    if answer.status.is_success() {
        assert_eq!(answer.json()["items"], json!([]));
    }
    for query in ["size=-1", "size=99999999999999999999999", "size=x", "offset=-1", "offset=%00"] {
        let answer = server.get(&format!("/meshes?{query}")).await;
        assert!(!answer.status.is_server_error(), "{query}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_document_says_what_its_path_says() {
    let server = server().await;
    let path = "/meshes/default/meshtimeouts/a";
    assert_eq!(blamed(&server.put(path, timeout("default", "b", None)).await), ["name"]);
    assert_eq!(blamed(&server.put(path, timeout("other", "a", None)).await), ["mesh"]);
    assert_eq!(blamed(&server.put(path, timeout("other", "b", None)).await), ["name", "mesh"]);
}

/// Values that no field of any kind can be content with, besides those of its own type.
fn odd() -> [Value; 9] {
    [
        Value::Null,
        json!([]),
        json!([null]),
        json!({}),
        json!({"a": null}),
        json!("\u{0}\u{202e}x"),
        json!(-1),
        json!(1e308),
        json!(u64::MAX),
    ]
}

#[tokio::test]
async fn odd_values_are_never_an_error_of_ours() {
    let server = server().await;
    let kinds = server.get("/_resources").await.json();
    let mut asked = 0;
    for kind in kinds["resources"].as_array().unwrap() {
        let (name, path) = (kind["name"].as_str().unwrap(), kind["path"].as_str().unwrap());
        let (path, mesh) = match kind["scope"].as_str() {
            Some("Mesh") => (format!("/meshes/default/{path}/odd"), Some("default")),
            _ => (format!("/{path}/odd"), None),
        };
        let fields = [
            "type",
            "mesh",
            "name",
            "labels",
            "spec",
            "status",
            "networking",
            "data",
            "config",
            "enabled",
            "constraints",
            "subscriptions",
        ];
        for (field, value) in fields.iter().flat_map(|field| odd().map(|value| (field, value))) {
            let mut document = json!({"type": name, "name": "odd"});
            if let Some(mesh) = mesh {
                document["mesh"] = json!(mesh);
            }
            document[*field] = value;
            let answer = server.put(&path, document.clone()).await;
            assert!(!answer.status.is_server_error(), "{document}: {}", answer.text);
            asked += 1;
        }
    }
    assert!(asked > 1000, "{asked}");
}

#[tokio::test]
async fn fields_of_a_spec_that_are_null_are_never_an_error_of_ours() {
    let server = server().await;
    let kinds = server.get("/_resources").await.json();
    for kind in kinds["resources"].as_array().unwrap() {
        let Some(known) = model::Kind::by_name(kind["name"].as_str().unwrap()) else { continue };
        let Some(typed) = known.json() else { continue };
        let schema = (typed.schema)().to_value();
        let fields = schema["properties"].as_object().cloned().unwrap_or_default();
        let path = kind["path"].as_str().unwrap();
        let path =
            if known.is_mesh_scoped() { format!("/meshes/default/{path}/a") } else { format!("/{path}/a") };
        for (field, value) in fields.keys().flat_map(|field| odd().map(|value| (field, value))) {
            let document =
                json!({"type": known.name, "name": "a", "mesh": "default", "spec": {(field): value}});
            let answer = server.put(&path, document.clone()).await;
            assert!(!answer.status.is_server_error(), "{document}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn numbers_that_overflow_are_refused() {
    let server = server().await;
    for port in ["1e400", "4294967376", "18446744073709551616", "-1", "80.5", "1e2000000000"] {
        let body = format!(
            r#"{{"type": "MeshService", "name": "a", "mesh": "default", "spec": {{"ports": [{{"port": {port}}}]}}}}"#
        );
        let answer = server.call("PUT", "/meshes/default/meshservices/a", body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{port}: {}", answer.text);
        let body = format!(
            r#"{{"type": "Dataplane", "name": "a", "mesh": "default",
                "networking": {{"address": "127.0.0.1", "inbound": [{{"port": {port}}}]}}}}"#
        );
        let answer = server.call("PUT", "/meshes/default/dataplanes/a", body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{port}: {}", answer.text);
    }
}

#[tokio::test]
async fn expressions_that_explode_are_refused() {
    let server = server().await;
    let document = |expression: &str| {
        json!({"type": "MeshHTTPRoute", "name": "a", "mesh": "default", "spec": {
            "targetRef": {"kind": "Mesh"},
            "to": [{
                "targetRef": {"kind": "MeshService", "labels": {"a": "b"}},
                "rules": [{
                    "matches": [{"path": {"type": "RegularExpression", "value": expression}}],
                    "default": {},
                }],
            }],
        }})
    };
    let path = "/meshes/default/meshhttproutes/a";
    for expression in ["((a{1000}){1000}){1000}", "(", "(?<x"] {
        let answer = server.put(path, document(expression)).await;
        assert_eq!(blamed(&answer), ["spec.to[0].rules[0].matches[0].path.value"], "{expression}");
    }
    assert_eq!(server.put(path, document("/a(b|c)+")).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn everything_wrong_is_said_at_once() {
    let server = server().await;
    let document = json!({"type": "MeshExternalService", "name": "a", "mesh": "default", "spec": {
        "match": {"type": "HostnameGenerator", "port": 443, "protocol": "http"},
        "endpoints": [{"address": "not a host", "port": 443}],
        "tls": {"verification": {"caCert": {"type": "Secret"}, "serverName": "a_b"}},
    }});
    let answer = server.put("/meshes/default/meshexternalservices/a", document).await;
    assert_eq!(
        blamed(&answer),
        [
            "spec.endpoints[0].address",
            "spec.tls.verification.serverName",
            "spec.tls.verification.caCert.secretRef"
        ]
    );
}
