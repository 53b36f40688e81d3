//! The calls that `kumactl` makes, command by command: what it sends, and what it needs in the answer.

use std::sync::Arc;

use axum::http::StatusCode;
use control_api::defaults::{self, DefaultsConfig};
use control_api::{ApiConfig, NoProxies};
use model::labels::Plane;
use serde_json::{Value, json};
use store::{MemoryStore, Store};

use crate::harness::{Answer, LOCAL, Server, dataplane, request, standalone, timeout};

/// A request as `kumactl` sends it.
async fn kumactl(server: &Server, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let request = request(method, path).header("accept", "application/json");
    let body = body.map(ToString::to_string).unwrap_or_default();
    server.send(request.body(body.into()).unwrap(), LOCAL).await
}

async fn populated() -> Server {
    let server = Server::start(standalone()).await;
    server.mesh("default").await;
    for (path, document) in
        [("meshtimeouts/t", timeout("default", "t", None)), ("dataplanes/d", dataplane("default", "d"))]
    {
        assert!(server.put(&format!("/meshes/default/{path}"), document).await.status.is_success());
    }
    server
}

#[tokio::test]
async fn every_command_asks_for_the_version() {
    let server = Server::start(Plane::Global).await;
    let index = kumactl(&server, "GET", "/", None).await.json();
    assert_eq!(index["product"], "Kuma");
    assert!(index["version"].as_str().unwrap().contains("preview"), "else it warns of another version");
}

#[tokio::test]
async fn apply_reads_and_writes() {
    let server = Server::start(standalone()).await;
    let mesh = json!({"type": "Mesh", "name": "default"});
    assert_eq!(kumactl(&server, "GET", "/meshes/default", None).await.status, StatusCode::NOT_FOUND);
    let created = kumactl(&server, "PUT", "/meshes/default", Some(&mesh)).await;
    assert_eq!((created.status, created.json()), (StatusCode::CREATED, json!({})));
    assert_eq!(kumactl(&server, "GET", "/meshes/default", None).await.status, StatusCode::OK);
    let updated = kumactl(&server, "PUT", "/meshes/default", Some(&mesh)).await;
    assert_eq!((updated.status, updated.json()), (StatusCode::OK, json!({})));

    let mut refused = timeout("default", "t", None);
    refused["spec"]["to"][0]["default"]["connectionTimeout"] = json!("-1s");
    let refused = kumactl(&server, "PUT", "/meshes/default/meshtimeouts/t", Some(&refused)).await;
    let told = refused.json();
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(told["title"].is_string() && told["detail"].is_string());
    let parameter = &told["invalid_parameters"][0];
    assert!(parameter["field"].as_str().unwrap().starts_with("spec.to[0]"), "{told}");
    assert!(parameter["reason"].is_string());
}

#[tokio::test]
async fn get_reads_one_and_lists() {
    let server = populated().await;
    let one = kumactl(&server, "GET", "/meshes/default/meshtimeouts/t", None).await.json();
    assert_eq!((&one["type"], &one["name"]), (&json!("MeshTimeout"), &json!("t")));
    for query in ["", "?size=&offset=", "?size=10&offset=", "?size=10&offset=0"] {
        let list =
            kumactl(&server, "GET", &format!("/meshes/default/meshtimeouts{query}"), None).await.json();
        assert_eq!((&list["total"], &list["next"]), (&json!(1), &Value::Null), "{query}");
        assert_eq!(list["items"][0]["name"], "t");
    }
}

