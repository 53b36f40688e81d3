//! Changes of filters: of connections, and of requests inside connection managers.

use envoy_api::envoy::config::listener::v3::filter::ConfigType;
use envoy_api::envoy::config::listener::v3::{Filter, Listener};
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType as HttpConfigType;
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter,
};
use envoy_api::patch::apply_json_any;
use model::spec::{FilterMatch, FilterModification, FilterOperation};
use prost::{Message, Name};
use prost_types::Any;

use super::content::{Named, added};
use super::resources::{has_tags, is};
use super::{Changed, Content, Outcome};
use crate::draft::{Finished, Made};

/// A filter with its configuration.
trait Configured: Named + Clone {
    fn config_mut(&mut self) -> Option<&mut Any>;
}

impl Configured for Filter {
    fn config_mut(&mut self) -> Option<&mut Any> {
        match &mut self.config_type {
            Some(ConfigType::TypedConfig(any)) => Some(any),
            _ => None,
        }
    }
}

impl Configured for HttpFilter {
    fn config_mut(&mut self) -> Option<&mut Any> {
        match &mut self.config_type {
            Some(HttpConfigType::TypedConfig(any)) => Some(any),
            _ => None,
        }
    }
}

/// Changes filters of connections.
pub(super) fn network(said: &FilterModification, finished: &mut Finished) -> Result<Outcome, String> {
    let change = Change::read(said)?;
    let mut outcome = Outcome::default();
    for listener in listeners(said.r#match.as_ref(), finished) {
        let name = listener.name.clone();
        for chain in &mut listener.filter_chains {
            change.apply(&mut chain.filters, &name, &mut outcome);
        }
    }
    Ok(outcome)
}

/// Changes filters of requests.
pub(super) fn http(said: &FilterModification, finished: &mut Finished) -> Result<Outcome, String> {
    let change = Change::read(said)?;
    let mut outcome = Outcome::default();
    for listener in listeners(said.r#match.as_ref(), finished) {
        let name = listener.name.clone();
        each_manager(listener, |manager| change.apply(&mut manager.http_filters, &name, &mut outcome));
    }
    Ok(outcome)
}

/// The listeners whose filters are changed.
fn listeners<'a>(
    wanted: Option<&'a FilterMatch>,
    finished: &'a mut Finished,
) -> impl Iterator<Item = &'a mut Listener> {
    let matches = move |made: &Made<Listener>| {
        wanted.is_none_or(|wanted| {
            is(wanted.origin.as_deref(), made.origin)
                && is(wanted.listener_name.as_deref().map(today), &made.message.name)
                && has_tags(&made.message, wanted.listener_tags.as_ref())
        })
    };
    finished.listeners.values_mut().filter(move |made| matches(made)).map(|made| &mut made.message)
}

/// Names that listeners of redirected connections had before, as they are now.
fn today(name: &str) -> &str {
    match name {
        "inbound:passthrough:ipv4" => "self_transparentproxy_passthrough_inbound_ipv4",
        "inbound:passthrough:ipv6" => "self_transparentproxy_passthrough_inbound_ipv6",
        "outbound:passthrough:ipv4" => "self_transparentproxy_passthrough_outbound_ipv4",
        "outbound:passthrough:ipv6" => "self_transparentproxy_passthrough_outbound_ipv6",
        name => name,
    }
}

/// Hands out every connection manager of a listener, and puts it back. One that cannot be read stays as it is.
pub(super) fn each_manager(listener: &mut Listener, mut edit: impl FnMut(&mut HttpConnectionManager)) {
    let filters = listener.filter_chains.iter_mut().flat_map(|chain| &mut chain.filters);
    for any in filters.filter_map(Configured::config_mut) {
        if any.type_url != HttpConnectionManager::type_url() {
            continue;
        }
        let Ok(mut manager) = HttpConnectionManager::decode(any.value.as_slice()) else { continue };
        edit(&mut manager);
        *any = envoy_api::pack(&manager);
    }
}

/// What is done with a list of filters.
enum Change<'a, F> {
    Remove { name: Option<&'a str> },
    Patch { name: Option<&'a str>, content: Content<F> },
    First(F),
    Last(F),
    Beside { name: &'a str, after: bool, filter: F },
}

impl<'a, F: Configured> Change<'a, F> {
    fn read(said: &'a FilterModification) -> Result<Self, String> {
        let name = said.r#match.as_ref().and_then(|wanted| wanted.name.as_deref());
        let filter = || added(said.value.as_deref());
        let beside = |after| {
            let name = name.ok_or("there is no name beside which to add")?;
            Ok(Self::Beside { name, after, filter: filter()? })
        };
        match said.operation {
            FilterOperation::Remove => Ok(Self::Remove { name }),
            FilterOperation::Patch => {
                let content = Content::read(said.value.as_deref(), said.json_patches.as_deref())?;
                Ok(Self::Patch { name, content })
            }
            FilterOperation::AddFirst => Ok(Self::First(filter()?)),
            FilterOperation::AddLast => Ok(Self::Last(filter()?)),
            FilterOperation::AddBefore => beside(false),
            FilterOperation::AddAfter => beside(true),
        }
    }

    fn apply(&self, filters: &mut Vec<F>, listener: &str, outcome: &mut Outcome) {
        match self {
            Self::Remove { name } => {
                let before = filters.len();
                filters.retain(|filter| !is(*name, filter.name()));
                outcome.changed += before - filters.len();
            }
            Self::Patch { name, content } => {
                for filter in filters.iter_mut().filter(|filter| is(*name, filter.name())) {
                    let place = format!("{} of {listener}", filter.name());
                    let changed = patched(filter, content);
                    outcome.take(filter, changed, &place);
                }
            }
            Self::First(filter) => {
                filters.insert(0, filter.clone());
                outcome.changed += 1;
            }
            Self::Last(filter) => {
                filters.push(filter.clone());
                outcome.changed += 1;
            }
            Self::Beside { name, after, filter } => {
                let Some(at) = filters.iter().position(|held| held.name() == *name) else { return };
                filters.insert(at + usize::from(*after), filter.clone());
                outcome.changed += 1;
            }
        }
    }
}

/// JSON patches are of the configuration, a value is of the filter around it.
fn patched<F: Configured>(filter: &F, content: &Content<F>) -> Result<Changed<F>, String> {
    match content {
        Content::Value(..) => content.change(filter).map_err(|error| error.to_string()),
        Content::Patches(operations) => {
            let mut filter = filter.clone();
            let config = filter.config_mut().ok_or("it has no configuration")?;
            *config = apply_json_any(config, operations).map_err(|error| error.to_string())?;
            Ok(Changed { message: filter, unheard: Vec::new() })
        }
    }
}
