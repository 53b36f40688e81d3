//! Resources that are written and read.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Server, dataplane, federated, standalone, timeout};

#[tokio::test]
async fn a_second_write_is_an_update_that_keeps_the_creation_time() {
    let server = Server::start(standalone()).await;
    server.mesh("default").await;
    let path = "/meshes/default/meshtimeouts/t";
    let mut document = timeout("default", "t", None);
    assert_eq!(server.put(path, document.clone()).await.status, StatusCode::CREATED);
    let first = server.get(path).await.json();
    assert_eq!(first["labels"]["kuma.io/display-name"], "t");
    assert_eq!(first["kri"], "kri_mt_default_default__t_");

    assert_eq!(server.put(path, document.clone()).await.status, StatusCode::OK);
    assert_eq!(server.get(path).await.json(), first, "the same again changes nothing");

    document["spec"]["to"][0]["default"]["connectionTimeout"] = json!("9s");
    let answer = server.put(path, document).await;
    assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, "{}\n"));
    let second = server.get(path).await.json();
    assert_eq!(second["creationTime"], first["creationTime"]);
    assert_ne!(second["modificationTime"], first["modificationTime"]);
    assert_eq!(second["spec"]["to"][0]["default"]["connectionTimeout"], "9s");

    assert_eq!(server.delete(path).await.status, StatusCode::OK);
    assert_eq!(server.get(path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.delete(path).await.json()["title"], "Could not delete a resource");
}

#[tokio::test]
async fn writers_of_one_resource_do_not_undo_each_other() {
    let server = Server::start(standalone()).await;
    server.mesh("default").await;
    let writes = (0..8).map(|at| {
        let mut document = timeout("default", "t", None);
        document["labels"] = json!({"writer": at.to_string()});
        server.put("/meshes/default/meshtimeouts/t", document)
    });
    let answers = futures::future::join_all(writes).await;
    let created = answers.iter().filter(|answer| answer.status == StatusCode::CREATED).count();
    assert_eq!(created, 1, "the others are updates");
    assert!(answers.iter().all(|answer| answer.status.is_success()));
}

#[tokio::test]
async fn every_kind_can_be_listed() {
    let server = Server::start(standalone()).await;
    server.mesh("default").await;
    let resources = server.get("/_resources").await.json();
    let resources = resources["resources"].as_array().unwrap();
    assert_eq!(resources.len(), 34);
    for resource in resources {
        let path = resource["path"].as_str().unwrap();
        assert_eq!(server.get(&format!("/{path}")).await.status, StatusCode::OK, "{path}");
        if resource["scope"] == "Mesh" {
            let answer = server.get(&format!("/meshes/default/{path}")).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}");
        }
    }
    let policies = server.get("/policies").await.json();
    assert_eq!(policies["policies"].as_array().unwrap().len(), 16);
}

