//! Whom the proxies of a mesh trust: the bundle of each trust domain.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use model::Resource;
use model::spec::MeshTrust;

/// Bundles by trust domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trust {
    bundles: BTreeMap<String, String>,
}

impl Trust {
    /// Joins the bundles of resources that speak for one domain, in the order of their names. A bundle that Envoy
    /// could not read would cost all others, so it is left out.
    pub(crate) fn new<'a>(trusts: impl Iterator<Item = &'a Arc<Resource>>) -> Self {
        let mut trusts: Vec<_> = trusts.collect();
        trusts.sort_by_key(|trust| trust.name());
        let mut bundles: BTreeMap<String, String> = BTreeMap::new();
        for trust in trusts {
            let Ok(spec) = trust.spec::<MeshTrust>() else { continue };
            let pems = spec.ca_bundles.iter().filter_map(|bundle| bundle.pem.as_ref());
            for pem in pems.filter(|pem| is_pem(&pem.value)) {
                let bundle = bundles.entry(spec.trust_domain.clone()).or_default();
                if !bundle.is_empty() && !bundle.ends_with('\n') {
                    bundle.push('\n');
                }
                bundle.push_str(&pem.value);
            }
        }
        bundles.remove("");
        Self { bundles }
    }

    /// Trust domains with their bundles, ordered by domain.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.bundles.iter().map(|(domain, bundle)| (domain.as_str(), bundle.as_str()))
    }

    /// Whether nobody is trusted.
    pub(crate) fn is_empty(&self) -> bool {
        self.bundles.is_empty()
    }
}

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Whether the text holds certificates and each is closed and decodes.
fn is_pem(text: &str) -> bool {
    let mut blocks = text.split(BEGIN).skip(1).peekable();
    blocks.peek().is_some()
        && blocks.all(|block| {
            let Some((body, _)) = block.split_once(END) else { return false };
            let body: String = body.split_whitespace().collect();
            !body.is_empty() && BASE64_STANDARD.decode(body).is_ok()
        })
}

#[cfg(test)]
mod tests {
    use model::spec::CaBundle;
    use model::{Key, Kind};

    use super::*;

    fn trust(name: &str, domain: &str, pems: &[&str]) -> Arc<Resource> {
        let ca_bundles = pems.iter().map(|pem| CaBundle::pem(*pem)).collect();
        let spec = MeshTrust { trust_domain: domain.into(), ca_bundles };
        Arc::new(Resource::builder(Key::new(Kind::MESH_TRUST, "default", name)).spec(&spec).build())
    }

    fn pem(body: &str) -> String {
        format!("{BEGIN}\n{body}\n{END}")
    }

    #[test]
    fn bundles_of_a_domain_are_joined_whatever_their_order() {
        let (a, b) = (pem("AAAA"), pem("BBBB"));
        let held = [trust("2", "d", &[&b]), trust("1", "d", &[&a]), trust("3", "c", &[&a])];
        let trust = Trust::new(held.iter());
        let joined = format!("{a}\n{b}");
        assert_eq!(trust.iter().collect::<Vec<_>>(), [("c", a.as_str()), ("d", joined.as_str())]);
        assert_eq!(trust, Trust::new(held.iter().rev()));
    }

    #[test]
    fn what_is_no_certificate_is_left_out_alone() {
        let good = pem("AAAA");
        let open = format!("{BEGIN}\nAAAA");
        let odd = pem("A?A");
        let held = [trust("1", "d", &[&good, &open, &odd, "text"]), trust("2", "e", &[&open])];
        assert_eq!(Trust::new(held.iter()).iter().collect::<Vec<_>>(), [("d", good.as_str())]);
    }
}
