//! Random policies from the schemas of their kinds: whatever passes validation, Envoy accepts, however it arrives and
//! however often it is generated.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use model::validation::validate_spec;
use model::{Key, Kind, Resource, Violations};
use proxy_config::{MeshView, Proxy, ProxyConfig, Settings, check_spec, generate};
use serde_json::{Map, Value, json};
use store::Snapshot;

use crate::envoy::{Keys, bootstrap, keys, resources, validate};
use crate::mesh::{MESH, ZONE, metadata, policy, snapshot};

/// Proxies of each mesh whose configurations are looked at: with HTTP, gRPC and bytes, redirected and not, and those
/// of the zone.
const PROXIES: [&str; 6] = ["web", "rpc", "db", "ingress", "egress", "caller"];

/// Meshes that are made; each has a few policies of its own.
const MESHES: u64 = 60;

/// Meshes whose configurations one Envoy looks at.
const BATCH: usize = 12;

/// Most documents of a schema break some rule: what is wrong is made anew so often.
const MENDS: usize = 12;

/// Documents that are tried for a policy.
const TRIES: usize = 20;

/// A sequence that looks random and is always the same (SplitMix64).
struct Sequence(u64);

impl Sequence {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % (bound.max(1) as u64)).expect("below a usize")
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// Makes documents of a schema.
struct Maker<'a> {
    root: &'a Value,
    sequence: &'a mut Sequence,
    /// Of ten fields that may be left out, how many are there.
    density: usize,
}

