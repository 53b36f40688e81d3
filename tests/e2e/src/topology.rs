//! A global, its zones, and in them ingresses, services and clients: the mesh of `deploy/multizone`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use crate::api::Api;
use crate::http::{self, Request};
use crate::manifest;
use crate::plane::{ControlPlane, Toolbox};
use crate::ports;
use crate::process::{Process, Program};
use crate::proxy::{Proxy, ProxyPlan, write_private};

/// Where everything listens.
const LOOPBACK: &str = "127.0.0.1";
/// Tokens outlive any run.
const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Long enough for peers to notice that a proxy is leaving; stopping everything does not wait for it.
const DRAIN_TIME: &str = "10s";

/// A global with its zones.
#[derive(Debug)]
pub struct Topology {
    toolbox: Toolbox,
    manifests: PathBuf,
    folder: PathBuf,
    /// The global control plane.
    pub global: ControlPlane,
    /// The zones by name.
    pub zones: BTreeMap<String, Zone>,
}

/// A zone with what runs in it.
#[derive(Debug)]
pub struct Zone {
    /// Its control plane.
    pub plane: ControlPlane,
    /// Its proxies by the name of their Dataplane.
    pub proxies: BTreeMap<String, Proxy>,
    /// Its services by name.
    pub services: BTreeMap<String, Process>,
    backend_ports: Option<[u16; 2]>,
    folder: PathBuf,
}

impl Zone {
    /// Asks a workload's proxy to take leave: it goes on serving while its peers turn away.
    ///
    /// # Errors
    /// When there is no such proxy.
    pub fn drain(&mut self, workload: &str) -> anyhow::Result<()> {
        let proxy = self.proxies.get_mut(workload).with_context(|| format!("no proxy of {workload}"))?;
        proxy.process().ask_to_stop();
        Ok(())
    }

    /// Stops a workload: its proxy at once, then its service.
    pub fn stop(&mut self, workload: &str) {
        if let Some(mut proxy) = self.proxies.remove(workload) {
            stop_all(vec![proxy.process()]);
        }
        if let Some(mut service) = self.services.remove(workload) {
            service.stop();
        }
    }
}

/// Loopback ports of a client on which it reaches the service `backend`.
#[derive(Clone, Copy, Debug)]
pub struct Outbounds {
    /// The service in its own zone.
    pub own: u16,
    /// The service in the other zone.
    pub other: u16,
    /// The service over all zones.
    pub multizone: u16,
}

/// What a service said about a request that reached it.
#[derive(Clone, Debug)]
pub struct Reached {
    /// The service that answered, such as `backend.west`.
    pub service: String,
    /// The headers that reached it.
    pub headers: Value,
}

/// How a request ended.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A service answered.
    Reached(Reached),
    /// A proxy refused it with this status and text.
    Refused(u16, String),
}