#[tokio::test]
async fn misspelt_fields_are_taken_with_a_warning() {
    let server = Server::start(standalone()).await;
    server.mesh("default").await;
    let warnings = async |path: &str, document: Value| -> Vec<String> {
        let answer = server.put(path, document).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        let values = answer.headers.get_all("warning").iter();
        values.map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    let mut document = dataplane("default", "a");
    document["networking"]["adminn"] = json!({});
    assert_eq!(
        warnings("/meshes/default/dataplanes/a", document).await,
        [r#"299 - "unknown field \"networking.adminn\" is ignored; did you mean \"admin\"?""#]
    );
    let document = json!({"type": "MeshService", "mesh": "default", "name": "s", "label": {},
        "spec": {"ports": [{"port": 80, "targetport": 8080}]}});
    let found = warnings("/meshes/default/meshservices/s", document).await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("did you mean \\\"targetPort\\\"?"), "{found:?}");
    assert!(found[1].contains("did you mean \\\"labels\\\"?"), "{found:?}");
    assert!(warnings("/meshes/default/dataplanes/b", dataplane("default", "b")).await.is_empty());
}

#[tokio::test]
async fn a_new_mesh_gets_its_key_and_policies() {
    let server = Server::start(standalone()).await;
    let mesh = json!({"type": "Mesh", "name": "m", "skipCreatingInitialPolicies": ["MeshRetry"]});
    assert_eq!(server.put("/meshes/m", mesh.clone()).await.status, StatusCode::CREATED);
    assert_eq!(server.get("/meshes/m/secrets/dataplane-token-signing-key-m-1").await.status, StatusCode::OK);
    assert_eq!(server.get("/meshes/m/meshtimeouts").await.json()["total"], 2);
    assert_eq!(server.get("/meshes/m/meshretries").await.json()["total"], 0);
    let timeout = server.get("/meshes/m/meshtimeouts/mesh-timeout-to-all-m").await.json();
    assert_eq!(timeout["labels"]["kuma.io/display-name"], "mesh-timeout-to-all-m");
    assert_eq!(server.delete("/meshes/m/meshtimeouts/mesh-timeout-to-all-m").await.status, StatusCode::OK);
    assert_eq!(server.put("/meshes/m", mesh).await.status, StatusCode::OK);
    assert_eq!(server.get("/meshes/m/meshtimeouts").await.json()["total"], 1, "an update makes none");
}

#[tokio::test]
async fn status_is_of_controllers() {
    let server = Server::start(standalone()).await;
    server.mesh("default").await;
    let path = "/meshes/default/meshservices/s";
    let mut document = json!({"type": "MeshService", "mesh": "default", "name": "s",
        "spec": {"ports": [{"port": 80}]}, "status": {"vips": [{"ip": "1.2.3.4"}]}});
    server.put(path, document.clone()).await;
    assert_eq!(server.get(path).await.json()["status"], json!({"tls": {}, "dataplaneProxies": {}}));
    let key = model::Key::new(model::Kind::MESH_SERVICE, "default", "s");
    store::retry_conflicts(&*server.store, &key, |stored| {
        let mut builder = stored?.resource.to_builder();
        builder.status = Some(model::Payload::from_bytes(r#"{"vips":[{"ip":"241.0.0.1"}]}"#));
        Some(builder.build())
    })
    .await
    .unwrap();
    document["spec"]["ports"][0]["port"] = json!(81);
    assert_eq!(server.put(path, document).await.status, StatusCode::OK);
    let after = server.get(path).await.json();
    assert_eq!(after["status"], json!({"vips": [{"ip": "241.0.0.1"}]}));
    assert_eq!(after["spec"]["ports"][0]["port"], 81);
}

#[tokio::test]
async fn identifiers_and_formats() {
    let server = Server::start(federated()).await;
    let mesh = model::Resource::builder(model::Key::global(model::Kind::MESH, "default")).build();
    server.store.commit(vec![store::Op::create(mesh)]).await.unwrap();
    let put = server.put("/meshes/default/meshtimeouts/t", timeout("default", "t", Some("zone"))).await;
    assert_eq!(put.status, StatusCode::CREATED, "{}", put.text);
    let found = server.get("/_kri/kri_mt_default_east__t_").await;
    assert_eq!(found.json()["name"], "t");
    assert_eq!(server.get("/_kri/kri_mt_default_west__t_").await.status, StatusCode::NOT_FOUND);
    let bad = server.get("/_kri/mt_default").await.json();
    assert_eq!(bad["detail"], "bad request: invalid identifier string: \"mt_default\"");
    let kubernetes = server.get("/_kri/kri_mt_default_east__t_?format=kubernetes&namespace=ns").await.json();
    assert_eq!(kubernetes["kind"], "MeshTimeout");
    assert_eq!(kubernetes["metadata"]["namespace"], "ns");
    assert_eq!(kubernetes["metadata"]["labels"], json!({"kuma.io/mesh": "default"}));
    let bad = server.get("/meshes/default/meshtimeouts/t?format=xml").await;
    assert_eq!(bad.json()["causes"][0]["field"], "format");
}

#[tokio::test]
async fn a_dry_run_tells_what_a_write_would_do_and_does_nothing() {
    let server = Server::start(standalone()).await;
    server.mesh("default").await;
    let path = "/meshes/default/meshtimeouts/t";
    let dry_run = format!("{path}/_dry-run");
    let mut document = timeout("default", "t", None);

    let answer = server.call("POST", &dry_run, document.to_string()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let told = answer.json();
    assert_eq!((&told["outcome"], &told["brings"]), (&json!("created"), &json!([])));
    assert_eq!(told["resource"]["labels"]["kuma.io/origin"], "zone");
    assert_eq!(server.get(path).await.status, StatusCode::NOT_FOUND);

    server.put(path, document.clone()).await;
    let told = server.call("POST", &dry_run, document.to_string()).await.json();
    assert_eq!((&told["outcome"], &told["resource"]), (&json!("unchanged"), &server.get(path).await.json()));

    document["spec"]["to"][0]["default"]["connectionTimeout"] = json!("90s");
    let told = server.call("POST", &dry_run, document.to_string()).await.json();
    assert_eq!(told["outcome"], "updated");
    assert_eq!(told["resource"]["spec"]["to"][0]["default"]["connectionTimeout"], "1m30s");
    let stored = server.get(path).await.json();
    assert_eq!(stored["spec"]["to"][0]["default"]["connectionTimeout"], "5s");

    document["spec"]["to"][0]["default"]["connectionTimeout"] = json!("-1s");
    let answer = server.call("POST", &dry_run, document.to_string()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.text.contains("connectionTimeout"), "{}", answer.text);

    let mesh = json!({"type": "Mesh", "name": "next"});
    let told = server.call("POST", "/meshes/next/_dry-run", mesh.to_string()).await.json();
    assert!(
        told["brings"].as_array().unwrap().contains(&json!("MeshTimeout next/mesh-timeout-all-next")),
        "{told}"
    );
    assert_eq!(server.get("/meshes/next").await.status, StatusCode::NOT_FOUND);
    let proxy = dataplane("default", "d").to_string();
    let told = server.call("POST", "/meshes/default/dataplanes/d/_dry-run", proxy).await.json();
    assert_eq!(told["outcome"], "created");
}
