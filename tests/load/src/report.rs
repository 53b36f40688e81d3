//! What a run found, as JSON and as a Markdown table with the machine's facts.

use std::fmt::Write;

use serde::Serialize;

/// One figure.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) figure: String,
}

/// Everything a run found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// What was run, with its sizes.
    pub(crate) scenario: String,
    /// Processor, number of cores, kernel.
    pub(crate) machine: String,
    pub(crate) rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(scenario: String) -> Self {
        Self { scenario, machine: machine(), rows: Vec::new() }
    }

    /// Adds a figure and shows it at once.
    pub(crate) fn add(&mut self, what: impl Into<String>, figure: impl Into<String>) {
        let row = Row { what: what.into(), figure: figure.into() };
        println!("{}: {}", row.what, row.figure);
        self.rows.push(row);
    }

    /// A table.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("{} ({})\n\n| what | figure |\n|---|---|\n", self.scenario, self.machine);
        for Row { what, figure } in &self.rows {
            let _ = writeln!(text, "| {what} | {figure} |");
        }
        text
    }
}

fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores of {}, Linux {}", model.trim_start_matches([' ', '\t', ':']), kernel.trim())
}
