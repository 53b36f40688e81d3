//! Hostnames of destinations, as HostnameGenerators give them.

use std::sync::Arc;

use crate::spec::{
    Address, Condition, HostnameGenerator, HostnameGeneratorRef, HostnameGeneratorStatus, LabelSelector,
};
use crate::{Key, Kind, Resource, labels, validation};

/// Condition: the generator gave a hostname.
const GENERATED: &str = "Generated";
/// Origin of generated addresses.
const ORIGIN: &str = "HostnameGenerator";

/// Why a template gives no hostname.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum TemplateError {
    /// `{{` without `}}`.
    #[error("an expression is not closed")]
    Open,
    /// An expression that is neither a field nor a label.
    #[error("{0:?} is not known")]
    Unknown(String),
    /// A label that the destination has not.
    #[error("there is no label {0:?}")]
    NoLabel(String),
    /// The result is no DNS name.
    #[error("{0:?} is not a DNS name")]
    NotAName(String),
}

/// The hostname that a template gives a destination. It knows `.Name`, `.DisplayName`, `.Namespace`, `.Mesh`,
/// `.Zone` and `label "key"`.
///
/// # Errors
/// When the template asks for what is not there or its result is no DNS name.
pub fn render(template: &str, of: &Resource) -> Result<String, TemplateError> {
    render_with(template, |expression| value(expression, of))
}

/// Whether a template can give a hostname: rendered for a destination that has every field and label.
///
/// # Errors
/// When it asks for what no destination has or gives no DNS name.
pub fn check_template(template: &str) -> Result<(), TemplateError> {
    render_with(template, |expression| match expression {
        ".Name" | ".DisplayName" | ".Namespace" | ".Mesh" | ".Zone" => Ok("stub"),
        other => label_name(other).map(|_| "stub"),
    })
    .map(|_| ())
}

fn render_with<'a>(
    template: &str,
    value: impl Fn(&str) -> Result<&'a str, TemplateError>,
) -> Result<String, TemplateError> {
    let mut rendered = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (expression, after) = after.split_once("}}").ok_or(TemplateError::Open)?;
        rendered.push_str(before);
        rendered.push_str(value(expression.trim())?);
        rest = after;
    }
    rendered.push_str(rest);
    if validation::is_dns_name(&rendered) { Ok(rendered) } else { Err(TemplateError::NotAName(rendered)) }
}

fn value<'a>(expression: &str, of: &'a Resource) -> Result<&'a str, TemplateError> {
    Ok(match expression {
        ".Name" => of.name(),
        ".DisplayName" => of.display_name(),
        ".Namespace" => of.namespace().unwrap_or_default(),
        ".Mesh" => of.mesh(),
        ".Zone" => of.zone().unwrap_or_default(),
        other => {
            let key = label_name(other)?;
            of.label(key).ok_or_else(|| TemplateError::NoLabel(key.into()))?
        }
    })
}

/// The name in `label "name"`.
fn label_name(expression: &str) -> Result<&str, TemplateError> {
    let quoted = expression.strip_prefix("label").map(str::trim);
    let name = quoted.and_then(|name| name.strip_prefix('"')?.strip_suffix('"'));
    name.ok_or_else(|| TemplateError::Unknown(expression.into()))
}

/// The selector of a generator for destinations of a kind.
pub fn selector(generator: &HostnameGenerator, kind: Kind) -> Option<&LabelSelector> {
    let selector = &generator.selector;
    let of_kinds = [
        (Kind::MESH_SERVICE, &selector.mesh_service),
        (Kind::MESH_EXTERNAL_SERVICE, &selector.mesh_external_service),
        (Kind::MESH_MULTI_ZONE_SERVICE, &selector.mesh_multi_zone_service),
    ];
    of_kinds.into_iter().find(|(of, _)| *of == kind).and_then(|(_, selector)| selector.as_ref())
}

/// What the generators give one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hostnames {
    /// Its hostnames.
    pub addresses: Vec<Address>,
    /// What became of each generator that selects it.
    pub generators: Vec<HostnameGeneratorStatus>,
}

/// Generators that can be read, in the order in which they give hostnames: a zone's own first, then older ones, then
/// by name. Within one, older destinations go first; a hostname belongs to the first that gets it.
pub fn in_order<'a>(generators: impl IntoIterator<Item = &'a Arc<Resource>>) -> Vec<Arc<Resource>> {
    let readable = |generator: &Resource| {
        generator.spec::<HostnameGenerator>().is_ok_and(|generator| generator.extension.is_none())
    };
    let foreign = |generator: &Resource| generator.label(labels::ORIGIN) == Some("global");
    let mut ordered: Vec<_> =
        generators.into_iter().filter(|generator| readable(generator)).cloned().collect();
    ordered.sort_by_key(|generator| (foreign(generator), generator.created(), generator.key().clone()));
    ordered
}

