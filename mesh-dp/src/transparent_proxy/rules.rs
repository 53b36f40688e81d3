//! Which packets go where: a pure function from settings to typed rules, one set per address family.
//!
//! Inbound connections come through the nat table's PREROUTING, those of the application through OUTPUT.
//! Envoy's own are let through by its user, else they would come back to it for ever.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::port::{ListError, Network, Ports, Protocol, Span, UserExclusion, VirtualNetwork};
use super::settings::{Dns, Settings};

/// What the multiport match of iptables holds; a range counts twice.
const MULTIPORT: usize = 15;
/// The port of DNS.
const DNS_PORT: u16 = 53;
/// Conntrack zones of queries that leave the host and of those to mesh-dp: the two have the same tuple.
const ZONE_OUT: u16 = 1;
const ZONE_AGENT: u16 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    Raw,
    Nat,
    Mangle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chain {
    Prerouting,
    Output,
    Inbound,
    Outbound,
    InboundRedirect,
    OutboundRedirect,
}

/// Those of the nat table that are ours.
pub(crate) const OWN_CHAINS: [Chain; 4] =
    [Chain::Inbound, Chain::Outbound, Chain::InboundRedirect, Chain::OutboundRedirect];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Match {
    Protocol(Protocol),
    SourcePort(Protocol, u16),
    Destination(Network),
    NotDestination(Network),
    Source(Network),
    DestinationPorts(Protocol, Ports),
    InInterface(String),
    OutInterface(String),
    User(Span<u32>),
    NotUser(u32),
    Invalid,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Return,
    Drop,
    Jump(Chain),
    Redirect(u16),
    Zone(u16),
    Log(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) table: Table,
    pub(crate) chain: Chain,
    pub(crate) matches: Vec<Match>,
    pub(crate) verdict: Verdict,
    /// Before the rules of others, instead of behind them.
    pub(crate) first: bool,
    /// Why it is there, for who lists the rules.
    pub(crate) note: &'static str,
}

/// What the rules need to know of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// The user of mesh-dp and Envoy.
    pub(crate) agent: u32,
    pub(crate) loopback: String,
    /// The servers of resolv.conf.
    pub(crate) name_servers: Vec<IpAddr>,
}

/// The rules of one address family, in their order.
pub(crate) fn rules(settings: &Settings, host: &Host, family: Family) -> Result<Vec<Rule>, ListError> {
    let mut set = Set { rules: Vec::new(), settings, host, family };
    set.zones();
    set.virtual_networks()?;
    set.inbound()?;
    set.output()?;
    set.outbound();
    if settings.drop_invalid_packets {
        let rule = set.push(Chain::Prerouting, [Match::Invalid], Verdict::Drop, "packets of no connection");
        rule.table = Table::Mangle;
    }
    Ok(set.rules)
}

struct Set<'a> {
    rules: Vec<Rule>,
    settings: &'a Settings,
    host: &'a Host,
    family: Family,
}

