//! CPU and memory of processes, read from outside.

use e2e::procfs;

/// Looks at some processes.
pub(crate) struct Meter {
    processes: Vec<(&'static str, u32)>,
    /// CPU seconds of each at the last look.
    before: Vec<f64>,
}

impl Meter {
    pub(crate) fn new(processes: Vec<(&'static str, u32)>) -> Self {
        let before = processes.iter().map(|(_, id)| procfs::cpu(*id).unwrap_or_default()).collect();
        Self { processes, before }
    }

    /// CPU seconds of each process since the last look.
    pub(crate) fn cpu(&mut self) -> anyhow::Result<Vec<(&'static str, f64)>> {
        let mut used = Vec::new();
        for ((name, id), before) in self.processes.iter().zip(&mut self.before) {
            let now = procfs::cpu(*id)?;
            used.push((*name, now - *before));
            *before = now;
        }
        Ok(used)
    }

    /// Resident and peak memory of each process, MiB.
    pub(crate) fn memory(&self) -> anyhow::Result<Vec<(&'static str, f64, f64)>> {
        let read = |(name, id): &(&'static str, u32)| {
            Ok((*name, procfs::resident_mib(*id)?, procfs::peak_mib(*id)?))
        };
        self.processes.iter().map(read).collect()
    }
}

/// CPU seconds of several processes in one line.
pub(crate) fn show_cpu(used: &[(&'static str, f64)]) -> String {
    let parts: Vec<_> = used.iter().map(|(name, seconds)| format!("{name} {seconds:.2} s")).collect();
    parts.join(", ")
}
