//! The error document of the API, as a person reads it.

use std::fmt;

use http::StatusCode;
use serde_json::Value;

/// As much of a foreign error page as a person reads.
const MAX_TEXT: usize = 1000;

/// A refusal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// Whether the body was no error document.
    is_foreign: bool,
    title: String,
    detail: String,
    /// Field and what is wrong with it.
    fields: Vec<(String, String)>,
}

impl Problem {
    /// Reads the document; any other body is its own detail. `location` is where a redirection leads.
    pub(super) fn read(status: StatusCode, location: Option<&str>, body: &[u8]) -> Self {
        let document: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut title = text("title");
        let mut detail = text("detail");
        if detail.is_empty() {
            detail = text("details");
        }
        let is_foreign = title.is_empty() && detail.is_empty();
        if is_foreign {
            detail = match location {
                Some(location) => format!("the answer leads to {location}: use that address"),
                None => String::from_utf8_lossy(body).chars().take(MAX_TEXT).collect(),
            };
        }
        if title.is_empty() {
            title = format!("the server answered {status}");
        }
        let mut fields = listed(&document, "invalid_parameters", "reason");
        if fields.is_empty() {
            fields = listed(&document, "causes", "message");
        }
        Self { status, is_foreign, title: clean(&title), detail: clean(&detail), fields }
    }

    /// Whether a router says this, which does not know the path: it has no error document.
    pub(crate) fn is_of_router(&self) -> bool {
        self.is_foreign && matches!(self.status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)
    }

    /// What may help whoever was refused.
    fn hint(&self) -> Option<&'static str> {
        match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Some(
                "present a user token with --token-file, or store one with `meshctl config control-planes add`",
            ),
            _ => None,
        }
    }
}

fn listed(document: &Value, list: &str, reason: &str) -> Vec<(String, String)> {
    let text = |entry: &Value, name: &str| clean(entry.get(name).and_then(Value::as_str).unwrap_or_default());
    let entries = document.get(list).and_then(Value::as_array).into_iter().flatten();
    entries.map(|entry| (text(entry, "field"), text(entry, reason))).collect()
}

/// Without ends of lines and whatever else a terminal would obey.
pub(super) fn clean(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)?;
        if !self.detail.is_empty() && self.detail != self.title {
            write!(f, " ({})", self.detail)?;
        }
        for (field, reason) in &self.fields {
            let separator = if field.is_empty() { "" } else { ": " };
            write!(f, "\n  * {field}{separator}{reason}")?;
        }
        match self.hint() {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(status: u16, body: &str) -> String {
        Problem::read(StatusCode::from_u16(status).unwrap(), None, body.as_bytes()).to_string()
    }

    #[test]
    fn title_detail_and_fields_are_told() {
        let body = r#"{"type": "/std-errors", "status": 400, "title": "Could not process a resource",
            "detail": "Resource is not valid", "invalid_parameters": [
            {"field": "spec.to[0]", "reason": "must be set"}, {"field": "", "reason": "at all"}]}"#;
        assert_eq!(
            shown(400, body),
            "Could not process a resource (Resource is not valid)\n  * spec.to[0]: must be set\n  * at all"
        );
    }

    #[test]
    fn old_servers_and_strangers_are_understood_too() {
        let body = r#"{"title": "T", "details": "D", "causes": [{"field": "f", "message": "m"}]}"#;
        assert_eq!(shown(400, body), "T (D)\n  * f: m");
        assert_eq!(shown(405, "no\u{1b}[2J\n"), "the server answered 405 Method Not Allowed (no [2J)");
        assert_eq!(shown(502, ""), "the server answered 502 Bad Gateway");
        assert!(shown(401, r#"{"title": "Invalid authentication data"}"#).contains("--token-file"));
    }

    #[test]
    fn a_redirection_tells_where_to() {
        let problem = Problem::read(StatusCode::MOVED_PERMANENTLY, Some("https://a"), b"");
        assert!(problem.to_string().contains("https://a"), "{problem}");
    }
}