impl Set<'_> {
    fn push(
        &mut self,
        chain: Chain,
        matches: impl IntoIterator<Item = Match>,
        verdict: Verdict,
        note: &'static str,
    ) -> &mut Rule {
        let matches = matches.into_iter().collect();
        self.rules.push(Rule { table: Table::Nat, chain, matches, verdict, first: false, note });
        let last = self.rules.len() - 1;
        &mut self.rules[last]
    }

    fn agent(&self) -> Match {
        Match::User(Span { first: self.host.agent, last: self.host.agent })
    }

    fn is_ours(&self, network: &Network) -> bool {
        network.is_ipv4() == (self.family == Family::V4)
    }

    fn zones(&mut self) {
        let dns = &self.settings.redirect.dns;
        if !captures_dns(dns) || dns.skip_conntrack_zone_split {
            return;
        }
        let query = Match::DestinationPorts(Protocol::Udp, one(DNS_PORT));
        let own = [query.clone(), self.agent()];
        let answer = [Match::SourcePort(Protocol::Udp, dns.port), self.agent()];
        let mut rules = vec![
            (Chain::Output, own.to_vec(), ZONE_OUT, "queries of the agent"),
            (Chain::Output, answer.to_vec(), ZONE_AGENT, "answers of the agent"),
        ];
        for server in self.servers() {
            let to = server.map(Match::Destination);
            let from = server.map(Match::Source);
            let query = std::iter::once(query.clone()).chain(to).collect();
            let answer = std::iter::once(Match::SourcePort(Protocol::Udp, DNS_PORT)).chain(from).collect();
            rules.push((Chain::Output, query, ZONE_AGENT, "queries of applications"));
            rules.push((Chain::Prerouting, answer, ZONE_OUT, "answers to the agent"));
        }
        for (chain, matches, zone, note) in rules {
            self.push(chain, matches, Verdict::Zone(zone), note).table = Table::Raw;
        }
    }

    /// The servers whose queries are redirected; one `None` for all.
    fn servers(&self) -> Vec<Option<Network>> {
        if self.settings.redirect.dns.capture_all {
            return vec![None];
        }
        let servers = self.host.name_servers.iter().map(|server| Network::host(*server));
        servers.filter(|server| self.is_ours(server)).map(Some).collect()
    }

    fn virtual_networks(&mut self) -> Result<(), ListError> {
        let redirect = &self.settings.redirect;
        for text in &redirect.vnet.networks {
            let vnet: VirtualNetwork = text.parse()?;
            if !self.is_ours(&vnet.network) {
                continue;
            }
            let from = Match::InInterface(vnet.interface);
            if captures_dns(&redirect.dns) {
                let query = Match::DestinationPorts(Protocol::Udp, one(DNS_PORT));
                let to = Verdict::Redirect(redirect.dns.port);
                self.push(Chain::Prerouting, [from.clone(), query], to, "DNS of a virtual network").first =
                    true;
            }
            let matches = [from, Match::NotDestination(vnet.network), Match::Protocol(Protocol::Tcp)];
            let to = Verdict::Redirect(redirect.outbound.port);
            self.push(Chain::Prerouting, matches, to, "connections of a virtual network").first = true;
        }
        Ok(())
    }

    fn inbound(&mut self) -> Result<(), ListError> {
        let inbound = &self.settings.redirect.inbound;
        if !inbound.enabled {
            return Ok(());
        }
        let tcp = Match::Protocol(Protocol::Tcp);
        let to = Verdict::Jump(Chain::Inbound);
        self.push(Chain::Prerouting, [tcp.clone()], to, "inbound connections").first = inbound.insert;
        for source in self.networks(&inbound.exclude_ips)? {
            self.push(Chain::Inbound, [Match::Source(source)], Verdict::Return, "excluded source");
        }
        self.by_port(Chain::Inbound, &inbound.include_ports, &inbound.exclude_ports, Chain::InboundRedirect);
        self.redirect(Chain::InboundRedirect, inbound.port, "inbound ");
        Ok(())
    }

    /// All but the excluded ports, or the included ones alone.
    fn by_port(&mut self, chain: Chain, include: &Ports, exclude: &Ports, to: Chain) {
        if include.is_empty() {
            for ports in chunks(exclude) {
                let matches = [Match::DestinationPorts(Protocol::Tcp, ports)];
                self.push(chain, matches, Verdict::Return, "excluded ports");
            }
            let tcp = [Match::Protocol(Protocol::Tcp)];
            self.push(chain, tcp, Verdict::Jump(to), "everything else to Envoy");
        }
        for ports in chunks(include) {
            let matches = [Match::DestinationPorts(Protocol::Tcp, ports)];
            self.push(chain, matches, Verdict::Jump(to), "included ports to Envoy");
        }
    }

    fn redirect(&mut self, chain: Chain, port: u16, log: &'static str) {
        let tcp = Match::Protocol(Protocol::Tcp);
        if self.settings.log.enabled {
            self.push(chain, [tcp.clone()], Verdict::Log(log), "log");
        }
        self.push(chain, [tcp], Verdict::Redirect(port), "to Envoy");
    }

    /// What locally made packets meet before the connections among them go to [`Self::outbound`].
    fn output(&mut self) -> Result<(), ListError> {
        let start = self.rules.len();
        let outbound = &self.settings.redirect.outbound;
        for text in &outbound.exclude_uids {
            let exclusion: UserExclusion = text.parse()?;
            self.user_exclusion(&exclusion);
        }
        for network in self.networks(&outbound.exclude_ips)? {
            let matches = [Match::Destination(network)];
            self.push(Chain::Output, matches, Verdict::Return, "excluded destination");
        }
        if captures_dns(&self.settings.redirect.dns) {
            self.dns();
        }
        if outbound.enabled {
            let to = Verdict::Jump(Chain::Outbound);
            self.push(Chain::Output, [Match::Protocol(Protocol::Tcp)], to, "outbound connections");
        }
        for rule in &mut self.rules[start..] {
            rule.first = outbound.insert;
        }
        Ok(())
    }

    fn user_exclusion(&mut self, exclusion: &UserExclusion) {
        let both = [Protocol::Tcp, Protocol::Udp];
        for protocol in both.into_iter().filter(|p| exclusion.protocol.is_none_or(|only| only == *p)) {
            let ports: Vec<Match> = match exclusion.ports.is_empty() {
                true => vec![Match::Protocol(protocol)],
                false => chunks(&exclusion.ports)
                    .into_iter()
                    .map(|ports| Match::DestinationPorts(protocol, ports))
                    .collect(),
            };
            for ports in ports {
                let matches = [ports, Match::User(exclusion.uids)];
                self.push(Chain::Output, matches, Verdict::Return, "excluded user");
            }
        }
    }

    fn dns(&mut self) {
        let port = self.settings.redirect.dns.port;
        let query = Match::DestinationPorts(Protocol::Udp, one(DNS_PORT));
        let own = [query.clone(), self.agent()];
        self.push(Chain::Output, own, Verdict::Return, "queries of the agent");
        for server in self.servers() {
            let matches = std::iter::once(query.clone()).chain(server.map(Match::Destination));
            self.push(Chain::Output, matches, Verdict::Redirect(port), "DNS to the agent");
        }
        // Large answers come by TCP, from the server itself.
        let large = [Match::DestinationPorts(Protocol::Tcp, one(DNS_PORT)), Match::NotUser(self.host.agent)];
        self.push(Chain::Output, large, Verdict::Return, "DNS by TCP");
    }

    fn outbound(&mut self) {
        let redirect = &self.settings.redirect;
        if !redirect.outbound.enabled {
            return;
        }
        let (passthrough, localhost) = match self.family {
            Family::V4 => (IpAddr::from(Ipv4Addr::new(127, 0, 0, 6)), IpAddr::from(Ipv4Addr::LOCALHOST)),
            Family::V6 => (IpAddr::from(Ipv6Addr::from(6)), IpAddr::from(Ipv6Addr::LOCALHOST)),
        };
        let localhost = Network::host(localhost);
        let loopback = Match::OutInterface(self.host.loopback.clone());
        let chain = Chain::Outbound;
        for ports in chunks(&redirect.outbound.exclude_ports) {
            let matches = [Match::DestinationPorts(Protocol::Tcp, ports)];
            self.push(chain, matches, Verdict::Return, "excluded ports");
        }
        let inbound = [Match::Source(Network::host(passthrough)), loopback.clone()];
        self.push(chain, inbound, Verdict::Return, "Envoy to its application");
        if redirect.inbound.enabled {
            let to_self = [
                Match::Protocol(Protocol::Tcp),
                Match::NotDestination(localhost),
                loopback.clone(),
                self.agent(),
            ];
            let to = Verdict::Jump(Chain::InboundRedirect);
            self.push(chain, to_self, to, "the application to itself through Envoy");
        }
        let local = [Match::Protocol(Protocol::Tcp), loopback, Match::NotUser(self.host.agent)];
        self.push(chain, local, Verdict::Return, "within the host");
        self.push(chain, [self.agent()], Verdict::Return, "connections of Envoy");
        self.push(chain, [Match::Destination(localhost)], Verdict::Return, "to localhost");
        self.by_port(chain, &redirect.outbound.include_ports, &Ports::default(), Chain::OutboundRedirect);
        self.redirect(Chain::OutboundRedirect, redirect.outbound.port, "outbound ");
    }

    fn networks(&self, texts: &[String]) -> Result<Vec<Network>, ListError> {
        let networks = texts.iter().map(|text| text.parse::<Network>());
        let all = networks.collect::<Result<Vec<_>, _>>()?;
        Ok(all.into_iter().filter(|network| self.is_ours(network)).collect())
    }
}

