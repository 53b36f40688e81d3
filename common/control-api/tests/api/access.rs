//! Who may do what.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use auth::keys::Audience;
use auth::token::{SigningKey, UserClaims, ZoneClaims, issue, verify};
use axum::body::Body;
use axum::http::StatusCode;
use control_api::defaults::{self, DefaultsConfig};
use control_api::{ApiConfig, NoProxies, OriginPattern};
use model::labels::Plane;
use model::{Key, Kind};
use serde_json::json;
use store::{MemoryStore, Store};

use crate::harness::{Answer, LOCAL, REMOTE, Server, request, standalone};

/// A global after its first start, and its administrator's token.
async fn started() -> (Server, String) {
    let store: Store = Arc::new(MemoryStore::new());
    let config = DefaultsConfig { skip_mesh_creation: true, ..DefaultsConfig::default() };
    let token = defaults::ensure(&store, &Plane::Global, &config).await.unwrap().unwrap();
    let server = Server::over(store, Plane::Global, ApiConfig::default(), Arc::new(NoProxies)).await;
    (server, token)
}

async fn remote(server: &Server, method: &str, path: &str, token: Option<&str>, body: &str) -> Answer {
    let mut request = request(method, path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    server.send(request.body(Body::from(body.to_owned())).unwrap(), REMOTE).await
}

async fn signer(server: &Server) -> SigningKey {
    defaults::latest_signing_key(&*server.store, &Audience::User).await.unwrap().unwrap().1
}

fn token(key: &SigningKey, kid: &str, name: &str, groups: &[&str], age: Duration) -> String {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    let claims = UserClaims { name: name.into(), groups };
    let then = (SystemTime::now() - age).into();
    issue(key, kid, &claims, then, Duration::from_secs(3600)).unwrap().token
}

#[tokio::test]
async fn callers_elsewhere_need_a_token() {
    let (server, admin) = started().await;
    assert_eq!(remote(&server, "GET", "/", None, "").await.status, StatusCode::OK);
    let refused = remote(&server, "GET", "/meshes", None, "").await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(refused.json()["title"], "Invalid authentication data");
    assert_eq!(remote(&server, "GET", "/meshes", Some(&admin), "").await.status, StatusCode::OK);
    let who = remote(&server, "GET", "/who-am-i", Some(&admin), "").await.json();
    assert_eq!(who["name"], "mesh-system:admin");
    let local = server.get("/who-am-i").await.json();
    assert_eq!(server.get("/config").await.status, StatusCode::OK);
    assert_eq!(
        local,
        json!({"name": "mesh-system:admin", "groups": ["mesh-system:admin", "mesh-system:authenticated"]})
    );
    let forwarded = request("GET", "/meshes").header("x-forwarded-for", "192.0.2.9").body(Body::empty());
    assert_eq!(server.send(forwarded.unwrap(), LOCAL).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn bad_tokens_are_refused_with_a_reason() {
    let (server, _) = started().await;
    let key = signer(&server).await;
    let other = SigningKey::generate().unwrap();
    let hour = Duration::from_secs(3600);
    let good = token(&key, "1", "ann", &[], Duration::ZERO);
    let payload = good.split('.').nth(1).unwrap();
    // {"alg":"none","kid":"1"}
    let unsigned = format!("eyJhbGciOiJub25lIiwia2lkIjoiMSJ9.{payload}.");
    for (token, reason) in [
        (token(&key, "1", "ann", &[], 2 * hour), "expired"),
        (unsigned, "not signed"),
        (token(&other, "1", "ann", &[], Duration::ZERO), "signature"),
        (token(&key, "7", "ann", &[], Duration::ZERO), "unknown key"),
        ("garbage".to_owned(), "malformed"),
    ] {
        let answer = remote(&server, "GET", "/meshes", Some(&token), "").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{reason}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(reason), "{detail}");
    }
    assert_eq!(remote(&server, "GET", "/meshes", Some(&good), "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_revoked_token_is_refused() {
    let (server, _) = started().await;
    let claims = UserClaims { name: "ann".into(), groups: vec![] };
    let key = signer(&server).await;
    let issued = issue(&key, "1", &claims, SystemTime::now().into(), Duration::from_secs(60)).unwrap();
    assert_eq!(remote(&server, "GET", "/meshes", Some(&issued.token), "").await.status, StatusCode::OK);
    let bearer = format!("Bearer {}", issued.token);
    let watch = request("GET", "/meshtimeouts/_watch").header("authorization", bearer);
    let watch = server.open(watch.body(Body::empty()).unwrap(), REMOTE).await;
    assert_eq!(watch.status(), StatusCode::OK);
    // The list of ids, in base64.
    let data = {
        let id = model::spec::Secret { data: Some(issued.id.into_bytes()) };
        let key = Key::global(Kind::GLOBAL_SECRET, "x");
        let resource = model::Resource::builder(key).spec(&id).build();
        serde_json::to_value(model::rest::Document::of(&resource).unwrap()).unwrap()["data"].clone()
    };
    let revocations = json!({"type": "GlobalSecret", "name": "user-token-revocations", "data": data});
    let answer = server.put("/globalsecrets/user-token-revocations", revocations).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let answer = remote(&server, "GET", "/meshes", Some(&issued.token), "").await;
    assert!(answer.json()["detail"].as_str().unwrap().contains("revoked"), "{}", answer.text);
    // What it had open ends.
    let end = axum::body::to_bytes(watch.into_body(), usize::MAX);
    let lines = tokio::time::timeout(Duration::from_secs(20), end).await.unwrap().unwrap();
    assert!(lines.ends_with(b"{\"type\":\"SYNCED\"}\n"), "{lines:?}");
}

#[tokio::test]
async fn secrets_are_for_administrators_only() {
    let (server, admin) = started().await;
    server.mesh("default").await;
    let secret = json!({"type": "Secret", "mesh": "default", "name": "s", "data": "aHVzaA=="});
    assert_eq!(server.put("/meshes/default/secrets/s", secret.clone()).await.status, StatusCode::CREATED);
    let ann = token(&signer(&server).await, "1", "ann", &["dev"], Duration::ZERO);
    for (method, path) in [
        ("GET", "/meshes/default/secrets/s"),
        ("GET", "/meshes/default/secrets"),
        ("GET", "/secrets"),
        ("GET", "/globalsecrets"),
        ("GET", "/global-secrets/admin-user-token"),
        ("GET", "/globalsecrets/does-not-exist"),
        ("GET", "/meshes/default/secrets/s?format=k8s"),
        ("PUT", "/meshes/default/secrets/s"),
        ("DELETE", "/meshes/default/secrets/s"),
    ] {
        let answer = remote(&server, method, path, Some(&ann), &secret.to_string()).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path}");
        assert_eq!(answer.json()["title"], "Access Denied");
        assert!(!answer.text.contains("aHVzaA"), "{}", answer.text);
    }
    let detail = remote(&server, "GET", "/secrets", Some(&ann), "").await.json()["detail"].clone();
    let want = r#"user "ann/dev,mesh-system:authenticated" cannot access the resource of type "Secret""#;
    assert_eq!(detail, want);
    let read = remote(&server, "GET", "/meshes/default/secrets/s", Some(&admin), "").await;
    assert_eq!(read.json()["data"], "aHVzaA==");
}

#[tokio::test]
async fn tokens_are_issued_to_administrators_and_hold() {
    let (server, _) = started().await;
    server.mesh("default").await;
    let zone =
        server.call("POST", "/tokens/zone", r#"{"zone": "east", "scope": ["cp"], "validFor": "1h"}"#).await;
    assert_eq!(zone.status, StatusCode::OK, "{}", zone.text);
    assert_eq!(zone.headers["content-type"], "text/plain");
    let (_, key) = defaults::latest_signing_key(&*server.store, &Audience::Zone).await.unwrap().unwrap();
    let public = |_: &str| Some(key.public_pem().to_owned());
    let verified = verify::<ZoneClaims>(&zone.text, public, |_| false, SystemTime::now().into()).unwrap();
    verified.claims.check("east", "cp").unwrap();
    assert!(verified.expires_at < SystemTime::now() + Duration::from_secs(3601));

    let user =
        server.call("POST", "/tokens/user", r#"{"name": "ann", "groups": ["dev"], "validFor": "1h"}"#).await;
    let who = remote(&server, "GET", "/who-am-i", Some(&user.text), "").await.json();
    assert_eq!(who, json!({"name": "ann", "groups": ["dev", "mesh-system:authenticated"]}));
    for path in ["/tokens/user", "/tokens/zone", "/tokens/dataplane"] {
        let answer = remote(&server, "POST", path, Some(&user.text), "{}").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
    }
    let proxy = server.call("POST", "/tokens/dataplane", r#"{"mesh": "default", "name": "dp"}"#).await;
    assert_eq!(proxy.status, StatusCode::OK, "{}", proxy.text);
}

/// Each access list lets its group pass, and nobody who is on all others only.
#[tokio::test]
async fn each_list_guards_its_own() {
    let lists = [
        ("adminResources", "GET", "/meshes/default/secrets"),
        ("generateDpToken", "POST", "/tokens/dataplane"),
        ("generateUserToken", "POST", "/tokens/user"),
        ("generateZoneToken", "POST", "/tokens/zone"),
        ("viewConfigDump", "GET", "/meshes/default/dataplanes/dp/xds"),
        ("viewStats", "GET", "/meshes/default/dataplanes/dp/stats"),
        ("viewClusters", "GET", "/meshes/default/dataplanes/dp/clusters"),
        ("controlPlaneMetadata", "GET", "/config"),
    ];
    let store: Store = Arc::new(MemoryStore::new());
    let config = DefaultsConfig { skip_mesh_creation: true, ..DefaultsConfig::default() };
    defaults::ensure(&store, &Plane::Global, &config).await.unwrap();
    let of_group =
        |(list, ..): &(&str, &str, &str)| ((*list).to_owned(), json!({"users": [], "groups": [list]}));
    let access: serde_json::Map<_, _> = lists.iter().map(of_group).collect();
    let access = serde_json::from_value(access.into()).unwrap();
    let config = ApiConfig { access, ..ApiConfig::default() };
    let server = Server::over(store, Plane::Global, config, Arc::new(NoProxies)).await;
    server.mesh("default").await;
    let key = signer(&server).await;
    for (list, method, path) in lists {
        let others: Vec<_> = lists.iter().map(|(other, ..)| *other).filter(|other| *other != list).collect();
        let outside = token(&key, "1", "ann", &others, Duration::ZERO);
        let answer = remote(&server, method, path, Some(&outside), "{}").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} without {list}");
        let inside = token(&key, "1", "bob", &[list], Duration::ZERO);
        let answer = remote(&server, method, path, Some(&inside), "{}").await;
        assert_ne!(answer.status, StatusCode::FORBIDDEN, "{path} with {list}: {}", answer.text);
    }
}

#[tokio::test]
async fn questions_for_tokens_are_checked() {
    let (server, _) = started().await;
    for (path, body, field) in [
        ("/tokens/user", json!({"name": "ann"}), "validFor"),
        ("/tokens/user", json!({"name": "ann", "validFor": "0s"}), "validFor"),
        ("/tokens/user", json!({"validFor": "1h"}), "name"),
        ("/tokens/dataplane", json!({"name": "dp"}), "mesh"),
        ("/tokens/dataplane", json!({"mesh": "m", "type": "ingress"}), "type"),
        ("/tokens/zone", json!({"zone": "east", "validFor": "soon"}), "validFor"),
    ] {
        let answer = server.call("POST", path, body.to_string()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path} {body}");
        assert_eq!(answer.json()["causes"][0]["field"], field, "{path} {body}");
    }
    let answer = server.call("POST", "/tokens/dataplane", r#"{"mesh": "nowhere"}"#).await;
    assert_eq!(
        (answer.status, &answer.json()["title"]),
        (StatusCode::NOT_FOUND, &json!("Signing Key not found"))
    );
    assert_eq!(server.call("POST", "/tokens/zone", "{").await.status, StatusCode::BAD_REQUEST);

    let config = ApiConfig { enable_token_issuer: false, ..ApiConfig::default() };
    let server = Server::with(standalone(), config, Arc::new(NoProxies)).await;
    assert_eq!(server.call("POST", "/tokens/zone", "{}").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_read_only_api_and_an_open_one() {
    let config = ApiConfig { read_only: true, ..ApiConfig::default() };
    let server = Server::with(standalone(), config, Arc::new(NoProxies)).await;
    let answer = server.put("/meshes/default", json!({"type": "Mesh", "name": "default"})).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);

    let config = ApiConfig { allow_anonymous: true, ..ApiConfig::default() };
    let server = Server::with(standalone(), config, Arc::new(NoProxies)).await;
    assert_eq!(remote(&server, "GET", "/meshes", None, "").await.status, StatusCode::OK);
    assert_eq!(remote(&server, "GET", "/secrets", None, "").await.status, StatusCode::FORBIDDEN);
    assert_eq!(remote(&server, "GET", "/config", None, "").await.json(), json!({"some": "config"}));
}

#[tokio::test]
async fn pages_of_other_origins_read_only_where_they_are_allowed() {
    let allowed = ["https://mesh.example", r"https://[a-z]+\.trusted\.example"];
    let config = ApiConfig {
        cors_allowed_domains: allowed.map(|text| OriginPattern::parse(text).unwrap()).to_vec(),
        ..ApiConfig::default()
    };
    let open = Server::with(standalone(), config, Arc::new(NoProxies)).await;
    let closed = Server::start(standalone()).await;
    let ask = async |server: &Server, method: &str, origin: &str| {
        let request = request(method, "/").header("origin", origin);
        let request = request.header("access-control-request-method", "PUT");
        let answer = server.send(request.body(Body::empty()).unwrap(), REMOTE).await;
        let header = |name: &str| answer.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        (answer.status, header("access-control-allow-origin"), header("access-control-allow-methods"))
    };
    for origin in ["https://mesh.example", "https://team.trusted.example"] {
        let (status, told, _) = ask(&open, "GET", origin).await;
        assert_eq!((status, told.as_deref()), (StatusCode::OK, Some(origin)));
        let (status, told, methods) = ask(&open, "OPTIONS", origin).await;
        assert_eq!((status, told.as_deref()), (StatusCode::OK, Some(origin)), "asked without a token");
        assert!(methods.unwrap().contains("PUT"));
    }
    for origin in ["https://evil.example", "https://mesh.example.evil.test", "null"] {
        assert_eq!(ask(&open, "GET", origin).await.1, None, "{origin}");
        assert_eq!(ask(&open, "OPTIONS", origin).await.1, None, "{origin}");
    }
    assert_eq!(ask(&closed, "GET", "https://mesh.example").await.1, None);
}

#[tokio::test]
async fn the_description_of_the_api_is_open() {
    let (server, _) = started().await;
    let answer = remote(&server, "GET", "/openapi.json", None, "").await;
    assert_eq!(answer.status, StatusCode::OK);
    let paths = answer.json()["paths"].as_object().unwrap().clone();
    assert!(paths.contains_key("/meshes/{mesh}/meshtimeouts/{name}"), "{:?}", paths.keys());
    let page = remote(&server, "GET", "/docs", None, "").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html"));
    assert_eq!(remote(&server, "GET", "/meshes", None, "").await.status, StatusCode::UNAUTHORIZED);
}

/// Whatever the description lists is served, and nothing is described that is not.
#[tokio::test]
async fn what_is_described_is_served() {
    let server = Server::start(standalone()).await;
    let document = server.get("/openapi.json").await.json();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let concrete = path.replace("{admin}", "stats").replace(['{', '}'], "");
            let answer = server.stream_of(&method.to_uppercase(), &concrete).await;
            let unknown = answer.status() == StatusCode::METHOD_NOT_ALLOWED
                || (answer.status() == StatusCode::NOT_FOUND
                    && answer.headers()["content-type"] != "application/json");
            assert!(!unknown, "{method} {path}: {}", answer.status());
        }
    }
}

#[tokio::test]
async fn removals_that_wait_are_shown_and_confirmed_by_administrators() {
    let (server, admin) = started().await;
    let shown = remote(&server, "GET", "/withheld-removals", Some(&admin), "").await;
    assert_eq!(shown.json(), json!({"total": 0, "items": []}));
    let path = "/withheld-removals/east/confirm";
    let answer = remote(&server, "POST", path, Some(&admin), "").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(answer.json()["detail"].as_str().unwrap().contains("east"), "{}", answer.text);
    let key = signer(&server).await;
    let ann = token(&key, "1", "ann", &[], Duration::ZERO);
    assert_eq!(remote(&server, "POST", path, Some(&ann), "").await.status, StatusCode::FORBIDDEN);
}
