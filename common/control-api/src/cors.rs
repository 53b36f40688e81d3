//! Which web pages of other origins may read answers (the CORS protocol of the Fetch standard).

use std::fmt;

use axum::http::header::{ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, request::Parts};
use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// An origin, or a regular expression that matches whole origins.
#[derive(Clone)]
pub struct OriginPattern {
    text: String,
    /// None for an origin: its dots are dots.
    pattern: Option<Regex>,
}

impl OriginPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is no regular expression, in words that name it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_origin = |c: char| c.is_ascii_alphanumeric() || ".-:/[]".contains(c);
        if text.contains("://") && text.chars().all(is_origin) {
            return Ok(Self { text: text.to_owned(), pattern: None });
        }
        match Regex::new(&format!("^(?:{text})$")) {
            Ok(pattern) => Ok(Self { text: text.to_owned(), pattern: Some(pattern) }),
            Err(error) => Err(format!("{text:?} is neither an origin nor a regular expression: {error}")),
        }
    }

    fn allows(&self, origin: &str) -> bool {
        self.pattern.as_ref().map_or(self.text == origin, |pattern| pattern.is_match(origin))
    }
}

impl fmt::Debug for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl Serialize for OriginPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for OriginPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// The layer that answers browsers; `None` when no other origin is allowed.
pub(crate) fn layer(allowed: &[OriginPattern]) -> Option<CorsLayer> {
    if allowed.is_empty() {
        return None;
    }
    let allowed = allowed.to_vec();
    let is_allowed = move |origin: &HeaderValue, _: &Parts| {
        origin.to_str().is_ok_and(|origin| allowed.iter().any(|pattern| pattern.allows(origin)))
    };
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(is_allowed))
        .allow_methods([Method::GET, Method::PUT, Method::POST, Method::DELETE])
        .allow_headers([ACCEPT, AUTHORIZATION, CONTENT_TYPE])
        .expose_headers([ACCESS_CONTROL_ALLOW_ORIGIN]);
    Some(layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_the_whole_origin() {
        let exact = OriginPattern::parse("https://mesh.example").unwrap();
        assert!(exact.allows("https://mesh.example"));
        assert!(!exact.allows("https://mesh.example.evil.test") && !exact.allows("https://meshXexample"));
        let any = OriginPattern::parse(r"https://[a-z]+\.example").unwrap();
        assert!(any.allows("https://team.example") && !any.allows("https://evil.test/https://team.example"));
        assert!(OriginPattern::parse("https://(").unwrap_err().contains("https://("));
    }
}