impl Maker<'_> {
    fn resolve(&self, schema: &Value) -> Value {
        match schema.get("$ref").and_then(Value::as_str) {
            Some(reference) => {
                let found = self.root.pointer(reference.trim_start_matches('#'));
                self.resolve(found.expect("schemas refer to their own definitions"))
            }
            None => schema.clone(),
        }
    }

    fn make(&mut self, schema: &Value, path: &[&str]) -> Value {
        let schema = self.resolve(schema);
        if let Some(one) = schema.get("const") {
            return one.clone();
        }
        if let Some(listed) = schema.get("enum").and_then(Value::as_array) {
            return self.sequence.pick(listed).clone();
        }
        for alternatives in ["oneOf", "anyOf"] {
            if let Some(branches) = schema.get(alternatives).and_then(Value::as_array) {
                let branches: Vec<Value> =
                    branches.iter().filter(|branch| branch["type"] != "null").cloned().collect();
                let branch = self.sequence.pick(&branches).clone();
                return self.make(&branch, path);
            }
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().find(|kind| *kind != "null").cloned().unwrap_or_default(),
            kind => kind.clone(),
        };
        match kind.as_str().unwrap_or("object") {
            "object" => self.object(&schema, path),
            "array" => {
                let count = self.sequence.below(4);
                (0..count).map(|_| self.make(&schema["items"], path)).collect()
            }
            "integer" | "number" => {
                json!(self.sequence.pick(&[0, 1, 2, 3, 10, 53, 100, 200, 429, 503, 8080, 70000]))
            }
            "boolean" => json!(self.sequence.below(2) == 0),
            _ => json!(self.text(path)),
        }
    }

    fn object(&mut self, schema: &Value, path: &[&str]) -> Value {
        let mut object = Map::new();
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            if path.len() < 12
                && (required.contains(&name.as_str()) || self.sequence.below(10) < self.density)
            {
                let path: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
                object.insert(name.clone(), self.make(field, &path));
            }
        }
        if schema["additionalProperties"].is_object() {
            let labels = [("service", "web"), ("kuma.io/workload", "web"), ("kuma.io/display-name", "rpc")];
            let (key, value) = *self.sequence.pick(&labels);
            object.insert(key.into(), json!(value));
        }
        Value::Object(object)
    }

    /// Makes anew what is wrong at a path like `spec.to[0].default`, or what is around it.
    fn mend(&mut self, document: &mut Value, field: &str) {
        let field = field.replace('[', ".").replace(']', "");
        let mut steps: Vec<&str> = field.split('.').skip(1).collect();
        steps.truncate(steps.len() - self.sequence.below(3).min(steps.len()));
        let mut schema = self.resolve(self.root);
        let mut at = document;
        let mut path = Vec::new();
        for step in steps {
            let next = match step.parse::<usize>() {
                Ok(index) => at.get(index).is_some().then(|| schema["items"].clone()),
                Err(_) => at.get(step).is_some().then(|| schema["properties"][step].clone()),
            };
            let Some(next) = next else { break };
            schema = self.one_of(&next);
            at = match step.parse::<usize>() {
                Ok(index) => &mut at[index],
                Err(_) => {
                    path.push(step);
                    &mut at[step]
                }
            };
        }
        *at = self.make(&schema, &path);
    }

    /// The schema of an optional field without the option.
    fn one_of(&self, schema: &Value) -> Value {
        let schema = self.resolve(schema);
        let branches = schema["anyOf"].as_array().cloned().unwrap_or_default();
        match branches.iter().find(|branch| branch["type"] != "null") {
            Some(branch) if branches.len() == 2 && branches.iter().any(|branch| branch["type"] == "null") => {
                self.resolve(branch)
            }
            _ => schema,
        }
    }

    /// Text as its field wants it, most of the time.
    fn text(&mut self, path: &[&str]) -> String {
        let durations = ["0s", "1ms", "50ms", "100ms", "1.5s", "10s", "2m", "1h"];
        let names = ["a", "x-b", "web", "80", "443", "5432", "main"];
        let pool: &[&str] = match path {
            ["targetRef", "kind"] => &["Mesh", "Dataplane"],
            [.., "kind"] => {
                &["Mesh", "MeshService", "MeshExternalService", "MeshMultiZoneService", "MeshHTTPRoute"]
            }
            [.., "spiffeID", "value"] => &["spiffe://d/a", "spiffe://default.east.mesh.local/workload/web"],
            [.., "sni", "value"] => {
                &["s", "sni.extsvc.default.east.shop.443", "sni.msvc.default.east.web.80"]
            }
            // Envoy opens what it is to write to.
            [.., "file", "path"] | [.., "eventLogPath"] => &["/dev/null"],
            [.., "path" | "prefix" | "replaceFullPath" | "replacePrefixMatch"] => &["/", "/a", "/a/b"],
            [.., "limit"] => &["1kbps", "2Mbps", "3Gbps"],
            [.., "percentage" | "maxEjectionPercent" | "overall" | "client" | "random" | "factor"] => {
                &["0", "2.5", "100", "50"]
            }
            [.., "endpoint" | "address"] => &["otel.example.com:4317", "127.0.0.1:9000", "127.0.0.1"],
            [.., "url"] => &["http://zipkin.example.com:9411/api/v2/spans", "http://127.0.0.1:8126"],
            [.., "hostname" | "preciseHostname"] => &["a.example.com", "b"],
            [.., "version"] => &["TLS12", "TLS13"],
            [.., "name" | "value" | "key" | "set" | "add" | "remove" | "sectionName"] => &names,
            [.., "to" | "from" | "zones"] => &["east", "west"],
            _ if self.sequence.below(3) > 0 => &durations,
            _ => &["a", "5xx", "http", "web", "GET", "/x", "a.*"],
        };
        (*self.sequence.pick(pool)).to_owned()
    }
}

/// Kinds of policies; those that write Envoy's own configuration can break anything.
fn kinds() -> Vec<Kind> {
    Kind::all().filter(|kind| kind.policy.is_some() && *kind != Kind::MESH_PROXY_PATCH).collect()
}

/// A policy that passes validation; `None` when what is wrong with it cannot be mended.
fn valid(kind: Kind, name: &str, sequence: &mut Sequence) -> Option<Resource> {
    let schema = (kind.json()?.schema)().to_value();
    (0..TRIES).find_map(|_| {
        let density = 2 + sequence.below(8);
        let mut maker = Maker { root: &schema, density, sequence };
        let mut spec = maker.make(&schema, &[]);
        (0..MENDS).find_map(|_| {
            let resource = policy(kind, name, &spec);
            let mut violations: Violations = validate_spec(&resource);
            check_spec(kind, &spec, &mut violations);
            violations.iter().for_each(|violation| maker.mend(&mut spec, &violation.field));
            violations.is_empty().then_some(resource)
        })
    })
}

