//! Who wants which hostname, over all meshes.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use model::hostnames::{self, Hostnames};
use model::{Key, Kind, Resource, Timestamp};
use store::Snapshot;

/// Wants a hostname: the first has it. Generators go one after the other, and within one older destinations first.
type Claim = (usize, Timestamp, Key);

/// Hostnames and the destinations that want them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// In the order in which they give hostnames.
    generators: Arc<Vec<Arc<Resource>>>,
    claims: OrdMap<(Arc<str>, String), OrdSet<Claim>>,
}

impl Names {
    /// Nothing wanted yet from the generators of a snapshot.
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let generators = hostnames::in_order(snapshot.kind(Kind::HOSTNAME_GENERATOR));
        Self { generators: Arc::new(generators), claims: OrdMap::new() }
    }

    /// Takes over a destination that came, went or changed. Destinations whose hostnames may be others now are
    /// added to `touched`.
    pub(crate) fn follow(
        &mut self,
        older: Option<&Resource>,
        newer: Option<&Resource>,
        touched: &mut BTreeSet<Key>,
    ) {
        if let (Some(older), Some(newer)) = (older, newer)
            && (older.labels(), older.created()) == (newer.labels(), newer.created())
        {
            return;
        }
        for (resource, wants) in [(older, false), (newer, true)] {
            let Some(resource) = resource else { continue };
            for (at, generator) in Arc::clone(&self.generators).iter().enumerate() {
                if let Some(Ok(hostname)) = hostnames::rendered(generator, resource) {
                    self.note(hostname, (at, resource.created(), resource.key().clone()), wants, touched);
                }
            }
        }
    }

    fn note(&mut self, hostname: String, claim: Claim, wants: bool, touched: &mut BTreeSet<Key>) {
        let place = (Arc::clone(&claim.2.mesh), hostname);
        let claims = self.claims.entry(place.clone()).or_default();
        let owner = claims.get_min().map(|first| first.2.clone());
        if wants {
            claims.insert(claim);
        } else {
            claims.remove(&claim);
        }
        let next = claims.get_min().map(|first| &first.2);
        if next != owner.as_ref() {
            touched.extend(claims.iter().map(|claim| claim.2.clone()));
        }
        if claims.is_empty() {
            self.claims.remove(&place);
        }
    }

    /// The hostnames of a destination.
    pub(crate) fn of(&self, destination: &Resource) -> Hostnames {
        let mesh = &destination.key().mesh;
        hostnames::given(self.generators.iter(), destination, |hostname| {
            let claims = self.claims.get(&(Arc::clone(mesh), hostname.to_owned()))?;
            claims.get_min().map(|first| &first.2)
        })
    }
}
