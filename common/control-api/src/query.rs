//! Query parameters of lists: paging and filters.

use axum::http::{HeaderMap, Uri, header::HOST};
use model::spec::Dataplane;
use model::{Kind, Resource, Violations};

use crate::problem::Problem;

/// Title of what is wrong with a list.
pub(crate) const LIST: &str = "Could not retrieve resources";

const DEFAULT_SIZE: usize = 100;
const MAX_SIZE: usize = 1000;

/// The decoded parameters of a query, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn of(uri: &Uri) -> Self {
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(key), decode(value))
                })
                .collect(),
        )
    }

    /// The first value of a parameter.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// A parameter that means something: given and not empty.
    pub(crate) fn some(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty())
    }

    /// Every value of a parameter.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// A boolean parameter; `None` when it is not given.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, Problem> {
        match self.some(key) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(Problem::refused(format!("unsupported value for query parameter '{key}'"))),
        }
    }

    /// The same query, keys ordered, with another offset.
    fn with_offset(&self, offset: usize) -> String {
        let mut pairs: Vec<_> = self.0.iter().filter(|(key, _)| key != "offset").cloned().collect();
        pairs.push(("offset".into(), offset.to_string()));
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        let encoded: Vec<_> =
            pairs.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
        encoded.join("&")
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = |digit: Option<u8>| digit.and_then(|digit| char::from(digit).to_digit(16));
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut ahead = rest.clone();
                match (hex(ahead.next()), hex(ahead.next())) {
                    (Some(high), Some(low)) => {
                        bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                        rest = ahead;
                    }
                    _ => bytes.push(b'%'),
                }
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

/// Which part of a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paging {
    size: usize,
    offset: usize,
}

impl Paging {
    pub(crate) fn of(query: &Query) -> Result<Self, Problem> {
        Ok(Self { size: size_of(query)?, offset: offset_of(query)? })
    }

    /// The part of a list, how long the whole is, and whether more follows. Nothing else of the list is held.
    pub(crate) fn part<T>(self, items: impl IntoIterator<Item = T>) -> (Vec<T>, usize, bool) {
        let mut items = items.into_iter();
        let before = items.by_ref().take(self.offset).count();
        let part: Vec<T> = items.by_ref().take(self.size).collect();
        let after = items.count();
        let total = before + part.len() + after;
        (part, total, after > 0)
    }

    /// Where the next part is.
    pub(crate) fn next(self, place: &Place, query: &Query) -> String {
        format!("{}?{}", place.0, query.with_offset(self.offset.saturating_add(self.size)))
    }
}

fn size_of(query: &Query) -> Result<usize, Problem> {
    let Some(text) = query.some("size") else { return Ok(DEFAULT_SIZE) };
    let wrong = |reason: String| Err(Problem::field(LIST, "Invalid page size", "size", reason));
    match text.parse::<i64>() {
        Err(_) => wrong("invalid format".into()),
        Ok(size) if size <= 0 => wrong("must be greater than 0".into()),
        Ok(size) => match usize::try_from(size) {
            Ok(size) if size <= MAX_SIZE => Ok(size),
            _ => wrong(format!("invalid page size of {size}. Maximum page size is {MAX_SIZE}")),
        },
    }
}

fn offset_of(query: &Query) -> Result<usize, Problem> {
    let Some(text) = query.some("offset") else { return Ok(0) };
    let wrong = |reason: String| {
        let detail = format!("invalid: invalid offset: {reason}");
        Err(Problem::new(axum::http::StatusCode::BAD_REQUEST, LIST, detail))
    };
    match text.parse::<i64>() {
        Err(_) => {
            let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
            let number = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
            let why = if number { "value out of range" } else { "invalid syntax" };
            wrong(format!("strconv.Atoi: parsing {text:?}: {why}"))
        }
        Ok(offset) => match usize::try_from(offset) {
            Ok(offset) => Ok(offset),
            Err(_) => wrong("must be non-negative".into()),
        },
    }
}

/// The absolute URL of the path that was asked, without its query.
#[derive(Clone, Debug)]
pub(crate) struct Place(String);

impl Place {
    pub(crate) fn of(uri: &Uri, headers: &HeaderMap, over_tls: bool) -> Self {
        let scheme = if over_tls { "https" } else { "http" };
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| uri.authority().map(axum::http::uri::Authority::as_str));
        Self(format!("{scheme}://{}{}", host.unwrap_or_default(), uri.path()))
    }
}

/// Which resources of a list are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    name: Option<String>,
    labels: Vec<(String, String)>,
    tags: Vec<(String, String)>,
    gateway: Option<bool>,
}

