//! The mesh that tests start from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{anyhow, bail, ensure};
use e2e::etcd::Etcd;
use e2e::launch::Launcher;
use e2e::manifest;
use e2e::patience::Patience;
use e2e::plane::Toolbox;
use e2e::proxy::{Proxy, ProxyPlan};
use e2e::topology::{Answer, Outbounds, Topology, request};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::json;
use tempfile::TempDir;

/// Two zones with ingresses and backends, and a frontend in east that reaches all of them.
pub(crate) struct Mesh {
    pub(crate) topology: Topology,
    /// Ports of the zone ingresses.
    pub(crate) ingresses: BTreeMap<&'static str, u16>,
    /// Ports at which the sidecars of the backends take traffic.
    pub(crate) backends: BTreeMap<&'static str, u16>,
    pub(crate) outbounds: Outbounds,
    _folder: TempDir,
}

pub(crate) fn patience() -> Patience {
    Patience::new(Duration::from_secs(60))
}

/// The folder with manifests.
pub(crate) fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/multizone")
}

fn toolbox() -> Toolbox {
    let own = std::env::current_exe().unwrap();
    let binaries = own.parent().and_then(Path::parent).unwrap().to_owned();
    for program in ["global-cp", "zone-cp", "mesh-dp"] {
        assert!(binaries.join(program).exists(), "no {program} beside the tests: run `cargo xtask test`");
    }
    let envoy = std::env::var_os("ISTHMUS_ENVOY").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/envoy/envoy"),
        PathBuf::from,
    );
    assert!(envoy.exists(), "no Envoy at {}: run `cargo xtask test` or set ISTHMUS_ENVOY", envoy.display());
    Toolbox {
        launcher: Launcher::new(env!("CARGO_BIN_EXE_e2e-child")),
        binaries,
        envoy: envoy.canonicalize().unwrap(),
        patience: patience(),
    }
}

/// A global without zones.
pub(crate) fn global_only() -> (TempDir, Topology) {
    let folder = tempfile::tempdir().unwrap();
    let topology = Topology::start(&toolbox(), &deploy(), folder.path()).unwrap();
    (folder, topology)
}

/// A global that keeps its resources in etcd.
pub(crate) fn global_on_etcd(folder: &Path, etcd: &Etcd) -> Topology {
    let config = folder.join("global.yaml");
    let store = format!("store: {{type: etcd, etcd: {{endpoints: [\"{}\"]}}}}", etcd.endpoint());
    std::fs::write(&config, store).unwrap();
    let flags = [("--config", config.to_str().unwrap())];
    Topology::start_with(&toolbox(), &deploy(), folder, &flags).unwrap_or_else(|error| panic!("{error:#}"))
}

/// A real etcd with its data in `folder`.
pub(crate) fn etcd(folder: &Path) -> Etcd {
    Etcd::start(&toolbox().launcher, &patience(), folder).unwrap_or_else(|error| panic!("{error:#}"))
}

impl Mesh {
    pub(crate) fn start() -> Self {
        Self::try_start().unwrap_or_else(|error| panic!("{error:#}"))
    }

    fn try_start() -> anyhow::Result<Self> {
        let (folder, mut topology) = global_only();
        for zone in ["east", "west"] {
            topology.join(zone)?;
        }
        topology.apply_manifests()?;
        let mut ingresses = BTreeMap::new();
        let mut backends = BTreeMap::new();
        for zone in ["east", "west"] {
            ingresses.insert(zone, topology.start_ingress(zone)?);
            backends.insert(zone, topology.start_backend(zone)?);
        }
        let outbounds = topology.start_frontend(("east", backends["east"]), ("west", backends["west"]))?;
        for port in [outbounds.own, outbounds.other, outbounds.multizone] {
            patience().until("the mesh to be configured", || {
                topology.ensure_running()?;
                reached(port).map(drop)
            })?;
        }
        Ok(Self { topology, ingresses, backends, outbounds, _folder: folder })
    }

    /// Sends a request from east to the service of west.
    pub(crate) fn request_west(&self) -> anyhow::Result<Answer> {
        request(self.outbounds.other, "backend.svc.west.mesh.local")
    }

    pub(crate) fn until_west_answers(&self) {
        patience().until("west to answer", || reached(self.outbounds.other).map(drop)).unwrap();
    }

    pub(crate) fn until_west_refuses(&self) {
        let refused = patience().until("west to refuse", || match self.request_west()? {
            Answer::Refused(403, text) => Ok(text),
            other => bail!("{other:?}"),
        });
        assert_eq!(refused.unwrap(), "RBAC: access denied");
    }

