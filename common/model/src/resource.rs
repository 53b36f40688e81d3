//! A stored resource: its key, metadata and encoded spec and status, with typed views decoded once.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::kri::Kri;
use crate::labels;
use crate::payload::{DecodeError, Payload, Typed};
use crate::{Kind, Origin, Timestamp};

/// Labels of a resource, ordered.
pub type Labels = BTreeMap<String, String>;

/// What identifies a resource in one store: kind, mesh (empty for global scope) and name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The kind.
    pub kind: Kind,
    /// The mesh; empty for kinds of global scope.
    pub mesh: Arc<str>,
    /// The name in this store.
    pub name: Arc<str>,
}

impl Key {
    /// The key of a mesh-scoped resource; the mesh is dropped for kinds of global scope.
    pub fn new(kind: Kind, mesh: &str, name: &str) -> Self {
        let mesh = if kind.is_mesh_scoped() { mesh } else { "" };
        Self { kind, mesh: mesh.into(), name: name.into() }
    }

    /// The key of a resource of global scope.
    pub fn global(kind: Kind, name: &str) -> Self {
        Self::new(kind, "", name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.mesh.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.mesh, self.name)
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

type View = OnceLock<Result<Box<dyn Any + Send + Sync>, DecodeError>>;

/// A resource as a store holds it. Build a changed copy with [`Resource::to_builder`].
pub struct Resource {
    key: Key,
    labels: Labels,
    created: Timestamp,
    modified: Timestamp,
    spec: Payload,
    status: Option<Payload>,
    spec_view: View,
    status_view: View,
}

/// The parts of a [`Resource`].
#[derive(Clone, Debug)]
pub struct Builder {
    /// What identifies it.
    pub key: Key,
    /// Its labels.
    pub labels: Labels,
    /// When it was first written on this control plane.
    pub created: Timestamp,
    /// When it was last written on this control plane.
    pub modified: Timestamp,
    /// Encoded spec.
    pub spec: Payload,
    /// Encoded status, for kinds that have one.
    pub status: Option<Payload>,
}

impl Builder {
    /// A resource with an empty spec, no labels and no times.
    pub fn new(key: Key) -> Self {
        let spec = if key.kind.is_json() { Payload::from_bytes("{}") } else { Payload::default() };
        let status = key.kind.empty_status.map(Payload::from_bytes);
        Self {
            key,
            labels: Labels::new(),
            created: Timestamp::EPOCH,
            modified: Timestamp::EPOCH,
            spec,
            status,
        }
    }

    /// Sets the spec from its typed form.
    pub fn spec(mut self, spec: &impl Typed) -> Self {
        self.spec = spec.encode();
        self
    }

    /// Sets the status from its typed form.
    pub fn status(mut self, status: &impl Typed) -> Self {
        self.status = Some(status.encode());
        self
    }

    /// Replaces all labels.
    pub fn labels(mut self, labels: Labels) -> Self {
        self.labels = labels;
        self
    }

    /// Sets one label.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Sets both times.
    pub fn at(mut self, time: Timestamp) -> Self {
        self.created = time;
        self.modified = time;
        self
    }

    /// The finished resource.
    pub fn build(self) -> Resource {
        Resource {
            key: self.key,
            labels: self.labels,
            created: self.created,
            modified: self.modified,
            spec: self.spec,
            status: self.status,
            spec_view: View::new(),
            status_view: View::new(),
        }
    }
}

impl Resource {
    /// Starts a resource with an empty spec.
    pub fn builder(key: Key) -> Builder {
        Builder::new(key)
    }

    /// A copy to change and build again.
    pub fn to_builder(&self) -> Builder {
        Builder {
            key: self.key.clone(),
            labels: self.labels.clone(),
            created: self.created,
            modified: self.modified,
            spec: self.spec.clone(),
            status: self.status.clone(),
        }
    }

    /// What identifies it.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.key.kind
    }

    /// Its mesh; empty for global scope.
    pub fn mesh(&self) -> &str {
        &self.key.mesh
    }

    /// Its name in this store.
    pub fn name(&self) -> &str {
        &self.key.name
    }

    /// Its labels.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// One label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }

    /// When it was first written on this control plane.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// When it was last written on this control plane.
    pub fn modified(&self) -> Timestamp {
        self.modified
    }

    /// Encoded spec.
    pub fn raw_spec(&self) -> &Payload {
        &self.spec
    }

    /// Encoded status.
    pub fn raw_status(&self) -> Option<&Payload> {
        self.status.as_ref()
    }

    /// The name it was given where it was authored: its display-name label, else its name.
    pub fn display_name(&self) -> &str {
        self.label(labels::DISPLAY_NAME).filter(|name| !name.is_empty()).unwrap_or(&self.key.name)
    }

    /// The zone it was authored in, by its label.
    pub fn zone(&self) -> Option<&str> {
        self.label(labels::ZONE).filter(|zone| !zone.is_empty())
    }

    /// The Kubernetes namespace it was authored in, by its label.
    pub fn namespace(&self) -> Option<&str> {
        self.label(labels::NAMESPACE).filter(|namespace| !namespace.is_empty())
    }

    /// Where it was authored, as seen from this store: a zone label without the origin `global` means a
    /// zone; `None` when no label tells.
    pub fn origin(&self) -> Option<Origin> {
        match (self.label(labels::ORIGIN), self.zone()) {
            (_, Some(zone)) => Some(Origin::Zone(zone.into())),
            (Some("global"), None) => Some(Origin::Global),
            _ => None,
        }
    }

    /// Its resource identifier; `None` for kinds that have none.
    pub fn kri(&self) -> Option<Kri> {
        Kri::of(self)
    }

    /// Its typed spec, decoded at the first call.
    ///
    /// # Errors
    /// When the payload does not decode as `T`.
    pub fn spec<T: Typed>(&self) -> Result<&T, DecodeError> {
        view(&self.spec_view, self.kind(), &self.spec)
    }

    /// Its typed status, decoded at the first call; a missing status reads as an empty one.
    ///
    /// # Errors
    /// When the payload does not decode as `T`.
    pub fn status<T: Typed>(&self) -> Result<&T, DecodeError> {
        match &self.status {
            Some(status) => view(&self.status_view, self.kind(), status),
            None => view(&self.status_view, self.kind(), &Payload::default()),
        }
    }

    /// Whether spec, labels and status say the same; names and times are not compared.
    pub fn same_content(&self, other: &Self) -> bool {
        let same_status = match (&self.status, &other.status) {
            // Statuses are JSON for every kind that has one.
            (Some(a), Some(b)) => a.same_document(b),
            (a, b) => a.is_none() && b.is_none(),
        };
        self.labels == other.labels && self.spec.same(&other.spec, self.kind().format) && same_status
    }
}

fn view<'a, T: Typed>(cell: &'a View, kind: Kind, payload: &Payload) -> Result<&'a T, DecodeError> {
    cell.get_or_init(|| T::decode(payload).map(|value| Box::new(value) as Box<dyn Any + Send + Sync>))
        .as_ref()
        .map_err(Clone::clone)?
        .downcast_ref()
        .ok_or(DecodeError::WrongKind(kind.info().name))
}

impl Clone for Resource {
    fn clone(&self) -> Self {
        self.to_builder().build()
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource")
            .field("key", &self.key)
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}
