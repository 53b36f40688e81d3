//! The rules as input of `iptables-restore --noflush`.
//!
//! Every rule has a comment, by which it is found again among those of others.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::port::{Ports, Span};
use super::rules::{Chain, Match, OWN_CHAINS, Rule, Table, Verdict};

/// What the comments of our rules start with; Kuma's do as well, so each removes the other's.
const COMMENT: &str = "kuma/mesh/transparent/proxy/";
/// What the names of our chains start with.
const CHAIN: &str = "KUMA_MESH";

/// What has to be taken away before the rules can be loaded, by table.
type Leftovers = BTreeMap<Table, Vec<String>>;

/// The rules in place carry no comment, so that those in the chains of others cannot be told from others'.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("rules without comments are in place, which cannot be told from others': remove them by hand")]
pub(crate) struct Uncommented;

/// Input that replaces what `saved` (of `iptables-save`) has of ours by `rules`; empty when there is nothing to do.
pub(crate) fn replace(saved: &str, rules: &[Rule], comments: bool) -> Result<String, Uncommented> {
    let leftovers = leftovers(saved)?;
    let mut text = String::new();
    for table in [Table::Raw, Table::Nat, Table::Mangle] {
        let old = leftovers.get(&table).map(Vec::as_slice).unwrap_or_default();
        let new: Vec<&Rule> = rules.iter().filter(|rule| rule.table == table).collect();
        if old.is_empty() && new.is_empty() {
            continue;
        }
        let _ = writeln!(text, "*{}", table_name(table));
        for line in old {
            let _ = writeln!(text, "{line}");
        }
        if table == Table::Nat {
            for chain in OWN_CHAINS.into_iter().filter(|chain| is_used(*chain, &new)) {
                let _ = writeln!(text, "-N {}", chain_name(chain));
            }
        }
        let mut inserted: BTreeMap<&str, usize> = BTreeMap::new();
        for rule in new {
            let place = match rule.first {
                false => format!("-A {}", chain_name(rule.chain)),
                true => {
                    let at = inserted.entry(chain_name(rule.chain)).or_default();
                    *at += 1;
                    format!("-I {} {at}", chain_name(rule.chain))
                }
            };
            let _ = writeln!(text, "{place}{}", body(rule, comments));
        }
        text.push_str("COMMIT\n");
    }
    Ok(text)
}

fn is_used(chain: Chain, rules: &[&Rule]) -> bool {
    rules.iter().any(|rule| rule.chain == chain || rule.verdict == Verdict::Jump(chain))
}

/// Commands that remove what is ours and nothing else.
fn leftovers(saved: &str) -> Result<Leftovers, Uncommented> {
    let mut leftovers = Leftovers::new();
    let mut table = None;
    let (mut chains, mut commented) = (BTreeMap::<Table, Vec<&str>>::new(), false);
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            let ours = [Table::Raw, Table::Nat, Table::Mangle];
            table = ours.into_iter().find(|table| table_name(*table) == name.trim());
        }
        let Some(table) = table else { continue };
        let chain = line.strip_prefix(':').and_then(|rest| rest.split_whitespace().next());
        if let Some(chain) = chain.filter(|name| name.starts_with(CHAIN)) {
            chains.entry(table).or_default().push(chain);
        }
        let Some(rule) = line.strip_prefix("-A ") else { continue };
        commented |= rule.contains(COMMENT);
        if !rule.starts_with(CHAIN) && (rule.contains(COMMENT) || rule.contains(CHAIN)) {
            leftovers.entry(table).or_default().push(format!("-D {rule}"));
        }
    }
    if !chains.is_empty() && !commented {
        return Err(Uncommented);
    }
    for (table, chains) in chains {
        let lines = leftovers.entry(table).or_default();
        // All are emptied before the first is deleted: they jump to each other.
        lines.extend(chains.iter().map(|chain| format!("-F {chain}")));
        lines.extend(chains.iter().map(|chain| format!("-X {chain}")));
    }
    Ok(leftovers)
}

fn table_name(table: Table) -> &'static str {
    match table {
        Table::Raw => "raw",
        Table::Nat => "nat",
        Table::Mangle => "mangle",
    }
}

pub(crate) fn chain_name(chain: Chain) -> &'static str {
    match chain {
        Chain::Prerouting => "PREROUTING",
        Chain::Output => "OUTPUT",
        Chain::Inbound => "KUMA_MESH_INBOUND",
        Chain::Outbound => "KUMA_MESH_OUTBOUND",
        Chain::InboundRedirect => "KUMA_MESH_INBOUND_REDIRECT",
        Chain::OutboundRedirect => "KUMA_MESH_OUTBOUND_REDIRECT",
    }
}

