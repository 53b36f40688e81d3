//! Streams of changes.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::StatusCode;
use futures::StreamExt;
use serde_json::{Value, json};

use crate::harness::{Server, standalone, timeout};

/// A stream that hangs fails the test after this.
const PATIENCE: Duration = Duration::from_secs(20);

struct Watch {
    body: BodyDataStream,
    lines: std::collections::VecDeque<Value>,
}

impl Watch {
    async fn open(server: &Server, path: &str) -> Self {
        let response = server.stream(path).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        Self { body: Body::into_data_stream(response.into_body()), lines: Default::default() }
    }

    /// The next event as `TYPE name`.
    async fn next(&mut self) -> String {
        while self.lines.is_empty() {
            let part = tokio::time::timeout(PATIENCE, self.body.next()).await.unwrap().unwrap().unwrap();
            let text = String::from_utf8(part.to_vec()).unwrap();
            self.lines.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
        let event = self.lines.pop_front().unwrap();
        let name = event["object"]["name"].as_str().unwrap_or_default();
        format!("{} {name}", event["type"].as_str().unwrap()).trim_end().to_owned()
    }
}

#[tokio::test]
async fn what_is_there_comes_first_then_what_changes() {
    let server = Server::start(standalone()).await;
    for mesh in ["default", "other"] {
        server.mesh(mesh).await;
    }
    let put = async |mesh: &str, name: &str, team: &str| {
        let mut document = timeout(mesh, name, None);
        document["labels"] = json!({"team": team});
        server.put(&format!("/meshes/{mesh}/meshtimeouts/{name}"), document).await
    };
    put("default", "a", "x").await;
    put("other", "b", "x").await;
    let mut of_mesh = Watch::open(&server, "/meshes/default/meshtimeouts/_watch").await;
    let mut of_team = Watch::open(&server, "/meshtimeouts/_watch?filter[labels.team]=x").await;
    assert_eq!([of_mesh.next().await, of_mesh.next().await], ["ADDED a", "SYNCED"]);
    assert_eq!(
        [of_team.next().await, of_team.next().await, of_team.next().await],
        ["ADDED a", "ADDED b", "SYNCED"]
    );

    put("other", "c", "y").await;
    put("default", "a", "y").await;
    assert_eq!(of_mesh.next().await, "MODIFIED a");
    assert_eq!(of_team.next().await, "DELETED a", "it is none of the selected any more");
    server.delete("/meshes/default/meshtimeouts/a").await;
    assert_eq!(of_mesh.next().await, "DELETED a");
    put("other", "c", "x").await;
    assert_eq!(of_team.next().await, "ADDED c");
}

#[tokio::test]
async fn what_may_not_be_read_is_not_watched() {
    let server = Server::start(standalone()).await;
    let answer = server.stream("/meshes/none/meshtimeouts/_watch").await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert_eq!(server.stream("/nonsense/_watch").await.status(), StatusCode::NOT_FOUND);
    let answer = server.stream("/meshtimeouts/_watch?filter[name]=x").await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
}
