//! Dataplanes and insights from zones to the global.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::samples::Samples;
use model::Kind;
use rand::Rng;
use tokio::task::JoinSet;

use crate::board::Board;
use crate::deck::Deck;
use crate::fleet::Fleet;
use crate::meter::show_cpu;
use crate::report::Report;
use crate::rest::{Rest, policy};
use crate::zone::{Dialect, Global, PROBE, Zone};

const LIMIT: Duration = Duration::from_secs(300);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
const SETTLE: Duration = Duration::from_secs(5);
/// Resources of a page while walking: the most that the API gives.
const PAGE: usize = 1000;
/// Kinds that zones upload here, and that the global has to acknowledge.
const UPLOADED: [Kind; 2] = [Kind::DATAPLANE, Kind::DATAPLANE_INSIGHT];

/// Flags of the scenario.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Zones that are played.
    #[arg(long, default_value_t = 20)]
    zones: usize,
    /// Dataplanes in all, each with an insight.
    #[arg(long, default_value_t = 100_000)]
    dataplanes: usize,
    /// Changes whose latency is measured, quiet and again under churn.
    #[arg(long, default_value_t = 200)]
    changes: u64,
    /// Seconds of churn: one dataplane in a hundred is replaced each second.
    #[arg(long, default_value_t = 300)]
    churn: u64,
}

struct Run<'a> {
    args: &'a Args,
    deck: &'a mut Deck,
    rest: Rest,
    board: Arc<Board>,
    fleets: Vec<Fleet>,
    report: Report,
    marker: u64,
}

pub(crate) async fn run(args: &Args, deck: &mut Deck) -> anyhow::Result<Report> {
    let scenario = format!("{} dataplanes with insights in {} zones", args.dataplanes, args.zones);
    println!("{scenario}");
    let names: Vec<_> = (0..args.zones).map(|zone| format!("zone-{zone}")).collect();
    let fleets: Vec<_> = names.iter().enumerate().map(|(zone, name)| Fleet::new(zone, name)).collect();
    let rest = deck.rest();
    let tokens = rest.zone_tokens(names.clone()).await?;
    let board = Board::new(args.zones);
    let global = Global::new(deck.global.port("kds"), deck.ca()?, Dialect::Isthmus);
    let mut zones = JoinSet::new();
    for (index, (name, token)) in names.into_iter().zip(tokens).enumerate() {
        let (global, board) = (Arc::clone(&global), Arc::clone(&board));
        let views = fleets.get(index).context("a zone has a fleet")?.views();
        zones.spawn(Zone { index, name, token, global, board, views }.keep());
    }
    let kinds = Kind::global_to_zone().count();
    board.until("connection of all", LIMIT, |zone| zone.answered >= kinds).await?;
    let report = Report::new(scenario);
    let mut run = Run { args, deck, rest, board, fleets, report, marker: 0 };
    run.memory("empty")?;
    run.upload().await?;
    run.memory("with all")?;
    run.latency("quiet").await?;
    run.endpoint().await?;
    run.churn().await?;
    run.walk().await?;
    run.memory("at the end")?;
    run.check().await?;
    zones.shutdown().await;
    Ok(run.report)
}

