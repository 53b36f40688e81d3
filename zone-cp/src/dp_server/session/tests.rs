//! Tables of requests, configurations and the responses they must bring.

use envoy_api::envoy::service::discovery::v3::Resource;
use envoy_api::google::rpc::Status;

use proxy_config::Version;

use super::*;

/// Type, name and version.
type Entry = (&'static str, &'static str, &'static str);

struct Fixed(BTreeMap<String, Resources>, Resources);

impl Wanted for Fixed {
    fn of(&self, type_url: &str) -> &Resources {
        self.0.get(type_url).unwrap_or(&self.1)
    }
}

fn config_of(entries: &[Entry], size: usize) -> Arc<dyn Wanted> {
    let mut types: BTreeMap<String, Resources> = BTreeMap::new();
    for (type_url, name, version) in entries {
        let kind = ResourceType::from_type_url(type_url).unwrap();
        let version = Version(version.parse().unwrap());
        let resource = ConfigResource { version, kind, value: vec![0; size].into() };
        types.entry((*type_url).into()).or_default().insert((*name).into(), resource);
    }
    Arc::new(Fixed(types, Resources::new()))
}

fn config(entries: &[Entry]) -> Arc<dyn Wanted> {
    config_of(entries, 1)
}

/// A proxy that answers when it is told to.
struct Proxy {
    session: Session,
    unanswered: BTreeMap<String, String>,
    /// The newest responses.
    sent: Vec<DeltaDiscoveryResponse>,
}

impl Proxy {
    fn new(entries: &[Entry]) -> Self {
        let mut session = Session::new("cp", true);
        session.advance(config(entries));
        Self { session, unanswered: BTreeMap::new(), sent: Vec::new() }
    }

    fn pump(&mut self) -> Vec<String> {
        let responses = self.session.pump();
        for response in &responses {
            let previous = self.unanswered.insert(response.type_url.clone(), response.nonce.clone());
            assert_eq!(previous, None, "two unanswered responses of {}", response.type_url);
        }
        let shown = responses.iter().map(shown).collect();
        self.sent = responses;
        shown
    }

    fn advance(&mut self, entries: &[Entry]) -> Vec<String> {
        self.session.advance(config(entries));
        self.pump()
    }

    fn send(&mut self, request: DeltaDiscoveryRequest) -> Vec<String> {
        self.session.request(&request).unwrap();
        self.pump()
    }

    fn subscribe(&mut self, type_url: &str, names: &[&str]) -> Vec<String> {
        self.send(DeltaDiscoveryRequest {
            type_url: type_url.into(),
            resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        })
    }

    fn resume(&mut self, type_url: &str, names: &[&str], held: &[(&str, &str)]) -> Vec<String> {
        self.send(DeltaDiscoveryRequest {
            type_url: type_url.into(),
            resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            initial_resource_versions: held.iter().map(|(k, v)| ((*k).into(), format!("{v:0>16}"))).collect(),
            ..Default::default()
        })
    }

    fn answer(&mut self, type_url: &str, error: Option<&str>) -> Vec<String> {
        let nonce = self.unanswered.remove(type_url).expect("there is a response to answer");
        self.send(DeltaDiscoveryRequest {
            type_url: type_url.into(),
            response_nonce: nonce,
            error_detail: error.map(|message| Status { message: message.into(), ..Default::default() }),
            ..Default::default()
        })
    }

    fn ack(&mut self, type_url: &str) -> Vec<String> {
        self.answer(type_url, None)
    }

    fn refused(&self) -> Vec<String> {
        let shown = |(type_url, name, refused): (&str, &Arc<str>, &Refused)| {
            let short = type_url.rsplit('.').next().unwrap();
            let version = refused.version.map_or_else(|| "gone".into(), |version| version.0.to_string());
            format!("{short} {name}@{version}: {}", refused.reason)
        };
        self.session.refusals().map(shown).collect()
    }

    /// As Envoy starts: clusters, endpoints, listeners, each answered.
    fn started(entries: &[Entry], endpoints: &[&str]) -> Self {
        let mut proxy = Self::new(entries);
        proxy.subscribe(CLUSTER, &[]);
        proxy.subscribe(ENDPOINTS, endpoints);
        proxy.ack(CLUSTER);
        if proxy.unanswered.contains_key(ENDPOINTS) {
            proxy.ack(ENDPOINTS);
        }
        proxy.subscribe(LISTENER, &[]);
        proxy.ack(LISTENER);
        assert!(proxy.session.is_settled());
        proxy
    }
}

fn shown(response: &DeltaDiscoveryResponse) -> String {
    let short = response.type_url.rsplit('.').next().unwrap();
    // Of endpoints only their own version, without that of their cluster.
    let own = |resource: &Resource| resource.version[8..].trim_start_matches('0').to_owned();
    let sent = response.resources.iter().map(|resource| format!("{}@{}", resource.name, own(resource)));
    let removed = response.removed_resources.iter().map(|name| format!("-{name}"));
    format!("{short} {}", sent.chain(removed).collect::<Vec<_>>().join(" "))
}

const NOTHING: [&str; 0] = [];

#[test]
fn clusters_then_endpoints_then_listeners() {
    let mut proxy = Proxy::new(&[(CLUSTER, "a", "1"), (ENDPOINTS, "a", "1"), (LISTENER, "l", "1")]);
    assert_eq!(proxy.subscribe(LISTENER, &[]), ["Listener l@1"], "nobody asked for clusters yet");
    proxy.ack(LISTENER);
    assert_eq!(proxy.subscribe(CLUSTER, &[]), ["Cluster a@1"]);
    assert_eq!(proxy.subscribe(ENDPOINTS, &["a"]), ["ClusterLoadAssignment a@1"]);
    proxy.ack(CLUSTER);
    proxy.ack(ENDPOINTS);
    let next = [
        (CLUSTER, "a", "1"),
        (CLUSTER, "b", "1"),
        (ENDPOINTS, "a", "2"),
        (ENDPOINTS, "b", "1"),
        (LISTENER, "l", "2"),
    ];
    assert_eq!(proxy.advance(&next), ["Cluster b@1", "ClusterLoadAssignment a@2"]);
    assert_eq!(proxy.ack(ENDPOINTS), NOTHING);
    assert_eq!(proxy.subscribe(ENDPOINTS, &["b"]), ["ClusterLoadAssignment b@1"]);
    assert_eq!(proxy.ack(CLUSTER), NOTHING, "endpoints of b are not answered");
    assert_eq!(proxy.ack(ENDPOINTS), ["Listener l@2"]);
    assert!(!proxy.session.is_settled());
    assert_eq!(proxy.ack(LISTENER), NOTHING);
    assert!(proxy.session.is_settled());
}

#[test]
fn what_is_gone_goes_last() {
    let before = [(CLUSTER, "a", "1"), (CLUSTER, "b", "1"), (ENDPOINTS, "b", "1"), (LISTENER, "l", "1")];
    let mut proxy = Proxy::started(&before, &["b"]);
    let after = [(CLUSTER, "a", "1"), (LISTENER, "l", "2")];
    assert_eq!(proxy.advance(&after), ["Listener l@2"]);
    assert_eq!(proxy.ack(LISTENER), ["Cluster -b"]);
    assert_eq!(proxy.ack(CLUSTER), ["ClusterLoadAssignment -b"]);
    assert_eq!(proxy.advance(&[(CLUSTER, "a", "1")]), ["Listener -l"], "a listener goes at once");
}

#[test]
fn a_refused_listener_keeps_the_clusters_it_may_lead_to() {
    let mut proxy = Proxy::started(&[(CLUSTER, "a", "1"), (LISTENER, "l", "1")], &[]);
    assert_eq!(proxy.advance(&[(LISTENER, "l", "2")]), ["Listener l@2"]);
    assert_eq!(proxy.answer(LISTENER, Some("no such filter")), NOTHING);
    assert_eq!(proxy.refused(), ["Listener l@2: no such filter"]);
    let counters: BTreeMap<_, _> = proxy.session.counters().collect();
    assert_eq!(counters[LISTENER], Counters { sent: 2, acknowledged: 1, rejected: 1 });
    assert_eq!(proxy.advance(&[(LISTENER, "l", "2")]), NOTHING, "the same content is not sent again");
    assert_eq!(proxy.advance(&[(LISTENER, "l", "3")]), ["Listener l@3"]);
    assert_eq!(proxy.ack(LISTENER), ["Cluster -a"]);
    assert_eq!(proxy.refused(), NOTHING);
}

#[test]
fn only_what_changed_is_sent_and_states_between_are_skipped() {
    let mut proxy = Proxy::started(&[(CLUSTER, "a", "1"), (CLUSTER, "b", "1")], &[]);
    assert_eq!(proxy.advance(&[(CLUSTER, "a", "2"), (CLUSTER, "b", "1")]), ["Cluster a@2"]);
    assert_eq!(proxy.advance(&[(CLUSTER, "a", "3"), (CLUSTER, "b", "2")]), NOTHING);
    assert_eq!(proxy.advance(&[(CLUSTER, "a", "4"), (CLUSTER, "b", "1")]), NOTHING);
    assert_eq!(proxy.ack(CLUSTER), ["Cluster a@4"]);
}

#[test]
fn a_changed_cluster_gets_its_endpoints_again() {
    let entries = [(CLUSTER, "a", "1"), (ENDPOINTS, "a", "1"), (ENDPOINTS, "b", "1")];
    let mut proxy = Proxy::started(&entries, &["a", "b"]);
    let next = [(CLUSTER, "a", "2"), (ENDPOINTS, "a", "1"), (ENDPOINTS, "b", "1")];
    assert_eq!(proxy.advance(&next), ["Cluster a@2", "ClusterLoadAssignment a@1"]);
}

#[test]
fn a_reconnect_with_the_same_versions_costs_nothing() {
    let entries = [(CLUSTER, "a", "1"), (ENDPOINTS, "a", "1"), (LISTENER, "l", "1")];
    let mut proxy = Proxy::new(&entries);
    assert_eq!(proxy.resume(CLUSTER, &[], &[("a", "1")]), NOTHING);
    assert_eq!(proxy.resume(ENDPOINTS, &["a"], &[("a", "100000001")]), NOTHING);
    assert_eq!(proxy.resume(LISTENER, &[], &[("l", "1")]), NOTHING);
    assert!(proxy.session.is_settled());
    assert_eq!(proxy.subscribe(ENDPOINTS, &["a"]), ["ClusterLoadAssignment a@1"], "asked for anew");
}

#[test]
fn a_reconnect_brings_changes_and_removals() {
    let mut proxy = Proxy::new(&[(CLUSTER, "a", "2"), (CLUSTER, "c", "1"), (LISTENER, "l", "2")]);
    assert_eq!(
        proxy.resume(CLUSTER, &[], &[("a", "1"), ("b", "1"), ("c", "1")]),
        ["Cluster a@2"],
        "listeners may still lead to b"
    );
    assert_eq!(proxy.resume(LISTENER, &[], &[("l", "1")]), NOTHING);
    assert_eq!(proxy.ack(CLUSTER), ["Listener l@2"]);
    assert_eq!(proxy.ack(LISTENER), ["Cluster -b"]);
    let mut without_listeners =
        Proxy { session: Session::new("cp", false), unanswered: BTreeMap::new(), sent: Vec::new() };
    without_listeners.session.advance(config(&[]));
    assert_eq!(without_listeners.resume(CLUSTER, &[], &[("b", "1")]), ["Cluster -b"]);
}

#[test]
fn a_cluster_that_changed_meanwhile_gets_its_endpoints_after_a_reconnect() {
    let mut proxy = Proxy::new(&[(CLUSTER, "a", "2"), (ENDPOINTS, "a", "1"), (ENDPOINTS, "b", "1")]);
    assert_eq!(proxy.resume(CLUSTER, &[], &[("a", "1")]), ["Cluster a@2"]);
    let held = [("a", "100000001"), ("b", "1")];
    assert_eq!(proxy.resume(ENDPOINTS, &["a", "b"], &held), ["ClusterLoadAssignment a@1"]);
}

#[test]
fn names_are_followed_one_by_one() {
    let entries = [(SECRET, "a", "1"), (SECRET, "b", "1")];
    let mut proxy = Proxy::new(&entries);
    assert_eq!(proxy.subscribe(SECRET, &["a", "missing"]), ["Secret a@1 -missing"]);
    assert_eq!(proxy.ack(SECRET), NOTHING);
    let more = [(SECRET, "a", "1"), (SECRET, "b", "2"), (SECRET, "missing", "1")];
    assert_eq!(proxy.advance(&more), ["Secret missing@1"], "nobody asked for b");
    proxy.ack(SECRET);
    proxy.send(DeltaDiscoveryRequest {
        type_url: SECRET.into(),
        resource_names_unsubscribe: vec!["a".into()],
        ..Default::default()
    });
    assert_eq!(proxy.advance(&[(SECRET, "a", "2"), (SECRET, "missing", "1")]), NOTHING);
    assert_eq!(proxy.subscribe(SECRET, &["*"]), ["Secret a@2"]);
}

#[test]
fn a_first_answer_is_due_even_if_it_is_empty() {
    let mut proxy = Proxy::new(&[]);
    assert_eq!(proxy.subscribe(LISTENER, &[]), ["Listener "]);
    assert_eq!(proxy.ack(LISTENER), NOTHING);
    let mut waiting =
        Proxy { session: Session::new("cp", true), unanswered: BTreeMap::new(), sent: Vec::new() };
    assert_eq!(waiting.subscribe(LISTENER, &[]), NOTHING, "no configuration yet is not an empty one");
    assert_eq!(waiting.advance(&[(LISTENER, "l", "1")]), ["Listener l@1"]);
}

#[test]
fn an_answer_to_another_response_changes_nothing() {
    let mut proxy = Proxy::new(&[(CLUSTER, "a", "1")]);
    proxy.subscribe(CLUSTER, &[]);
    proxy.send(DeltaDiscoveryRequest {
        type_url: CLUSTER.into(),
        response_nonce: "77".into(),
        ..Default::default()
    });
    assert_eq!(proxy.advance(&[(CLUSTER, "a", "2")]), NOTHING, "the first one is still unanswered");
    let counters: BTreeMap<_, _> = proxy.session.counters().collect();
    assert_eq!(counters[CLUSTER], Counters { sent: 1, acknowledged: 0, rejected: 0 });
}

#[test]
fn large_configurations_are_sent_in_parts() {
    let entries: Vec<Entry> = ["a", "b", "c"].into_iter().map(|name| (CLUSTER, name, "1")).collect();
    let mut proxy =
        Proxy { session: Session::new("cp", true), unanswered: BTreeMap::new(), sent: Vec::new() };
    proxy.session.advance(config_of(&entries, RESPONSE_BUDGET / 2));
    assert_eq!(proxy.subscribe(CLUSTER, &[]), ["Cluster a@1 b@1"]);
    assert_eq!(proxy.subscribe(LISTENER, &[]), NOTHING, "not before all clusters");
    assert_eq!(proxy.ack(CLUSTER), ["Cluster c@1"]);
    assert_eq!(proxy.ack(CLUSTER), ["Listener "]);
}

#[test]
fn a_stream_asks_for_a_bounded_number_of_things() {
    let mut session = Session::new("cp", true);
    for at in 0..MAX_TYPES {
        session.request(&DeltaDiscoveryRequest { type_url: at.to_string(), ..Default::default() }).unwrap();
    }
    let one_more = DeltaDiscoveryRequest { type_url: "x".into(), ..Default::default() };
    assert_eq!(session.request(&one_more), Err(SessionError::TooManyTypes));
    let many = DeltaDiscoveryRequest {
        type_url: "0".into(),
        resource_names_subscribe: (0..=MAX_NAMES).map(|at| at.to_string()).collect(),
        ..Default::default()
    };
    assert_eq!(session.request(&many), Err(SessionError::TooManyNames("0".into())));
}

const FOUR: [Entry; 4] =
    [(LISTENER, "a", "1"), (LISTENER, "b", "1"), (LISTENER, "c", "1"), (LISTENER, "d", "1")];

#[test]
fn of_a_response_only_what_envoy_names_is_held_back() {
    let mut proxy = Proxy::new(&FOUR);
    assert_eq!(proxy.subscribe(LISTENER, &[]), ["Listener a@1 b@1 c@1 d@1"]);
    let words = "Error adding/updating listener(s) b: cannot bind\nd: no filter\n";
    assert_eq!(proxy.answer(LISTENER, Some(words)), NOTHING, "the others are there");
    assert_eq!(proxy.refused(), ["Listener b@1: cannot bind", "Listener d@1: no filter"]);
    let next = [(LISTENER, "a", "1"), (LISTENER, "b", "2"), (LISTENER, "c", "2"), (LISTENER, "d", "1")];
    assert_eq!(proxy.advance(&next), ["Listener b@2 c@2"]);
    proxy.ack(LISTENER);
    assert_eq!(proxy.refused(), ["Listener d@1: no filter"], "an answer about others changes nothing");
    assert_eq!(proxy.advance(&next[..3]), ["Listener -d"]);
    proxy.ack(LISTENER);
    assert_eq!(proxy.refused(), NOTHING);
}

#[test]
fn a_response_that_is_refused_as_a_whole_is_taken_apart() {
    let mut proxy = Proxy::new(&FOUR);
    proxy.subscribe(LISTENER, &[]);
    assert_eq!(proxy.answer(LISTENER, Some("cannot be read")), ["Listener a@1 b@1"]);
    assert_eq!(proxy.ack(LISTENER), ["Listener c@1 d@1"]);
    assert_eq!(proxy.answer(LISTENER, Some("cannot be read")), ["Listener c@1"]);
    assert_eq!(proxy.refused(), NOTHING);
    assert_eq!(proxy.answer(LISTENER, Some("cannot be read")), ["Listener d@1"]);
    assert_eq!(proxy.refused(), ["Listener c@1: cannot be read"]);
    assert!(!proxy.session.is_settled());
    assert_eq!(proxy.ack(LISTENER), NOTHING);
    assert!(proxy.session.is_settled());
}

#[test]
fn the_only_resource_that_a_refusal_mentions_is_tried_last_and_alone() {
    let mut proxy = Proxy::started(&[(LISTENER, "x", "1")], &[]);
    assert_eq!(proxy.advance(&FOUR), ["Listener a@1 b@1 c@1 d@1 -x"]);
    let words = "Proto constraint validation failed: name: \"c\"";
    assert_eq!(proxy.answer(LISTENER, Some(words)), ["Listener a@1 b@1 d@1"]);
    assert_eq!(proxy.ack(LISTENER), ["Listener c@1 -x"], "what was to go with the first response goes still");
    assert_eq!(proxy.answer(LISTENER, Some(words)), ["Listener -x"]);
    assert_eq!(proxy.ack(LISTENER), NOTHING);
    assert_eq!(proxy.refused(), [format!("Listener c@1: {words}")]);
    let without = [(LISTENER, "a", "1"), (LISTENER, "b", "1"), (LISTENER, "d", "1")];
    assert_eq!(proxy.advance(&without), ["Listener -c"]);
}

#[test]
fn newer_content_takes_part_in_the_search() {
    let mut proxy = Proxy::new(&FOUR);
    proxy.subscribe(LISTENER, &[]);
    assert_eq!(proxy.answer(LISTENER, Some("cannot be read")), ["Listener a@1 b@1"]);
    let next = [(LISTENER, "a", "2"), (LISTENER, "c", "2"), (LISTENER, "e", "1")];
    assert_eq!(proxy.advance(&next), NOTHING);
    assert_eq!(proxy.ack(LISTENER), ["Listener c@2"]);
    assert_eq!(proxy.ack(LISTENER), ["Listener a@2 e@1 -b -d"]);
    proxy.ack(LISTENER);
    assert!(proxy.session.is_settled());
}

/// Versions that a proxy holds of listeners, by name.
type Held = BTreeMap<String, u64>;

/// An Envoy that refuses some versions, each response as a whole or resource by resource.
fn answered(proxy: &mut Proxy, bad: &BTreeSet<(String, u64)>, by_name: bool, held: &mut Held) {
    // More than any search needs: each refusal halves what is left.
    for _ in 0..200 {
        let Some(response) = proxy.sent.pop() else { return };
        let version = |resource: &Resource| u64::from_str_radix(&resource.version, 16).unwrap();
        let is_bad = |resource: &&Resource| bad.contains(&(resource.name.clone(), version(resource)));
        let refused: Vec<&Resource> = response.resources.iter().filter(is_bad).collect();
        if refused.is_empty() || by_name {
            let taken = response.resources.iter().filter(|resource| !is_bad(resource));
            held.extend(taken.map(|resource| (resource.name.clone(), version(resource))));
            held.retain(|name, _| !response.removed_resources.contains(name));
        }
        let reasons: Vec<_> = refused.iter().map(|resource| format!("{}: bad\n", resource.name)).collect();
        let words = match by_name {
            true => format!("Error adding/updating listener(s) {}", reasons.concat()),
            false => "cannot be read".to_owned(),
        };
        proxy.answer(LISTENER, (!refused.is_empty()).then_some(words.as_str()));
    }
    panic!("the search does not end");
}

proptest::proptest! {
    #[test]
    fn whatever_is_refused_everything_else_arrives(
        bad in proptest::collection::btree_set((0..12_u8, 1..4_u64), 0..8),
        changes in proptest::collection::vec(proptest::collection::btree_map(0..12_u8, 1..4_u64, 0..12), 1..6),
        by_name: bool,
    ) {
        let bad = bad.into_iter().map(|(name, version)| (format!("l{name}"), version)).collect();
        let mut proxy = Proxy::new(&[]);
        proxy.subscribe(LISTENER, &[]);
        let mut held = Held::new();
        answered(&mut proxy, &bad, by_name, &mut held);
        let mut expected = Held::new();
        for change in changes {
            let wanted: Held = change.into_iter().map(|(name, version)| (format!("l{name}"), version)).collect();
            let resources: Resources = wanted
                .iter()
                .map(|(name, version)| {
                    let kind = ResourceType::Listener;
                    (name.as_str().into(), ConfigResource { version: Version(*version), kind, value: vec![0].into() })
                })
                .collect();
            proxy.session.advance(Arc::new(Fixed([(LISTENER.into(), resources)].into(), Resources::new())));
            proxy.pump();
            answered(&mut proxy, &bad, by_name, &mut held);
            expected.retain(|name, _| wanted.contains_key(name));
            expected.extend(wanted.iter().filter(|(name, version)| !bad.contains(&((*name).clone(), **version))).map(|(name, version)| (name.clone(), *version)));
            proptest::prop_assert_eq!(&held, &expected, "the last good version of everything");
            proptest::prop_assert!(proxy.session.is_settled());
            let refused: BTreeSet<_> = proxy.session.refusals().map(|(_, name, _)| name.to_string()).collect();
            let still: BTreeSet<_> = wanted.into_iter().filter(|entry| bad.contains(entry)).map(|(name, _)| name).collect();
            proptest::prop_assert_eq!(refused, still);
        }
    }
}

#[test]
fn what_was_refused_is_asked_for_again_each_alone() {
    let mut proxy = Proxy::new(&FOUR);
    proxy.subscribe(LISTENER, &[]);
    proxy.answer(LISTENER, Some("Error adding/updating listener(s) b: in use\nc: in use\n"));
    assert!(proxy.session.is_settled());
    proxy.session.retry();
    assert_eq!(proxy.pump(), ["Listener b@1"]);
    assert_eq!(proxy.ack(LISTENER), ["Listener c@1"]);
    assert_eq!(proxy.answer(LISTENER, Some("Error adding/updating listener(s) c: in use\n")), NOTHING);
    assert_eq!(proxy.refused(), ["Listener c@1: in use"]);
    proxy.session.retry();
    assert_eq!(proxy.pump(), ["Listener c@1"]);
    assert_eq!(proxy.ack(LISTENER), NOTHING);
    assert_eq!(proxy.refused(), NOTHING);
    proxy.session.retry();
    assert_eq!(proxy.pump(), NOTHING);
}
