//! The rules as input of `nft -f`: one table per address family, replaced and removed as a whole.
//!
//! A table per family rather than one for both: nat works in those on every kernel that has nftables.

use std::fmt::Write;

use super::iptables::chain_name;
use super::port::{Ports, Span};
use super::rules::{Chain, Family, Match, OWN_CHAINS, Rule, Table, Verdict};

/// The name of our tables.
pub(crate) const TABLE: &str = "kuma_mesh";

/// A transaction that replaces the table of the family, or removes it when there are no rules.
pub(crate) fn replace(family: Family, rules: &[Rule]) -> String {
    let table = format!("table {} {TABLE}", family_name(family));
    // Declared first: deleting what is not there is an error.
    let mut text = format!("{table} {{}}\ndelete {table}\n");
    if rules.is_empty() {
        return text;
    }
    let _ = writeln!(text, "{table} {{");
    for chain in OWN_CHAINS {
        write_chain(&mut text, rules, Table::Nat, chain, "");
    }
    for (table, chain, hook) in BASE_CHAINS {
        write_chain(&mut text, rules, table, chain, hook);
    }
    text.push_str("}\n");
    text
}

/// Just before the priorities of iptables' tables, so that the result does not depend on who came first.
const BASE_CHAINS: [(Table, Chain, &str); 5] = [
    (Table::Raw, Chain::Prerouting, "type filter hook prerouting priority -301; policy accept;"),
    (Table::Raw, Chain::Output, "type filter hook output priority -301; policy accept;"),
    (Table::Mangle, Chain::Prerouting, "type filter hook prerouting priority -151; policy accept;"),
    (Table::Nat, Chain::Prerouting, "type nat hook prerouting priority -101; policy accept;"),
    (Table::Nat, Chain::Output, "type nat hook output priority -101; policy accept;"),
];

fn write_chain(text: &mut String, rules: &[Rule], table: Table, chain: Chain, hook: &str) {
    let here = |rule: &&Rule| rule.table == table && rule.chain == chain;
    let mut of_chain: Vec<&Rule> = rules.iter().filter(here).collect();
    let jumped_to = rules.iter().any(|rule| rule.verdict == Verdict::Jump(chain));
    if of_chain.is_empty() && !jumped_to {
        return;
    }
    of_chain.sort_by_key(|rule| !rule.first);
    let name = match table {
        Table::Nat if hook.is_empty() => chain_name(chain).to_ascii_lowercase(),
        Table::Nat => format!("nat_{}", chain_name(chain).to_ascii_lowercase()),
        Table::Raw => format!("raw_{}", chain_name(chain).to_ascii_lowercase()),
        Table::Mangle => format!("mangle_{}", chain_name(chain).to_ascii_lowercase()),
    };
    let _ = writeln!(text, "  chain {name} {{");
    if !hook.is_empty() {
        let _ = writeln!(text, "    {hook}");
    }
    for rule in of_chain {
        let _ = writeln!(text, "    {}", statement(rule));
    }
    text.push_str("  }\n");
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn statement(rule: &Rule) -> String {
    let mut text = String::new();
    for part in &rule.matches {
        let _ = match part {
            Match::Protocol(protocol) => write!(text, "meta l4proto {} ", protocol.name()),
            Match::SourcePort(protocol, port) => write!(text, "{} sport {port} ", protocol.name()),
            Match::DestinationPorts(protocol, ports) => {
                write!(text, "{} dport {} ", protocol.name(), destination_ports(ports))
            }
            Match::Destination(network) if network.is_ipv4() => write!(text, "ip daddr {network} "),
            Match::Destination(network) => write!(text, "ip6 daddr {network} "),
            Match::NotDestination(network) if network.is_ipv4() => write!(text, "ip daddr != {network} "),
            Match::NotDestination(network) => write!(text, "ip6 daddr != {network} "),
            Match::Source(network) if network.is_ipv4() => write!(text, "ip saddr {network} "),
            Match::Source(network) => write!(text, "ip6 saddr {network} "),
            Match::InInterface(name) => write!(text, "iifname \"{name}\" "),
            Match::OutInterface(name) => write!(text, "oifname \"{name}\" "),
            Match::User(Span { first, last }) if first == last => write!(text, "meta skuid {first} "),
            Match::User(Span { first, last }) => write!(text, "meta skuid {first}-{last} "),
            Match::NotUser(uid) => write!(text, "meta skuid != {uid} "),
            Match::Invalid => write!(text, "ct state invalid "),
        };
    }
    let _ = match &rule.verdict {
        Verdict::Return => write!(text, "return"),
        Verdict::Drop => write!(text, "drop"),
        Verdict::Jump(chain) => write!(text, "jump {}", chain_name(*chain).to_ascii_lowercase()),
        Verdict::Redirect(port) => write!(text, "redirect to :{port}"),
        // The first zone counts, as with iptables.
        Verdict::Zone(zone) => write!(text, "ct zone set {zone} return"),
        Verdict::Log(prefix) => write!(text, "log prefix \"{prefix}\""),
    };
    let _ = write!(text, " comment \"{}\"", rule.note);
    text
}

fn destination_ports(ports: &Ports) -> String {
    match ports.0.as_slice() {
        [_] => ports.to_string(),
        _ => format!("{{ {} }}", ports.to_string().replace(',', ", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::{Host, rules};
    use super::super::settings::Settings;
    use super::*;

    #[test]
    fn removing_is_replacing_by_nothing() {
        assert_eq!(replace(Family::V6, &[]), "table ip6 kuma_mesh {}\ndelete table ip6 kuma_mesh\n");
    }

    #[test]
    fn inbound_rules_with_exclusions() {
        let mut settings = Settings::default();
        settings.redirect.outbound.enabled = false;
        settings.redirect.inbound.exclude_ports = "22,8000-8100".parse().unwrap();
        let host = Host { agent: 5678, loopback: "lo".to_owned(), name_servers: Vec::new() };
        let text = replace(Family::V4, &rules(&settings, &host, Family::V4).unwrap());
        let expected = "table ip kuma_mesh {}
delete table ip kuma_mesh
table ip kuma_mesh {
  chain kuma_mesh_inbound {
    tcp dport { 22, 8000-8100 } return comment \"excluded ports\"
    meta l4proto tcp jump kuma_mesh_inbound_redirect comment \"everything else to Envoy\"
  }
  chain kuma_mesh_inbound_redirect {
    meta l4proto tcp redirect to :15006 comment \"to Envoy\"
  }
  chain nat_prerouting {
    type nat hook prerouting priority -101; policy accept;
    meta l4proto tcp jump kuma_mesh_inbound comment \"inbound connections\"
  }
}
";
        assert_eq!(text, expected);
    }
}
