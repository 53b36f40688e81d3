//! The watch of the etcd backend. A compacted revision is a message on the stream, not an error, and the stream
//! stays open: it is turned into the contract's error here.

use std::sync::Arc;

use etcd_client::{EventType, WatchClient, WatchOptions, WatchStream as EtcdWatch};
use futures::stream;

use super::errors::classify;
use super::revision;
use crate::contract::{Change, Event, Revision, StoreError, WatchStream};
use crate::record;

pub(super) async fn start(
    mut client: WatchClient,
    prefix: String,
    after: Revision,
) -> Result<WatchStream, StoreError> {
    let from = format!("{prefix}/");
    let options = WatchOptions::new()
        .with_prefix()
        .with_start_revision(after.0.cast_signed() + 1)
        .with_progress_notify();
    let watch =
        client.watch(from.clone(), Some(options)).await.map_err(|error| classify(&error).into_store())?;
    Ok(Box::pin(stream::unfold(Some((watch, from)), move |open| async move {
        let (mut watch, prefix) = open?;
        match next_batch(&mut watch, &prefix, after).await {
            Ok(None) => None,
            Ok(Some(events)) => Some((Ok(events), Some((watch, prefix)))),
            Err(error) => Some((Err(error), None)),
        }
    })))
}

async fn next_batch(
    watch: &mut EtcdWatch,
    prefix: &str,
    after: Revision,
) -> Result<Option<Vec<Event>>, StoreError> {
    loop {
        let Some(message) = watch.message().await.map_err(|error| classify(&error).into_store())? else {
            return Ok(None);
        };
        if message.compact_revision() > 0 {
            return Err(StoreError::Compacted { from: after });
        }
        if message.canceled() {
            return Err(StoreError::Refused {
                reason: format!("the watch was refused: {}", message.cancel_reason()),
            });
        }
        let events: Vec<Event> = message.events().iter().filter_map(|event| read(event, prefix)).collect();
        if !events.is_empty() {
            return Ok(Some(events));
        }
    }
}

fn read(event: &etcd_client::Event, prefix: &str) -> Option<Event> {
    let pair = event.kv()?;
    let text = std::str::from_utf8(pair.key()).ok()?.strip_prefix(prefix)?;
    let key = record::parse_key(text)?;
    let change = match event.event_type() {
        EventType::Delete => Change::Delete(key),
        EventType::Put => match record::decode(key, pair.value()) {
            Ok(resource) => Change::Put(Arc::new(resource)),
            Err(error) => {
                tracing::error!(key = text, %error, "a record is left out");
                return None;
            }
        },
    };
    Some(Event { revision: revision(pair.mod_revision()), change })
}