/// The hostname that a generator wants to give a destination; `None` when it does not select it.
pub fn rendered(generator: &Resource, destination: &Resource) -> Option<Result<String, TemplateError>> {
    let spec = generator.spec::<HostnameGenerator>().ok()?;
    let selector = selector(spec, destination.kind())?;
    selector.selects(destination).then(|| render(&spec.template, destination))
}

/// What generators, in their order, give a destination. `owner` tells to whom a hostname belongs.
pub fn given<'a>(
    generators: impl IntoIterator<Item = &'a Arc<Resource>>,
    destination: &Resource,
    owner: impl Fn(&str) -> Option<&'a Key>,
) -> Hostnames {
    let mut hostnames = Hostnames::default();
    for generator in generators {
        let Some(rendered) = rendered(generator, destination) else { continue };
        let by = HostnameGeneratorRef { core_name: generator.name().into() };
        let condition = match rendered {
            Err(error) => Condition::new(GENERATED, false, "TemplateError", error.to_string()),
            Ok(hostname) => match owner(&hostname).filter(|owner| *owner != destination.key()) {
                Some(owner) => {
                    Condition::new(GENERATED, false, "Collision", format!("{hostname} belongs to {owner}"))
                }
                None => {
                    if hostnames.addresses.iter().all(|held| held.hostname != hostname) {
                        let by = by.clone();
                        let address = Address { hostname, origin: ORIGIN.into(), hostname_generator_ref: by };
                        hostnames.addresses.push(address);
                    }
                    Condition::new(GENERATED, true, GENERATED, "")
                }
            },
        };
        let status = HostnameGeneratorStatus { hostname_generator_ref: by, conditions: vec![condition] };
        hostnames.generators.push(status);
    }
    hostnames
}

#[cfg(test)]
mod tests {
    use crate::Timestamp;
    use crate::spec::HostnameSelector;

    use super::*;

    fn service(name: &str, age: i64) -> Arc<Resource> {
        let key = Key::new(Kind::MESH_SERVICE, "default", name);
        let builder = Resource::builder(key).label(labels::ZONE, "west").label("team", "a");
        Arc::new(builder.at(Timestamp::from_unix(1000 - age, 0)).build())
    }

    fn generator(name: &str, origin: &str, template: &str) -> Arc<Resource> {
        let selector =
            HostnameSelector { mesh_service: Some(LabelSelector::default()), ..HostnameSelector::default() };
        let spec = HostnameGenerator { selector, template: template.into(), extension: None };
        let key = Key::global(Kind::HOSTNAME_GENERATOR, name);
        Arc::new(Resource::builder(key).spec(&spec).label(labels::ORIGIN, origin).build())
    }

    #[test]
    fn templates_are_rendered_or_say_why_not() {
        let service = service("web", 0);
        for (template, want) in [
            ("{{ .DisplayName }}.svc.{{.Zone}}.mesh.local", Ok("web.svc.west.mesh.local".into())),
            ("{{ label \"team\" }}.{{ .Mesh }}", Ok("a.default".into())),
            ("{{ label \"none\" }}.x", Err(TemplateError::NoLabel("none".into()))),
            ("{{ .Name }}.{{ .Namespace }}.x", Err(TemplateError::NotAName("web..x".into()))),
            ("{{ .Port }}", Err(TemplateError::Unknown(".Port".into()))),
            ("{{ .Name", Err(TemplateError::Open)),
        ] {
            assert_eq!(render(template, &service), want, "{template}");
        }
    }

    #[test]
    fn the_zone_s_own_generator_goes_first_and_a_taken_hostname_is_not_given() {
        let generators = [
            generator("a", "global", "{{ .Name }}.mesh"),
            generator("b", "global", "same.mesh"),
            generator("c", "zone", "old.mesh"),
        ];
        let ordered = in_order(generators.iter().rev());
        let names: Vec<_> = ordered.iter().map(|generator| generator.name()).collect();
        assert_eq!(names, ["c", "a", "b"]);
        let (new, old) = (service("new", 1), service("old", 2));
        let owner = |hostname: &str| if hostname == "new.mesh" { Some(new.key()) } else { Some(old.key()) };
        let of = |service: &Resource| {
            let given = given(&ordered, service, owner);
            let hostnames: Vec<_> = given.addresses.into_iter().map(|address| address.hostname).collect();
            let reasons: Vec<_> = given
                .generators
                .into_iter()
                .map(|status| (status.hostname_generator_ref.core_name, status.conditions[0].reason.clone()))
                .collect();
            (hostnames.join(" "), format!("{reasons:?}"))
        };
        let (hostnames, reasons) = of(&old);
        assert_eq!(hostnames, "old.mesh same.mesh", "two generators give the first, and it is told once");
        assert_eq!(reasons, r#"[("c", "Generated"), ("a", "Generated"), ("b", "Generated")]"#);
        let (hostnames, reasons) = of(&new);
        assert_eq!(hostnames, "new.mesh");
        assert_eq!(reasons, r#"[("c", "Collision"), ("a", "Generated"), ("b", "Collision")]"#);
    }
}
