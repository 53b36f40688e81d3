//! The server name with which a connection tells a zone ingress or egress what it wants to reach.

use crate::{Kri, Resource};

/// Longest DNS name.
const MAX_NAME: usize = 253;
/// Longest DNS label.
const MAX_LABEL: usize = 63;

/// Whether a part of a server name is an RFC 1123 label.
pub fn is_dns_label(label: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !label.is_empty()
        && label.len() <= MAX_LABEL
        && label.chars().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// The server name of a destination's port: `sni.<short>.<mesh>[.<zone>[.<namespace>]].<name>.<section>`.
///
/// `None` when a part is no DNS label or the name is too long: such a destination cannot be reached
/// across zones.
pub fn of(kri: &Kri) -> Option<String> {
    let parts = parts(kri);
    let name = parts.join(".");
    (name.len() <= MAX_NAME && parts.iter().all(|part| is_dns_label(part))).then_some(name)
}

/// The server name as text, valid or not, as the API shows it.
pub fn text(kri: &Kri) -> String {
    parts(kri).join(".")
}

fn parts(kri: &Kri) -> Vec<&str> {
    let mut parts = vec!["sni", kri.kind.short.unwrap_or_default(), &kri.mesh];
    if !kri.zone.is_empty() {
        parts.push(&kri.zone);
        if !kri.namespace.is_empty() {
            parts.push(&kri.namespace);
        }
    }
    parts.extend([kri.name.as_str(), kri.section.as_str()]);
    parts
}

/// One entry of a destination's `snis` list.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SniEntry {
    /// The port.
    pub port: u32,
    /// The server name.
    pub sni: String,
}

/// The server names of a destination resource, ordered by port; `None` for other kinds.
pub fn entries(resource: &Resource) -> Option<Vec<SniEntry>> {
    use crate::Kind;
    use crate::spec::{MeshExternalService, MeshMultiZoneService, MeshService};
    let kri = resource.kri()?;
    let ports: Vec<(u32, String)> = match resource.kind() {
        kind if kind == Kind::MESH_SERVICE => resource
            .spec::<MeshService>()
            .ok()?
            .ports
            .iter()
            .map(|port| (port.port, port.section()))
            .collect(),
        kind if kind == Kind::MESH_MULTI_ZONE_SERVICE => resource
            .spec::<MeshMultiZoneService>()
            .ok()?
            .ports
            .iter()
            .map(|port| (port.port, port.section()))
            .collect(),
        kind if kind == Kind::MESH_EXTERNAL_SERVICE => {
            let port = resource.spec::<MeshExternalService>().ok()?.r#match.port;
            vec![(port, port.to_string())]
        }
        _ => return None,
    };
    let mut entries: Vec<_> = ports
        .into_iter()
        .map(|(port, section)| SniEntry { port, sni: text(&kri.with_section(section)) })
        .collect();
    entries.sort_by_key(|entry| entry.port);
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kri(text: &str) -> Kri {
        Kri::parse(text).expect("a valid identifier")
    }

    #[test]
    fn zone_and_namespace_appear_only_when_set() {
        for (id, want) in [
            ("kri_mzsvc_default___redis_6379", "sni.mzsvc.default.redis.6379"),
            ("kri_mzsvc_default__ns_redis_6379", "sni.mzsvc.default.redis.6379"),
            ("kri_msvc_default_east__redis_tcp", "sni.msvc.default.east.redis.tcp"),
            ("kri_msvc_default_east_ns_redis_tcp", "sni.msvc.default.east.ns.redis.tcp"),
        ] {
            assert_eq!(of(&kri(id)).as_deref(), Some(want));
        }
    }

    #[test]
    fn parts_that_are_no_labels_have_no_server_name() {
        assert_eq!(of(&kri("kri_msvc_default_east__re.dis_tcp")), None);
        assert_eq!(of(&kri("kri_msvc_default_east__redis_")), None);
        assert_eq!(of(&kri("kri_msvc__east__redis_80")), None);
    }
}
