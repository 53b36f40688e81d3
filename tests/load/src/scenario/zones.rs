//! Policies from the global to many zones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::samples::Samples;
use kds::View;
use model::Kind;
use rand::Rng;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::board::{Board, Progress};
use crate::deck::Deck;
use crate::meter::show_cpu;
use crate::report::Report;
use crate::rest::{Rest, policy};
use crate::zone::{Dialect, Global, PROBE, Zone};

/// Longest wait for all zones.
const LIMIT: Duration = Duration::from_secs(120);
/// Changes come at random phases of whatever ticks in a control plane.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// After this long without a change a process counts as settled.
const SETTLE: Duration = Duration::from_secs(5);

/// Flags of the scenario.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Zones that are played.
    #[arg(long, default_value_t = 100)]
    zones: usize,
    /// Policies that are there from the start.
    #[arg(long, default_value_t = 1000)]
    policies: usize,
    /// Changes of one policy whose latency is measured.
    #[arg(long, default_value_t = 200)]
    changes: u64,
    /// Policies that are written at once.
    #[arg(long, default_value_t = 100)]
    burst: usize,
    /// Seconds for which idle CPU is measured.
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// Whose dialect the zones speak.
    #[arg(long, value_enum, default_value_t = Dialect::Isthmus)]
    dialect: Dialect,
}

struct Run<'a> {
    args: &'a Args,
    deck: &'a mut Deck,
    rest: Rest,
    board: Arc<Board>,
    report: Report,
    /// What zones offer here.
    nothing: watch::Sender<Arc<View>>,
    /// Resources that were deleted through the API.
    deleted: u64,
}

pub(crate) async fn run(args: &Args, deck: &mut Deck) -> anyhow::Result<Report> {
    let scenario = format!("{} zones, {} policies", args.zones, args.policies);
    println!("{scenario}");
    let rest = deck.rest();
    rest.put_all((0..args.policies).map(|number| policy(&format!("load-{number}"), 0))).await?;
    let board = Board::new(args.zones);
    let report = Report::new(scenario);
    let nothing = watch::Sender::new(Arc::new(View::default()));
    let mut run = Run { args, deck, rest, board, report, nothing, deleted: 0 };
    let mut zones = JoinSet::new();
    run.first_sync(&mut zones).await?;
    run.latency().await?;
    run.idle().await?;
    run.burst().await?;
    run.memory()?;
    run.restart().await?;
    run.check(&mut zones).await?;
    zones.shutdown().await;
    Ok(run.report)
}

