//! MeshProxyPatch: changes to the Envoy configuration of proxies, as Envoy's API writes it.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Checked;
use super::checks::check_top;
use super::common::TargetRef;
use crate::Violations;

/// Changes to the Envoy configuration of the selected proxies, made after every other policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshProxyPatch {
    /// Which proxies; all of the mesh where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// The changes.
    pub default: ProxyPatchConf,
}

/// Changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyPatchConf {
    /// Changes, made in this order; those of several policies add up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append_modifications: Option<Vec<Modification>>,
}

/// A change: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Modification {
    /// Of clusters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterModification>,
    /// Of listeners.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<ListenerModification>,
    /// Of filters of connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_filter: Option<FilterModification>,
    /// Of filters of requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_filter: Option<FilterModification>,
    /// Of virtual hosts of routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_host: Option<VirtualHostModification>,
}

/// What is done with a cluster, a listener or a virtual host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ResourceOperation {
    /// Adds the value.
    Add,
    /// Takes away what matches.
    Remove,
    /// Changes what matches.
    Patch,
}

/// What is done with a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FilterOperation {
    /// Takes away what matches.
    Remove,
    /// Changes what matches.
    Patch,
    /// Adds the value before all others.
    AddFirst,
    /// Adds the value before the filter that matches.
    AddBefore,
    /// Adds the value after the filter that matches.
    AddAfter,
    /// Adds the value after all others.
    AddLast,
}

/// A change of clusters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterModification {
    /// What is done.
    pub operation: ResourceOperation,
    /// Which clusters; all where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#match: Option<ClusterMatch>,
    /// A `envoy.config.cluster.v3.Cluster` in YAML, or the part of it that is merged into what matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// JSON patches of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_patches: Option<Vec<JsonPatch>>,
}

/// Clusters: everything given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClusterMatch {
    /// Who made it, for example `inbound`, `outbound` or `egress`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A change of listeners.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerModification {
    /// What is done.
    pub operation: ResourceOperation,
    /// Which listeners; all where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#match: Option<ListenerMatch>,
    /// A `envoy.config.listener.v3.Listener` in YAML, or the part of it that is merged into what matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// JSON patches of the listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_patches: Option<Vec<JsonPatch>>,
}

/// Listeners: everything given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ListenerMatch {
    /// Who made it, for example `inbound`, `outbound` or `transparent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags in its metadata, under `io.kuma.tags`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
}

/// A change of filters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FilterModification {
    /// What is done.
    pub operation: FilterOperation,
    /// Which filters; all where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#match: Option<FilterMatch>,
    /// The filter in YAML, with its `name` and `typedConfig`, or the part of it that is merged into what matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// JSON patches of the filter's `typedConfig`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_patches: Option<Vec<JsonPatch>>,
}

/// Filters: everything given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FilterMatch {
    /// Who made the listener, for example `inbound`, `outbound` or `transparent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Name of the filter, for example `envoy.filters.http.router`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Name of the listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener_name: Option<String>,
    /// Tags in the metadata of the listener, under `io.kuma.tags`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener_tags: Option<BTreeMap<String, String>>,
}

/// A change of virtual hosts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualHostModification {
    /// What is done.
    pub operation: ResourceOperation,
    /// Which virtual hosts, or for `Add` which route configurations.
    pub r#match: VirtualHostMatch,
    /// A `envoy.config.route.v3.VirtualHost` in YAML, or the part of it that is merged into what matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// JSON patches of the virtual host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_patches: Option<Vec<JsonPatch>>,
}

/// Virtual hosts: everything given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualHostMatch {
    /// Who made the listener, for example `inbound`, `outbound` or `egress`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Name of the virtual host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Name of the route configuration around it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_configuration_name: Option<String>,
}

