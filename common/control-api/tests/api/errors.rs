//! Requests that are refused, and what the answers say.

use axum::body::Body;
use axum::http::StatusCode;
use serde_json::json;

use crate::harness::{LOCAL, Server, dataplane, federated, request, standalone, timeout};

#[tokio::test]
async fn the_document_has_its_keys_in_order() {
    let server = Server::start(standalone()).await;
    let answer = server.get("/meshes/none/dataplanes").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(
        answer.text,
        "{\n \"type\": \"/std-errors\",\n \"status\": 404,\n \"title\": \"Failed to retrieve Mesh\",\n \"detail\": \"Not found\",\n \"details\": \"Not found\"\n}\n"
    );
}

#[tokio::test]
async fn an_unknown_mesh_or_kind_is_refused_for_every_verb() {
    let server = Server::start(standalone()).await;
    for method in ["GET", "PUT", "DELETE"] {
        let answer =
            server.call(method, "/meshes/none/dataplanes/a", dataplane("none", "a").to_string()).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(answer.json()["title"], "Failed to retrieve Mesh", "{method}");
    }
    server.mesh("default").await;
    for path in
        ["/meshes/default/deployments/a", "/deployments/a", "/deployments", "/dataplanes/a", "/a/b/c/d/e"]
    {
        let answer = server.get(path).await;
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (StatusCode::NOT_FOUND, "404: Page Not Found"),
            "{path}"
        );
    }
    let answer = server.call("POST", "/meshes/default", "{}").await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_document_of_another_kind_is_refused() {
    let server = Server::start(standalone()).await;
    server.mesh("default").await;
    let answer = server.put("/meshes/default/dataplanes/a", timeout("default", "a", None)).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let answer = server.put("/meshes/default/meshtimeouts/a", dataplane("default", "a")).await;
    assert_eq!(
        answer.json()["invalid_parameters"],
        json!([{"field": "", "reason": "type in body should be one of [MeshTimeout]"}])
    );
}

#[tokio::test]
async fn a_body_that_is_too_large_leaves_nothing_behind() {
    let server = Server::start(standalone()).await;
    server.mesh("default").await;
    let mut document = timeout("default", "big", None);
    document["spec"]["padding"] = json!("x".repeat(20 << 20));
    let answer = server.put("/meshes/default/meshtimeouts/big", document).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.json()["status"], 413);
    assert_eq!(server.get("/meshes/default/meshtimeouts/big").await.status, StatusCode::NOT_FOUND);
    let answer = server.put("/meshes/default/meshtimeouts/big", timeout("default", "big", None)).await;
    assert_eq!(answer.status, StatusCode::CREATED, "the server goes on");
}

