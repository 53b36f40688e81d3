//! What an item of a policy's `to` list names, read once.

use model::spec::{TargetRef, labels_select};
use model::{Resource, labels};
use serde::Deserialize;
use serde_json::Value;

use crate::order::TargetKind;
use crate::proxy::Section;
use crate::selected::{Destination, RouteRule};

/// The target of a `to` item.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    target: TargetRef,
    kind: TargetKind,
    name: Option<String>,
}

impl Reference {
    /// Reads the target of an item; `None` for one that can name nothing.
    pub(crate) fn of(item: &Value) -> Option<Self> {
        let reference = item.get("targetRef")?;
        let target = TargetRef::deserialize(reference).ok()?;
        let kind = TargetKind::parse(&target.kind)?;
        let name = reference.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        Some(Self { target, kind, name: name.map(str::to_owned) })
    }

    /// Sort key: the more specific target comes later.
    pub(crate) fn rank(&self) -> (TargetKind, bool) {
        (self.kind, self.section().is_some())
    }

    /// The kind and display name that whatever it names has; `None` where others are named too.
    pub(crate) fn display_name(&self) -> Option<(TargetKind, &str)> {
        let name = self.target.labels.as_ref()?.get(labels::DISPLAY_NAME)?;
        (self.kind != TargetKind::Mesh).then_some((self.kind, name))
    }

    fn section(&self) -> Option<&str> {
        self.target.section_name.as_deref().filter(|name| !name.is_empty())
    }

    fn names(&self, resource: &Resource) -> bool {
        let by_labels = self.target.labels.as_ref().filter(|wanted| !wanted.is_empty());
        match (by_labels, &self.name) {
            (Some(wanted), _) => labels_select(wanted, resource),
            (None, Some(name)) => resource.display_name() == name || resource.name() == name,
            (None, None) => true,
        }
    }

    /// Whether it is the whole mesh.
    pub(crate) fn is_mesh(&self) -> bool {
        self.kind == TargetKind::Mesh
    }

    pub(crate) fn applies_to(&self, destination: &Destination<'_>) -> bool {
        if self.kind == TargetKind::Mesh {
            return true;
        }
        let section = Section { name: destination.section.to_owned(), port: destination.port };
        TargetKind::parse(destination.resource.kind().name) == Some(self.kind)
            && self.names(destination.resource)
            && self.section().is_none_or(|name| section.is(name))
    }

    pub(crate) fn applies_to_route(&self, route: &RouteRule<'_>) -> bool {
        self.kind == TargetKind::Mesh || self.names_route(route)
    }

    pub(crate) fn names_route(&self, route: &RouteRule<'_>) -> bool {
        self.kind == TargetKind::MeshHttpRoute
            && self.names(route.resource)
            && self.section().is_none_or(|name| name == route.section)
    }
}
