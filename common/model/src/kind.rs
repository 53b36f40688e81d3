//! Kinds of resources. [`Kind`] is a handle on one row of the table in [`table`], the one place that
//! describes a kind; REST, KDS, the command line and the documentation read it from there.

mod table;

use std::fmt;

use crate::payload::{JsonCodec, SpecFormat};

/// Whether a kind lives in a mesh or belongs to the whole control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One namespace of names for the control plane.
    Global,
    /// One namespace of names per mesh.
    Mesh,
}

/// Which control plane provides a kind and which consumes it over KDS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow(u8);

impl Flow {
    /// Stays where it was written.
    pub const LOCAL: Self = Self(0);
    /// A zone takes it from the global.
    pub const CONSUMED_BY_ZONE: Self = Self(1);
    /// The global takes it from zones.
    pub const CONSUMED_BY_GLOBAL: Self = Self(2);
    /// May be written on a zone.
    pub const PROVIDED_BY_ZONE: Self = Self(4);
    /// May be written on the global.
    pub const PROVIDED_BY_GLOBAL: Self = Self(8);
    /// What one zone wrote travels through the global to the other zones.
    pub const ACROSS_ZONES: Self = Self(16);
    /// Written on the global, sent to every zone.
    pub const GLOBAL_TO_ZONE: Self = Self::PROVIDED_BY_GLOBAL.and(Self::CONSUMED_BY_ZONE);
    /// Written on a zone, sent to the global.
    pub const ZONE_TO_GLOBAL: Self = Self::PROVIDED_BY_ZONE.and(Self::CONSUMED_BY_GLOBAL);

    /// Both flows together.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every part of `other` is in `self`.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// How a policy kind is shaped and in which order it edits a proxy's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyInfo {
    /// Lower goes first.
    pub order: u16,
    /// Has a `to` list (outbound traffic).
    pub to: bool,
    /// Has a `rules` list (inbound traffic).
    pub rules: bool,
}

/// One row of the table of kinds.
#[derive(Debug)]
pub struct KindInfo {
    /// The `type` of the REST document and of KDS, for example `MeshService`.
    pub name: &'static str,
    /// Where its names live.
    pub scope: Scope,
    /// Collection segment of its REST path; `None` where REST does not show the kind.
    pub path: Option<&'static str>,
    /// A second REST path with the same verbs.
    pub alternative_path: Option<&'static str>,
    /// Short name in a KRI; `None` where the kind has no KRI.
    pub short: Option<&'static str>,
    /// Who provides and who consumes it.
    pub flow: Flow,
    /// Encoding of `spec` on the wire and in the store.
    pub format: SpecFormat,
    /// Encoding of a `status`, for kinds that have one; the text is the status of a new resource.
    pub empty_status: Option<&'static str>,
    /// Whether its name is hashed when it is synced from the global to zones.
    pub hashed: bool,
    /// Observed state: no user writes it.
    pub read_only: bool,
    /// Only administrators see it: secrets.
    pub admin_only: bool,
    /// Set for policies.
    pub policy: Option<PolicyInfo>,
    /// Name shown to people, singular.
    pub singular: &'static str,
    /// Name shown to people, plural.
    pub plural: &'static str,
}

/// A kind of resource. Cheap to copy; ordered by name.
#[derive(Clone, Copy)]
pub struct Kind(&'static KindInfo);

impl Kind {
    /// All kinds, ordered by name.
    pub fn all() -> impl ExactSizeIterator<Item = Kind> + Clone {
        table::KINDS.iter().map(Kind)
    }

    /// The kind of this name, for example `MeshService`.
    pub fn by_name(name: &str) -> Option<Kind> {
        table::KINDS
            .binary_search_by(|info| info.name.cmp(name))
            .ok()
            .and_then(|at| table::KINDS.get(at))
            .map(Kind)
    }

    /// The kind served under this REST collection segment, alternative paths included.
    pub fn by_path(path: &str) -> Option<Kind> {
        Self::all().find(|kind| kind.path == Some(path) || kind.alternative_path == Some(path))
    }

    /// The kind with this KRI short name.
    pub fn by_short(short: &str) -> Option<Kind> {
        Self::all().find(|kind| kind.short == Some(short))
    }

    /// The kind whose name is nearest to a misspelt one, if any is near.
    pub fn nearest(name: &str) -> Option<Kind> {
        crate::schema::nearest(name, Self::all().map(|kind| kind.name)).and_then(Self::by_name)
    }

    /// Kinds that the global sends to zones: what it provides and what crosses zones.
    pub fn global_to_zone() -> impl Iterator<Item = Kind> + Clone {
        Self::all().filter(|kind| kind.flow.has(Flow::GLOBAL_TO_ZONE) || kind.flow.has(Flow::ACROSS_ZONES))
    }

    /// Kinds that zones send to the global.
    pub fn zone_to_global() -> impl Iterator<Item = Kind> + Clone {
        Self::all().filter(|kind| kind.flow.has(Flow::ZONE_TO_GLOBAL))
    }

    /// The row itself.
    pub fn info(self) -> &'static KindInfo {
        self.0
    }

    /// Whether the kind lives in a mesh.
    pub fn is_mesh_scoped(self) -> bool {
        self.scope == Scope::Mesh
    }

    /// Whether the kind came after the peer's protobuf kinds: `spec` and `status` are keys of their own.
    pub fn is_json(self) -> bool {
        self.json().is_some()
    }

    /// The type that holds its spec, for JSON kinds.
    pub fn json(self) -> Option<JsonCodec> {
        match self.format {
            SpecFormat::Json(codec) => Some(codec),
            SpecFormat::Proto(_) => None,
        }
    }
}

impl std::ops::Deref for Kind {
    type Target = KindInfo;

    fn deref(&self) -> &KindInfo {
        self.0
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for Kind {}

impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Kind {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.name.cmp(other.0.name)
    }
}

impl std::hash::Hash for Kind {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_ordered_and_every_lookup_finds_its_row() {
        let names: Vec<_> = Kind::all().map(|kind| kind.name).collect();
        assert!(names.is_sorted(), "binary search needs an ordered table");
        for kind in Kind::all() {
            assert_eq!(Kind::by_name(kind.name), Some(kind));
            if let Some(path) = kind.path {
                assert_eq!(Kind::by_path(path), Some(kind));
            }
            if let Some(short) = kind.short {
                assert_eq!(Kind::by_short(short), Some(kind));
            }
        }
    }

    #[test]
    fn as_many_kinds_flow_each_way_as_the_peer_expects() {
        assert_eq!(Kind::global_to_zone().count(), 29);
        assert_eq!(Kind::zone_to_global().count(), 26);
    }

    #[test]
    fn nearest_kind_is_suggested_only_when_near() {
        assert_eq!(Kind::nearest("MeshTimeouts").map(|kind| kind.name), Some("MeshTimeout"));
        assert_eq!(Kind::nearest("Deployment"), None);
    }
}
