//! `cargo xtask measure`: the figures of `docs/performance.md`, as a Markdown table.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use e2e::plane::Toolbox;
use e2e::relay::Relay;
use e2e::samples::Samples;
use e2e::topology::{Answer, Topology, request};
use e2e::{ports, procfs};
use serde_json::json;

use crate::stage::Stage;
use crate::workspace;

/// Between two looks at whether a change is enforced: the resolution of the latency.
const RESOLUTION: Duration = Duration::from_millis(1);
/// Streams count as quiet when nothing was sent for this long.
const QUIET: Duration = Duration::from_secs(5);
/// Workloads with their zones; the frontend of east calls all of them.
const WORKLOADS: [(&str, &str); 4] = [("one", "east"), ("two", "east"), ("three", "west"), ("four", "west")];
/// A status that a denied request gets.
const FORBIDDEN: u16 = 403;

const SERVICE: &str = "type: Dataplane
mesh: default
name: {{ name }}
labels:
  kuma.io/workload: {{ name }}
networking:
  address: {{ address }}
  inbound:
  - {name: http, port: {{ port }}, servicePort: {{ servicePort }}, protocol: http}
";

/// Flags of the measurements.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Changes of the policy whose latency is measured.
    #[arg(long, default_value_t = 200)]
    changes: usize,
    /// Seconds for which idle CPU is measured.
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// Use the binaries of this folder instead of building them with --release.
    #[arg(long, value_name = "FOLDER")]
    binaries: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Stage { toolbox, folder, signals: _signals } = Stage::set(args.binaries.as_deref(), true)?;
    let mut rows = Vec::new();
    measure(args, &toolbox, folder.path(), &mut rows)?;
    println!("\n| what | figure |\n|---|---|");
    for (what, figure) in rows {
        println!("| {what} | {figure} |");
    }
    folder.leave(false)
}

fn measure(
    args: &Args,
    toolbox: &Toolbox,
    folder: &Path,
    rows: &mut Vec<(String, String)>,
) -> anyhow::Result<()> {
    println!("starting a global, two zones and five Envoys");
    let mut topology = Topology::start(toolbox, &workspace::root().join("deploy/multizone"), folder)?;
    let relay = Relay::start(topology.global.port("kds"))?;
    topology.join_through("east", relay.port())?;
    topology.join("west")?;
    topology.apply_manifests()?;
    topology.start_ingress("west")?;
    let outbounds = start_workloads(&mut topology, folder)?;
    topology.global.api().apply(&permission("measure-allow", "allow"))?;
    toolbox.patience.until("all to be allowed", || {
        topology.ensure_running()?;
        outbounds.iter().try_for_each(|port| match request(*port, "measure")? {
            Answer::Reached(_) => Ok(()),
            Answer::Refused(status, text) => Err(anyhow!("{status} {text}")),
        })
    })?;
    latency(args.changes, &topology, &outbounds, rows)?;
    idle(args.idle, &mut topology, rows)?;
    reconnect(&relay, &mut topology, rows)?;
    topology.stop();
    Ok(())
}

/// Starts the workloads and a frontend; tells the frontend's outbounds.
fn start_workloads(topology: &mut Topology, folder: &Path) -> anyhow::Result<Vec<u16>> {
    let template = folder.join("service.yaml");
    std::fs::write(&template, SERVICE)?;
    let mut frontend = SERVICE.to_owned() + "  outbound:\n";
    let mut outbounds = Vec::new();
    for (name, zone) in WORKLOADS {
        let [port, service_port, outbound] = ports::free()?;
        topology.start_service(zone, name, service_port)?;
        topology.start_proxy_of(zone, name, &template, &vars(name, port, service_port))?;
        frontend += &format!(
            "  - {{address: 127.0.0.1, port: {outbound}, backendRef: {{kind: MeshService, port: {port}, \
             labels: {{kuma.io/display-name: {name}, kuma.io/zone: {zone}}}}}}}\n"
        );
        outbounds.push(outbound);
    }
    let file = folder.join("frontend.yaml");
    std::fs::write(&file, frontend)?;
    let [port, service_port] = ports::free()?;
    topology.start_service("east", "frontend", service_port)?;
    topology.start_proxy_of("east", "frontend", &file, &vars("frontend", port, service_port))?;
    Ok(outbounds)
}