impl Filter {
    /// Reads the filters of a list; `route` is the path's template, for errors.
    pub(crate) fn of(kind: Kind, route: &str, query: &Query) -> Result<Self, Problem> {
        let mut filter = Self { name: query.some("name").map(str::to_owned), ..Self::default() };
        let mut violations = Violations::default();
        for (key, value) in query.0.iter().filter(|(key, _)| key.starts_with("filter[")) {
            match label_of(key) {
                Ok(label) => filter.labels.push((label.to_owned(), value.clone())),
                Err(reason) => violations.add(format!("{route}.{key}"), reason),
            }
        }
        if kind == Kind::DATAPLANE {
            filter.tags = query.all("tag").filter(|tag| !tag.is_empty()).map(tag_of).collect();
            filter.gateway = match query.some("gateway") {
                None => None,
                Some("true" | "delegated") => Some(true),
                Some("false") => Some(false),
                Some(other) => {
                    let reason = format!("should use `true`, `false` or `delegated` instead of {other}");
                    violations.add(format!("{route}.gateway"), reason);
                    None
                }
            };
        }
        if violations.is_empty() { Ok(filter) } else { Err(Problem::invalid(LIST, &violations)) }
    }

    /// Whether a resource is asked for.
    pub(crate) fn selects(&self, resource: &Resource) -> bool {
        self.name.as_ref().is_none_or(|part| resource.name().contains(part.as_str()))
            && self.labels.iter().all(|(key, value)| resource.label(key) == Some(value))
            && (self.tags.is_empty() && self.gateway.is_none() || self.selects_dataplane(resource))
    }

    fn selects_dataplane(&self, resource: &Resource) -> bool {
        let gateway = resource
            .spec::<Dataplane>()
            .ok()
            .and_then(|spec| spec.networking.as_ref())
            .and_then(|networking| networking.gateway.as_ref());
        if self.gateway.is_some_and(|wanted| wanted != gateway.is_some()) {
            return false;
        }
        self.tags.iter().all(|(key, part)| {
            let tag = gateway.and_then(|gateway| gateway.tags.get(key)).map(String::as_str);
            [tag, resource.label(key)].into_iter().flatten().any(|value| value.contains(part.as_str()))
        })
    }
}

/// `filter[labels.KEY]` gives `KEY`.
fn label_of(parameter: &str) -> Result<&str, &'static str> {
    let inner = parameter.strip_prefix("filter[").unwrap_or_default();
    let (path, rest) = inner.split_once(']').unwrap_or((inner, ""));
    let label = path.strip_prefix("labels.").filter(|label| !label.is_empty());
    let label = label.ok_or("filters are only supported on labels")?;
    if rest.is_empty() { Ok(label) } else { Err("advanced filters are not supported") }
}

fn tag_of(tag: &str) -> (String, String) {
    let (key, value) = tag.split_once(':').unwrap_or((tag, ""));
    (key.into(), value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::of(&format!("/x?{text}").parse().unwrap())
    }

    #[test]
    fn pages_say_where_the_next_is() {
        let query = query("size=2&name=a%20b&offset=1");
        let paging = Paging::of(&query).unwrap();
        assert_eq!(paging.part([1, 2, 3, 4]), (vec![2, 3], 4, true));
        assert_eq!(paging.part([1, 2, 3]), (vec![2, 3], 3, false));
        assert_eq!(paging.part::<u8>([]), (vec![], 0, false));
        let place = Place("http://h/x".into());
        assert_eq!(paging.next(&place, &query), "http://h/x?name=a+b&offset=3&size=2");
    }

    #[test]
    fn bad_pages_are_named() {
        for (text, want) in [
            ("size=0", "Invalid page size"),
            ("size=1001", "Invalid page size"),
            ("size=x", "Invalid page size"),
            ("offset=x", "invalid: invalid offset: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("offset=-1", "invalid: invalid offset: must be non-negative"),
            (
                "offset=99999999999999999999",
                "invalid: invalid offset: strconv.Atoi: parsing \"99999999999999999999\": value out of range",
            ),
        ] {
            assert_eq!(Paging::of(&query(text)).unwrap_err().detail(), want, "{text}");
        }
    }

    #[test]
    fn filters_are_for_labels() {
        assert_eq!(label_of("filter[labels.k8s.kuma.io/namespace]"), Ok("k8s.kuma.io/namespace"));
        assert_eq!(label_of("filter[name]"), Err("filters are only supported on labels"));
        assert_eq!(label_of("filter[labels.a][eq]"), Err("advanced filters are not supported"));
        assert!(Filter::of(Kind::DATAPLANE, "/dataplanes", &query("gateway=maybe")).is_err());
        assert!(Filter::of(Kind::MESH, "/meshes", &query("gateway=maybe")).is_ok());
    }

    #[test]
    fn broken_escapes_stay_as_they_are() {
        assert_eq!(query("name=%zz%4&a=%41%c3%a9").get("name"), Some("%zz%4"));
        assert_eq!(query("name=%zz%4&a=%41%c3%a9").get("a"), Some("Aé"));
    }
}
