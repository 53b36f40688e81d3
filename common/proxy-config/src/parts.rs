//! Pieces of Envoy's messages that several generators share.

mod address;
mod cluster;
mod http;
mod network;
mod tls;

pub(crate) use address::*;
pub(crate) use cluster::*;
pub(crate) use http::*;
pub(crate) use network::*;
pub(crate) use tls::*;

use std::collections::BTreeMap;

use envoy_api::envoy::config::core::v3::Metadata;
use model::Labels;
use model::duration::GoDuration;
use prost_types::value::Kind;
use prost_types::{Duration, Struct, Value};

/// Whole seconds.
pub(crate) fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

/// A duration of a spec.
pub(crate) fn duration(said: GoDuration) -> Duration {
    let (seconds, nanos) = (said.nanos() / 1_000_000_000, said.nanos() % 1_000_000_000);
    Duration { seconds, nanos: i32::try_from(nanos).unwrap_or(0) }
}

/// Strings as a document.
pub(crate) fn document<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Struct {
    let value = |text: &str| Value { kind: Some(Kind::StringValue(text.into())) };
    Struct { fields: entries.into_iter().map(|(key, text)| (key.to_owned(), value(text))).collect() }
}

/// Labels as the tags of a listener.
pub(crate) fn listener_tags(labels: &Labels) -> Option<Metadata> {
    let tags = document(labels.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    Some(Metadata { filter_metadata: BTreeMap::from([("io.kuma.tags".into(), tags)]), ..Metadata::default() })
}

/// The tag of a listener that has no labels of its own.
pub(crate) fn unified_name(name: &str) -> Labels {
    Labels::from([("kuma.io/unified-name".into(), name.into())])
}

/// A name without the characters that Envoy takes apart in names of statistics.
pub(crate) fn stat_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    name.chars().map(|c| if plain(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_statistics_have_no_separators() {
        assert_eq!(stat_name("direct_access_192.168.0.2:1234"), "direct_access_192_168_0_2_1234");
        assert_eq!(stat_name("kri_msvc_m_z__web-1_80"), "kri_msvc_m_z__web-1_80");
    }
}
