//! Proxies of one zone: policies, endpoints and changes elsewhere, many that connect at once, and a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::samples::Samples;
use rand::Rng;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::deck::ZoneDeck;
use crate::meter::show_cpu;
use crate::proxy::{Event, Plane, Proxy, Swarm};
use crate::report::Report;
use crate::rest::Rest;

const LIMIT: Duration = Duration::from_secs(300);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
const SETTLE: Duration = Duration::from_secs(5);
/// Services that each proxy calls.
const CALLED: usize = 3;
const ZONE: &str = "east";

/// Flags of the scenario.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Proxies that are played.
    #[arg(long, default_value_t = 2000)]
    proxies: usize,
    /// Services, served by the proxies in turn; each proxy calls three of them.
    #[arg(long, default_value_t = 1000)]
    services: usize,
    /// Changes of each sort whose latency is measured.
    #[arg(long, default_value_t = 200)]
    changes: u64,
}

fn service(number: usize) -> String {
    format!("svc-{number:04}")
}

fn address(number: usize) -> String {
    format!("10.{}.{}.{}", number / 62_500, number / 250 % 250, number % 250 + 1)
}

/// The Dataplane of a proxy, as it brings it along.
fn dataplane(number: usize, services: usize) -> Value {
    let own = service(number % services);
    let refs: Vec<_> = (1..=CALLED)
        .map(|next| json!({"kind": "MeshService", "name": service((number + next) % services)}))
        .collect();
    json!({
        "type": "Dataplane", "mesh": "default", "name": format!("dp-{number:05}"),
        "labels": {"app": own, "kuma.io/workload": own},
        "networking": {
            "address": address(number),
            "inbound": [{"port": 8080, "name": "http", "protocol": "http"}],
            "transparentProxying": {
                "redirectPortInbound": 15006, "redirectPortOutbound": 15001,
                "reachableBackends": {"refs": refs},
            },
        },
    })
}

/// The policy of all calls; its timeout tells one version from another.
fn policy(marker: u64) -> (String, Value) {
    let to =
        json!([{"targetRef": {"kind": "Mesh"}, "default": {"connectionTimeout": format!("{marker}ms")}}]);
    let resource = json!({"type": "MeshTimeout", "mesh": "default", "name": "a-probe", "spec": {"to": to}});
    ("/meshes/default/meshtimeouts/a-probe".to_owned(), resource)
}

/// A policy for nobody.
fn other_policy(marker: u64) -> (String, Value) {
    let rules = json!([{"default": {"idleTimeout": format!("{marker}s")}}]);
    let target = json!({"kind": "Dataplane", "labels": {"app": "nobody"}});
    let spec = json!({"targetRef": target, "rules": rules});
    let resource = json!({"type": "MeshTimeout", "mesh": "default", "name": "others", "spec": spec});
    ("/meshes/default/meshtimeouts/others".to_owned(), resource)
}

/// One more endpoint of the first service, at another address each time.
fn endpoint(marker: u64) -> (String, Value) {
    let own = service(0);
    let resource = json!({
        "type": "Dataplane", "mesh": "default", "name": "moving", "labels": {"app": own, "kuma.io/workload": own},
        "networking": {
            "address": moving(marker),
            "inbound": [{"port": 8080, "name": "http", "protocol": "http"}],
        },
    });
    ("/meshes/default/dataplanes/moving".to_owned(), resource)
}

fn moving(marker: u64) -> String {
    format!("{}{}.{}", crate::proxy::MOVING, marker / 250 % 250, marker % 250 + 1)
}

/// Proxies that call the first service.
fn dependents(args: &Args) -> usize {
    let calls_it = |number: usize| (1..=CALLED).any(|next| (number + next).is_multiple_of(args.services));
    (0..args.proxies).filter(|number| calls_it(*number)).count()
}

struct Run<'a> {
    args: &'a Args,
    deck: &'a mut ZoneDeck,
    rest: Rest,
    swarm: Arc<Swarm>,
    report: Report,
    marker: u64,
    /// Resources that one policy for all changes.
    of_policy: u64,
}

