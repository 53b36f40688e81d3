//! Syntax of label keys and values: Kubernetes' rules and its words.

use super::Violations;
use crate::resource::Labels;

const NAME_CHARS: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE_CHARS: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// Longest name part of a key, and longest value.
const MAX_PART: usize = 63;
/// Longest prefix of a key.
const MAX_PREFIX: usize = 253;

/// Checks keys and values of labels, ordered by key.
pub fn check_labels(labels: &Labels, violations: &mut Violations) {
    for (key, value) in labels {
        let field = format!("labels[{key:?}]");
        for message in key_problems(key) {
            violations.add(&*field, message);
        }
        if value.len() > MAX_PART {
            violations.add(&*field, format!("must be no more than {MAX_PART} bytes"));
        }
        if !value.is_empty() && !is_qualified(value) {
            violations.add(&*field, VALUE_CHARS);
        }
    }
}

fn key_problems(key: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let name = match key.split('/').collect::<Vec<_>>().as_slice() {
        [name] => *name,
        [prefix, name] => {
            problems.extend(prefix_problems(prefix));
            *name
        }
        _ => {
            return vec![format!(
                "a valid label key {NAME_CHARS} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".into());
    } else if name.len() > MAX_PART {
        problems.push(format!("name part must be no more than {MAX_PART} bytes"));
    }
    if !is_qualified(name) {
        problems.push(format!("name part {NAME_CHARS}"));
    }
    problems
}

fn prefix_problems(prefix: &str) -> Vec<String> {
    if prefix.is_empty() {
        return vec!["prefix part must be non-empty".into()];
    }
    let mut problems = Vec::new();
    if prefix.len() > MAX_PREFIX {
        problems.push(format!("prefix part must be no more than {MAX_PREFIX} bytes"));
    }
    if !super::is_dns_name(prefix) {
        problems.push(format!("prefix part {SUBDOMAIN}"));
    }
    problems
}

fn is_qualified(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(edge)
        && text.ends_with(edge)
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(key: &str, value: &str) -> usize {
        let mut violations = Violations::default();
        check_labels(&Labels::from([(key.into(), value.into())]), &mut violations);
        violations.iter().count()
    }

    #[test]
    fn keys_and_values_follow_the_rules() {
        assert_eq!(problems("kuma.io/origin", "zone"), 0);
        assert_eq!(problems("a", ""), 0);
        assert_eq!(problems("", "a"), 2);
        assert_eq!(problems("a/b/c", "a"), 1);
        assert_eq!(problems("Upper.io/a", "a"), 1);
        assert_eq!(problems("a", "not valid"), 1);
        assert_eq!(problems("a", &"v".repeat(64)), 1);
    }
}
