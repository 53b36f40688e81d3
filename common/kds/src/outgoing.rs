//! What a control plane sends, and as what: filters, labels and names of resources on their way out.

use std::collections::BTreeMap;

use kds_proto::envelope::wire_name;
use model::kind::Flow;
use model::names::synced_name;
use model::spec::{DataplaneInsight, Secret};
use model::{Kind, Labels, Payload, Resource, labels};
use store::Snapshot;

use crate::view::{WireResource, envelope, version_of};

/// The Config that zones share with the global.
const CLUSTER_ID: &str = "kuma-cluster-id";
/// GlobalSecrets that never leave the global.
const PRIVATE_SECRETS: [&str; 4] =
    ["envoy-admin-ca", "admin-user-token", "inter-cp-ca", "user-token-revocations"];
const USER_SIGNING_KEY: &str = "user-token-signing-key";
const ZONE_SIGNING_KEY: &str = "zone-token-signing-key";
const ZONE_PUBLIC_KEY: &str = "zone-token-signing-public-key";

/// Turns a private key in PEM into its public key in PEM.
pub type PublicKeyOf = fn(&[u8]) -> Option<Vec<u8>>;

/// Which side maps.
#[derive(Clone, Debug)]
pub enum Outgoing {
    /// The global, towards any zone.
    FromGlobal {
        /// Zones get the public half of the zone token keys only.
        public_key_of: PublicKeyOf,
    },
    /// A zone, towards the global.
    FromZone {
        /// The zone's name.
        zone: String,
    },
}

impl Outgoing {
    /// The kinds that flow this way.
    pub fn kinds(&self) -> Vec<Kind> {
        match self {
            Self::FromGlobal { .. } => Kind::global_to_zone().collect(),
            Self::FromZone { .. } => Kind::zone_to_global().collect(),
        }
    }

    /// The wire form of a resource; `None` when it stays here.
    pub fn map(&self, resource: &Resource) -> Option<WireResource> {
        if resource.label(labels::KDS_SYNC) == Some("disabled") {
            return None;
        }
        match self {
            Self::FromGlobal { public_key_of } => from_global(resource, *public_key_of),
            Self::FromZone { zone } => from_zone(resource, zone),
        }
    }
}

fn from_global(resource: &Resource, public_key_of: PublicKeyOf) -> Option<WireResource> {
    let kind = resource.kind();
    if kind == Kind::CONFIG && resource.name() != CLUSTER_ID {
        return None;
    }
    let local = resource.label(labels::ORIGIN).is_none_or(|origin| origin == "global");
    let from_zone = if local {
        kind.flow.has(Flow::GLOBAL_TO_ZONE).then_some(None)?
    } else {
        crosses_zones(resource).then(|| resource.zone())?.map(Some)?
    };
    let mut wire = envelope(resource);
    if kind == Kind::GLOBAL_SECRET {
        publish_secret(resource, &mut wire, public_key_of)?;
    }
    wire.labels.insert(labels::ORIGIN.into(), "global".into());
    wire.status = kind.empty_status.map(|empty| kds_proto::envelope::Content::Json(empty.into()));
    if kind.hashed {
        rename(&mut wire, resource);
    }
    Some(WireResource::new(&wire, from_zone))
}

/// Whether what one zone authored goes to the others. MeshTrusts do, so that zones trust each other without
/// hands; a mesh that does not want it is filtered per zone.
fn crosses_zones(resource: &Resource) -> bool {
    let kind = resource.kind();
    if kind == Kind::MESH_TRUST {
        return true;
    }
    let producer = kind.policy.is_none() || resource.label(labels::POLICY_ROLE) == Some("producer");
    kind.flow.has(Flow::ACROSS_ZONES) && producer
}

/// Keeps secrets of the global at home and reduces zone token keys to their public half.
fn publish_secret(
    resource: &Resource,
    wire: &mut kds_proto::envelope::Envelope,
    public_key_of: PublicKeyOf,
) -> Option<()> {
    let name = resource.name();
    if PRIVATE_SECRETS.contains(&name) || name.starts_with(USER_SIGNING_KEY) {
        return None;
    }
    if let Some(serial) = name.strip_prefix(ZONE_SIGNING_KEY) {
        let private = resource.spec::<Secret>().ok()?.data.clone()?;
        let public = model::payload::Typed::encode(&Secret { data: Some(public_key_of(&private)?) });
        wire.name = format!("{ZONE_PUBLIC_KEY}{serial}");
        wire.labels.entry(labels::DISPLAY_NAME.into()).or_insert_with(|| name.into());
        wire.spec = crate::view::content(Kind::GLOBAL_SECRET, &public);
    }
    Some(())
}

fn from_zone(resource: &Resource, zone: &str) -> Option<WireResource> {
    if resource.label(labels::ORIGIN).is_some_and(|origin| origin != "zone") {
        return None;
    }
    let mut wire = envelope(resource);
    wire.labels.insert(labels::ORIGIN.into(), "zone".into());
    wire.labels.insert(labels::ZONE.into(), zone.into());
    wire.labels.remove(labels::GRACE_PERIOD_STARTED_AT);
    if resource.kind() == Kind::DATAPLANE_INSIGHT {
        wire.spec = crate::view::content(Kind::DATAPLANE_INSIGHT, &without_generations(resource)?);
    }
    let display = resource.display_name().to_owned();
    wire.name = synced_name(&wire.mesh, &display, Some(zone), resource.namespace());
    wire.labels.insert(labels::DISPLAY_NAME.into(), display);
    Some(WireResource::new(&wire, None))
}

/// Generations count keepalives inside the zone; they would be a change on the wire without one.
fn without_generations(resource: &Resource) -> Option<Payload> {
    let insight = resource.spec::<DataplaneInsight>().ok()?;
    if insight.subscriptions.iter().all(|subscription| subscription.generation == 0) {
        return Some(resource.raw_spec().clone());
    }
    let mut insight = insight.clone();
    insight.subscriptions.iter_mut().for_each(|subscription| subscription.generation = 0);
    Some(model::payload::Typed::encode(&insight))
}

fn rename(wire: &mut kds_proto::envelope::Envelope, resource: &Resource) {
    let display = resource.display_name().to_owned();
    wire.name = synced_name(&wire.mesh, &display, resource.zone(), resource.namespace());
    wire.labels.insert(labels::DISPLAY_NAME.into(), display);
}

/// Versions of what a receiver already holds of a kind, as the sender would compute them: unchanged resources
/// do not travel again after a reconnect.
pub fn held_versions(
    snapshot: &Snapshot,
    kind: Kind,
    is_from_peer: impl Fn(&Labels) -> bool,
    sent_with_status: bool,
) -> BTreeMap<String, String> {
    let from_peer = snapshot.kind(kind).filter(|resource| is_from_peer(resource.labels()));
    from_peer
        .map(|resource| {
            let mut held = envelope(resource);
            if !sent_with_status {
                held.status = kind.empty_status.map(|empty| kds_proto::envelope::Content::Json(empty.into()));
            }
            (wire_name(resource.name(), resource.mesh()), version_of(&held.encode()))
        })
        .collect()
}