pub(crate) async fn run(args: &Args, binaries: &Path, folder: &Path) -> anyhow::Result<Report> {
    ensure!(args.services > CALLED, "--services must be more than the {CALLED} that each proxy calls");
    let scenario = format!("{} proxies, {} services, {CALLED} called by each", args.proxies, args.services);
    println!("{scenario}");
    let mut deck = ZoneDeck::start(binaries, folder, ZONE)?;
    let rest = deck.rest();
    let identity = json!({"type": "MeshIdentity", "mesh": "default", "name": "identity", "spec": {
        "selector": {"dataplane": {"matchLabels": {}}},
        "provider": {"type": "Bundled", "bundled": {
            "insecureAllowSelfSigned": true, "autogenerate": {"enabled": true}, "meshTrustCreation": "Enabled"}}}});
    rest.put("/meshes/default/meshidentities/identity".to_owned(), identity).await?;
    let swarm = Swarm::new(args.proxies);
    let plane = Arc::new(Plane { port: deck.plane.port("dpServer"), ca: deck.ca()? });
    let workloads = (0..args.services.min(args.proxies)).map(service).collect();
    let tokens = rest.workload_tokens(workloads).await?;
    let report = Report::new(scenario);
    let mut run = Run { args, deck: &mut deck, rest, swarm, report, marker: 0, of_policy: 0 };
    run.memory("empty")?;
    let mut proxies = run.connect(&plane, &tokens).await?;
    run.memory("with all")?;
    run.idle().await?;
    run.policies().await?;
    run.endpoints().await?;
    run.others().await?;
    run.memory("after the changes")?;
    run.restart().await?;
    run.check()?;
    run.memory("at the end")?;
    let Run { report, .. } = run;
    proxies.shutdown().await;
    deck.stop();
    Ok(report)
}

