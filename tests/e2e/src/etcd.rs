//! A real etcd as a process.

use std::path::Path;

use anyhow::ensure;

use crate::http::{self, Request};
use crate::launch::Launcher;
use crate::patience::Patience;
use crate::ports;
use crate::process::{Process, Program};

/// An etcd of one member that runs, or did.
#[derive(Debug)]
pub struct Etcd {
    launcher: Launcher,
    patience: Patience,
    port: u16,
    program: Program,
    process: Process,
}

impl Etcd {
    /// Starts etcd with its data in `folder` and waits until it is healthy.
    ///
    /// # Errors
    /// When it is not installed, ends or takes too long.
    pub fn start(launcher: &Launcher, patience: &Patience, folder: &Path) -> anyhow::Result<Self> {
        let [port, peer] = ports::free()?;
        let endpoint = format!("http://127.0.0.1:{port}");
        let peer = format!("http://127.0.0.1:{peer}");
        let program = Program::new("etcd", Path::new("etcd"), &folder.join("etcd.log"))
            .flag("--data-dir", folder.join("etcd"))
            .flag("--listen-client-urls", &endpoint)
            .flag("--advertise-client-urls", &endpoint)
            .flag("--listen-peer-urls", &peer)
            .flag("--initial-advertise-peer-urls", &peer)
            .flag("--initial-cluster", format!("default={peer}"));
        let process = program.start(launcher)?;
        let (launcher, patience) = (launcher.clone(), patience.clone());
        let mut etcd = Self { launcher, patience, port, program, process };
        etcd.until_healthy()?;
        Ok(etcd)
    }

    /// Where clients reach it.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Starts it again with its data on the same port.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        self.process.kill();
        self.process = self.program.start(&self.launcher)?;
        self.until_healthy()
    }

    fn until_healthy(&mut self) -> anyhow::Result<()> {
        let patience = self.patience.clone();
        patience.until("etcd to be healthy (is it installed? `cargo xtask test` does it)", || {
            self.process.ensure_running()?;
            let health = http::send(self.port, &Request::get("/health"))?.json()?;
            ensure!(health["health"] == "true", "{health}");
            Ok(())
        })
    }
}