    /// Sends requests over both zones until this service answers; tells how many were refused meanwhile.
    pub(crate) fn until_multizone_answers_from(&self, service: &str) -> usize {
        let mut refused = 0;
        let answered = patience().until(&format!("{service} to answer"), || {
            let who = reached(self.outbounds.multizone).inspect_err(|_| refused += 1)?;
            ensure!(who == service, "{who} answers");
            Ok(())
        });
        answered.unwrap_or_else(|error| panic!("{error:#}"));
        refused
    }

    /// Writes a denial of the frontend at the global; tells its path.
    pub(crate) fn deny(&self) -> String {
        let policy = manifest::load(&deploy().join("policies/deny-frontend.yaml")).unwrap().remove(0);
        self.topology.global.api().apply(&policy).unwrap()
    }

    /// Names and creation times of the dataplanes that a zone has.
    pub(crate) fn dataplanes(&self, zone: &str) -> Vec<String> {
        self.names(zone, "/meshes/default/dataplanes")
    }

    /// What a zone has of what the global handed it.
    pub(crate) fn zone_resources(&self, zone: &str) -> Vec<String> {
        ["meshtrafficpermissions", "meshidentities", "meshservices", "meshzoneaddresses"]
            .iter()
            .flat_map(|kind| self.names(zone, &format!("/meshes/default/{kind}")))
            .collect()
    }

    /// Whether east knows services of these zones and of no other.
    pub(crate) fn services_in_east(&self, zones: &[&str]) -> anyhow::Result<()> {
        let services = self.topology.zones["east"].plane.api().list("/meshes/default/meshservices")?;
        let found: BTreeSet<_> =
            services.iter().filter_map(|service| service["labels"]["kuma.io/zone"].as_str()).collect();
        ensure!(found == zones.iter().copied().collect(), "{found:?}");
        Ok(())
    }

    fn names(&self, zone: &str, path: &str) -> Vec<String> {
        let items = self.topology.zones[zone].plane.api().list(path).unwrap();
        items.iter().map(|item| format!("{} {}", item["name"], item["creationTime"])).collect()
    }
}

/// The service that answers behind an outbound.
fn reached(port: u16) -> anyhow::Result<String> {
    match request(port, "backend.mzsvc.mesh.local")? {
        Answer::Reached(reached) => Ok(reached.service),
        Answer::Refused(status, text) => Err(anyhow!("{status} {text}")),
    }
}

/// What mesh-dp says when it gives up, for a backend in east with the token of another workload.
pub(crate) fn reason_of_refused_proxy(topology: &mut Topology, workload: &str) -> String {
    let api = topology.zones["east"].plane.api();
    let claims = json!({"mesh": "default", "workload": workload, "validFor": "1h"});
    let token = patience().until("a token", || api.token("dataplane", &claims)).unwrap();
    let [port, service_port] = e2e::ports::free().unwrap();
    let vars = [
        ("address", "127.0.0.1".to_owned()),
        ("port", port.to_string()),
        ("servicePort", service_port.to_string()),
    ];
    let folder = tempfile::tempdir().unwrap();
    let plan = ProxyPlan {
        name: "backend",
        dataplane: &deploy().join("dataplanes/backend.yaml"),
        vars: &vars,
        token: &token,
        folder: folder.path(),
        drain_time: "1s",
    };
    let mut proxy = Proxy::start(&toolbox(), &topology.zones["east"].plane, &plan).unwrap();
    patience()
        .until("mesh-dp to give up", || {
            let ended = proxy.process().ended()?;
            let status = ended.ok_or_else(|| anyhow!("it goes on: {}", proxy.process().log_tail()))?;
            ensure!(!status.success(), "it succeeded");
            Ok(proxy.process().log_tail())
        })
        .unwrap_or_else(|error| panic!("{error:#}"))
}

/// How often the global has refused a zone.
pub(crate) fn refusals(topology: &mut Topology) -> usize {
    let log = std::fs::read_to_string(topology.global.process().log()).unwrap();
    log.lines().filter(|line| line.contains("a zone is refused")).count()
}

/// Ends a process as a crash would.
pub(crate) fn kill(process: i32) {
    nix::sys::signal::kill(Pid::from_raw(process), Signal::SIGKILL).unwrap();
}

/// The same claims without a signature that anyone made.
pub(crate) fn unsigned(token: &str) -> String {
    let (content, _) = token.rsplit_once('.').unwrap();
    format!("{content}.")
}

/// Waits until the time in a token's claims is over; tokens are valid for whole seconds.
pub(crate) fn until_expired(token: &str) {
    let made = std::time::Instant::now();
    let life = Duration::from_secs(2);
    patience()
        .until("the token to expire", || {
            ensure!(made.elapsed() > life, "{} still lives", token.len());
            Ok(())
        })
        .unwrap();
}
