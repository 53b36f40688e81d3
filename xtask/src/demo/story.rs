//! The steps of the demo.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{anyhow, bail};
use e2e::manifest;
use e2e::patience::Patience;
use e2e::plane::Toolbox;
use e2e::topology::{Answer, Outbounds, Topology, request};

use super::screen::{chapter, step};
use crate::workspace;

/// Where manifests and templates are.
const DEPLOY: &str = "deploy/multizone";
/// Requests that show how traffic is spread.
const SAMPLE: usize = 20;
/// The refusal of Envoy's RBAC filter.
const FORBIDDEN: u16 = 403;

/// Names that the requests carry in their host header.
const OWN: &str = "backend.svc.mesh.local";
const WEST: &str = "backend.svc.west.mesh.local";
const MULTIZONE: &str = "backend.mzsvc.mesh.local";

/// Tells the story; what it started is left in `topology`, whatever happens.
pub(super) fn tell(toolbox: &Toolbox, folder: &Path, topology: &mut Option<Topology>) -> anyhow::Result<()> {
    let patience = toolbox.patience.clone();
    let deploy = workspace::root().join(DEPLOY);
    chapter(1, "Control planes");
    let global = step("global-cp, embedded store", || {
        let global = Topology::start(toolbox, &deploy, folder)?;
        let result = format!("http://127.0.0.1:{}", global.global.port("api"));
        Ok((global, result))
    })?;
    let topology = topology.insert(global);
    for zone in ["east", "west"] {
        step(&format!("zone-cp {zone} joins with a zone token over TLS"), || {
            topology.join(zone)?;
            Ok(((), "online".to_owned()))
        })?;
    }
    chapter(2, "Resources of deploy/multizone/manifests, written at the global");
    step("written, and an identity ready in both zones", || {
        let count = topology.apply_manifests()?;
        Ok(((), format!("{count} resources")))
    })?;
    chapter(3, "Envoys and services");
    let outbounds = start_proxies(topology)?;
    step("all of them configured", || {
        for (port, host) in destinations(outbounds) {
            reach(&patience, topology, port, host)?;
        }
        Ok(((), String::new()))
    })?;
    chapter(4, "Requests from frontend in east");
    send_requests(outbounds)?;
    chapter(5, "Failover");
    fail_over(&patience, topology, outbounds)?;
    chapter(6, "A MeshTrafficPermission written at the global");
    deny(&patience, topology, outbounds, &deploy)
}

fn destinations(outbounds: Outbounds) -> [(u16, &'static str); 3] {
    [(outbounds.own, OWN), (outbounds.other, WEST), (outbounds.multizone, MULTIZONE)]
}

fn start_proxies(topology: &mut Topology) -> anyhow::Result<Outbounds> {
    for zone in ["east", "west"] {
        step(&format!("zone ingress of {zone}"), || {
            let port = topology.start_ingress(zone)?;
            Ok(((), format!("127.0.0.1:{port}")))
        })?;
    }
    let mut ports = Vec::new();
    for zone in ["east", "west"] {
        ports.push(step(&format!("backend in {zone}: service and sidecar"), || {
            let port = topology.start_backend(zone)?;
            Ok(((zone, port), format!("127.0.0.1:{port}")))
        })?);
    }
    let [east, west] = ports[..] else { bail!("two zones have two backends") };
    step("frontend in east: service and sidecar", || {
        let outbounds = topology.start_frontend(east, west)?;
        let Outbounds { own, other, multizone } = outbounds;
        Ok((outbounds, format!("outbounds on 127.0.0.1: {own}, {other}, {multizone}")))
    })
}

/// Waits until a destination answers.
fn reach(patience: &Patience, topology: &mut Topology, port: u16, host: &str) -> anyhow::Result<()> {
    patience.until(&format!("an answer of {host}"), || {
        topology.ensure_running()?;
        match request(port, host)? {
            Answer::Reached(_) => Ok(()),
            Answer::Refused(status, text) => Err(anyhow!("{status} {text}")),
        }
    })
}

fn send_requests(outbounds: Outbounds) -> anyhow::Result<()> {
    for (what, port, host) in
        [("in its own zone", outbounds.own, OWN), ("across zones", outbounds.other, WEST)]
    {
        step(&format!("{what}: {host}"), || match request(port, host)? {
            Answer::Reached(reached) => Ok(((), format!("200 from {}", reached.service))),
            Answer::Refused(status, text) => Err(anyhow!("{status} {text}")),
        })?;
    }
    step(&format!("over both zones, own first, {SAMPLE} times: {MULTIZONE}"), || {
        let answers = sample(outbounds.multizone)?;
        Ok(((), tally(&answers)))
    })
}

/// Who answered how often, for a number of requests.
fn sample(port: u16) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut answers = BTreeMap::new();
    for _ in 0..SAMPLE {
        let who = match request(port, MULTIZONE)? {
            Answer::Reached(reached) => reached.service,
            Answer::Refused(status, _) => status.to_string(),
        };
        *answers.entry(who).or_default() += 1;
    }
    Ok(answers)
}

