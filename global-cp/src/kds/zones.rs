//! Which streams zones have open: a newer one replaces the older, and two stores cannot be one zone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::identify::Caller;

/// The streams of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stream {
    GlobalToZone,
    ZoneToGlobal,
    Config,
    Stats,
    Clusters,
}

#[derive(Default)]
struct Zone {
    store_id: Option<String>,
    streams: BTreeMap<Stream, Open>,
}

struct Open {
    serial: u64,
    replaced: CancellationToken,
}

/// The streams of all zones.
#[derive(Clone, Default)]
pub(super) struct Zones(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    serial: u64,
    zones: BTreeMap<String, Zone>,
}

/// An open stream; it is forgotten when this is dropped.
pub(super) struct Guard {
    zones: Zones,
    zone: String,
    stream: Stream,
    serial: u64,
    /// Cancelled when a newer stream of the zone took over.
    pub(super) replaced: CancellationToken,
}

impl Zones {
    /// Opens a stream of a zone, ending the one before it.
    pub(super) fn open(&self, caller: &Caller, stream: Stream) -> Result<Guard, Status> {
        let mut state = self.lock();
        state.serial += 1;
        let serial = state.serial;
        let zone = state.zones.entry(caller.zone.clone()).or_default();
        let differs =
            zone.store_id.is_some() && caller.store_id.is_some() && zone.store_id != caller.store_id;
        if differs && !zone.streams.is_empty() {
            return Err(Status::already_exists(format!(
                "zone {:?} is connected already, with another store: two zones cannot have one name. Rename this \
                 one, or stop the other if this one takes its place",
                caller.zone
            )));
        }
        zone.store_id.clone_from(&caller.store_id);
        let replaced = CancellationToken::new();
        let older = zone.streams.insert(stream, Open { serial, replaced: replaced.clone() });
        if let Some(older) = older {
            tracing::info!(zone = caller.zone, ?stream, "a newer stream replaces the older");
            older.replaced.cancel();
        }
        Ok(Guard { zones: self.clone(), zone: caller.zone.clone(), stream, serial, replaced })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut state = self.zones.lock();
        let Some(zone) = state.zones.get_mut(&self.zone) else { return };
        if zone.streams.get(&self.stream).is_some_and(|open| open.serial == self.serial) {
            zone.streams.remove(&self.stream);
        }
        if zone.streams.is_empty() {
            state.zones.remove(&self.zone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(store_id: Option<&str>) -> Caller {
        Caller { zone: "east".into(), has_token: true, proof: None, store_id: store_id.map(Into::into) }
    }

    #[test]
    fn a_newer_stream_replaces_the_older_of_the_same_store_only() {
        let zones = Zones::default();
        let first = zones.open(&caller(Some("a")), Stream::GlobalToZone).unwrap();
        let second = zones.open(&caller(Some("a")), Stream::GlobalToZone).unwrap();
        assert!(first.replaced.is_cancelled() && !second.replaced.is_cancelled());
        drop(first);
        let other = zones.open(&caller(Some("b")), Stream::ZoneToGlobal);
        assert_eq!(other.err().unwrap().code(), tonic::Code::AlreadyExists);
        // A peer that does not tell its store is taken at its word.
        assert!(zones.open(&caller(None), Stream::ZoneToGlobal).is_ok());
        drop(second);
        assert!(zones.open(&caller(Some("b")), Stream::ZoneToGlobal).is_ok());
    }
}