fn body(rule: &Rule, comments: bool) -> String {
    let mut text = String::new();
    for part in &rule.matches {
        let _ = match part {
            Match::Protocol(protocol) => write!(text, " -p {}", protocol.name()),
            Match::SourcePort(protocol, port) => write!(text, " -p {} --sport {port}", protocol.name()),
            Match::DestinationPorts(protocol, ports) => {
                write!(text, " -p {} {}", protocol.name(), destination_ports(ports))
            }
            Match::Destination(network) => write!(text, " -d {network}"),
            Match::NotDestination(network) => write!(text, " ! -d {network}"),
            Match::Source(network) => write!(text, " -s {network}"),
            Match::InInterface(name) => write!(text, " -i {name}"),
            Match::OutInterface(name) => write!(text, " -o {name}"),
            Match::User(Span { first, last }) if first == last => {
                write!(text, " -m owner --uid-owner {first}")
            }
            Match::User(Span { first, last }) => write!(text, " -m owner --uid-owner {first}-{last}"),
            Match::NotUser(uid) => write!(text, " -m owner ! --uid-owner {uid}"),
            Match::Invalid => write!(text, " -m conntrack --ctstate INVALID"),
        };
    }
    if comments {
        let _ = write!(text, " -m comment --comment \"{COMMENT}{}\"", rule.note);
    }
    let _ = match &rule.verdict {
        Verdict::Return => write!(text, " -j RETURN"),
        Verdict::Drop => write!(text, " -j DROP"),
        Verdict::Jump(chain) => write!(text, " -j {}", chain_name(*chain)),
        Verdict::Redirect(port) => write!(text, " -j REDIRECT --to-ports {port}"),
        Verdict::Zone(zone) => write!(text, " -j CT --zone {zone}"),
        Verdict::Log(prefix) => write!(text, " -j LOG --log-prefix \"{prefix}\""),
    };
    text
}

fn destination_ports(ports: &Ports) -> String {
    match ports.0.as_slice() {
        [Span { first, last }] if first == last => format!("--dport {first}"),
        [Span { first, last }] => format!("--dport {first}:{last}"),
        _ => format!("-m multiport --dports {}", ports.to_string().replace('-', ":")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::{Family, Host, rules};
    use super::super::settings::Settings;
    use super::*;

    fn default_rules() -> Vec<Rule> {
        let host = Host { agent: 5678, loopback: "lo".to_owned(), name_servers: Vec::new() };
        rules(&Settings::default(), &host, Family::V4).unwrap()
    }

    #[test]
    fn the_default_rules() {
        let text = replace("", &default_rules(), false).unwrap();
        let expected = "*nat
-N KUMA_MESH_INBOUND
-N KUMA_MESH_OUTBOUND
-N KUMA_MESH_INBOUND_REDIRECT
-N KUMA_MESH_OUTBOUND_REDIRECT
-A PREROUTING -p tcp -j KUMA_MESH_INBOUND
-A KUMA_MESH_INBOUND -p tcp -j KUMA_MESH_INBOUND_REDIRECT
-A KUMA_MESH_INBOUND_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A OUTPUT -p tcp -j KUMA_MESH_OUTBOUND
-A KUMA_MESH_OUTBOUND -s 127.0.0.6/32 -o lo -j RETURN
-A KUMA_MESH_OUTBOUND -p tcp ! -d 127.0.0.1/32 -o lo -m owner --uid-owner 5678 -j KUMA_MESH_INBOUND_REDIRECT
-A KUMA_MESH_OUTBOUND -p tcp -o lo -m owner ! --uid-owner 5678 -j RETURN
-A KUMA_MESH_OUTBOUND -m owner --uid-owner 5678 -j RETURN
-A KUMA_MESH_OUTBOUND -d 127.0.0.1/32 -j RETURN
-A KUMA_MESH_OUTBOUND -p tcp -j KUMA_MESH_OUTBOUND_REDIRECT
-A KUMA_MESH_OUTBOUND_REDIRECT -p tcp -j REDIRECT --to-ports 15001
COMMIT
";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_ours_is_removed_and_nothing_else() {
        let saved = "# Generated by iptables-save
*nat
:PREROUTING ACCEPT [0:0]
:KUMA_MESH_INBOUND - [0:0]
:DOCKER - [0:0]
-A PREROUTING -p tcp -m comment --comment \"kuma/mesh/transparent/proxy/x\" -j KUMA_MESH_INBOUND
-A PREROUTING -j DOCKER
-A OUTPUT -p udp -m comment --comment \"kuma/mesh/transparent/proxy/y\" -j REDIRECT --to-ports 15053
-A KUMA_MESH_INBOUND -j RETURN
COMMIT
*filter
:INPUT ACCEPT [0:0]
COMMIT
";
        let expected = "*nat
-D PREROUTING -p tcp -m comment --comment \"kuma/mesh/transparent/proxy/x\" -j KUMA_MESH_INBOUND
-D OUTPUT -p udp -m comment --comment \"kuma/mesh/transparent/proxy/y\" -j REDIRECT --to-ports 15053
-F KUMA_MESH_INBOUND
-X KUMA_MESH_INBOUND
COMMIT
";
        assert_eq!(replace(saved, &[], true).unwrap(), expected);
        assert_eq!(replace("*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n", &[], true).unwrap(), "");
    }

    #[test]
    fn rules_without_comments_are_not_guessed_at() {
        let saved = "*nat\n:KUMA_MESH_INBOUND - [0:0]\n-A PREROUTING -p tcp -j KUMA_MESH_INBOUND\nCOMMIT\n";
        assert_eq!(replace(saved, &[], true), Err(Uncommented));
    }

    #[test]
    fn inserted_rules_keep_their_order() {
        let mut rules = default_rules();
        rules.retain(|rule| rule.chain == Chain::Output);
        rules.push(rules[0].clone());
        rules.iter_mut().for_each(|rule| rule.first = true);
        let text = replace("", &rules, true).unwrap();
        assert!(text.contains("-I OUTPUT 1 ") && text.contains("-I OUTPUT 2 "), "{text}");
    }
}
