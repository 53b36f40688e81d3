//! Which policies apply where.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Server, standalone};

const PROXY: &str = "/meshes/default/dataplanes/web";

async fn mesh() -> Server {
    let server = Server::start(standalone()).await;
    server.mesh("default").await;
    for (path, document) in [
        (
            "dataplanes/web",
            json!({"type": "Dataplane", "name": "web", "labels": {"app": "web"}, "networking": {
                "address": "127.0.0.1",
                "inbound": [{"port": 8080, "name": "http", "protocol": "http"}, {"port": 9090}],
            }}),
        ),
        (
            "dataplanes/api",
            json!({"type": "Dataplane", "name": "api", "labels": {"app": "api"}, "networking": {
                "address": "127.0.0.2", "inbound": [{"port": 80}],
            }}),
        ),
        (
            "meshservices/api",
            json!({"type": "MeshService", "name": "api", "spec": {
                "selector": {"dataplaneLabels": {"matchLabels": {"app": "api"}}},
                "ports": [{"port": 80, "name": "main", "appProtocol": "http"}, {"port": 81}],
            }}),
        ),
    ] {
        put(&server, path, document).await;
    }
    server
}

async fn put(server: &Server, path: &str, mut document: Value) {
    document["mesh"] = json!("default");
    let answer = server.put(&format!("/meshes/default/{path}"), document).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
}

async fn timeout(server: &Server, name: &str, spec: Value) {
    put(server, &format!("meshtimeouts/{name}"), json!({"type": "MeshTimeout", "name": name, "spec": spec}))
        .await;
}

