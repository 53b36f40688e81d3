//! The flags of `install transparent-proxy` and `uninstall transparent-proxy`, as a layer over the settings.

use std::path::PathBuf;

use clap::Args;
use runtime::config::HumanDuration;
use serde_json::{Map, Value, json};

use super::port::Ports;
use super::settings::Backend;

/// Where systemd looks for units of the administrator.
pub(crate) const UNIT_FOLDER: &str = "/etc/systemd/system";

#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// YAML file of settings, or `-`; may be repeated, later files are over earlier ones.
    #[arg(long, visible_alias = "transparent-proxy-config", value_name = "FILE", value_delimiter = ',')]
    pub(crate) config: Vec<PathBuf>,

    /// Name or uid of the user that mesh-dp runs as, whose connections are left alone.
    /// Without it: the user with uid 5678, else `kuma-dp`, else `mesh-dp`.
    #[arg(long, value_name = "USER")]
    kuma_dp_user: Option<String>,

    /// Whether to redirect IPv6 as well.
    #[arg(long, value_name = "MODE", value_parser = ["dualstack", "ipv4"])]
    ip_family_mode: Option<String>,

    /// What loads the rules.
    #[arg(long, value_enum, value_name = "BACKEND")]
    backend: Option<Backend>,

    /// Whether to redirect inbound connections.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    redirect_inbound: Option<bool>,

    /// Envoy's port for inbound connections [default: 15006].
    #[arg(long, value_name = "PORT")]
    redirect_inbound_port: Option<u16>,

    /// Envoy's port for outbound connections [default: 15001].
    #[arg(long, value_name = "PORT")]
    redirect_outbound_port: Option<u16>,

    /// Inbound ports that are not redirected, such as 22,8000-8100.
    #[arg(long, value_name = "PORTS")]
    exclude_inbound_ports: Option<Ports>,

    /// Outbound ports that are not redirected.
    #[arg(long, value_name = "PORTS")]
    exclude_outbound_ports: Option<Ports>,

    /// Addresses or networks whose connections to this host are not redirected.
    #[arg(long, value_name = "NETWORKS", value_delimiter = ',')]
    exclude_inbound_ips: Vec<String>,

    /// Addresses or networks, connections to which are not redirected.
    #[arg(long, value_name = "NETWORKS", value_delimiter = ',')]
    exclude_outbound_ips: Vec<String>,

    /// `[[PROTOCOL:]PORTS:]UIDS`: what these users send to these ports is not redirected; may be repeated.
    #[arg(long, value_name = "EXCLUSION")]
    exclude_outbound_ports_for_uids: Vec<String>,

    /// Redirect DNS queries to the servers of /etc/resolv.conf.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    redirect_dns: Option<bool>,

    /// Redirect DNS queries to any server.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    redirect_all_dns_traffic: Option<bool>,

    /// mesh-dp's port for DNS [default: 15053].
    #[arg(long, value_name = "PORT")]
    redirect_dns_port: Option<u16>,

    /// Do not keep redirected queries and those of mesh-dp in different conntrack zones.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    skip_dns_conntrack_zone_split: Option<bool>,

    /// `INTERFACE:NETWORK` of virtual machines or containers to redirect too; may be repeated.
    #[arg(long, value_name = "VNET", value_delimiter = ',')]
    vnet: Vec<String>,

    /// Drop packets that belong to no connection.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    drop_invalid_packets: Option<bool>,

    /// Let the kernel log redirected connections.
    #[arg(long, visible_alias = "logs", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    iptables_logs: Option<bool>,

    /// Put no comments at iptables' rules; `uninstall` can then not find them.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    disable_comments: Option<bool>,

    /// `NAME:PATH` of iptables-save, iptables-restore, ip6tables-save, ip6tables-restore.
    #[arg(long, value_name = "NAME:PATH", value_delimiter = ',')]
    iptables_executables: Vec<String>,

    /// Seconds to wait for iptables' lock [default: 5].
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u32>,

    /// Microseconds between two looks at that lock.
    #[arg(long, value_name = "MICROSECONDS")]
    wait_interval: Option<u32>,

    /// How often loading is tried again [default: 4].
    #[arg(long, value_name = "N")]
    max_retries: Option<u32>,

    /// How long to wait between two tries [default: 2s].
    #[arg(long, value_name = "DURATION")]
    sleep_between_retries: Option<HumanDuration>,

    /// Put the inbound redirection before the rules of others.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    redirect_inbound_insert_instead_of_append: Option<bool>,

    /// Put the outbound redirection before the rules of others.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    redirect_outbound_insert_instead_of_append: Option<bool>,

    /// Print the rules and load nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Print the rules that are loaded.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    verbose: Option<bool>,

    /// Write and enable a systemd unit, in this folder, that brings the rules back when the host starts.
    #[arg(long, value_name = "FOLDER", num_args = 0..=1, default_missing_value = UNIT_FOLDER)]
    pub(crate) systemd_unit: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct UninstallArgs {
    /// `NAME:PATH` of iptables-save, iptables-restore, ip6tables-save, ip6tables-restore.
    #[arg(long, value_name = "NAME:PATH", value_delimiter = ',')]
    pub(crate) iptables_executables: Vec<String>,

    /// Print what would be done and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Print what is done.
    #[arg(long)]
    pub(crate) verbose: bool,

    /// Remove the systemd unit too, from this folder.
    #[arg(long, value_name = "FOLDER", num_args = 0..=1, default_missing_value = UNIT_FOLDER)]
    pub(crate) systemd_unit: Option<PathBuf>,
}