fn captures_dns(dns: &Dns) -> bool {
    dns.enabled || dns.capture_all
}

fn one(port: u16) -> Ports {
    Ports(vec![Span { first: port, last: port }])
}

/// The same ports in order, none twice: nftables refuses sets that overlap.
fn disjoint(ports: &Ports) -> Vec<Span<u16>> {
    let mut sorted = ports.0.clone();
    sorted.sort();
    let mut spans: Vec<Span<u16>> = Vec::new();
    for span in sorted {
        match spans.last_mut().filter(|last| span.first <= last.last) {
            Some(last) => last.last = last.last.max(span.last),
            None => spans.push(span),
        }
    }
    spans
}

/// The ports in parts that one rule can hold.
fn chunks(ports: &Ports) -> Vec<Ports> {
    let mut chunks: Vec<Ports> = Vec::new();
    let mut room = 0;
    for span in disjoint(ports) {
        let size = if span.is_single() { 1 } else { 2 };
        match chunks.last_mut().filter(|_| room >= size) {
            Some(last) => {
                last.0.push(span);
                room -= size;
            }
            None => {
                chunks.push(Ports(vec![span]));
                room = MULTIPORT - size;
            }
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        let name_servers = vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        Host { agent: 5678, loopback: "lo".to_owned(), name_servers }
    }

    #[test]
    fn every_family_has_its_own_addresses() {
        let mut settings = Settings::default();
        settings.redirect.dns.enabled = true;
        settings.redirect.outbound.exclude_ips = vec!["10.1.0.0/16".to_owned(), "fd01::/16".to_owned()];
        for (family, v4) in [(Family::V4, true), (Family::V6, false)] {
            let rules = rules(&settings, &host(), family).unwrap();
            let mut seen = 0;
            for rule in rules.iter().flat_map(|rule| &rule.matches) {
                if let Match::Destination(net) | Match::NotDestination(net) | Match::Source(net) = rule {
                    assert_eq!(net.is_ipv4(), v4, "{net}");
                    seen += 1;
                }
            }
            assert!(seen > 5, "{seen}");
        }
    }

    #[test]
    fn many_ports_are_split_over_rules() {
        let many: Vec<_> = (1..=9).map(|n| format!("{}-{}", n * 10, n * 10 + 1)).collect();
        let ports: Ports = many.join(",").parse().unwrap();
        let sizes: Vec<_> = chunks(&ports).iter().map(|chunk| chunk.0.len()).collect();
        assert_eq!(sizes, [7, 2]);
    }

    #[test]
    fn ports_that_overlap_are_merged() {
        let chunks = chunks(&"80-90,22,85-95,22".parse().unwrap());
        assert_eq!(chunks.iter().map(Ports::to_string).collect::<Vec<_>>(), ["22,80-95"]);
    }

    #[test]
    fn a_direction_can_be_left_alone() {
        let mut settings = Settings::default();
        settings.redirect.inbound.enabled = false;
        let only_out = rules(&settings, &host(), Family::V4).unwrap();
        assert!(only_out.iter().all(|rule| rule.verdict != Verdict::Redirect(15006)));
        assert!(only_out.iter().any(|rule| rule.verdict == Verdict::Redirect(15001)));
        assert!(only_out.iter().all(|rule| rule.verdict != Verdict::Jump(Chain::InboundRedirect)));
        settings.redirect.outbound.enabled = false;
        assert_eq!(rules(&settings, &host(), Family::V4).unwrap(), []);
    }
}
