//! Lists: pages, filters, overviews.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Server, dataplane, standalone, timeout};

async fn fleet() -> Server {
    let server = Server::start(standalone()).await;
    for mesh in ["a", "b"] {
        server.mesh(mesh).await;
        for at in 0..5 {
            let name = format!("dp-{at}");
            let mut document = dataplane(mesh, &name);
            document["labels"] = json!({"app": if at % 2 == 0 { "even" } else { "odd" }});
            if at == 4 {
                let gateway = json!({"tags": {"kuma.io/service": "edge"}});
                document["networking"] = json!({"address": "127.0.0.1", "gateway": gateway});
            }
            let answer = server.put(&format!("/meshes/{mesh}/dataplanes/{name}"), document).await;
            assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        }
    }
    server
}

fn names(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap().iter();
    items
        .map(|item| format!("{}/{}", item["mesh"].as_str().unwrap(), item["name"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn following_next_sees_everything_once_in_order() {
    let server = fleet().await;
    let mut path = "/dataplanes?size=3".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = server.get(&path).await.json();
        assert_eq!(page["total"], 10);
        seen.extend(names(&page));
        match page["next"].as_str() {
            Some(next) => path = next.strip_prefix("http://localhost:5681").unwrap().to_owned(),
            None => break,
        }
    }
    let want: Vec<_> =
        ["a", "b"].iter().flat_map(|mesh| (0..5).map(move |at| format!("{mesh}/dp-{at}"))).collect();
    assert_eq!(seen, want);
    let beyond = server.get("/dataplanes?offset=50").await.json();
    assert_eq!((beyond["items"].clone(), beyond["next"].clone()), (json!([]), Value::Null));
}

#[tokio::test]
async fn filters_come_before_pages() {
    let server = fleet().await;
    for (query, want) in [
        ("filter[labels.app]=even&gateway=false", vec!["a/dp-0", "a/dp-2"]),
        ("filter%5Blabels.app%5D=odd&name=-1", vec!["a/dp-1"]),
        ("gateway=true", vec!["a/dp-4"]),
        ("gateway=delegated&tag=kuma.io/service:ed", vec!["a/dp-4"]),
        ("tag=app:od", vec!["a/dp-1", "a/dp-3"]),
        ("filter[labels.app]=even&filter[labels.app]=odd", vec![]),
    ] {
        let page = server.get(&format!("/meshes/a/dataplanes?{query}")).await.json();
        assert_eq!(names(&page), want, "{query}");
        assert_eq!(page["total"], want.len(), "{query}");
    }
    let answer = server.get("/meshes/a/dataplanes/_overview?gateway=maybe").await;
    assert_eq!(answer.json()["causes"][0]["field"], "/meshes/{mesh}/dataplanes/_overview.gateway");
    let answer = server.get("/dataplanes?filter[labels.a][eq]=b").await;
    assert_eq!(answer.json()["causes"][0]["message"], "advanced filters are not supported");
}

#[tokio::test]
async fn overviews_join_a_resource_with_its_insight() {
    let server = fleet().await;
    let insight = json!({"type": "DataplaneInsight", "mesh": "a", "name": "dp-0",
        "subscriptions": [{"id": "s", "connectTime": "2026-01-01T00:00:00Z"}]});
    let insight = model::rest::parse(&insight).unwrap().resource.build();
    server.store.commit(vec![store::Op::create(insight)]).await.unwrap();
    server.mesh("c").await;
    let one = server.get("/meshes/a/dataplanes/dp-0/_overview").await.json();
    assert_eq!(one["type"], "DataplaneOverview");
    assert_eq!(one["dataplane"]["networking"]["address"], "127.0.0.1");
    assert_eq!(one["dataplaneInsight"]["subscriptions"][0]["id"], "s");
    assert_eq!(one["kri"], "kri_dp_a_default__dp-0_");
    assert!(one.get("networking").is_none());
    for path in ["/meshes/a/dataplanes/_overview?size=2", "/meshes/a/dataplanes+insights?size=2"] {
        let list = server.get(path).await.json();
        assert_eq!((list["total"].clone(), names(&list).len()), (json!(5), 2), "{path}");
        assert_eq!(list["items"][0]["dataplaneInsight"], one["dataplaneInsight"]);
    }
    assert_eq!(server.get("/dataplanes/_overview").await.json()["total"], 10);
    assert_eq!(server.get("/zones/_overview").await.json()["total"], 0);
    assert_eq!(server.get("/meshes/a/meshtimeouts/_overview").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn numbers_over_everything() {
    let server = fleet().await;
    let insight = server.get("/global-insight").await.json();
    assert_eq!(insight["dataplanes"]["standard"]["offline"], 8);
    assert_eq!(insight["dataplanes"]["gatewayDelegated"]["total"], 2);
    assert_eq!(insight["meshes"]["total"], 2);
    assert_eq!(insight["resources"]["Dataplane"]["total"], 10);
    assert_eq!(server.get("/global-insights").await.json()["resources"]["Mesh"]["total"], 2);
}

#[tokio::test]
async fn insights_follow_every_write() {
    let server = Server::start(standalone()).await;
    for mesh in ["default", "other"] {
        server.mesh(mesh).await;
    }
    let stat = async |mesh: &str, pointer: &str| {
        let insight = server.get(&format!("/mesh-insights/{mesh}")).await.json();
        assert_eq!((&insight["type"], &insight["name"]), (&json!("MeshInsight"), &json!(mesh)));
        insight.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
    };
    assert_eq!(stat("default", "/dataplanes/total").await, 0);
    for name in ["a", "b"] {
        server.put(&format!("/meshes/default/dataplanes/{name}"), dataplane("default", name)).await;
    }
    server.put("/meshes/other/meshtimeouts/t", timeout("other", "t", None)).await;
    assert_eq!(stat("default", "/dataplanes/total").await, 2);
    assert_eq!(stat("default", "/dataplanesByType/standard/offline").await, 2);
    assert_eq!(stat("default", "/dpVersions/envoy/unknown/total").await, 2);
    assert_eq!(stat("default", "/resources/MeshTimeout/total").await, 0);
    assert_eq!(stat("other", "/resources/MeshTimeout/total").await, 1);
    let list = server.get("/mesh-insights").await.json();
    assert_eq!((&list["total"], &list["items"][1]["name"]), (&json!(2), &json!("other")));
    let global = server.get("/global-insight").await.json();
    assert_eq!(global["dataplanes"]["standard"]["total"], 2);
    server.delete("/meshes/default/dataplanes/a").await;
    assert_eq!(stat("default", "/dataplanes/total").await, 1);
    assert_eq!(server.get("/global-insight").await.json()["resources"]["Dataplane"]["total"], 1);
    assert_eq!(server.get("/mesh-insights/none").await.status, StatusCode::NOT_FOUND);
}