fn vars(name: &str, port: u16, service_port: u16) -> [(&'static str, String); 3] {
    [("name", name.to_owned()), ("port", port.to_string()), ("servicePort", service_port.to_string())]
}

fn permission(name: &str, action: &str) -> serde_json::Value {
    let frontend = json!({"type": "Exact", "value": "spiffe://default.east.mesh.local/workload/frontend"});
    json!({
        "type": "MeshTrafficPermission", "mesh": "default", "name": name,
        "spec": {"targetRef": {"kind": "Mesh"}, "rules": [{"default": {action: [{"spiffeID": frontend}]}}]},
    })
}

/// From the write at the global to the last of four Envoys, two of them in the other zone.
fn latency(
    changes: usize,
    topology: &Topology,
    outbounds: &[u16],
    rows: &mut Vec<(String, String)>,
) -> anyhow::Result<()> {
    println!("latency of {changes} changes");
    let api = topology.global.api();
    let denial = permission("measure-deny", "deny");
    let mut samples = Samples::default();
    let mut written = None;
    for _ in 0..changes {
        let started = Instant::now();
        match written.take() {
            None => {
                written = Some(api.apply(&denial)?);
                until_all(outbounds, true)?;
            }
            Some(path) => {
                api.delete(&path)?;
                until_all(outbounds, false)?;
            }
        }
        samples.add(started.elapsed());
    }
    if let Some(path) = written {
        api.delete(&path)?;
    }
    rows.push((
        format!(
            "a policy from PUT or DELETE at the global to the last of {} Envoys, {changes} changes",
            outbounds.len()
        ),
        samples.to_string(),
    ));
    Ok(())
}

/// Waits until every destination refuses, or until none does.
fn until_all(outbounds: &[u16], refused: bool) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut open = outbounds.to_vec();
    while let Some(port) = open.last() {
        let is_refused = matches!(request(*port, "measure")?, Answer::Refused(FORBIDDEN, _));
        if is_refused == refused {
            open.pop();
        } else if started.elapsed() > Duration::from_secs(60) {
            bail!("a change is not enforced after 60 s");
        } else {
            sleep(RESOLUTION);
        }
    }
    Ok(())
}

/// CPU and memory of each program while nothing happens.
fn idle(seconds: u64, topology: &mut Topology, rows: &mut Vec<(String, String)>) -> anyhow::Result<()> {
    println!("idle for {seconds} s");
    let mut processes = vec![("global-cp".to_owned(), topology.global.process().id())];
    for (name, zone) in &mut topology.zones {
        processes.push((format!("zone-cp {name}"), zone.plane.process().id()));
    }
    let proxy = topology.zone("east")?.proxies.get_mut("frontend").context("there is a frontend")?;
    processes.push(("mesh-dp".to_owned(), proxy.process().id()));
    sleep(QUIET);
    let before = processes.iter().map(|(_, id)| procfs::cpu(*id)).collect::<anyhow::Result<Vec<_>>>()?;
    sleep(Duration::from_secs(seconds));
    for ((name, id), before) in processes.iter().zip(before) {
        let share = (procfs::cpu(*id)? - before) / f64::from(u32::try_from(seconds)?) * 100.0;
        rows.push((format!("{name}: idle CPU over {seconds} s"), format!("{share:.2} % of a core")));
        rows.push((format!("{name}: resident memory"), format!("{:.1} MiB", procfs::resident_mib(*id)?)));
    }
    Ok(())
}

/// What the streams of an unchanged zone cost when they are made anew.
fn reconnect(relay: &Relay, topology: &mut Topology, rows: &mut Vec<(String, String)>) -> anyhow::Result<()> {
    println!("reconnect of a zone");
    let (before, connections) = (relay.bytes(), relay.server_names().len());
    relay.cut();
    let started = Instant::now();
    while relay.server_names().len() == connections {
        topology.ensure_running()?;
        if started.elapsed() > Duration::from_secs(60) {
            bail!("the zone does not come back");
        }
        sleep(RESOLUTION);
    }
    let mut seen = relay.bytes();
    loop {
        sleep(QUIET);
        let now = relay.bytes();
        if now == seen || started.elapsed() > Duration::from_secs(60) {
            break;
        }
        seen = now;
    }
    let cost = seen - before;
    rows.push(("reconnect of an unchanged zone, TLS and both ways".to_owned(), format!("{cost} bytes")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use e2e::manifest;

    use super::*;

    #[test]
    fn the_template_is_a_dataplane() {
        let values = [("address", "127.0.0.1".to_owned())];
        let values = [&values[..], &vars("one", 1, 2)].concat();
        let resources = manifest::parse(&manifest::render(SERVICE, &values)).unwrap();
        assert_eq!(resources[0]["networking"]["inbound"][0]["servicePort"], 2);
    }
}