/// One operation of a JSON patch (RFC 6902).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JsonPatch {
    /// What is done.
    pub op: JsonPatchOp,
    /// Where, as a JSON pointer in Envoy's JSON, for example `/connectTimeout`.
    pub path: String,
    /// The new value of `add` and `replace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// Where `move` and `copy` take their value from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// What a JSON patch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JsonPatchOp {
    /// Adds a field or an item.
    Add,
    /// Takes a field or an item away.
    Remove,
    /// Replaces a field or an item that is there.
    Replace,
    /// Takes a value from elsewhere.
    Move,
    /// Copies a value from elsewhere.
    Copy,
}

impl fmt::Display for JsonPatchOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Replace => "replace",
            Self::Move => "move",
            Self::Copy => "copy",
        })
    }
}

/// What an operation wants of the rest of a modification.
enum Wants {
    /// A value that is added, and no name.
    Value,
    /// A value that is added beside what the name says.
    ValueBeside,
    /// A value or patches that change what matches.
    Change,
    /// Nothing: what matches goes.
    Nothing,
}

impl From<ResourceOperation> for Wants {
    fn from(operation: ResourceOperation) -> Self {
        match operation {
            ResourceOperation::Add => Self::Value,
            ResourceOperation::Remove => Self::Nothing,
            ResourceOperation::Patch => Self::Change,
        }
    }
}

impl From<FilterOperation> for Wants {
    fn from(operation: FilterOperation) -> Self {
        match operation {
            FilterOperation::Remove => Self::Nothing,
            FilterOperation::Patch => Self::Change,
            FilterOperation::AddFirst | FilterOperation::AddLast => Self::Value,
            FilterOperation::AddBefore | FilterOperation::AddAfter => Self::ValueBeside,
        }
    }
}

const DEFINED: &str = "must be defined";
const NOT_DEFINED: &str = "must not be defined";

impl Checked for MeshProxyPatch {
    fn check(&self, violations: &mut Violations) {
        // The proxy as a whole is changed: a part of it cannot be named.
        check_top(self.target_ref.as_ref(), false, violations);
        let modifications = self.default.append_modifications.as_deref().unwrap_or_default();
        if modifications.is_empty() {
            violations.add("spec.default.appendModifications", "must not be empty");
        }
        for (at, modification) in modifications.iter().enumerate() {
            modification.check(&format!("spec.default.appendModifications[{at}]"), violations);
        }
    }
}

