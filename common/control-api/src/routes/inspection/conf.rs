//! Configurations as they are shown: durations in the peer's form.

use serde_json::Value;

use crate::duration;

/// Words in the name of a field that holds a duration.
const TIMES: [&str; 5] = ["interval", "duration", "time", "jitter", "ttl"];

/// A configuration as it is shown.
pub(super) fn shown(conf: &Value) -> Value {
    let mut shown = conf.clone();
    normalise("", &mut shown);
    shown
}

fn normalise(name: &str, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // The delay of a fault is a value among others.
            let delay = name == "delay";
            for (name, value) in fields {
                normalise(if delay { "time" } else { name }, value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| normalise("", item)),
        Value::String(text) => {
            let name = name.to_lowercase();
            let duration = TIMES.iter().any(|time| name.contains(time)).then(|| duration::parse(text));
            if let Some(duration) = duration.flatten() {
                *text = duration::print(duration);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_times_change() {
        let conf = json!({"idleTimeout": "60s", "path": "60s", "delay": {"value": "60s"}, "list": [{"interval": "1h"}],
            "cookie": {"ttl": "60s"}, "initialJitter": "60s"});
        let want = json!({"idleTimeout": "1m0s", "path": "60s", "delay": {"value": "1m0s"}, "list": [{"interval": "1h0m0s"}],
            "cookie": {"ttl": "1m0s"}, "initialJitter": "1m0s"});
        assert_eq!(shown(&conf), want);
    }
}
