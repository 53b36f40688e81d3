//! Addresses of host names that stand where Envoy needs an address. DNS tells nobody of a change, so that names are
//! looked up again for as long as somebody uses them; a name that cannot be looked up keeps the address it had.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

/// How old an address may be.
const REFRESH: Duration = Duration::from_secs(10);
/// One look-up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Names and their addresses.
pub(super) type Addresses = BTreeMap<String, IpAddr>;

/// Looks names up.
#[derive(Default)]
pub(super) struct Names {
    /// Looked up in the last round, with or without success.
    tried: BTreeSet<String>,
    due: Option<Instant>,
    running: Option<Pin<Box<dyn Future<Output = Addresses> + Send>>>,
}

impl Names {
    /// The next addresses: at once for names that are new, else when they are due; never without names. May be
    /// dropped and called again.
    pub(super) async fn next(&mut self, wanted: BTreeSet<String>) -> Addresses {
        if self.running.is_none() {
            match self.due {
                _ if wanted.is_empty() => std::future::pending().await,
                Some(due) if wanted.is_subset(&self.tried) => tokio::time::sleep_until(due).await,
                _ => {}
            }
            self.tried.clone_from(&wanted);
            self.running = Some(Box::pin(look_up(wanted)));
        }
        let found = match &mut self.running {
            Some(running) => running.await,
            None => Addresses::new(),
        };
        self.running = None;
        self.due = Some(Instant::now() + REFRESH);
        found
    }
}

async fn look_up(names: BTreeSet<String>) -> Addresses {
    let addresses = join_all(names.into_iter().map(address)).await;
    addresses.into_iter().flatten().collect()
}

/// Of several addresses always the same one, so that equal answers in another order change nothing.
async fn address(name: String) -> Option<(String, IpAddr)> {
    let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((name.clone(), 0))).await;
    let reason = match found {
        Ok(Ok(found)) => match found.map(|address| address.ip()).min_by_key(ToString::to_string) {
            Some(address) => return Some((name, address)),
            None => "it has no address".to_owned(),
        },
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    tracing::warn!(name, reason, "cannot look up the address of a host");
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn new_names_are_looked_up_at_once_and_old_ones_when_due() {
        let mut lookups = Names::default();
        let started = Instant::now();
        let found = lookups.next(names(&["127.0.0.9", "no.such.name.invalid"])).await;
        assert_eq!(found, Addresses::from([("127.0.0.9".to_owned(), "127.0.0.9".parse().unwrap())]));
        lookups.next(names(&["127.0.0.8", "127.0.0.9"])).await;
        assert!(started.elapsed() < REFRESH);
        let again = lookups.next(names(&["127.0.0.9"])).await;
        assert_eq!(again.len(), 1);
        assert!(started.elapsed() >= REFRESH);
    }
}