impl InstallArgs {
    /// What the flags set, in the form of a file.
    pub(crate) fn layer(&self) -> Value {
        let mut all = json!({
            "kumaDPUser": self.kuma_dp_user,
            "ipFamilyMode": self.ip_family_mode,
            "backend": self.backend,
            "redirect": {
                "inbound": {
                    "enabled": self.redirect_inbound,
                    "port": self.redirect_inbound_port,
                    "excludePorts": self.exclude_inbound_ports,
                    "excludePortsForIPs": given(&self.exclude_inbound_ips),
                    "insertRedirectInsteadOfAppend": self.redirect_inbound_insert_instead_of_append,
                },
                "outbound": {
                    "port": self.redirect_outbound_port,
                    "excludePorts": self.exclude_outbound_ports,
                    "excludePortsForIPs": given(&self.exclude_outbound_ips),
                    "excludePortsForUIDs": given(&self.exclude_outbound_ports_for_uids),
                    "insertRedirectInsteadOfAppend": self.redirect_outbound_insert_instead_of_append,
                },
                "dns": {
                    "enabled": self.redirect_dns,
                    "captureAll": self.redirect_all_dns_traffic,
                    "port": self.redirect_dns_port,
                    "skipConntrackZoneSplit": self.skip_dns_conntrack_zone_split,
                },
                "vnet": { "networks": given(&self.vnet) },
            },
            "dropInvalidPackets": self.drop_invalid_packets,
            "iptablesExecutables": given(&self.iptables_executables),
            "log": { "enabled": self.iptables_logs },
            "comments": { "disabled": self.disable_comments },
            "wait": self.wait,
            "waitInterval": self.wait_interval,
            "retry": {
                "maxRetries": self.max_retries,
                "sleepBetweenRetries": self.sleep_between_retries,
            },
            "verbose": self.verbose,
        });
        if let Value::Object(fields) = &mut all {
            drop_unset(fields);
        }
        all
    }
}

fn given(list: &[String]) -> Option<&[String]> {
    Some(list).filter(|list| !list.is_empty())
}

fn drop_unset(fields: &mut Map<String, Value>) {
    fields.retain(|_, value| match value {
        Value::Null => false,
        Value::Object(inner) => {
            drop_unset(inner);
            !inner.is_empty()
        }
        _ => true,
    });
}