impl Run<'_> {
    fn zone(&self, index: usize, token: String, global: &Arc<Global>, board: &Arc<Board>) -> Zone {
        Zone {
            index,
            name: zone_name(index),
            token,
            global: Arc::clone(global),
            board: Arc::clone(board),
            views: self.nothing.subscribe(),
        }
    }

    async fn first_sync(&mut self, zones: &mut JoinSet<()>) -> anyhow::Result<()> {
        let tokens = self.rest.zone_tokens((0..self.args.zones).map(zone_name).collect()).await?;
        let global = Global::new(self.deck.global.port("kds"), self.deck.ca()?, self.args.dialect);
        let mut meter = self.deck.meter();
        let started = Instant::now();
        for (index, token) in tokens.into_iter().enumerate() {
            zones.spawn(self.zone(index, token, &global, &self.board).keep());
        }
        let synced =
            self.board.until("first synchronisation", LIMIT, self.in_sync(self.args.policies)).await?;
        let seconds = (synced - started).as_secs_f64();
        let bytes: u64 = self.board.all().map(|zone| zone.bytes).sum();
        self.report
            .add("all zones connect and are in sync", format!("{seconds:.2} s, {}", show_cpu(&meter.cpu()?)));
        self.report.add("payload of the first synchronisation, all zones", format!("{bytes} bytes"));
        Ok(())
    }

    /// Everything was answered and all policies are there.
    fn in_sync(&self, policies: usize) -> impl Fn(&Progress) -> bool + use<> {
        let kinds = Kind::global_to_zone().count();
        move |zone| zone.answered >= kinds && timeouts(zone) >= policies
    }

    /// One policy, from the request to the last zone's acknowledgement.
    async fn latency(&mut self) -> anyhow::Result<()> {
        tokio::time::sleep(SETTLE).await;
        let mut samples = Samples::default();
        let mut meter = self.deck.meter();
        let bytes: u64 = self.board.all().map(|zone| zone.bytes).sum();
        for marker in 1..=self.args.changes {
            tokio::time::sleep(LONGEST_PAUSE.mul_f64(rand::rng().random())).await;
            let (path, resource) = policy(PROBE, marker);
            let started = Instant::now();
            let (written, reached) = tokio::join!(
                self.rest.put(path, resource),
                self.board.until("a change", LIMIT, |zone| zone.marker >= marker)
            );
            written?;
            samples.add(reached? - started);
        }
        let changes = self.args.changes;
        let per_change = |value: f64| value / f64::from(u32::try_from(changes).unwrap_or(u32::MAX));
        let cpu: Vec<_> = meter.cpu()?;
        let now: u64 = self.board.all().map(|zone| zone.bytes).sum();
        self.report.add(
            format!("one policy: request to last zone's acknowledgement, {changes} changes"),
            samples.to_string(),
        );
        for (name, seconds) in cpu {
            self.report.add(
                format!("one policy: CPU of {name}"),
                format!("{:.2} ms a change", per_change(seconds * 1e3)),
            );
        }
        self.report
            .add("one policy: payload, all zones", format!("{} bytes a change", (now - bytes) / changes));
        Ok(())
    }

    async fn idle(&mut self) -> anyhow::Result<()> {
        tokio::time::sleep(SETTLE).await;
        let mut meter = self.deck.meter();
        tokio::time::sleep(Duration::from_secs(self.args.idle)).await;
        for (name, seconds) in meter.cpu()? {
            let share = seconds / f64::from(u32::try_from(self.args.idle)?) * 100.0;
            self.report.add(format!("idle {} s: {name}", self.args.idle), format!("{share:.2} % of a core"));
        }
        Ok(())
    }

    async fn burst(&mut self) -> anyhow::Result<()> {
        let mut meter = self.deck.meter();
        let burst = self.args.burst;
        let before = timeouts(&self.board.zone(0));
        let started = Instant::now();
        let (written, reached) = tokio::join!(
            self.rest.put_all((0..burst).map(|number| policy(&format!("burst-{number}"), 0))),
            self.board.until("a burst", LIMIT, |zone| timeouts(zone) >= before + burst)
        );
        written?;
        let seconds = (reached? - started).as_secs_f64();
        let cpu = show_cpu(&meter.cpu()?);
        self.report
            .add(format!("a burst of {burst} policies reaches all zones"), format!("{seconds:.2} s, {cpu}"));
        let started = Instant::now();
        let delete = async {
            for number in 0..burst {
                self.rest.delete(policy(&format!("burst-{number}"), 0).0).await?;
            }
            anyhow::Ok(())
        };
        let gone = self.board.until("deletions", LIMIT, |zone| timeouts(zone) <= before);
        let (deleted, reached) = tokio::join!(delete, gone);
        deleted?;
        self.deleted += u64::try_from(burst)?;
        let seconds = (reached? - started).as_secs_f64();
        self.report.add("their deletion, one after the other, reaches all zones", format!("{seconds:.2} s"));
        Ok(())
    }

    fn memory(&mut self) -> anyhow::Result<()> {
        for (name, resident, peak) in self.deck.meter().memory()? {
            self.report.add(format!("memory of {name}"), format!("{resident:.1} MiB, at most {peak:.1} MiB"));
        }
        Ok(())
    }

    /// The global is killed and started again; nothing has changed meanwhile.
    async fn restart(&mut self) -> anyhow::Result<()> {
        let before: u64 = self.board.all().map(|zone| zone.bytes).sum();
        let connections = self.board.connections();
        for mut zone in self.board.all() {
            zone.answered = 0;
        }
        tokio::task::block_in_place(|| self.deck.global.start_again())?;
        let started = Instant::now();
        let mut meter = self.deck.meter();
        let synced = self.board.until("all in sync again", LIMIT, self.in_sync(self.args.policies)).await?;
        let seconds = (synced - started).as_secs_f64();
        let cpu = show_cpu(&meter.cpu()?);
        let bytes: u64 = self.board.all().map(|zone| zone.bytes).sum::<u64>() - before;
        self.report.add(
            "the global is killed and restarted: all zones in sync after it is ready",
            format!("{seconds:.2} s, {cpu}"),
        );
        self.report.add("payload of that, all zones", format!("{bytes} bytes"));
        let again = self.board.connections() - connections;
        ensure!(again >= u64::try_from(self.args.zones)?, "only {again} zones connected again");
        Ok(())
    }

    /// Every zone holds what a zone that joins now is sent, and nothing was taken from any of them by mistake.
    async fn check(&mut self, zones: &mut JoinSet<()>) -> anyhow::Result<()> {
        let board = Board::new(1);
        let token =
            self.rest.zone_tokens(vec![zone_name(self.args.zones)]).await?.pop().context("no token")?;
        let global = Global::new(self.deck.global.port("kds"), self.deck.ca()?, Dialect::Kuma);
        let mut witness = self.zone(0, token, &global, &board);
        witness.name = zone_name(self.args.zones);
        zones.spawn(witness.keep());
        board.until("the witness", LIMIT, self.in_sync(self.args.policies)).await?;
        let expected = board.zone(0);
        for (index, zone) in self.board.all().enumerate() {
            for (kind, held) in &expected.held {
                ensure!(
                    zone.held.get(kind).is_some_and(|other| other == held),
                    "zone {index} does not hold the {} that it must",
                    kind.name
                );
            }
            ensure!(zone.removed == self.deleted, "zone {index} was told of {} removals", zone.removed);
        }
        self.report.add("check", "every zone holds what it must; no deletion but those asked for");
        Ok(())
    }
}

fn zone_name(index: usize) -> String {
    format!("zone-{index}")
}

fn timeouts(zone: &Progress) -> usize {
    zone.held.get(&Kind::MESH_TIMEOUT).map_or(0, BTreeMap::len)
}