fn policies(seed: u64) -> Vec<Resource> {
    let mut sequence = Sequence(seed);
    let kinds = kinds();
    let count = 2 + sequence.below(6);
    let made = (0..count).filter_map(|at| {
        let kind = *sequence.pick(&kinds);
        valid(kind, &format!("p{at}"), &mut sequence)
    });
    made.collect()
}

fn config(snapshot: &Snapshot, keys: &Keys, name: &str, workdir: &Path) -> ProxyConfig {
    let view = MeshView::new(snapshot, MESH, ZONE);
    let dataplane = snapshot.resource(&Key::new(Kind::DATAPLANE, MESH, name)).expect("the proxy is there");
    let mut metadata = metadata(&workdir.to_string_lossy());
    metadata.system_ca_path = Some(workdir.join("system.pem").to_string_lossy().into_owned());
    let proxy = Proxy::new(Arc::clone(dataplane), metadata).with_admin_tls(Arc::new(keys.admin.clone()));
    generate(&view, &proxy, Some(&keys.identity), &Settings::default())
}

/// Puts several bootstraps into one: names get the number of their bootstrap, listeners addresses of their own.
#[derive(Default)]
struct Combined {
    clusters: Vec<Value>,
    listeners: Vec<Value>,
    secrets: BTreeMap<String, Value>,
    addresses: u32,
}

impl Combined {
    fn add(&mut self, at: usize, mut bootstrap: Value) {
        let resources = bootstrap["staticResources"].take();
        let list = |field: &str| resources[field].as_array().cloned().unwrap_or_default();
        let named = |value: &Value| value["name"].as_str().map(str::to_owned);
        let own: Vec<String> = list("clusters").iter().chain(&list("listeners")).filter_map(named).collect();
        for mut cluster in list("clusters") {
            rename(&mut cluster, &own, at);
            if cluster["name"] != format!("ads#{at}") {
                self.clusters.push(cluster);
            }
        }
        for mut listener in list("listeners") {
            rename(&mut listener, &own, at);
            self.readdress(&mut listener["address"]);
            for other in listener["additionalAddresses"].as_array_mut().into_iter().flatten() {
                self.readdress(&mut other["address"]);
            }
            self.listeners.push(listener);
        }
        self.secrets.extend(list("secrets").into_iter().filter_map(|secret| Some((named(&secret)?, secret))));
    }

    fn readdress(&mut self, address: &mut Value) {
        if let Some(socket) = address.get_mut("socketAddress") {
            self.addresses += 1;
            let [_, b, c, d] = self.addresses.to_be_bytes();
            *socket = json!({"address": format!("127.{b}.{c}.{d}"), "portValue": 9});
        } else {
            self.addresses += 1;
            *address = json!({"pipe": {"path": format!("@{}", self.addresses)}});
        }
    }

    fn finish(self, mut bootstrap: Value) -> Value {
        let ads = json!({"name": "ads", "type": "STATIC", "typedExtensionProtocolOptions": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicitHttpConfig": {"http2ProtocolOptions": {}}}}});
        let clusters: Vec<Value> = self.clusters.into_iter().chain([ads]).collect();
        let secrets: Vec<Value> = self.secrets.into_values().collect();
        bootstrap["staticResources"] =
            json!({"clusters": clusters, "listeners": self.listeners, "secrets": secrets});
        bootstrap
    }
}

fn rename(value: &mut Value, own: &[String], at: usize) {
    match value {
        Value::String(text) if own.contains(text) => *text = format!("{text}#{at}"),
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, own, at)),
        Value::Object(fields) => fields.values_mut().for_each(|field| rename(field, own, at)),
        _ => {}
    }
}