impl Modification {
    fn check(&self, path: &str, violations: &mut Violations) {
        let Self { cluster, listener, network_filter, http_filter, virtual_host } = self;
        let defined = [
            cluster.is_some(),
            listener.is_some(),
            network_filter.is_some(),
            http_filter.is_some(),
            virtual_host.is_some(),
        ];
        match defined.into_iter().filter(|defined| *defined).count() {
            0 => violations.add(path, "at least one modification has to be defined"),
            1 => {}
            many => {
                let message = format!(
                    "exactly one modification can be defined at a time. Currently, {many} modifications are defined"
                );
                violations.add(path, message);
            }
        }
        if let Some(ClusterModification { operation, r#match, value, json_patches }) = cluster {
            let path = format!("{path}.cluster");
            check_no_match(&path, *operation, r#match.is_some(), violations);
            check_content(&path, (*operation).into(), value.as_deref(), json_patches.as_deref(), violations);
        }
        if let Some(ListenerModification { operation, r#match, value, json_patches }) = listener {
            let path = format!("{path}.listener");
            check_no_match(&path, *operation, r#match.is_some(), violations);
            check_content(&path, (*operation).into(), value.as_deref(), json_patches.as_deref(), violations);
        }
        for (field, filter) in [("networkFilter", network_filter), ("httpFilter", http_filter)] {
            let Some(FilterModification { operation, r#match, value, json_patches }) = filter else {
                continue;
            };
            let path = format!("{path}.{field}");
            let name = r#match.as_ref().and_then(|filter| filter.name.as_deref());
            check_filter_name(&path, *operation, name, violations);
            check_content(&path, (*operation).into(), value.as_deref(), json_patches.as_deref(), violations);
        }
        if let Some(VirtualHostModification { operation, r#match, value, json_patches }) = virtual_host {
            let path = format!("{path}.virtualHost");
            if *operation == ResourceOperation::Add && r#match.name.is_some() {
                violations.add(format!("{path}.match.name"), NOT_DEFINED);
            }
            check_content(&path, (*operation).into(), value.as_deref(), json_patches.as_deref(), violations);
        }
    }
}

fn check_no_match(path: &str, operation: ResourceOperation, has_match: bool, violations: &mut Violations) {
    if operation == ResourceOperation::Add && has_match {
        violations.add(format!("{path}.match"), NOT_DEFINED);
    }
}

/// A place among filters, and a filter that is changed, is named; the first and the last place are not.
fn check_filter_name(
    path: &str,
    operation: FilterOperation,
    name: Option<&str>,
    violations: &mut Violations,
) {
    let path = || format!("{path}.match.name");
    match (operation.into(), name) {
        (Wants::Value, Some(_)) => violations.add(path(), NOT_DEFINED),
        (Wants::ValueBeside | Wants::Change, None) => violations.add(path(), DEFINED),
        (Wants::ValueBeside | Wants::Change, Some("")) => violations.add(path(), "must not be empty"),
        _ => {}
    }
}

fn check_content(
    path: &str,
    wants: Wants,
    value: Option<&str>,
    patches: Option<&[JsonPatch]>,
    violations: &mut Violations,
) {
    let (at_value, at_patches) = (format!("{path}.value"), format!("{path}.jsonPatches"));
    let blank = |value: &str| value.trim().is_empty();
    match wants {
        Wants::Nothing => {
            if value.is_some() {
                violations.add(at_value, NOT_DEFINED);
            }
            if patches.is_some() {
                violations.add(at_patches, NOT_DEFINED);
            }
        }
        Wants::Value | Wants::ValueBeside => {
            match value {
                None => violations.add(at_value, DEFINED),
                Some(value) if blank(value) => violations.add(at_value, "must not be empty"),
                Some(_) => {}
            }
            if patches.is_some() {
                violations.add(at_patches, NOT_DEFINED);
            }
        }
        Wants::Change => match (value, patches) {
            (None, None) => violations.add(path, "must have exactly one defined: value, jsonPatches"),
            (Some(_), Some(_)) => violations.add(path, "must have only one type defined: value, jsonPatches"),
            (Some(value), None) if blank(value) => violations.add(at_value, "must not be empty"),
            (None, Some([])) => violations.add(at_patches, "must not be empty"),
            (Some(_), None) => {}
            (None, Some(patches)) => {
                for (at, patch) in patches.iter().enumerate() {
                    patch.check(&format!("{at_patches}[{at}]"), violations);
                }
            }
        },
    }
}

impl JsonPatch {
    fn check(&self, path: &str, violations: &mut Violations) {
        check_pointer(&format!("{path}.path"), &self.path, violations);
        let takes_value = matches!(self.op, JsonPatchOp::Add | JsonPatchOp::Replace);
        match &self.value {
            None if takes_value => violations.add(format!("{path}.value"), DEFINED),
            Some(_) if !takes_value => violations.add(format!("{path}.value"), NOT_DEFINED),
            _ => {}
        }
        let takes_from = matches!(self.op, JsonPatchOp::Move | JsonPatchOp::Copy);
        match &self.from {
            None if takes_from => violations.add(format!("{path}.from"), DEFINED),
            Some(_) if !takes_from => violations.add(format!("{path}.from"), NOT_DEFINED),
            Some(from) => check_pointer(&format!("{path}.from"), from, violations),
            None => {}
        }
    }
}

/// RFC 6901.
fn check_pointer(path: &str, pointer: &str, violations: &mut Violations) {
    if pointer.is_empty() {
        violations.add(path, "must not be empty");
    } else if !pointer.starts_with('/') {
        violations.add(path, "must be a JSON pointer that starts with '/'");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(modification: Value) -> Vec<String> {
        let spec = json!({"default": {"appendModifications": [modification]}});
        let mut violations = Violations::default();
        serde_json::from_value::<MeshProxyPatch>(spec).unwrap().check(&mut violations);
        let prefix = "spec.default.appendModifications[0]";
        let shown = violations.iter().map(|one| format!("{}|{}", one.field.replace(prefix, ""), one.message));
        shown.collect()
    }

    #[test]
    fn exactly_one_kind_is_changed() {
        assert_eq!(report(json!({})), ["|at least one modification has to be defined"]);
        let both = json!({
            "cluster": {"operation": "Add", "value": "name: a"},
            "listener": {"operation": "Remove", "match": {"name": "a"}},
        });
        assert_eq!(
            report(both),
            ["|exactly one modification can be defined at a time. Currently, 2 modifications are defined"]
        );
    }

    #[test]
    fn each_operation_wants_its_own_fields() {
        for (kind, modification, expected) in [
            (
                "cluster",
                json!({"operation": "Add", "match": {}}),
                &[".match|must not be defined", ".value|must be defined"][..],
            ),
            ("cluster", json!({"operation": "Remove", "value": "a"}), &[".value|must not be defined"]),
            (
                "listener",
                json!({"operation": "Patch"}),
                &["|must have exactly one defined: value, jsonPatches"],
            ),
            ("listener", json!({"operation": "Patch", "value": " "}), &[".value|must not be empty"]),
            (
                "networkFilter",
                json!({"operation": "AddBefore", "value": "name: a"}),
                &[".match.name|must be defined"],
            ),
            (
                "httpFilter",
                json!({"operation": "Patch", "match": {"name": ""}, "value": "a"}),
                &[".match.name|must not be empty"],
            ),
            (
                "httpFilter",
                json!({"operation": "AddFirst", "match": {"name": "x"}, "value": "name: a"}),
                &[".match.name|must not be defined"],
            ),
            (
                "virtualHost",
                json!({"operation": "Add", "match": {"name": "x"}, "value": "name: a"}),
                &[".match.name|must not be defined"],
            ),
            (
                "virtualHost",
                json!({"operation": "Patch", "match": {}, "value": "a", "jsonPatches": []}),
                &["|must have only one type defined: value, jsonPatches"],
            ),
            (
                "cluster",
                json!({"operation": "Patch", "jsonPatches": []}),
                &[".jsonPatches|must not be empty"],
            ),
        ] {
            let mut document = serde_json::Map::new();
            document.insert(kind.to_owned(), modification.clone());
            let expected: Vec<String> = expected.iter().map(|one| format!(".{kind}{one}")).collect();
            assert_eq!(report(Value::Object(document)), expected, "{modification}");
        }
    }

    #[test]
    fn json_patches_are_checked_one_by_one() {
        let patches = json!([
            {"op": "add", "path": "/a"},
            {"op": "remove", "path": "a", "value": 1},
            {"op": "move", "path": "/a"},
            {"op": "replace", "path": "/a", "value": 1, "from": "/b"},
            {"op": "copy", "path": "/a", "from": "b"},
        ]);
        let prefix = ".cluster.jsonPatches";
        let found = report(json!({"cluster": {"operation": "Patch", "jsonPatches": patches}}));
        let found: Vec<_> = found.iter().map(|one| one.trim_start_matches(prefix)).collect();
        assert_eq!(
            found,
            [
                "[0].value|must be defined",
                "[1].path|must be a JSON pointer that starts with '/'",
                "[1].value|must not be defined",
                "[2].from|must be defined",
                "[3].from|must not be defined",
                "[4].from|must be a JSON pointer that starts with '/'",
            ]
        );
    }
}