#[tokio::test]
async fn malformed_json_says_what_and_where() {
    let server = Server::start(standalone()).await;
    server.mesh("default").await;
    let detail = async |body: &'static str| {
        let answer = server.call("PUT", "/meshes/default/dataplanes/a", body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        answer.json()["detail"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        detail("{\"type\": \"Dataplane\" \"name\"}").await,
        "invalid Dataplane object: \"invalid character '\\\"' after object key:value pair\""
    );
    let wrong = r#"{"type": "Dataplane", "name": "a", "mesh": "default", "networking": {"inbound": [{"port": "x"}]}}"#;
    let text = detail(wrong).await;
    assert!(text.starts_with("invalid Dataplane object: \"networking.inbound[0].port: "), "{text}");
}

#[tokio::test]
async fn values_of_the_wrong_shape_are_named_by_field() {
    let server = Server::start(standalone()).await;
    server.mesh("default").await;
    let document =
        json!({"type": "MeshService", "name": "a", "mesh": "default", "spec": {"ports": [{"port": "x"}]}});
    let answer = server.put("/meshes/default/meshservices/a", document).await;
    assert_eq!(answer.json()["title"], "Could not process a resource");
    assert_eq!(answer.json()["causes"][0]["field"], "spec.ports[0].port");
    let mut document = dataplane("default", "a");
    document["networking"]["inbound"][0]["port"] = json!(0);
    let answer = server.put("/meshes/default/dataplanes/a", document).await;
    assert_eq!(answer.json()["causes"][0]["field"], "networking.inbound[0].port");
}

#[tokio::test]
async fn only_json_is_taken() {
    let server = Server::start(standalone()).await;
    let mut yaml = request("PUT", "/meshes/default").body(Body::from("type: Mesh")).unwrap();
    yaml.headers_mut().insert("content-type", "application/yaml".parse().unwrap());
    assert_eq!(server.send(yaml, crate::harness::LOCAL).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let mut with_charset =
        request("PUT", "/meshes/default").body(Body::from(r#"{"type": "Mesh", "name": "default"}"#)).unwrap();
    let media = "application/json; charset=utf-8".parse().unwrap();
    with_charset.headers_mut().insert("content-type", media);
    assert_eq!(server.send(with_charset, crate::harness::LOCAL).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn who_takes_no_json_gets_none() {
    let server = Server::start(standalone()).await;
    let ask = async |path: &str, accept: &str| {
        let request = request("GET", path).header("accept", accept).body(Body::empty()).unwrap();
        server.send(request, LOCAL).await
    };
    for accept in ["text/html", "application/yaml", "application/json;q=0"] {
        let answer = ask("/meshes", accept).await;
        assert_eq!(answer.status, StatusCode::NOT_ACCEPTABLE, "{accept}");
        assert_eq!(answer.text, "406: Not Acceptable");
    }
    for accept in ["*/*", "application/*", "text/html, application/json"] {
        assert_eq!(ask("/meshes", accept).await.status, StatusCode::OK, "{accept}");
    }
    assert_eq!(ask("/docs", "text/html").await.status, StatusCode::OK);
}

#[tokio::test]
async fn each_plane_writes_only_what_is_its_own() {
    let global = Server::start(model::labels::Plane::Global).await;
    global.mesh("default").await;
    let answer = global.put("/meshes/default/dataplanes/a", dataplane("default", "a")).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.json()["title"], "Method not allowed");
    assert_eq!(global.delete("/meshes/default/meshservices/a").await.status, StatusCode::METHOD_NOT_ALLOWED);
    let answer = global.put("/meshes/default/meshtimeouts/a", timeout("default", "a", Some("zone"))).await;
    assert_eq!(answer.json()["causes"][0]["message"], "the origin label must be set to 'global'");

    let zone = Server::start(federated()).await;
    let mesh = json!({"type": "Mesh", "name": "default"});
    assert_eq!(zone.put("/meshes/default", mesh).await.status, StatusCode::METHOD_NOT_ALLOWED);
    for path in ["/zone-insights/a", "/mesh-insights/a"] {
        assert_eq!(zone.delete(path).await.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
}

#[tokio::test]
async fn what_the_global_wrote_stays_as_it_is_in_a_zone() {
    let server = Server::start(federated()).await;
    let mesh = model::Resource::builder(model::Key::global(model::Kind::MESH, "default")).build();
    let key = model::Key::new(model::Kind::MESH_TIMEOUT, "default", "synced");
    let synced = model::Resource::builder(key).label("kuma.io/origin", "global").build();
    server.store.commit(vec![store::Op::create(mesh), store::Op::create(synced)]).await.unwrap();
    for _ in 0..2 {
        let path = "/meshes/default/meshtimeouts/synced";
        let claims = timeout("default", "synced", Some("zone"));
        for answer in [server.put(path, claims).await, server.delete(path).await] {
            assert_eq!(answer.status, StatusCode::BAD_REQUEST);
            let message = &answer.json()["causes"][0]["message"];
            assert_eq!(message, "the origin label must be set to 'zone'");
        }
    }
}

#[tokio::test]
async fn what_is_in_use_is_not_deleted() {
    let server = Server::start(standalone()).await;
    server.mesh("default").await;
    let answer = server.put("/meshes/default/dataplanes/a", dataplane("default", "a")).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    server.put("/meshes/default/meshtimeouts/t", timeout("default", "t", None)).await;
    let answer = server.delete("/meshes/default").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.json()["causes"][0]["field"], "mesh");
    assert_eq!(server.delete("/meshes/default/dataplanes/a").await.status, StatusCode::OK);
    assert_eq!(server.delete("/meshes/default").await.status, StatusCode::OK);
    server.mesh("default").await;
    let timeouts = server.get("/meshes/default/meshtimeouts").await.json();
    assert_eq!(timeouts["total"], 0, "what was in the mesh went with it");
}

#[tokio::test]
async fn a_connected_zone_is_not_deleted() {
    let server = Server::start(model::labels::Plane::Global).await;
    let zone = json!({"type": "Zone", "name": "east", "enabled": true});
    assert_eq!(server.put("/zones/east", zone).await.status, StatusCode::CREATED);
    let insight = |disconnected: bool| {
        let mut subscription = json!({"id": "1", "connectTime": "2026-01-01T00:00:00Z"});
        if disconnected {
            subscription["disconnectTime"] = json!("2026-01-01T00:01:00Z");
        }
        let document = json!({"type": "ZoneInsight", "name": "east", "subscriptions": [subscription]});
        model::rest::parse(&document).unwrap().resource.build()
    };
    let put = async |resource: model::Resource| {
        let op = store::Op::Put(std::sync::Arc::new(resource), store::Expect::Any);
        server.store.commit(vec![op]).await.unwrap();
        // Any write through the API waits for the index.
        server
            .put(
                "/hostnamegenerators/settle",
                json!({"type": "HostnameGenerator", "name": "settle",
            "labels": {"n": server.get("/zones").await.json()["total"].to_string()},
            "spec": {"selector": {"meshService": {}}, "template": "a"}}),
            )
            .await;
        server.delete("/hostnamegenerators/settle").await;
    };
    put(insight(false)).await;
    assert_eq!(server.delete("/zones/east").await.status, StatusCode::BAD_REQUEST);
    put(insight(true)).await;
    assert_eq!(server.delete("/zones/east").await.status, StatusCode::OK);
    assert_eq!(server.get("/zone-insights/east").await.status, StatusCode::NOT_FOUND, "goes with its zone");
}