impl Topology {
    /// Starts a global with the embedded store; `deploy` is the folder with manifests and Dataplane templates.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start(toolbox: &Toolbox, deploy: &Path, folder: &Path) -> anyhow::Result<Self> {
        Self::start_with(toolbox, deploy, folder, &[("--store", "embedded")])
    }

    /// Starts a global with flags of its own.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_with(
        toolbox: &Toolbox,
        deploy: &Path,
        folder: &Path,
        flags: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let binary = toolbox.binaries.join("global-cp");
        let program = Program::new("global-cp", &binary, &folder.join("global-cp.log"));
        let program = program.arg("run").flag("--kds-address", LOOPBACK);
        let program = flags.iter().fold(program, |program, (flag, value)| program.flag(flag, value));
        let global = ControlPlane::start(toolbox, program, &folder.join("global-cp"))?;
        Ok(Self {
            toolbox: toolbox.clone(),
            manifests: deploy.to_owned(),
            folder: folder.to_owned(),
            global,
            zones: BTreeMap::new(),
        })
    }

    /// Starts a zone control plane with a token and waits until the global lists the zone as online.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn join(&mut self, name: &str) -> anyhow::Result<()> {
        let token = self.global.api().zone_token(name, TOKEN_LIFE)?;
        let plane = self.start_zone(name, &token, self.global.port("kds"))?;
        self.adopt(name, plane)
    }

    /// As [`Self::join`], with a relay on this port between zone and global.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn join_through(&mut self, name: &str, relay: u16) -> anyhow::Result<()> {
        let token = self.global.api().zone_token(name, TOKEN_LIFE)?;
        let plane = self.start_zone(name, &token, relay)?;
        self.adopt(name, plane)
    }

    /// Takes a zone in and waits until the global lists it as online.
    fn adopt(&mut self, name: &str, plane: ControlPlane) -> anyhow::Result<()> {
        let folder = self.folder.join(name);
        let (proxies, services) = (BTreeMap::new(), BTreeMap::new());
        let zone = Zone { plane, proxies, services, backend_ports: None, folder };
        self.zones.insert(name.to_owned(), zone);
        let api = self.global.api();
        let patience = self.toolbox.patience.clone();
        patience.until(&format!("zone {name} online"), || {
            self.zone(name)?.plane.process().ensure_running()?;
            let online = is_online(api, name)?;
            anyhow::ensure!(online, "the global lists it as offline");
            Ok(())
        })
    }

    /// Starts a zone control plane with any token, without waiting for the global on this port to take it.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_zone(&self, name: &str, token: &str, global: u16) -> anyhow::Result<ControlPlane> {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder)?;
        let token_file = folder.join("zone-token");
        write_private(&token_file, token)?;
        let binary = self.toolbox.binaries.join("zone-cp");
        let program = Program::new(&format!("zone-cp {name}"), &binary, &folder.join("zone-cp.log"))
            .arg("run")
            .flag("--zone", name)
            .flag("--store", "embedded")
            .flag("--global-address", format!("grpcs://{LOOPBACK}:{global}"))
            .flag("--global-ca-file", self.global.ca())
            .flag("--zone-token-file", &token_file)
            .flag("--dp-server-address", LOOPBACK);
        ControlPlane::start(&self.toolbox, program, &folder.join("zone-cp"))
    }

    /// Writes the manifests at the global, and waits until every zone has an identity to give to proxies.
    ///
    /// # Errors
    /// When one is refused or does not arrive.
    pub fn apply_manifests(&mut self) -> anyhow::Result<usize> {
        let resources = manifest::load_folder(&self.manifests.join("manifests"))?;
        for resource in &resources {
            self.global.api().apply(resource)?;
        }
        for (name, zone) in &self.zones {
            let api = zone.plane.api();
            self.toolbox.patience.until(&format!("the identity of zone {name}"), || {
                let ready = api.list("/meshes/default/meshidentities")?.iter().any(is_ready);
                anyhow::ensure!(ready, "no MeshIdentity is ready");
                Ok(())
            })?;
        }
        Ok(resources.len())
    }

    /// Starts a zone's ingress and publishes its address.
    ///
    /// # Errors
    /// When the zone refuses it.
    pub fn start_ingress(&mut self, zone: &str) -> anyhow::Result<u16> {
        let [port] = ports::free()?;
        self.start_proxy(zone, "zone-ingress", &[("port", port.to_string())])?;
        self.publish_ingress(zone, port)?;
        Ok(port)
    }

    /// Tells the other zones where this one is entered.
    ///
    /// # Errors
    /// When the zone refuses it.
    pub fn publish_ingress(&mut self, zone: &str, port: u16) -> anyhow::Result<()> {
        let template = std::fs::read_to_string(self.manifests.join("zone/mesh-zone-address.yaml"))?;
        let values = [("address", LOOPBACK.to_owned()), ("port", port.to_string())];
        let api = self.zone(zone)?.plane.api();
        for resource in manifest::parse(&manifest::render(&template, &values))? {
            api.apply(&resource)?;
        }
        Ok(())
    }

    /// Starts the service `backend` in a zone with its sidecar; returns the port of its inbound, which stays the
    /// same when it is started again.
    ///
    /// # Errors
    /// When one of them cannot be started.
    pub fn start_backend(&mut self, zone: &str) -> anyhow::Result<u16> {
        let [port, service_port] = match self.zone(zone)?.backend_ports {
            Some(ports) => ports,
            None => ports::free()?,
        };
        self.zone(zone)?.backend_ports = Some([port, service_port]);
        self.start_service(zone, "backend", service_port)?;
        let vars = [("port", port.to_string()), ("servicePort", service_port.to_string())];
        self.start_proxy(zone, "backend", &vars)?;
        Ok(port)
    }

    /// Starts `frontend` in a zone, as a client of `backend` whose ports in the zones are given.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_frontend(&mut self, own: (&str, u16), other: (&str, u16)) -> anyhow::Result<Outbounds> {
        let [port, service_port, own_port, other_port, multizone] = ports::free()?;
        self.start_service(own.0, "frontend", service_port)?;
        let vars = [
            ("port", port.to_string()),
            ("servicePort", service_port.to_string()),
            ("zone", own.0.to_owned()),
            ("otherZone", other.0.to_owned()),
            ("ownOutbound", own_port.to_string()),
            ("otherOutbound", other_port.to_string()),
            ("multizoneOutbound", multizone.to_string()),
            ("ownBackendPort", own.1.to_string()),
            ("otherBackendPort", other.1.to_string()),
        ];
        self.start_proxy(own.0, "frontend", &vars)?;
        Ok(Outbounds { own: own_port, other: other_port, multizone })
    }

    /// Starts a small service on a loopback port of a zone.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_service(&mut self, zone: &str, name: &str, port: u16) -> anyhow::Result<()> {
        let launcher = self.toolbox.launcher.clone();
        let target = self.zone(zone)?;
        let log = target.folder.join(format!("{name}-service.log"));
        let program = Program::new(&format!("service {name} in {zone}"), launcher.path(), &log)
            .arg(crate::launch::SERVE)
            .arg(&format!("{name}.{zone}"))
            .arg(&port.to_string());
        let process = program.start(&launcher)?;
        target.services.insert(name.to_owned(), process);
        Ok(())
    }

    fn start_proxy(&mut self, zone: &str, workload: &str, vars: &[(&str, String)]) -> anyhow::Result<()> {
        let template = self.manifests.join(format!("dataplanes/{workload}.yaml"));
        self.start_proxy_of(zone, workload, &template, vars)
    }

    /// Starts the sidecar of a workload from a Dataplane template.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_proxy_of(
        &mut self,
        zone: &str,
        workload: &str,
        template: &Path,
        vars: &[(&str, String)],
    ) -> anyhow::Result<()> {
        let toolbox = self.toolbox.clone();
        let target = self.zone(zone)?;
        let api = target.plane.api();
        let claims = json!({"mesh": "default", "workload": workload, "validFor": "24h"});
        // The key that signs it comes from the global, like the mesh itself.
        let token =
            toolbox.patience.until(&format!("a token of {workload}"), || api.token("dataplane", &claims))?;
        let mut all = vec![("address", LOOPBACK.to_owned())];
        all.extend_from_slice(vars);
        let plan = ProxyPlan {
            name: workload,
            dataplane: template,
            vars: &all,
            token: &token,
            folder: &target.folder,
            drain_time: DRAIN_TIME,
        };
        let proxy = Proxy::start(&toolbox, &target.plane, &plan)?;
        target.proxies.insert(workload.to_owned(), proxy);
        Ok(())
    }

    /// A zone.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn zone(&mut self, name: &str) -> anyhow::Result<&mut Zone> {
        self.zones.get_mut(name).with_context(|| format!("there is no zone {name}"))
    }

    /// # Errors
    /// When a process has ended by itself.
    pub fn ensure_running(&mut self) -> anyhow::Result<()> {
        self.global.process().ensure_running()?;
        for zone in self.zones.values_mut() {
            zone.plane.process().ensure_running()?;
            for proxy in zone.proxies.values_mut() {
                proxy.process().ensure_running()?;
            }
            for service in zone.services.values_mut() {
                service.ensure_running()?;
            }
        }
        Ok(())
    }

    /// Stops everything in order, proxies first, each group at once.
    pub fn stop(&mut self) {
        let zones = self.zones.values_mut();
        let proxies = zones.flat_map(|zone| zone.proxies.values_mut().map(Proxy::process));
        stop_all(proxies.collect());
        let zones = self.zones.values_mut();
        let rest = zones.flat_map(|zone| zone.services.values_mut().chain([zone.plane.process()]));
        stop_all(rest.collect());
        self.global.process().stop();
    }
}

