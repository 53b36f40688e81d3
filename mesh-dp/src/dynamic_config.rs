//! What the control plane tells mesh-dp, by way of Envoy: small JSON documents that Envoy serves on
//! a Unix socket of the work folder.
//!
//! Envoy cannot notify, so each document is asked for every second with the entity tag of the last
//! one; Envoy answers 304 from memory when it is still current.

use std::path::PathBuf;
use std::time::Duration;

use http::{Method, StatusCode, header};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::admin;

/// How long a change may go unnoticed.
const INTERVAL: Duration = Duration::from_secs(1);

/// Polls one document. Runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Poller<T> {
    socket: PathBuf,
    path: &'static str,
    /// Whether what the document says ends with the document.
    forgets: bool,
    etag: Option<String>,
    /// `None` until the first document has arrived.
    document: watch::Sender<Option<T>>,
}

impl<T: DeserializeOwned> Poller<T> {
    pub(crate) fn new(socket: PathBuf, path: &'static str, document: watch::Sender<Option<T>>) -> Self {
        Self { socket, path, forgets: false, etag: None, document }
    }

    /// Without a document there is nothing to do: what the last one said ends.
    pub(crate) fn forgetting(mut self) -> Self {
        self.forgets = true;
        self
    }

    pub(crate) async fn run(mut self) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.poll().await;
        }
    }

    async fn poll(&mut self) {
        let tag = self.etag.as_deref().map(|etag| ("if-none-match", etag));
        let answer = match admin::request(&self.socket, Method::GET, self.path, tag).await {
            Ok(answer) => answer,
            // Envoy is starting, or the listener has not arrived yet.
            Err(error) => return tracing::debug!(%error, "no dynamic configuration"),
        };
        match answer.status {
            StatusCode::OK => match serde_json::from_slice::<T>(&answer.body) {
                Ok(document) => {
                    tracing::debug!(path = self.path, "dynamic configuration changed");
                    let tag = answer.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
                    self.etag = tag.map(str::to_owned);
                    self.document.send_replace(Some(document));
                }
                Err(error) => {
                    tracing::warn!(path = self.path, %error, "dynamic configuration cannot be read, keeping the last");
                }
            },
            StatusCode::NOT_FOUND if self.forgets && self.etag.take().is_some() => {
                self.document.send_replace(None);
            }
            StatusCode::NOT_MODIFIED | StatusCode::NOT_FOUND => {}
            status => tracing::debug!(%status, "unexpected answer for dynamic configuration"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::http::HeaderMap;
    use axum::response::IntoResponse;
    use axum::routing::get;

    use super::*;

    #[tokio::test]
    async fn a_document_is_read_once_and_bad_ones_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let unchanged = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&unchanged);
        let handler = move |headers: HeaderMap| async move {
            if headers.get("if-none-match").is_some_and(|tag| tag == "t1") {
                seen.fetch_add(1, Ordering::Relaxed);
                return (StatusCode::OK, "not json").into_response();
            }
            let body = r#"{"records":[{"name":"web.mesh","ips":["10.0.0.1","nonsense"]}],"ttl":5}"#;
            ([("etag", "t1")], body).into_response()
        };
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let tasks = runtime::Tasks::new();
        let router = Router::new().route("/dns", get(handler));
        let server = async { axum::serve(listener, router).await };
        tasks.spawn_fallible("envoy", runtime::OnExit::Ignore, server);

        let (tx, rx) = watch::channel(None);
        let mut poller = Poller::<serde_json::Value>::new(socket, "/dns", tx);
        poller.poll().await;
        assert_eq!(rx.borrow().as_ref().unwrap()["ttl"], 5);
        poller.poll().await;
        assert_eq!(unchanged.load(Ordering::Relaxed), 1);
        assert_eq!(rx.borrow().as_ref().unwrap()["ttl"], 5);
        tasks.shutdown(Duration::ZERO).await;
    }
}
