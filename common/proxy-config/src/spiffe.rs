//! Which identity a proxy has: the MeshIdentity that selects it and the SPIFFE ID that its templates give.

use std::cmp::Reverse;
use std::sync::Arc;

use model::spec::{self, MeshIdentity, MeshIdentityStatus};
use model::{Resource, labels};

/// Label with the service account of a workload on Kubernetes.
const SERVICE_ACCOUNT: &str = "k8s.kuma.io/service-account";

/// The MeshIdentity of a proxy: of those that select it and are ready the one with most labels, then the smallest
/// name. No selector selects nothing, an empty one everything.
pub fn select<'a>(
    identities: impl IntoIterator<Item = &'a Arc<Resource>>,
    dataplane: &Resource,
) -> Option<&'a Arc<Resource>> {
    let candidates = identities.into_iter().filter(|identity| is_ready(identity)).filter_map(|identity| {
        let spec = identity.spec::<MeshIdentity>().ok()?;
        let selector = spec.selector.as_ref()?.dataplane.as_ref()?;
        selector.selects(dataplane).then_some((identity, selector.match_labels.len()))
    });
    candidates.min_by_key(|(identity, labels)| (Reverse(*labels), identity.name())).map(|(found, _)| found)
}

/// Whether a MeshIdentity can issue.
pub fn is_ready(identity: &Resource) -> bool {
    identity
        .status::<MeshIdentityStatus>()
        .is_ok_and(|status| spec::holds(&status.conditions, MeshIdentity::READY))
}

/// The trust domain of a MeshIdentity in a zone; `None` when its template cannot be rendered.
pub fn trust_domain(identity: &Resource, zone: &str) -> Option<String> {
    let template = identity.spec::<MeshIdentity>().ok()?.trust_domain_template();
    render(template, &|name| match name {
        "Mesh" => Some(identity.mesh()),
        "Zone" => Some(zone),
        _ => None,
    })
}

/// The SPIFFE ID that a MeshIdentity gives a proxy in a zone; `None` when a template asks for what the proxy has not.
pub fn id(identity: &Resource, dataplane: &Resource, zone: &str) -> Option<String> {
    let template = identity.spec::<MeshIdentity>().ok()?.path_template();
    let path = render(template, &|name| match name {
        "Mesh" => Some(dataplane.mesh()),
        "Zone" => Some(zone),
        "Namespace" => dataplane.namespace(),
        "Workload" => dataplane.label(labels::WORKLOAD),
        "ServiceAccount" => dataplane.label(SERVICE_ACCOUNT),
        name => dataplane.label(label_name(name)?),
    })?;
    Some(format!("spiffe://{}{path}", trust_domain(identity, zone)?))
}

/// The name in `label "name"`.
fn label_name(expression: &str) -> Option<&str> {
    expression.strip_prefix("label")?.trim().strip_prefix('"')?.strip_suffix('"')
}

/// Replaces each `{{ .Name }}` and `{{ label "name" }}`; one without a value, or with an empty one, fails the whole.
fn render<'a>(template: &str, lookup: &dyn Fn(&str) -> Option<&'a str>) -> Option<String> {
    let mut rendered = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (expression, after) = after.split_once("}}")?;
        let expression = expression.trim();
        let value = lookup(expression.strip_prefix('.').unwrap_or(expression))?;
        if value.is_empty() {
            return None;
        }
        rendered.push_str(before);
        rendered.push_str(value);
        rest = after;
    }
    rendered.push_str(rest);
    Some(rendered)
}

#[cfg(test)]
mod tests {
    use model::spec::{Condition, IdentitySelector, LabelSelector, SpiffeIdTemplate};
    use model::{Key, Kind};

    use super::*;

    fn identity(name: &str, labels: Option<&[(&str, &str)]>, ready: bool) -> Arc<Resource> {
        let labels = labels.map(|labels| LabelSelector {
            match_labels: labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        });
        let spec = MeshIdentity {
            selector: Some(IdentitySelector { dataplane: labels }),
            ..MeshIdentity::default()
        };
        let conditions = vec![Condition::new(MeshIdentity::READY, ready, "Ready", "")];
        let builder = Resource::builder(Key::new(Kind::MESH_IDENTITY, "default", name));
        Arc::new(builder.spec(&spec).status(&MeshIdentityStatus { conditions }).build())
    }

    fn dataplane() -> Resource {
        Resource::builder(Key::new(Kind::DATAPLANE, "default", "web-1"))
            .label("app", "web")
            .label(labels::WORKLOAD, "web")
            .build()
    }

    #[test]
    fn the_most_specific_ready_identity_is_selected() {
        let none = identity("a", None, true);
        let all = identity("c", Some(&[]), true);
        let first = identity("d", Some(&[("app", "web")]), true);
        let second = identity("e", Some(&[("app", "web")]), true);
        let other = identity("f", Some(&[("app", "db")]), true);
        let failed = identity("b", Some(&[("app", "web"), (labels::WORKLOAD, "web")]), false);
        let held = [none, all.clone(), second, first, other, failed];
        assert_eq!(select(&held, &dataplane()).map(|found| found.name()), Some("d"));
        let few = [all];
        assert_eq!(select(&few, &dataplane()).map(|found| found.name()), Some("c"));
        assert!(select(&[], &dataplane()).is_none());
    }

    #[test]
    fn templates_give_the_id() {
        let default = identity("i", Some(&[]), true);
        let expected = "spiffe://default.east.mesh.local/workload/web";
        assert_eq!(id(&default, &dataplane(), "east").as_deref(), Some(expected));
    }

    #[test]
    fn a_template_that_asks_for_what_is_not_there_gives_none() {
        for (path, expected) in [
            ("/ns/{{ .Namespace }}", None),
            ("/app/{{ label \"app\" }}", Some("spiffe://td/app/web")),
            ("/app/{{ label \"none\" }}", None),
            ("/{{ .Unknown }}", None),
            ("/{{ .Mesh", None),
            ("/plain", Some("spiffe://td/plain")),
        ] {
            let template = SpiffeIdTemplate { trust_domain: Some("td".into()), path: Some(path.into()) };
            let spec = MeshIdentity { spiffe_id: Some(template), ..MeshIdentity::default() };
            let key = Key::new(Kind::MESH_IDENTITY, "default", "i");
            let identity = Resource::builder(key).spec(&spec).build();
            assert_eq!(id(&identity, &dataplane(), "east").as_deref(), expected, "{path}");
        }
    }
}
