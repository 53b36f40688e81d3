//! Connections whose bytes no proxy reads, from one zone to another.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use e2e::http::{Request, send};
use e2e::ports;
use serde_json::{Value, json};

use crate::policies::apply;
use crate::support::{Mesh, patience};

/// Connections in a row that are looked at where chance could decide about each.
const CONNECTIONS: usize = 20;

/// The mesh with a TCP service `store` in both zones and a client of it in east.
struct Stores {
    mesh: Mesh,
    /// Where the client reaches the store of its own zone.
    outbound: u16,
}

impl Stores {
    fn start() -> anyhow::Result<Self> {
        let mut mesh = Mesh::start();
        let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/multizone/dataplanes");
        let [east, east_service, west, west_service] = ports::free()?;
        for (zone, port, service_port) in [("east", east, east_service), ("west", west, west_service)] {
            mesh.topology.start_service(zone, "store", service_port)?;
            let vars = [("port", port.to_string()), ("servicePort", service_port.to_string())];
            mesh.topology.start_proxy_of(zone, "store", &templates.join("store.yaml"), &vars)?;
        }
        let [outbound] = ports::free()?;
        let vars = [("outbound", outbound.to_string()), ("storePort", east.to_string())];
        mesh.topology.start_proxy_of("east", "client", &templates.join("client.yaml"), &vars)?;
        let stores = Self { mesh, outbound };
        apply(&stores.mesh, &permission("allow"));
        stores.until_answers_come_from(&["store.east"]);
        Ok(stores)
    }

    fn who(&self) -> anyhow::Result<String> {
        let said = send(self.outbound, &Request::get("/"))?.json()?;
        Ok(said["service"].as_str().context("no service")?.to_owned())
    }

    /// Waits until many connections in a row are answered by these and nobody else.
    fn until_answers_come_from(&self, services: &[&str]) {
        let wanted: BTreeSet<_> = services.iter().map(|service| (*service).to_owned()).collect();
        let seen = patience().until(&format!("answers of {services:?}"), || {
            let seen = (0..CONNECTIONS).map(|_| self.who()).collect::<anyhow::Result<BTreeSet<_>>>()?;
            ensure!(seen == wanted, "{seen:?}");
            Ok(())
        });
        seen.unwrap_or_else(|error| panic!("{error:#}"));
    }
}

/// What the store's proxies say of the client: `allow` or `deny`.
fn permission(verdict: &str) -> Value {
    let identity = "spiffe://default.east.mesh.local/workload/client";
    json!({"type": "MeshTrafficPermission", "mesh": "default", "name": format!("store-{verdict}"), "spec": {
        "targetRef": {"kind": "Dataplane", "labels": {"kuma.io/workload": "store"}},
        "rules": [{"default": {(verdict): [{"spiffeID": {"type": "Exact", "value": identity}}]}}]}})
}

/// Sends connections to the stores of the zones by weight.
fn split(east: u32, west: u32) -> Value {
    let store = |zone: &str| json!({"kuma.io/display-name": "store", "kuma.io/zone": zone});
    let backend = |zone: &str, weight: u32| json!({"kind": "MeshService", "labels": store(zone), "sectionName": "tcp", "weight": weight});
    let rules = json!([{"default": {"backendRefs": [backend("east", east), backend("west", west)]}}]);
    json!({"type": "MeshTCPRoute", "mesh": "default", "name": "store", "spec": {
        "to": [{"targetRef": {"kind": "MeshService", "labels": store("east")}, "rules": rules}]}})
}

#[test]
fn connections_are_split_over_zones_logged_and_denied() {
    let stores = Stores::start().unwrap();
    let api = stores.mesh.topology.global.api();
    let route = apply(&stores.mesh, &split(1, 1));
    stores.until_answers_come_from(&["store.east", "store.west"]);
    apply(&stores.mesh, &split(0, 1));
    stores.until_answers_come_from(&["store.west"]);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let line = json!({"type": "Plain", "plain": "sent %BYTES_SENT% to %UPSTREAM_CLUSTER%"});
    let log = json!({"backends": [{"type": "File", "file": {"path": file, "format": line}}]});
    let to = json!([{"targetRef": {"kind": "Mesh"}, "default": log}]);
    let logs = json!({"type": "MeshAccessLog", "mesh": "default", "name": "connections", "spec": {
        "targetRef": {"kind": "Dataplane", "labels": {"kuma.io/workload": "client"}}, "to": to}});
    let logs = apply(&stores.mesh, &logs);
    let logged = patience().until("a line for a connection", || {
        stores.who()?;
        let text = std::fs::read_to_string(&file).context("no log")?;
        ensure!(
            text.lines().any(|line| line.starts_with("sent ") && !line.starts_with("sent 0")),
            "{text:?}"
        );
        Ok(())
    });
    logged.unwrap_or_else(|error| panic!("{error:#}"));
    api.delete(&logs).unwrap();

    let denial = apply(&stores.mesh, &permission("deny"));
    let denied = patience().until("the store to refuse", || match stores.who() {
        Ok(service) => bail!("{service} answers"),
        Err(_) => Ok(()),
    });
    denied.unwrap_or_else(|error| panic!("{error:#}"));
    api.delete(&denial).unwrap();
    stores.until_answers_come_from(&["store.west"]);
    api.delete(&route).unwrap();
    stores.until_answers_come_from(&["store.east"]);
}
