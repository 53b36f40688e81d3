//! Hostnames of destinations, as HostnameGenerators give them.

use std::collections::BTreeMap;
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

/// Gives the destinations of one mesh their hostnames. Generators go one after the other: a zone's own first, then
/// older ones, then by name; within one, older destinations first. A hostname belongs to the first that gets it.
/// Destinations that no generator selects are not in the answer.
pub fn assign<'a>(
    generators: impl IntoIterator<Item = &'a Arc<Resource>>,
    destinations: impl IntoIterator<Item = &'a Arc<Resource>>,
) -> BTreeMap<Key, Hostnames> {
    let mut generators: Vec<_> = generators.into_iter().collect();
    let foreign = |generator: &Resource| generator.label(labels::ORIGIN) == Some("global");
    generators.sort_by_key(|generator| (foreign(generator), generator.created(), generator.key().clone()));
    let mut destinations: Vec<_> = destinations.into_iter().collect();
    destinations.sort_by(|a, b| (a.created(), a.key()).cmp(&(b.created(), b.key())));
    let mut owners: BTreeMap<String, &Key> = BTreeMap::new();
    let mut assigned: BTreeMap<Key, Hostnames> = BTreeMap::new();
    for generator in generators {
        let Ok(spec) = generator.spec::<HostnameGenerator>() else { continue };
        if spec.extension.is_some() {
            continue;
        }
        for destination in &destinations {
            if selector(spec, destination.kind()).is_some_and(|selector| selector.selects(destination)) {
                let hostnames = assigned.entry(destination.key().clone()).or_default();
                give(generator, &spec.template, destination, &mut owners, hostnames);
            }
        }
    }
    assigned
}

fn give<'a>(
    generator: &Resource,
    template: &str,
    destination: &'a Resource,
    owners: &mut BTreeMap<String, &'a Key>,
    hostnames: &mut Hostnames,
) {
    let by = HostnameGeneratorRef { core_name: generator.name().into() };
    let condition = match render(template, destination) {
        Err(error) => Condition::new(GENERATED, false, "TemplateError", error.to_string()),
        Ok(hostname) => {
            let owner = *owners.entry(hostname.clone()).or_insert(destination.key());
            if owner == destination.key() {
                if hostnames.addresses.iter().all(|held| held.hostname != hostname) {
                    let by = by.clone();
                    let address = Address { hostname, origin: ORIGIN.into(), hostname_generator_ref: by };
                    hostnames.addresses.push(address);
                }
                Condition::new(GENERATED, true, GENERATED, "")
            } else {
                Condition::new(GENERATED, false, "Collision", format!("{hostname} belongs to {owner}"))
            }
        }
    };
    let status = HostnameGeneratorStatus { hostname_generator_ref: by, conditions: vec![condition] };
    hostnames.generators.push(status);
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
    fn a_hostname_belongs_to_the_first_and_the_zone_s_own_generator_goes_first() {
        let services = [service("new", 1), service("old", 2)];
        let generators = [
            generator("a", "global", "{{ .Name }}.mesh"),
            generator("b", "global", "same.mesh"),
            generator("c", "zone", "old.mesh"),
        ];
        let assigned = assign(&generators, &services);
        let names = |name: &str| -> Vec<String> {
            let key = Key::new(Kind::MESH_SERVICE, "default", name);
            assigned[&key].addresses.iter().map(|address| address.hostname.clone()).collect()
        };
        assert_eq!(names("old"), ["old.mesh", "same.mesh"]);
        assert_eq!(names("new"), ["new.mesh"]);
        let new = &assigned[&Key::new(Kind::MESH_SERVICE, "default", "new")];
        let reasons: Vec<_> = new
            .generators
            .iter()
            .map(|status| {
                (status.hostname_generator_ref.core_name.as_str(), status.conditions[0].reason.as_str())
            })
            .collect();
        assert_eq!(reasons, [("c", "Collision"), ("a", "Generated"), ("b", "Collision")]);
        let mut reversed = generators.clone();
        reversed.reverse();
        assert_eq!(assign(&reversed, services.iter().rev()), assigned);
    }
}