impl Run<'_> {
    /// Offers everything at once; ends when the global has acknowledged it.
    async fn upload(&mut self) -> anyhow::Result<()> {
        let (zones, all) = (self.args.zones, self.args.dataplanes);
        // Encoding what the zones offer is not the global's work.
        let mut meter = self.deck.meter();
        let started = Instant::now();
        for (zone, fleet) in self.fleets.iter_mut().enumerate() {
            fleet.put((zone..all).step_by(zones).map(|number| number / zones), 0);
        }
        let offered = started.elapsed();
        let wanted = |zone: &crate::board::Progress| {
            UPLOADED.iter().all(|kind| zone.offered.get(kind).is_some_and(|(held, all)| *held && *all > 0))
        };
        let reached = self.board.until("the upload", LIMIT, wanted).await?;
        let seconds = (reached - started).as_secs_f64();
        let cpu = show_cpu(&meter.cpu()?);
        let made = offered.as_secs_f64();
        self.report.add(
            "upload: from the first offer to the last acknowledgement",
            format!("{seconds:.2} s (of which the zones prepared for {made:.2} s), {cpu}"),
        );
        Ok(())
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

    /// One policy, from the request to the last zone's acknowledgement.
    async fn latency(&mut self, when: &str) -> anyhow::Result<Samples> {
        if when == "quiet" {
            tokio::time::sleep(SETTLE).await;
        }
        let mut samples = Samples::default();
        for _ in 0..self.args.changes {
            tokio::time::sleep(LONGEST_PAUSE.mul_f64(rand::rng().random())).await;
            samples.add(self.probe().await?);
        }
        self.report.add(
            format!("one policy to all zones, {when}, {} changes", self.args.changes),
            samples.to_string(),
        );
        Ok(samples)
    }

    async fn probe(&mut self) -> anyhow::Result<Duration> {
        self.marker += 1;
        let marker = self.marker;
        let (path, resource) = policy(PROBE, marker);
        let started = Instant::now();
        let (written, reached) = tokio::join!(
            self.rest.put(path, resource),
            self.board.until("a change", LIMIT, |zone| zone.marker >= marker)
        );
        written?;
        Ok(reached? - started)
    }

    /// The last endpoint of a zone's service goes and comes; all other zones learn it.
    async fn endpoint(&mut self) -> anyhow::Result<()> {
        let mut samples = Samples::default();
        for _ in 0..self.args.changes {
            tokio::time::sleep(LONGEST_PAUSE.mul_f64(rand::rng().random())).await;
            self.marker += 1;
            let marker = self.marker;
            let started = Instant::now();
            let fleet = self.fleets.first_mut().context("there is a zone")?;
            fleet.put_service(PROBE, marker.is_multiple_of(2), marker);
            // A zone is not sent its own.
            self.board.zone(0).marker = marker;
            let reached = self.board.until("an endpoint", LIMIT, |zone| zone.marker >= marker).await?;
            samples.add(reached - started);
        }
        self.report.add(
            format!(
                "a service's endpoint goes or comes in one zone: last other zone knows, {} changes",
                self.args.changes
            ),
            samples.to_string(),
        );
        Ok(())
    }

    /// A hundredth of the dataplanes is replaced each second, evenly, while a policy is changed again and again.
    async fn churn(&mut self) -> anyhow::Result<()> {
        let per_second = (self.args.dataplanes / 100).max(1);
        let mut meter = self.deck.meter();
        let (mut samples, mut replaced, mut generation) = (Samples::default(), 0, 0);
        let started = Instant::now();
        let length = Duration::from_secs(self.args.churn);
        while started.elapsed() < length {
            let due = (started.elapsed().as_secs_f64() * count(per_second)) as usize;
            while replaced < due {
                let zone = replaced % self.args.zones;
                let fleet = self.fleets.get_mut(zone).context("a zone has a fleet")?;
                let size = fleet.count(Kind::DATAPLANE).max(1);
                let batch = (due - replaced).div_ceil(self.args.zones).max(1);
                let from = replaced / self.args.zones;
                generation += 1;
                fleet.put((from..from + batch).map(|number| number % size), generation);
                replaced += batch;
            }
            samples.add(self.probe().await?);
            tokio::time::sleep(LONGEST_PAUSE.mul_f64(rand::rng().random())).await;
        }
        let seconds = started.elapsed().as_secs_f64();
        let cpu = show_cpu(&meter.cpu()?);
        self.report.add(
            format!("one policy to all zones, under churn of {per_second} dataplanes a second"),
            samples.to_string(),
        );
        self.report.add(format!("churn: {replaced} dataplanes replaced in {seconds:.0} s"), cpu);
        Ok(())
    }

    /// Walks all dataplanes page by page.
    async fn walk(&mut self) -> anyhow::Result<()> {
        tokio::time::sleep(SETTLE).await;
        let mut meter = self.deck.meter();
        let before = self.deck.meter().memory()?;
        let (mut path, mut walked, mut pages) = (format!("/dataplanes?size={PAGE}"), 0, Vec::new());
        loop {
            let started = Instant::now();
            let page = self.rest.get(path).await?;
            pages.push(started.elapsed());
            walked += page["items"].as_array().context("a page without items")?.len();
            match page["next"].as_str() {
                Some(next) => path = path_of(next)?,
                None => break,
            }
        }
        ensure!(walked == self.args.dataplanes, "{walked} dataplanes were walked over");
        let cpu = show_cpu(&meter.cpu()?);
        let (first, last) =
            (pages.first().copied().unwrap_or_default(), pages.last().copied().unwrap_or_default());
        self.report.add(
            format!("walk of {walked} dataplanes in pages of {PAGE}"),
            format!("{cpu}; first page {} ms, last {} ms", first.as_millis(), last.as_millis()),
        );
        for ((name, before, _), (_, after, _)) in before.into_iter().zip(self.deck.meter().memory()?) {
            self.report.add(format!("walk: memory of {name}"), format!("{:+.1} MiB", after - before));
        }
        Ok(())
    }

    /// The global has exactly what the zones have.
    async fn check(&mut self) -> anyhow::Result<()> {
        for (kind, collection) in [(Kind::DATAPLANE, "/dataplanes")] {
            let total = self.rest.total(collection).await?;
            let expected: usize = self.fleets.iter().map(|fleet| fleet.count(kind)).sum();
            ensure!(total == u64::try_from(expected)?, "{collection}: {total} instead of {expected}");
        }
        ensure!(self.board.all().all(|zone| zone.removed == 0), "a zone was told of a removal");
        self.report.add("check", "the global has every dataplane; no deletion");
        Ok(())
    }
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// Path and query of a link to the next page.
fn path_of(link: &str) -> anyhow::Result<String> {
    let rest = link.split_once("://").map_or(link, |(_, rest)| rest);
    let at = rest.find('/').with_context(|| format!("{link:?} has no path"))?;
    Ok(rest[at..].to_owned())
}