#[tokio::test]
async fn delete_is_told_what_is_not_there() {
    let server = populated().await;
    let path = "/meshes/default/meshtimeouts/t";
    assert_eq!(kumactl(&server, "DELETE", path, None).await.status, StatusCode::OK);
    assert_eq!(kumactl(&server, "DELETE", path, None).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn inspect_reads_overviews_and_policies() {
    let server = populated().await;
    let path = "/meshes/default/dataplanes/_overview?gateway=false&ingress=false&tag=";
    let list = kumactl(&server, "GET", path, None).await.json();
    let overview = &list["items"][0];
    assert_eq!((&overview["type"], &overview["name"]), (&json!("DataplaneOverview"), &json!("d")));
    assert!(overview["dataplane"]["networking"].is_object() && overview["dataplaneInsight"].is_object());
    let policies = kumactl(&server, "GET", "/meshes/default/dataplanes/d/_policies", None).await.json();
    assert!(policies["policies"].is_array());
    assert!(kumactl(&server, "GET", "/zones/_overview", None).await.json()["items"].is_array());
    assert!(kumactl(&server, "GET", "/mesh-insights", None).await.json()["items"].is_array());
    let path = "/meshes/default/meshtimeouts/t/_resources/dataplanes?size=10&offset=0";
    assert_eq!(kumactl(&server, "GET", path, None).await.json()["items"][0]["name"], "d");
    let path = "/meshes/default/meshtimeouts/t/dataplanes";
    let older = kumactl(&server, "GET", path, None).await.json();
    assert_eq!(older["items"][0]["dataplane"], json!({"mesh": "default", "name": "d"}), "{older}");
    let older = kumactl(&server, "GET", "/meshes/default/dataplanes/d/policies", None).await.json();
    assert_eq!(older, json!({"kind": "SidecarDataplane", "total": 0, "items": []}));
    // A slip of the client: it asks for a path that nobody serves, and reports that.
    let slip = "/meshes/default/meshtimeouts/t/-resources/dataplanes";
    assert_eq!(kumactl(&server, "GET", slip, None).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn inspect_of_a_proxy_that_is_not_connected_says_so() {
    let server = populated().await;
    for path in ["xds?include_eds=false", "stats", "clusters"] {
        let answer = kumactl(&server, "GET", &format!("/meshes/default/dataplanes/d/{path}"), None).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}: {}", answer.text);
        assert!(answer.json()["detail"].is_string());
    }
    let path = "/meshes/default/dataplanes/d/_config?shadow=false&include=";
    let answer = kumactl(&server, "GET", path, None).await;
    assert_eq!(answer.json()["title"], "Failed to fetch dataplane insight");
}

#[tokio::test]
async fn generate_posts_for_tokens() {
    let store: Store = Arc::new(MemoryStore::new());
    defaults::ensure(&store, &Plane::Global, &DefaultsConfig::default()).await.unwrap();
    let server = Server::over(store, Plane::Global, ApiConfig::default(), Arc::new(NoProxies)).await;
    for (path, body) in [
        (
            "/tokens/dataplane",
            json!({"mesh": "default", "name": "d", "tags": {}, "type": "", "validFor": "1h"}),
        ),
        ("/tokens/zone", json!({"zone": "east", "scope": [], "validFor": "1h"})),
        ("/tokens/user", json!({"name": "jane", "groups": ["team"], "validFor": "1h"})),
    ] {
        let answer = kumactl(&server, "POST", path, Some(&body)).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
        assert_eq!(answer.text.split('.').count(), 3, "a token: {}", answer.text);
    }
}

#[tokio::test]
async fn export_reads_every_kind_in_both_formats() {
    let server = Server::with(standalone(), ApiConfig::default(), Arc::new(NoProxies)).await;
    server.mesh("default").await;
    server.put("/meshes/default/meshtimeouts/t", timeout("default", "t", None)).await;
    let kinds = kumactl(&server, "GET", "/_resources", None).await.json();
    assert!(kumactl(&server, "GET", "/meshes", None).await.json()["items"].is_array());
    for kind in kinds["resources"].as_array().unwrap() {
        for field in ["name", "path", "scope"] {
            assert!(kind[field].is_string(), "{kind}");
        }
        assert!(kind["includeInFederation"].is_boolean() && kind["readOnly"].is_boolean(), "{kind}");
        let path = kind["path"].as_str().unwrap();
        let list = match kind["scope"].as_str() {
            Some("Mesh") => format!("/meshes/default/{path}?size=100&offset=0"),
            _ => format!("/{path}?size=100&offset=0"),
        };
        let items = kumactl(&server, "GET", &list, None).await.json();
        for item in items["items"].as_array().unwrap_or_else(|| panic!("{list}")) {
            let name = item["name"].as_str().unwrap();
            let one =
                list.replace("?size=100&offset=0", &format!("/{name}?format=k8s&namespace=kuma-system"));
            let document = kumactl(&server, "GET", &one, None).await.json();
            assert_eq!(document["metadata"]["name"], name, "{one}: {document}");
        }
    }
}
