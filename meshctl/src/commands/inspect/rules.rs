//! Tables of policies, rules and ports of a proxy, from the documents of the inspection endpoints.

use serde_json::Value;

use crate::table::Table;

/// As much of a configuration as fits a line.
const MAX_CONF: usize = 100;

/// Policies for a proxy as a whole.
pub(super) fn policies(document: &Value) -> Table {
    let mut table = Table::new(["KIND", "ORIGINS", "CONF"]);
    for policy in items(document, "policies") {
        let origins = items(policy, "origins").map(|origin| text(origin, "kri")).collect::<Vec<_>>();
        table.row([text(policy, "kind"), origins.join(","), conf(policy.get("conf"))]);
    }
    table
}

/// Every rule that concerns a proxy: where it applies and where it comes from.
pub(super) fn rules(document: &Value) -> Table {
    let mut table = Table::new(["KIND", "APPLIES TO", "MATCH", "ORIGINS", "CONF"]);
    for of_kind in items(document, "rules") {
        let kind = text(of_kind, "type");
        if let Some(rule) = of_kind.get("proxyRule").filter(|rule| rule.is_object()) {
            let origins = items(rule, "origin").map(|origin| text(origin, "name"));
            let origins = origins.collect::<Vec<_>>().join(",");
            table.row([kind.clone(), "proxy".into(), String::new(), origins, conf(rule.get("conf"))]);
        }
        for inbound in items(of_kind, "inboundRules") {
            let port = inbound.get("inbound").unwrap_or(&Value::Null);
            let place = format!("inbound {}", section(&text(port, "name"), &text(port, "port")));
            for rule in items(inbound, "rules") {
                let matched = rule.get("match").map(|found| conf(Some(found))).unwrap_or_default();
                table.row([kind.clone(), place.clone(), matched, origins(rule), conf(rule.get("conf"))]);
            }
        }
        for rule in items(of_kind, "toResourceRules") {
            let target = rule.get("resourceMeta").unwrap_or(&Value::Null);
            let section = text(rule, "resourceSectionName");
            let section = if section.is_empty() { section } else { format!(" {section}") };
            let place = format!("to {} {}{section}", text(target, "type"), text(target, "name"));
            table.row([kind.clone(), place, String::new(), origins(rule), conf(rule.get("conf"))]);
        }
    }
    table
}

/// The ports of a proxy and the names of their parts in Envoy.
pub(super) fn layout(document: &Value) -> Table {
    let mut table = Table::new(["PART", "PORT", "PROTOCOL", "NAME IN ENVOY", "KRI"]);
    for (part, list) in [("inbound", "inbounds"), ("outbound", "outbounds"), ("listener", "listeners")] {
        for item in items(document, list) {
            let protocol = [text(item, "protocol"), text(item, "type")].concat();
            let name = text(item, "proxyResourceName");
            table.row([part.to_owned(), text(item, "port"), protocol, name, text(item, "kri")]);
        }
    }
    table
}

fn origins(rule: &Value) -> String {
    let name = |origin: &Value| {
        let meta = origin.get("resourceMeta").unwrap_or(&Value::Null);
        format!("{}[{}]", text(meta, "name"), text(origin, "ruleIndex"))
    };
    items(rule, "origin").map(name).collect::<Vec<_>>().join(",")
}

fn section(name: &str, port: &str) -> String {
    if name.is_empty() { port.to_owned() } else { format!("{name} ({port})") }
}

fn items<'a>(document: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    document.get(list).and_then(Value::as_array).into_iter().flatten()
}

fn text(document: &Value, key: &str) -> String {
    match document.get(key) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// A configuration on one line, its end left out where it is long; `-o yaml` has all of it.
fn conf(conf: Option<&Value>) -> String {
    let text = match conf {
        None | Some(Value::Null) => return String::new(),
        Some(Value::Array(one)) if one.len() == 1 => one.first().map(ToString::to_string).unwrap_or_default(),
        Some(other) => other.to_string(),
    };
    if text.chars().count() <= MAX_CONF {
        return text;
    }
    text.chars().take(MAX_CONF).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(table: &Table) -> Vec<String> {
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn each_rule_says_where_it_applies_and_comes_from() {
        let origin = json!([{"resourceMeta": {"name": "slow"}, "ruleIndex": 1}]);
        let document = json!({"rules": [
            {"type": "MeshTimeout",
             "inboundRules": [{"inbound": {"name": "http", "port": 80}, "rules": [{"conf": [{"a": 1}], "origin": origin}]}],
             "toResourceRules": [{"resourceMeta": {"type": "MeshService", "name": "db"}, "resourceSectionName": "tcp",
                 "conf": [{"b": 2}], "origin": origin}]},
            {"type": "MeshMetric", "proxyRule": {"conf": {"c": 3}, "origin": [{"name": "all"}]}},
        ]});
        assert_eq!(
            lines(&rules(&document)),
            [
                "KIND APPLIES TO MATCH ORIGINS CONF",
                r#"MeshTimeout inbound http (80) - slow[1] {"a":1}"#,
                r#"MeshTimeout to MeshService db tcp - slow[1] {"b":2}"#,
                r#"MeshMetric proxy - all {"c":3}"#,
            ]
        );
    }

    #[test]
    fn long_configurations_are_cut() {
        let long = json!({"text": "x".repeat(500)});
        assert_eq!(conf(Some(&long)).chars().count(), MAX_CONF + 1);
    }

    #[test]
    fn a_layout_lists_every_port() {
        let document = json!({
            "inbounds": [{"kri": "kri_a", "port": 80, "protocol": "http", "proxyResourceName": "self_inbound_dp_http"}],
            "listeners": [{"kri": "kri_b", "port": 10001, "type": "ZoneIngress", "proxyResourceName": "self_z"}],
        });
        assert_eq!(
            lines(&layout(&document)),
            [
                "PART PORT PROTOCOL NAME IN ENVOY KRI",
                "inbound 80 http self_inbound_dp_http kri_a",
                "listener 10001 ZoneIngress self_z kri_b",
            ]
        );
    }
}
