//! Where the calls of an application go: from a destination over rules to backends. Listeners and clusters are both
//! drawn from it, so that no listener names a cluster that is not there.

mod backends;
mod precedence;

use std::sync::Arc;

use model::Kind;
use model::spec::{
    HttpMatch, HttpRouteConf, HttpRouteFilter, HttpRouteFilterType, IntOrString, TcpRouteConf,
};
use policy::{RoutedRule, Selected};
use serde::Deserialize;

use crate::draft::Origin;
use crate::view::{Destination, MeshView};

pub(crate) use backends::Split;

/// The routes that select a proxy.
pub(crate) struct Routes<'a> {
    view: &'a MeshView,
    http: Selected,
    tcp: Selected,
}

/// Where calls of one destination go.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    /// Request by request: the first rule that matches counts, the last one matches all.
    Http(Vec<HttpRule>),
    /// Connection by connection.
    Tcp(Split),
}

/// Where some requests go.
#[derive(Clone, Debug)]
pub(crate) struct HttpRule {
    /// The rule it comes from; none for what no route names.
    pub(crate) origin: Option<Origin>,
    pub(crate) matches: HttpMatch,
    pub(crate) filters: Vec<HttpRouteFilter>,
    pub(crate) split: Split,
    pub(crate) mirrors: Vec<Mirror>,
}

/// Copies of requests.
#[derive(Clone, Debug)]
pub(crate) struct Mirror {
    pub(crate) destination: Arc<Destination>,
    /// In percent.
    pub(crate) share: Option<f64>,
}

impl<'a> Routes<'a> {
    /// The routes of a proxy; `select` answers with the policies of a kind that select it.
    pub(crate) fn new(view: &'a MeshView, select: impl Fn(Kind) -> Selected) -> Self {
        Self { view, http: select(Kind::MESH_HTTP_ROUTE), tcp: select(Kind::MESH_TCP_ROUTE) }
    }

    /// Where calls of a destination go. Routes of connections count for HTTP where no route of requests does.
    pub(crate) fn plan(&self, destination: &Arc<Destination>) -> Plan {
        let target = destination.as_target();
        if destination.protocol.is_http() {
            let routed = self.http.routed(&target);
            if !routed.is_empty() {
                return Plan::Http(self.http_rules(destination, &routed));
            }
        }
        let tcp = self.tcp.routed(&target).into_iter().next();
        let conf = tcp.and_then(|rule| TcpRouteConf::deserialize(rule.conf).ok());
        match conf {
            Some(conf) => {
                let refs = conf.backend_refs.unwrap_or_default();
                Plan::Tcp(Split::of(self.view, &refs, destination))
            }
            None if destination.protocol.is_http() => Plan::Http(vec![HttpRule::whole(destination)]),
            None => Plan::Tcp(Split::whole(destination)),
        }
    }

    fn http_rules(&self, destination: &Arc<Destination>, routed: &[RoutedRule]) -> Vec<HttpRule> {
        let mut rules: Vec<HttpRule> =
            routed.iter().flat_map(|rule| self.each_match(destination, rule)).collect();
        precedence::sort(&mut rules);
        if !rules.iter().any(|rule| precedence::takes_all(&rule.matches)) {
            rules.push(HttpRule::whole(destination));
        }
        rules
    }

    /// A rule, once for each of its matches. One that cannot be read is left out.
    fn each_match(&self, destination: &Arc<Destination>, routed: &RoutedRule) -> Vec<HttpRule> {
        let matches = Vec::<HttpMatch>::deserialize(&routed.matches);
        let (Ok(matches), Ok(conf)) = (matches, HttpRouteConf::deserialize(&routed.conf)) else {
            return Vec::new();
        };
        let origin = Origin { route: Arc::clone(&routed.route), section: routed.section() };
        let filters = conf.filters.unwrap_or_default();
        let split = Split::of(self.view, &conf.backend_refs.unwrap_or_default(), destination);
        let mirrors: Vec<_> = filters.iter().filter_map(|filter| self.mirror(filter, destination)).collect();
        let rule = |matches| HttpRule {
            origin: Some(origin.clone()),
            matches,
            filters: filters.clone(),
            split: split.clone(),
            mirrors: mirrors.clone(),
        };
        matches.into_iter().map(rule).collect()
    }

    /// Copies for a backend that is not there go nowhere.
    fn mirror(&self, filter: &HttpRouteFilter, destination: &Destination) -> Option<Mirror> {
        let mirror =
            filter.request_mirror.as_ref().filter(|_| filter.r#type == HttpRouteFilterType::RequestMirror)?;
        let share = mirror.percentage.as_ref().and_then(|share| match share {
            IntOrString::Int(share) => Some(*share as f64),
            IntOrString::String(share) => share.parse().ok(),
        });
        let destination = backends::resolve(self.view, &mirror.backend_ref, destination)?;
        Some(Mirror { destination: Arc::clone(destination), share })
    }
}

impl HttpRule {
    /// What no route takes goes to the destination itself.
    fn whole(destination: &Arc<Destination>) -> Self {
        Self {
            origin: None,
            matches: HttpMatch::default(),
            filters: Vec::new(),
            split: Split::whole(destination),
            mirrors: Vec::new(),
        }
    }
}

impl Plan {
    /// Everything that is called, some of it several times.
    pub(crate) fn destinations(&self) -> Vec<&Arc<Destination>> {
        match self {
            Self::Http(rules) => {
                let each = rules.iter().flat_map(|rule| {
                    rule.split.destinations().chain(rule.mirrors.iter().map(|mirror| &mirror.destination))
                });
                each.collect()
            }
            Self::Tcp(split) => split.destinations().collect(),
        }
    }
}
