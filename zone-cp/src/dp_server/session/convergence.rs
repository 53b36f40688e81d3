//! Whatever the order of changes, answers and reconnects: the proxy ends with what it is to hold, and on the way no
//! listener leads to a cluster that is not there or has no endpoints.

use std::collections::VecDeque;

use proptest::prelude::*;
use proxy_config::Version;

use super::*;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// Services and their versions become these.
    Change(Vec<(u8, u8)>),
    /// The proxy takes and answers a response of those on their way.
    Answer,
    /// The proxy loses its stream and opens another.
    Reconnect,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let services = prop::collection::vec((0..5_u8, 0..3_u8), 0..5);
    let step = prop_oneof![
        3 => services.prop_map(Step::Change),
        6 => Just(Step::Answer),
        1 => Just(Step::Reconnect),
    ];
    prop::collection::vec(step, 1..60)
}

/// A configuration: for each service a cluster, its endpoints, and a listener that leads there.
struct Services(BTreeMap<&'static str, Resources>, Resources);

impl Services {
    fn new(services: &[(u8, u8)]) -> Self {
        let of = |kind: ResourceType, prefix: &str, part: u8| {
            let resources = services.iter().map(|(name, version)| {
                // Endpoints do not change with their cluster: they must be sent again all the same.
                let version = Version(u64::from(version / part) + 1);
                let resource = ConfigResource { version, kind, value: vec![0].into() };
                (format!("{prefix}{name}").as_str().into(), resource)
            });
            resources.collect::<Resources>()
        };
        let types = [
            (CLUSTER, of(ResourceType::Cluster, "", 1)),
            (ENDPOINTS, of(ResourceType::Endpoint, "", 2)),
            (LISTENER, of(ResourceType::Listener, "to-", 1)),
        ];
        Self(types.into(), Resources::new())
    }

    /// Names and versions, those of endpoints with that of their cluster.
    fn versions(&self, type_url: &str) -> BTreeMap<String, String> {
        let version = |name: &Arc<str>, held: &ConfigResource| match type_url {
            ENDPOINTS => Version(held.version.0 ^ self.0[CLUSTER][name].version.0.rotate_left(32)),
            _ => held.version,
        };
        let of = self.of(type_url).iter();
        of.map(|(name, held)| (name.to_string(), version(name, held).to_string())).collect()
    }
}

impl Wanted for Services {
    fn of(&self, type_url: &str) -> &Resources {
        self.0.get(type_url).unwrap_or(&self.1)
    }
}

/// An Envoy as far as the protocol goes.
struct Envoy {
    session: Session,
    wanted: Arc<Services>,
    held: BTreeMap<String, BTreeMap<String, String>>,
    /// Clusters that wait for endpoints.
    warming: std::collections::BTreeSet<String>,
    arriving: VecDeque<DeltaDiscoveryResponse>,
}

impl Envoy {
    fn new() -> Self {
        let wanted = Arc::new(Services::new(&[]));
        let mut envoy = Self {
            session: Session::new("cp", true),
            wanted,
            held: BTreeMap::new(),
            warming: std::collections::BTreeSet::new(),
            arriving: VecDeque::new(),
        };
        envoy.reconnect();
        envoy
    }

    fn of(&mut self, type_url: &str) -> &mut BTreeMap<String, String> {
        self.held.entry(type_url.to_owned()).or_default()
    }

    fn send(&mut self, request: &DeltaDiscoveryRequest) {
        self.session.request(request).unwrap();
        self.pump();
    }

    fn pump(&mut self) {
        self.arriving.extend(self.session.pump());
    }

    fn reconnect(&mut self) {
        self.arriving.clear();
        // A cluster that changed there and back while its stream broke cannot be told from one that never did.
        let (clusters, endpoints) = (self.of(CLUSTER).clone(), self.of(ENDPOINTS).clone());
        self.warming.retain(|name| {
            let version = |held: &BTreeMap<String, String>| u64::from_str_radix(held.get(name)?, 16).ok();
            let (cluster, held) = (version(&clusters).unwrap_or(0), version(&endpoints).unwrap_or(0));
            held >> 32 != cluster
        });
        self.session = Session::new("cp", true);
        let wanted: Arc<dyn Wanted> = Arc::<Services>::clone(&self.wanted);
        self.session.advance(wanted);
        for type_url in [CLUSTER, ENDPOINTS, LISTENER] {
            let clusters: Vec<String> = self.of(CLUSTER).keys().cloned().collect();
            let names = if type_url == ENDPOINTS { clusters } else { Vec::new() };
            let request = DeltaDiscoveryRequest {
                type_url: type_url.into(),
                resource_names_subscribe: names,
                initial_resource_versions: self.of(type_url).clone(),
                ..Default::default()
            };
            self.send(&request);
        }
    }

    fn endpoints(&mut self, subscribe: Vec<String>, unsubscribe: Vec<String>) {
        if subscribe.is_empty() && unsubscribe.is_empty() {
            return;
        }
        let request = DeltaDiscoveryRequest {
            type_url: ENDPOINTS.into(),
            resource_names_subscribe: subscribe,
            resource_names_unsubscribe: unsubscribe,
            ..Default::default()
        };
        self.send(&request);
    }

    fn change(&mut self, services: &[(u8, u8)]) {
        self.wanted = Arc::new(Services::new(services));
        let wanted: Arc<dyn Wanted> = Arc::<Services>::clone(&self.wanted);
        self.session.advance(wanted);
        self.pump();
    }

    fn answer(&mut self) -> bool {
        let Some(response) = self.arriving.pop_front() else { return false };
        let type_url = response.type_url.clone();
        let (mut subscribe, mut unsubscribe) = (Vec::new(), Vec::new());
        for resource in &response.resources {
            // Nobody waits for endpoints of a cluster that is gone.
            if type_url == ENDPOINTS && !self.of(CLUSTER).contains_key(&resource.name) {
                continue;
            }
            let known = self.of(&type_url).insert(resource.name.clone(), resource.version.clone()).is_some();
            if type_url == CLUSTER {
                self.warming.insert(resource.name.clone());
                if !known {
                    subscribe.push(resource.name.clone());
                }
            } else if type_url == ENDPOINTS {
                self.warming.remove(&resource.name);
            }
        }
        for name in &response.removed_resources {
            self.of(&type_url).remove(name);
            if type_url == CLUSTER {
                self.warming.remove(name);
                self.of(ENDPOINTS).remove(name);
                unsubscribe.push(name.clone());
            }
        }
        self.check();
        // Envoy asks for endpoints before it accepts the clusters.
        self.endpoints(subscribe, unsubscribe);
        let ack = DeltaDiscoveryRequest { type_url, response_nonce: response.nonce, ..Default::default() };
        self.send(&ack);
        true
    }

    /// Every listener leads to a cluster that is there, and that had endpoints once.
    fn check(&mut self) {
        let (clusters, endpoints) = (self.of(CLUSTER).clone(), self.of(ENDPOINTS).clone());
        for listener in self.of(LISTENER).keys() {
            let cluster = listener.trim_start_matches("to-");
            assert!(clusters.contains_key(cluster), "{listener} leads nowhere");
            assert!(endpoints.contains_key(cluster), "{listener} leads to a cluster without endpoints");
        }
    }
}

proptest! {
    #[test]
    fn the_proxy_ends_with_what_it_is_to_hold(steps in steps()) {
        let mut envoy = Envoy::new();
        for step in steps {
            match step {
                Step::Change(services) => envoy.change(&services),
                Step::Answer => { envoy.answer(); }
                Step::Reconnect => envoy.reconnect(),
            }
        }
        while envoy.answer() {}
        prop_assert!(envoy.session.is_settled());
        prop_assert!(envoy.warming.is_empty(), "waiting for endpoints: {:?}", envoy.warming);
        for type_url in [CLUSTER, ENDPOINTS, LISTENER] {
            let wanted = envoy.wanted.versions(type_url);
            prop_assert_eq!(envoy.of(type_url).clone(), wanted, "{}", type_url);
        }
    }
}
