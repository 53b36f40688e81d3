//! Routes written at the global, as callers in a zone see them.

use std::collections::BTreeSet;

use anyhow::ensure;
use e2e::http::{Request, Response, send};
use e2e::manifest;
use serde_json::Value;

use crate::support::{Mesh, patience};

const ROUTE: &str = "
type: MeshHTTPRoute
mesh: default
name: backend
spec:
  to:
  - targetRef:
      kind: MeshService
      labels: {kuma.io/display-name: backend, kuma.io/zone: east}
    rules:
    - matches:
      - path: {type: PathPrefix, value: /west}
      default:
        filters:
        - type: URLRewrite
          urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}
        - type: RequestHeaderModifier
          requestHeaderModifier: {set: [{name: x-route, value: west}]}
        backendRefs:
        - {kind: MeshService, labels: {kuma.io/display-name: backend, kuma.io/zone: west}, sectionName: http}
    - matches:
      - path: {type: Exact, value: /moved}
      default:
        filters:
        - {type: RequestRedirect, requestRedirect: {hostname: elsewhere, statusCode: 301}}
    - matches:
      - path: {type: Exact, value: /gone}
      default:
        backendRefs:
        - {kind: MeshService, labels: {kuma.io/display-name: nobody}, port: 80}
";

/// The call that the zone's own service gets where no route names another.
fn get(mesh: &Mesh, path: &str) -> anyhow::Result<Response> {
    send(mesh.outbounds.own, &Request::get(path))
}

fn served(mesh: &Mesh, path: &str) -> anyhow::Result<(String, String, Value)> {
    let said = get(mesh, path)?.json()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok((text(&said["service"]), text(&said["path"]), said["headers"]["x-route"].clone()))
}

#[test]
fn a_route_sends_paths_to_another_zone_and_elsewhere() {
    let mesh = Mesh::start();
    let own = |path: &str| ("backend.east".to_owned(), path.to_owned(), Value::Null);
    patience().until("the own service", || served(&mesh, "/").map(drop)).unwrap();
    assert_eq!(served(&mesh, "/west/a").unwrap(), own("/west/a"));

    let route = mesh.topology.global.api().apply(&manifest::parse(ROUTE).unwrap().remove(0)).unwrap();
    let west = |path: &str| ("backend.west".to_owned(), path.to_owned(), Value::from("west"));
    patience()
        .until("the route to hold", || {
            let found = served(&mesh, "/west/a")?;
            anyhow::ensure!(found == west("/new/a"), "{found:?}");
            Ok(())
        })
        .unwrap();
    assert_eq!(served(&mesh, "/west?q=1").unwrap(), west("/new?q=1"));
    assert_eq!(served(&mesh, "/western").unwrap(), own("/western"));
    let moved = get(&mesh, "/moved").unwrap();
    assert_eq!((moved.status, moved.header("location")), (301, Some("http://elsewhere/moved")));
    assert_eq!(get(&mesh, "/gone").unwrap().status, 500);

    mesh.topology.global.api().delete(&route).unwrap();
    patience()
        .until("the own service again", || {
            let found = served(&mesh, "/west/a")?;
            anyhow::ensure!(found == own("/west/a"), "{found:?}");
            Ok(())
        })
        .unwrap();
}

const CHOICES: &str = "
type: MeshHTTPRoute
mesh: default
name: choices
spec:
  to:
  - targetRef:
      kind: MeshService
      labels: {kuma.io/display-name: backend, kuma.io/zone: east}
    rules:
    - matches:
      - headers: [{type: Exact, name: x-version, value: beta}]
      - queryParams: [{type: Exact, name: version, value: beta}]
      default:
        backendRefs:
        - {kind: MeshService, labels: {kuma.io/display-name: backend, kuma.io/zone: west}, sectionName: http}
    - matches:
      - path: {type: Exact, value: /split}
      default:
        backendRefs:
        - {kind: MeshService, labels: {kuma.io/display-name: backend, kuma.io/zone: east}, sectionName: http, weight: 1}
        - {kind: MeshService, labels: {kuma.io/display-name: backend, kuma.io/zone: west}, sectionName: http, weight: 1}
    - matches:
      - path: {type: Exact, value: /copied}
      default:
        filters:
        - type: RequestMirror
          requestMirror:
            backendRef: {kind: MeshService, labels: {kuma.io/display-name: backend, kuma.io/zone: west}, sectionName: http}
";

fn who(mesh: &Mesh, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<String> {
    let said = send(mesh.outbounds.own, &Request { headers, ..Request::get(path) })?.json()?;
    Ok(said["service"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_route_chooses_by_header_query_and_weight_and_copies_requests() {
    let mut mesh = Mesh::start();
    mesh.topology.global.api().apply(&manifest::parse(CHOICES).unwrap().remove(0)).unwrap();
    let held = patience().until("the route to hold", || {
        let seen = who(&mesh, "/", &[("x-version", "beta")])?;
        ensure!(seen == "backend.west", "{seen}");
        Ok(())
    });
    held.unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(who(&mesh, "/?version=beta", &[]).unwrap(), "backend.west");
    assert_eq!(who(&mesh, "/?version=betamax", &[("x-version", "alpha")]).unwrap(), "backend.east");

    // Twenty requests go to one of two equals once in half a million runs.
    let seen: BTreeSet<_> = (0..20).map(|_| who(&mesh, "/split", &[]).unwrap()).collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["backend.east", "backend.west"]);

    assert_eq!(who(&mesh, "/copied", &[]).unwrap(), "backend.east");
    let log = mesh.topology.zone("west").unwrap().services["backend"].log().to_owned();
    let copied = patience().until("the copy", || {
        let text = std::fs::read_to_string(&log)?;
        ensure!(text.lines().any(|line| line == "GET /copied"), "{text:?}");
        Ok(())
    });
    copied.unwrap_or_else(|error| panic!("{error:#}"));
}