#[tokio::test]
async fn the_layout_of_a_proxy() {
    let server = mesh().await;
    let layout = server.get(&format!("{PROXY}/_layout")).await.json();
    assert_eq!(layout["inbounds"][0]["kri"], "kri_dp_default_default__web_http");
    assert_eq!(layout["inbounds"][1]["proxyResourceName"], "self_inbound_dp_9090");
    let outbounds: Vec<_> =
        layout["outbounds"].as_array().unwrap().iter().map(|one| one["kri"].clone()).collect();
    assert_eq!(outbounds, ["kri_msvc_default_default__api_81", "kri_msvc_default_default__api_main"]);
    assert_eq!(server.get("/meshes/default/dataplanes/none/_layout").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn policies_of_inbounds_and_outbounds() {
    let server = mesh().await;
    timeout(
        &server,
        "all",
        json!({"to": [{"targetRef": {"kind": "Mesh"}, "default": {"idleTimeout": "60s"}}]}),
    )
    .await;
    let service =
        json!({"kind": "MeshService", "labels": {"kuma.io/display-name": "api"}, "sectionName": "main"});
    timeout(&server, "one", json!({"to": [{"targetRef": service, "default": {"connectionTimeout": "1s"}}]}))
        .await;
    let section = json!({"kind": "Dataplane", "labels": {"app": "web"}, "sectionName": "http"});
    timeout(&server, "in", json!({"targetRef": section, "rules": [{"default": {"idleTimeout": "1h"}}]}))
        .await;
    timeout(
        &server,
        "other",
        json!({"targetRef": {"kind": "Dataplane", "labels": {"app": "api"}},
        "rules": [{"default": {"idleTimeout": "2h"}}]}),
    )
    .await;

    let main =
        server.get(&format!("{PROXY}/_outbounds/kri_msvc_default_default__api_main/_policies")).await.json();
    assert_eq!(
        main["policies"],
        json!([{"kind": "MeshTimeout", "conf": [{"idleTimeout": "1m0s", "connectionTimeout": "1s"}],
            "origins": [{"kri": "kri_mt_default_default__all_"}, {"kri": "kri_mt_default_default__one_"}]}])
    );
    let other =
        server.get(&format!("{PROXY}/_outbounds/kri_msvc_default_default__api_81/_policies")).await.json();
    assert_eq!(other["policies"][0]["conf"], json!([{"idleTimeout": "1m0s"}]));

    let inbound =
        server.get(&format!("{PROXY}/_inbounds/kri_dp_default_default__web_http/_policies")).await.json();
    assert_eq!(
        inbound["policies"][0]["rules"],
        json!([{"kri": "kri_mt_default_default__in_", "conf": {"idleTimeout": "1h0m0s"}}])
    );
    let inbound =
        server.get(&format!("{PROXY}/_inbounds/kri_dp_default_default__web_9090/_policies")).await.json();
    assert_eq!(inbound, json!({"policies": []}));
    for path in ["_inbounds/x/_policies", "_outbounds/x/_policies", "_outbounds/x/_routes"] {
        let answer = server.get(&format!("{PROXY}/{path}")).await;
        assert_eq!(answer.json()["detail"], "bad request: invalid identifier string: \"x\"", "{path}");
    }
    let unknown = server.get(&format!("{PROXY}/_outbounds/kri_msvc_default_default__no_80/_policies")).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);

    let rules = server.get(&format!("{PROXY}/_rules")).await.json();
    let sections: Vec<_> = rules["rules"][0]["toResourceRules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| (rule["resourceMeta"]["type"].clone(), rule["resourceSectionName"].clone()))
        .collect();
    assert_eq!(sections, [(json!("Mesh"), json!("")), (json!("MeshService"), json!("main"))]);
    assert_eq!(rules["rules"][0]["inboundRules"][0]["inbound"]["name"], "http");
}

#[tokio::test]
async fn the_routes_of_an_outbound_and_what_applies_to_them() {
    let server = mesh().await;
    let service = json!({"kind": "MeshService", "labels": {"kuma.io/display-name": "api"}});
    let rule = |path: &str, port: u32| {
        json!({"matches": [{"path": {"type": "PathPrefix", "value": path}}],
            "default": {"backendRefs": [{"kind": "MeshService", "labels": {"app": "web"}, "port": port}]}})
    };
    for (name, rules) in
        [("a", json!([rule("/x", 1), rule("/y", 2)])), ("b", json!([rule("/x", 3), rule("/z", 4)]))]
    {
        let spec = json!({"to": [{"targetRef": service, "rules": rules}]});
        put(
            &server,
            &format!("meshhttproutes/{name}"),
            json!({"type": "MeshHTTPRoute", "name": name, "spec": spec}),
        )
        .await;
    }
    let outbound = format!("{PROXY}/_outbounds/kri_msvc_default_default__api_main");
    let routes = server.get(&format!("{outbound}/_routes")).await.json();
    let shown: Vec<_> = routes["routes"][0]["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| {
            let path = rule["matches"][0]["path"]["value"].as_str().unwrap().to_owned();
            (path, rule["conf"]["backendRefs"][0]["port"].as_u64().unwrap())
        })
        .collect();
    // The smaller name has the last word.
    assert_eq!(shown, [("/x".into(), 1), ("/y".into(), 2), ("/z".into(), 4)]);

    let route = json!({"kind": "MeshHTTPRoute", "labels": {"kuma.io/display-name": "a"}});
    let times = |target: &Value, time: &str| json!({"to": [{"targetRef": target, "default": {"http": {"requestTimeout": time}}}]});
    timeout(&server, "route", times(&route, "5s")).await;
    timeout(&server, "service", times(&service, "9s")).await;
    for (route, want) in [("a", "5s"), ("b", "9s")] {
        let path = format!("{outbound}/_routes/kri_mhttpr_default_default__{route}_/_policies");
        let policies = server.get(&path).await.json();
        assert_eq!(policies["policies"][0]["conf"][0]["http"]["requestTimeout"], want, "{route}");
    }
}

#[tokio::test]
async fn the_proxies_of_a_policy_and_of_a_service() {
    let server = mesh().await;
    let target = json!({"kind": "Dataplane", "labels": {"app": "web"}});
    timeout(&server, "web", json!({"targetRef": target, "rules": [{"default": {"idleTimeout": "2h"}}]}))
        .await;
    let selected = server.get("/meshes/default/meshtimeouts/web/_resources/dataplanes").await.json();
    assert_eq!((&selected["total"], &selected["items"][0]["name"]), (&json!(1), &json!("web")));
    let serving = server.get("/meshes/default/meshservices/api/_dataplanes").await.json();
    assert_eq!((&serving["total"], &serving["items"][0]["name"]), (&json!(1), &json!("api")));
    let none = server.get("/meshes/default/meshtimeouts/none/_resources/dataplanes").await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
    assert_eq!(
        server.get("/meshes/default/meshservices/api/_resources/dataplanes").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn policies_of_a_proxy_as_a_whole() {
    let server = mesh().await;
    let spec = json!({"default": {"sampling": {"overall": 80}, "backends": []}});
    put(&server, "meshtraces/t", json!({"type": "MeshTrace", "name": "t", "spec": spec})).await;
    let policies = server.get(&format!("{PROXY}/_policies")).await.json();
    assert_eq!(policies["policies"][0]["conf"]["sampling"]["overall"], 80);
    assert_eq!(policies["policies"][0]["origins"], json!([{"kri": "kri_mtr_default_default__t_"}]));
}