/// What Envoy says of one proxy of one mesh, with the policies that it says it of.
fn refusals(seeds: &[u64], keys: &Keys, directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for seed in seeds {
        let policies = policies(*seed);
        let snapshot = snapshot(resources(keys).into_iter().chain(policies.iter().cloned()));
        for name in PROXIES {
            if let Err(reason) = validate(&bootstrap(&config(&snapshot, keys, name, directory)), directory) {
                let specs: Vec<String> = policies
                    .iter()
                    .map(|policy| {
                        let spec = policy.raw_spec().to_json(policy.kind().format).unwrap_or_default();
                        format!("{}: {spec}", policy.kind().name)
                    })
                    .collect();
                found.push(format!("seed {seed}, {name}: {reason}\n{}", specs.join("\n")));
                break;
            }
        }
    }
    found
}

#[test]
fn envoy_accepts_whatever_passes_validation() {
    let keys = keys();
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("system.pem"), keys.authority.certificate_pem()).expect("written");
    let seeds: Vec<u64> = (0..MESHES).collect();
    let mut refused = Vec::new();
    for batch in seeds.chunks(BATCH) {
        let mut combined = Combined::default();
        let mut frame = Value::Null;
        for (at, seed) in batch.iter().enumerate() {
            let snapshot = snapshot(resources(&keys).into_iter().chain(policies(*seed)));
            for (of, name) in PROXIES.iter().enumerate() {
                let bootstrap = bootstrap(&config(&snapshot, &keys, name, directory.path()));
                if frame.is_null() {
                    frame = bootstrap.clone();
                }
                combined.add(at * PROXIES.len() + of, bootstrap);
            }
        }
        if let Err(reason) = validate(&combined.finish(frame), directory.path()) {
            let found = refusals(batch, &keys, directory.path());
            // What only the combination shows is a mistake of this test.
            refused.extend(if found.is_empty() { vec![reason] } else { found });
        }
    }
    assert!(refused.is_empty(), "{} refused:\n{}", refused.len(), refused.join("\n\n"));
}

#[test]
fn one_broken_part_breaks_the_combination() {
    let keys = keys();
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("system.pem"), keys.authority.certificate_pem()).expect("written");
    let snapshot = snapshot(resources(&keys));
    let part = |name: &str| bootstrap(&config(&snapshot, &keys, name, directory.path()));
    let combined = |parts: [Value; 2]| {
        let mut combined = Combined::default();
        parts.into_iter().enumerate().for_each(|(at, part)| combined.add(at, part));
        validate(&combined.finish(part("web")), directory.path())
    };
    assert_eq!(combined([part("web"), part("web")]), Ok(()));
    let mut broken = part("web");
    let filters = &mut broken["staticResources"]["listeners"][0]["filterChains"][0]["filters"];
    filters[0]["typedConfig"]["statPrefix"] = json!("");
    let refusal = combined([part("web"), broken]).expect_err("a manager wants a prefix");
    assert!(refusal.contains("StatPrefix"), "{refusal}");
}

#[test]
fn every_kind_with_a_schema_gets_policies() {
    for kind in kinds() {
        let mut sequence = Sequence(7);
        let made = (0..8).filter_map(|_| valid(kind, "p", &mut sequence)).count();
        assert!(made > 0, "no document of {} passes: give the maker better values", kind.name);
    }
}

#[test]
fn random_policies_give_equal_bytes_in_whatever_order_they_arrive() {
    let keys = keys();
    let directory = tempfile::tempdir().expect("a directory");
    for seed in 0..24 {
        let all: Vec<Resource> = resources(&keys).into_iter().chain(policies(seed)).collect();
        let (forward, backward) = (snapshot(all.clone()), snapshot(all.into_iter().rev()));
        for name in PROXIES {
            let of = |snapshot: &Snapshot| config(snapshot, &keys, name, directory.path());
            assert_eq!(of(&forward), of(&forward), "seed {seed}, {name}: twice");
            assert_eq!(of(&forward), of(&backward), "seed {seed}, {name}: another order");
        }
    }
}
