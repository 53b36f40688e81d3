//! How long certificates live, and when they are renewed.

use std::time::Duration;

use model::spec::MeshIdentity;
use model::{Key, Timestamp, names};

/// Lifetime of a certificate whose MeshIdentity does not say: five days, as the peer's.
const DEFAULT: Duration = Duration::from_secs(5 * 24 * 3600);

/// Permille of its lifetime after which a certificate is renewed at the latest, as the peer does.
const RENEWED_AFTER: u64 = 800;
/// Permille by which renewals are spread, so that proxies that started together do not renew together.
const SPREAD: u64 = 100;

/// Lifetime of the certificates of a MeshIdentity.
pub(super) fn of(identity: &MeshIdentity) -> Duration {
    let parameters = identity.provider.bundled.as_ref().and_then(|own| own.certificate_parameters.as_ref());
    let expiry = parameters.and_then(|parameters| parameters.expiry.as_deref()).and_then(parse);
    expiry.filter(|expiry| !expiry.is_zero()).unwrap_or(DEFAULT)
}

/// When a proxy's certificate is renewed.
pub(super) fn renewal(proxy: &Key, issued: Timestamp, lifetime: Duration) -> Timestamp {
    let early = names::fnv1a64([&*proxy.mesh, "/", &*proxy.name]) % (SPREAD + 1);
    let millis = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
    issued.plus(Duration::from_millis(millis / 1000 * (RENEWED_AFTER - early) + millis % 1000))
}

/// Reads a duration as Go writes it: numbers with units, for example `1h30m` or `1.5h`.
fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        sum += number.parse::<f64>().ok()? * seconds;
        rest = after;
    }
    Duration::try_from_secs_f64(sum).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use model::Kind;

    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let seconds = |text| parse(text).map(|duration| duration.as_secs_f64());
        assert_eq!(seconds("24h"), Some(86400.0));
        assert_eq!(seconds("1h30m10s"), Some(5410.0));
        assert_eq!(seconds("1.5h"), Some(5400.0));
        assert_eq!(seconds("250ms"), Some(0.25));
        for bad in ["24", "h", "1d", "-1h", "1.2.3s"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn renewals_are_spread_over_a_tenth_of_the_lifetime_and_stay_before_four_fifths() {
        let lifetime = Duration::from_secs(1000);
        let issued = Timestamp::from_unix(0, 0);
        let times: BTreeSet<i64> = (0..500)
            .map(|n| Key::new(Kind::DATAPLANE, "default", &format!("web-{n}")))
            .map(|key| renewal(&key, issued, lifetime).unix_seconds())
            .collect();
        assert!(times.len() > 50, "{}", times.len());
        assert!(times.first().is_some_and(|first| *first >= 700));
        assert!(times.last().is_some_and(|last| *last <= 800));
    }
}