fn tally(answers: &BTreeMap<String, usize>) -> String {
    answers.iter().map(|(who, count)| format!("{count} x {who}")).collect::<Vec<_>>().join(", ")
}

fn fail_over(patience: &Patience, topology: &mut Topology, outbounds: Outbounds) -> anyhow::Result<()> {
    step("backend of east is asked to stop; traffic goes to west", || {
        topology.zone("east")?.drain("backend")?;
        let (mut sent, mut refused) = (0, 0);
        patience.until("west to answer", || {
            sent += 1;
            match request(outbounds.multizone, MULTIZONE)? {
                Answer::Reached(reached) if reached.service == "backend.west" => return Ok(()),
                Answer::Reached(reached) => bail!("{} still answers", reached.service),
                Answer::Refused(..) => refused += 1,
            }
            bail!("{refused} requests were refused")
        })?;
        topology.zone("east")?.stop("backend");
        let answers = sample(outbounds.multizone)?;
        Ok(((), format!("{refused} of {sent} requests refused meanwhile; then {}", tally(&answers))))
    })?;
    step("backend of east starts again; traffic comes back", || {
        topology.start_backend("east")?;
        reach(patience, topology, outbounds.own, OWN)?;
        patience.until("east to answer", || match request(outbounds.multizone, MULTIZONE)? {
            Answer::Reached(reached) if reached.service == "backend.east" => Ok(()),
            other => bail!("{other:?}"),
        })?;
        Ok(((), tally(&sample(outbounds.multizone)?)))
    })
}

fn deny(
    patience: &Patience,
    topology: &mut Topology,
    outbounds: Outbounds,
    deploy: &Path,
) -> anyhow::Result<()> {
    let api = topology.global.api();
    let mut written = Vec::new();
    step("a denial, from the write to the last Envoy that enforces it", || {
        for policy in manifest::load(&deploy.join("policies/deny-frontend.yaml"))? {
            written.push(api.apply(&policy)?);
        }
        for (port, host) in destinations(outbounds) {
            patience.until(&format!("a refusal by {host}"), || match request(port, host)? {
                Answer::Refused(FORBIDDEN, _) => Ok(()),
                other => bail!("{other:?}"),
            })?;
        }
        Ok(((), "enforced in both zones".to_owned()))
    })?;
    step(&format!("the refusal of west's Envoy: {WEST}"), || match request(outbounds.other, WEST)? {
        Answer::Refused(status, text) => Ok(((), format!("{status} {text}"))),
        Answer::Reached(reached) => Err(anyhow!("{} answered", reached.service)),
    })?;
    step("the denial is deleted, from the write to the last Envoy", || {
        for path in &written {
            api.delete(path)?;
        }
        for (port, host) in destinations(outbounds) {
            reach(patience, topology, port, host)?;
        }
        Ok(((), "allowed again".to_owned()))
    })
}
