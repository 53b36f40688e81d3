//! Names of the destinations that a proxy offers, for the name server beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::labels;
use serde::Serialize;

use super::Context;
use crate::draft::Draft;

const PATH: &str = "dns";

#[derive(Serialize)]
struct Document<'a> {
    records: Vec<Record<'a>>,
    ttl: u32,
    #[serde(rename = "extraLabels")]
    extra_labels: BTreeMap<&'static str, &'a str>,
}

#[derive(Serialize)]
struct Record<'a> {
    name: &'a str,
    ips: Vec<String>,
}

/// Adds the document where the proxy has a name server and connections are redirected.
pub(crate) fn add(context: &Context<'_>, draft: &mut Draft) {
    let Some(transparent) = context.transparent.as_ref().filter(|transparent| transparent.dns) else {
        return;
    };
    let mut names: BTreeMap<&str, BTreeSet<IpAddr>> = BTreeMap::new();
    for outbound in &context.outbounds {
        for hostname in &outbound.destination.hostnames {
            let vips = outbound.destination.vips.iter().copied();
            names.entry(hostname).or_default().extend(vips);
        }
    }
    let records = names.into_iter().map(|(name, ips)| {
        let ips = ips.into_iter().flat_map(|ip| forms(ip, transparent.ipv6)).collect();
        Record { name, ips }
    });
    let dataplane = &context.proxy.dataplane;
    let known = [
        ("kuma_workload", dataplane.label(labels::WORKLOAD)),
        ("k8s_kuma_io_namespace", dataplane.namespace()),
        ("mesh", Some(dataplane.mesh())),
        ("kuma_io_zone", Some(context.view.zone())),
    ];
    let document = Document {
        records: records.collect(),
        ttl: context.settings.dns_ttl,
        extra_labels: known.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
    };
    if let Ok(text) = serde_json::to_string(&document) {
        draft.documents.insert(PATH.into(), text);
    }
}

/// An address, and for clients of IPv6 the mapped form (RFC 4291, 2.5.5.2) of one of IPv4, in hexadecimal groups.
fn forms(ip: IpAddr, ipv6: bool) -> Vec<String> {
    let mut forms = vec![ip.to_string()];
    if let (IpAddr::V4(v4), true) = (ip, ipv6) {
        let [a, b, c, d] = v4.octets().map(u16::from);
        forms.push(format!("::ffff:{:x}:{:x}", a << 8 | b, c << 8 | d));
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_form_for_each_family() {
        let ip = IpAddr::from([241, 0, 0, 1]);
        assert_eq!(forms(ip, false), ["241.0.0.1"]);
        assert_eq!(forms(ip, true), ["241.0.0.1", "::ffff:f100:1"]);
        let mapped: IpAddr = forms(ip, true)[1].parse().expect("an address");
        assert_eq!(mapped.to_canonical(), ip);
    }
}