fn stop_all(mut processes: Vec<&mut Process>) {
    for process in &mut processes {
        process.ask_to_stop();
        // mesh-dp drains after the first request and stops at the second.
        process.ask_to_stop();
    }
    for process in processes {
        process.stop();
    }
}

/// Sends one request to a client's outbound.
///
/// # Errors
/// When the proxy does not answer.
pub fn request(outbound: u16, host: &str) -> anyhow::Result<Answer> {
    let response = http::send(outbound, &Request { host, ..Request::get("/") })?;
    if response.status != 200 {
        return Ok(Answer::Refused(response.status, response.text()));
    }
    let body = response.json()?;
    let service = body["service"].as_str().context("the answer names no service")?.to_owned();
    Ok(Answer::Reached(Reached { service, headers: body["headers"].clone() }))
}

/// Whether the global sees a zone as online.
///
/// # Errors
/// When it knows no such zone.
pub fn is_online(global: Api, zone: &str) -> anyhow::Result<bool> {
    let overview = global.get(&format!("/zones/{zone}/_overview"))?;
    Ok(is_connected(&overview["zoneInsight"]))
}

/// Whether the newest subscription of an insight is open.
pub fn is_connected(insight: &Value) -> bool {
    let newest = insight["subscriptions"].as_array().and_then(|all| all.last());
    newest.is_some_and(|newest| newest["connectTime"].is_string() && newest["disconnectTime"].is_null())
}

fn is_ready(resource: &Value) -> bool {
    let conditions = resource["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}
