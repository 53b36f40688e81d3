//! `mesh-dp install transparent-proxy`: packet rules that bring the application's connections to Envoy.
//!
//! [`settings`] (files, environment, flags) → [`rules`] (typed, one set per address family) →
//! [`iptables`] or [`nftables`] (text) → [`apply`] (the tools that load it).

mod apply;
mod args;
mod iptables;
mod nftables;
mod port;
mod rules;
mod settings;
mod unit;

pub(crate) use apply::{install, uninstall};
pub(crate) use args::{InstallArgs, UninstallArgs};
pub(crate) use settings::{Settings, SettingsError};