impl Run<'_> {
    /// All connect at once; ends when each has an address of every service that it calls.
    async fn connect(&mut self, plane: &Arc<Plane>, tokens: &[String]) -> anyhow::Result<JoinSet<()>> {
        let (count, services) = (self.args.proxies, self.args.services);
        let mut meter = self.deck.meter();
        let started = Instant::now();
        let mut proxies = JoinSet::new();
        for number in 0..count {
            let token = tokens.get(number % services).context("a token for each service")?.clone();
            let dataplane = dataplane(number, services);
            let (plane, swarm) = (Arc::clone(plane), Arc::clone(&self.swarm));
            proxies.spawn(Proxy::new(number, &dataplane, token, plane, swarm)?.keep());
        }
        let first = self.swarm.until("a first configuration of all", LIMIT, Event::Configured, count).await?;
        let all = self.swarm.until_all("every endpoint", LIMIT, |held| self.is_complete(held)).await?;
        let (first, all) = ((first - started).as_secs_f64(), (all - started).as_secs_f64());
        let cpu = show_cpu(&meter.cpu()?);
        self.report.add(
            "all connect at once",
            format!("first configuration of the last {first:.2} s, everything {all:.2} s, {cpu}"),
        );
        Ok(proxies)
    }

    /// What a proxy must hold: the addresses of those who serve what it calls.
    fn wanted(&self, number: usize) -> BTreeMap<String, BTreeSet<String>> {
        let (proxies, services) = (self.args.proxies, self.args.services);
        let called = (1..=CALLED).map(|next| (number + next) % services);
        let served = |of: usize| -> BTreeSet<String> {
            let own = (of..proxies).step_by(services).map(address);
            own.chain((of == 0 && self.marker > 0).then(|| moving(self.marker))).collect()
        };
        called.map(|of| (service(of), served(of))).collect()
    }

    fn is_complete(&self, held: &crate::proxy::Held) -> bool {
        held.endpoints == self.wanted(held.number)
    }

    fn memory(&mut self, when: &str) -> anyhow::Result<()> {
        for (name, resident, peak) in self.deck.meter().memory()? {
            self.report.add(
                format!("memory of {name}, {when}"),
                format!("{resident:.1} MiB, at most {peak:.1} MiB"),
            );
        }
        Ok(())
    }

    async fn idle(&mut self) -> anyhow::Result<()> {
        tokio::time::sleep(SETTLE).await;
        let mut meter = self.deck.meter();
        tokio::time::sleep(SETTLE * 4).await;
        let used = meter.cpu()?.iter().map(|(_, seconds)| seconds).sum::<f64>();
        let share = used / (SETTLE * 4).as_secs_f64() * 100.0;
        self.report.add("idle, 20 s", format!("{share:.2} % of a core"));
        Ok(())
    }

    /// A policy for every call of every proxy.
    async fn policies(&mut self) -> anyhow::Result<()> {
        let count = self.args.proxies;
        let changes = self.args.changes.min(50);
        let mut samples = Samples::default();
        let mut meter = self.deck.meter();
        for number in 0..changes {
            let before = self.swarm.resources();
            pause().await;
            let marker = 1000 + number;
            let (path, resource) = policy(marker);
            let started = Instant::now();
            self.rest.put(path, resource).await?;
            let last = self.swarm.until("the policy at all", LIMIT, Event::Timeout(marker), count).await?;
            samples.add(last - started);
            // Endpoints follow their clusters.
            tokio::time::sleep(LONGEST_PAUSE).await;
            self.of_policy = self.swarm.resources() - before;
        }
        let cpu = meter.cpu()?.iter().map(|(_, seconds)| seconds).sum::<f64>() / changes as f64;
        self.report.add(
            format!("a policy for all, from the write to the last acknowledgement, {changes} changes"),
            format!("{samples}; {cpu:.3} CPU s each"),
        );
        Ok(())
    }

    /// An endpoint of one service moves.
    async fn endpoints(&mut self) -> anyhow::Result<()> {
        let count = dependents(self.args);
        let mut samples = Samples::default();
        // The first one is new: its service hears of it, and writes its status.
        self.move_endpoint(count).await?;
        tokio::time::sleep(SETTLE).await;
        let mut meter = self.deck.meter();
        for _ in 0..self.args.changes {
            pause().await;
            samples.add(self.move_endpoint(count).await?);
        }
        let cpu = meter.cpu()?.iter().map(|(_, seconds)| seconds).sum::<f64>() / self.args.changes as f64;
        self.report.add(
            format!("an endpoint moves that {count} proxies call, {} changes", self.args.changes),
            format!("{samples}; {:.2} ms of CPU each", cpu * 1000.0),
        );
        Ok(())
    }

    async fn move_endpoint(&mut self, count: usize) -> anyhow::Result<Duration> {
        self.marker += 1;
        let (path, resource) = endpoint(self.marker);
        let started = Instant::now();
        self.rest.put(path, resource).await?;
        let event = Event::Moved(moving(self.marker));
        Ok(self.swarm.until("the endpoint at all that call it", LIMIT, event, count).await? - started)
    }

    /// Changes that concern no proxy.
    async fn others(&mut self) -> anyhow::Result<()> {
        tokio::time::sleep(SETTLE).await;
        let before = self.swarm.responses();
        let mut meter = self.deck.meter();
        for marker in 1..=self.args.changes {
            pause().await;
            let (path, resource) = other_policy(marker);
            self.rest.put(path, resource).await?;
        }
        let cpu = meter.cpu()?.iter().map(|(_, seconds)| seconds).sum::<f64>() / self.args.changes as f64;
        let sent = self.swarm.responses() - before;
        ensure!(sent == 0, "{sent} responses after changes that concern nobody");
        self.report.add(
            format!("a policy for nobody here, {} changes", self.args.changes),
            format!("{:.2} ms of CPU each, nothing sent", cpu * 1000.0),
        );
        Ok(())
    }

    /// The control plane is killed and starts again.
    async fn restart(&mut self) -> anyhow::Result<()> {
        let count = self.args.proxies;
        let before = (self.swarm.resources(), self.swarm.removals());
        self.swarm.forget(&Event::Reconnected);
        let started = Instant::now();
        self.deck.plane.start_again()?;
        let up = started.elapsed().as_secs_f64();
        let back = self.swarm.until("everybody to be back", LIMIT, Event::Reconnected, count).await?;
        // The proof that each stream works: one more policy for all.
        let (path, resource) = policy(9999);
        self.rest.put(path, resource).await?;
        let last = self.swarm.until("a policy after the restart", LIMIT, Event::Timeout(9999), count).await?;
        let (back, last) = ((back - started).as_secs_f64(), (last - started).as_secs_f64());
        tokio::time::sleep(LONGEST_PAUSE).await;
        let resent = (self.swarm.resources() - before.0).saturating_sub(self.of_policy);
        ensure!(self.swarm.removals() == before.1, "a restart took something away");
        self.report.add(
            "the control plane is killed and starts again",
            format!("ready after {up:.2} s, all streams back after {back:.2} s, in sync and a new policy everywhere after {last:.2} s; {resent} resources sent beside that policy's"),
        );
        Ok(())
    }

    /// Each proxy holds exactly what it must.
    fn check(&mut self) -> anyhow::Result<()> {
        let wrong: Vec<_> = self.swarm.held().into_iter().filter(|held| !self.is_complete(held)).collect();
        if let Some(first) = wrong.first() {
            let wanted = self.wanted(first.number);
            anyhow::bail!(
                "{} proxies hold something else, such as {}: {:?}, not {wanted:?}",
                wrong.len(),
                first.number,
                first.endpoints
            );
        }
        let refused = self.swarm.refusals();
        ensure!(refused == 0, "{refused} streams were refused");
        self.report.add("check", format!("{} proxies hold what they must", self.args.proxies));
        Ok(())
    }
}

async fn pause() {
    tokio::time::sleep(LONGEST_PAUSE.mul_f64(rand::rng().random())).await;
}
