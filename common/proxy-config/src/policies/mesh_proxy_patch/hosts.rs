//! Changes of virtual hosts.

use envoy_api::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use model::spec::{ResourceOperation, VirtualHostModification};

use super::content::added;
use super::filters::each_manager;
use super::resources::is;
use super::{Content, Outcome};
use crate::draft::Finished;

enum Change {
    Add(VirtualHost),
    Remove,
    Patch(Content<VirtualHost>),
}

impl Change {
    fn read(said: &VirtualHostModification) -> Result<Self, String> {
        Ok(match said.operation {
            ResourceOperation::Add => Self::Add(added(said.value.as_deref())?),
            ResourceOperation::Remove => Self::Remove,
            ResourceOperation::Patch => {
                Self::Patch(Content::read(said.value.as_deref(), said.json_patches.as_deref())?)
            }
        })
    }

    fn apply(&self, name: Option<&str>, routes: &mut RouteConfiguration, outcome: &mut Outcome) {
        match self {
            Self::Add(host) => {
                routes.virtual_hosts.push(host.clone());
                outcome.changed += 1;
            }
            Self::Remove => {
                let before = routes.virtual_hosts.len();
                routes.virtual_hosts.retain(|host| !is(name, &host.name));
                outcome.changed += before - routes.virtual_hosts.len();
            }
            Self::Patch(content) => {
                for host in routes.virtual_hosts.iter_mut().filter(|host| is(name, &host.name)) {
                    let place = format!("{} of {}", host.name, routes.name);
                    let changed = content.change(host);
                    outcome.take(host, changed, &place);
                }
            }
        }
    }
}

/// Changes virtual hosts.
pub(super) fn apply(said: &VirtualHostModification, finished: &mut Finished) -> Result<Outcome, String> {
    let change = Change::read(said)?;
    let wanted = &said.r#match;
    let mut outcome = Outcome::default();
    let made = finished.listeners.values_mut().filter(|made| is(wanted.origin.as_deref(), made.origin));
    for listener in made.map(|made| &mut made.message) {
        each_manager(listener, |manager| {
            let Some(RouteSpecifier::RouteConfig(routes)) = &mut manager.route_specifier else { return };
            if is(wanted.route_configuration_name.as_deref(), &routes.name) {
                change.apply(wanted.name.as_deref(), routes, &mut outcome);
            }
        });
    }
    Ok(outcome)
}
