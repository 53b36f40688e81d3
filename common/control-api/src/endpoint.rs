//! A path of the API: what serves it, and what `/openapi.json` says of it, in one place.

use axum::Router;
use axum::handler::Handler;
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::routing::{self, MethodRouter};
use model::Kind;

use crate::app::Shared;
use crate::routes;

/// A query parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    /// Its type in JSON schema.
    pub(crate) shape: &'static str,
    pub(crate) about: &'static str,
}

/// What a body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nothing.
    None,
    /// A resource of the path's kind.
    Resource,
    /// A page of them.
    Page,
    /// One event with a resource on each line.
    Events,
    /// An object that has no schema here.
    Object,
    /// Plain text.
    Text,
    /// Plain text, or JSON where it is asked for.
    TextOrJson,
    /// A web page.
    Html,
}

impl Content {
    /// Its media types.
    pub(crate) const fn media(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Resource | Self::Page | Self::Object => &["application/json"],
            Self::Events => &["application/x-ndjson"],
            Self::Text => &["text/plain"],
            Self::TextOrJson => &["text/plain", "application/json"],
            Self::Html => &["text/html"],
        }
    }
}

/// One method of a path.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) method: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) query: Vec<Parameter>,
    pub(crate) takes: Content,
    pub(crate) answers: Content,
    /// Writes: not there for kinds that nobody writes.
    pub(crate) writes: bool,
    pub(crate) deprecated: bool,
}

/// A path.
pub(crate) struct Endpoint {
    pub(crate) path: String,
    /// The kinds that a segment `{path}` stands for.
    pub(crate) kinds: fn(Kind) -> bool,
    pub(crate) operations: Vec<Operation>,
    methods: MethodRouter<Shared>,
}

impl Endpoint {
    pub(crate) fn at(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            kinds: |kind| kind.path.is_some(),
            operations: Vec::new(),
            methods: MethodRouter::new(),
        }
    }

    /// Narrows the kinds that `{path}` stands for.
    pub(crate) fn of(mut self, kinds: fn(Kind) -> bool) -> Self {
        self.kinds = kinds;
        self
    }

    pub(crate) fn get<H: Handler<T, Shared>, T: 'static>(self, handler: H, summary: &'static str) -> Self {
        self.add("get", false, summary, routing::get(handler))
    }

    pub(crate) fn put<H: Handler<T, Shared>, T: 'static>(self, handler: H, summary: &'static str) -> Self {
        self.add("put", true, summary, routing::put(handler)).takes(Content::Resource)
    }

    pub(crate) fn delete<H: Handler<T, Shared>, T: 'static>(self, handler: H, summary: &'static str) -> Self {
        self.add("delete", true, summary, routing::delete(handler))
    }

    pub(crate) fn post<H: Handler<T, Shared>, T: 'static>(self, handler: H, summary: &'static str) -> Self {
        self.add("post", true, summary, routing::post(handler)).takes(Content::Object)
    }

    fn add(
        mut self,
        method: &'static str,
        writes: bool,
        summary: &'static str,
        methods: MethodRouter<Shared>,
    ) -> Self {
        self.methods = self.methods.merge(methods);
        let (takes, answers) = (Content::None, Content::Object);
        let (query, deprecated) = (Vec::new(), false);
        self.operations.push(Operation { method, summary, query, takes, answers, writes, deprecated });
        self
    }

    /// Query parameters of the last operation.
    pub(crate) fn query(self, parameters: &[Parameter]) -> Self {
        self.last(|operation| operation.query.extend(parameters))
    }

    /// The body that the last operation takes.
    pub(crate) fn takes(self, content: Content) -> Self {
        self.last(|operation| operation.takes = content)
    }

    /// The body that the last operation answers with.
    pub(crate) fn answers(self, content: Content) -> Self {
        self.last(|operation| operation.answers = content)
    }

    /// The last operation is there for older clients.
    pub(crate) fn deprecated(self) -> Self {
        self.last(|operation| operation.deprecated = true)
    }

    /// Leaves the path out of the description: another describes it, and this keeps a third from being taken
    /// for it.
    pub(crate) fn hidden(mut self) -> Self {
        self.operations.clear();
        self
    }

    fn last(mut self, change: impl FnOnce(&mut Operation)) -> Self {
        if let Some(operation) = self.operations.last_mut() {
            change(operation);
        }
        self
    }

    /// Adds the path to a router.
    pub(crate) fn route(self, router: Router<Shared>) -> Router<Shared> {
        // Clients that take JSON only ask for texts too, and mean it.
        let json = |content: Content| if content == Content::Text { Content::TextOrJson } else { content };
        let media = self.operations.iter().flat_map(|one| json(one.answers).media()).copied();
        let media: Vec<_> = media.collect();
        let acceptable = move |headers: HeaderMap, request: axum::extract::Request, next: Next| {
            let taken = accepts(&headers, &media);
            async move { if taken { next.run(request).await } else { routes::plain(StatusCode::NOT_ACCEPTABLE) } }
        };
        router.route(&self.path, self.methods.layer(middleware::from_fn(acceptable)))
    }
}

/// Whether an `Accept` header takes one of some media types (RFC 9110, 12.5.1).
fn accepts(headers: &HeaderMap, media: &[&str]) -> bool {
    let mut given = headers.get_all(ACCEPT).iter().peekable();
    if given.peek().is_none() || media.is_empty() {
        return true;
    }
    let ranges = given.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let mut ranges = ranges.map(str::trim).filter(|range| !range.is_empty()).peekable();
    ranges.peek().is_none() || ranges.any(|range| media.iter().any(|media| takes(range, media)))
}

fn takes(range: &str, media: &str) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let wanted = parts.next().unwrap_or_default().to_ascii_lowercase();
    let is_refused = |part: &str| {
        part.strip_prefix("q=")
            .and_then(|weight| weight.parse::<f32>().ok())
            .is_some_and(|weight| weight <= 0.0)
    };
    if parts.any(is_refused) {
        return false;
    }
    let of_type = |all: &str| media.split_once('/').is_some_and(|(main, _)| main == all);
    wanted == "*/*" || wanted == "*" || wanted == media || wanted.strip_suffix("/*").is_some_and(of_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accept_header_takes_what_it_names() {
        let accepted = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, text.parse().unwrap());
            accepts(&headers, &["application/json"])
        };
        for text in ["", "*/*", "application/json", "text/html, application/json;q=0.5", "Application/*", "*"]
        {
            assert!(accepted(text), "{text:?}");
        }
        for text in ["text/html", "application/yaml", "application/json;q=0", "text/*"] {
            assert!(!accepted(text), "{text:?}");
        }
        assert!(accepts(&HeaderMap::new(), &["application/json"]));
    }
}
