//! `mesh-dp` runs beside an application: it fetches Envoy's bootstrap from the zone control plane,
//! keeps an Envoy running with it, answers DNS for mesh names and drains on termination.

mod access_log;
mod admin;
mod app;
mod bootstrap;
mod cli;
mod dataplane;
mod dns;
mod dynamic_config;
mod envoy;
mod mesh_metric;
mod metrics;
mod otel;
mod readiness;
mod transparent_proxy;
mod workdir;

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::tls::install_provider();
    runtime::exit_code("mesh-dp", run())
}

fn run() -> anyhow::Result<()> {
    cli::check_environment(std::env::vars().map(|(name, _)| name))?;
    match cli::parse().command {
        cli::Command::ExecEnvoy(args) => Err(envoy::exec::replace_this_process(&args).into()),
        cli::Command::Install(cli::Install::TransparentProxy(args)) => {
            Ok(transparent_proxy::install(&args, std::env::vars())?)
        }
        cli::Command::Uninstall(cli::Uninstall::TransparentProxy(args)) => {
            Ok(transparent_proxy::uninstall(&args)?)
        }
        cli::Command::Run(args) => {
            // One thread: the work is small, and Envoy's life is tied to the thread that started it.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(app::run(*args))?)
        }
    }
}
