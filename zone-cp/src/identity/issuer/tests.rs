//! Issuing and renewing with clocks that are passed in.

use std::sync::atomic::{AtomicU64, Ordering};

use auth::pki::CertificateInfo;
use model::labels;

use super::*;
use crate::controllers::tests::fixture::{
    authority, bundled_spec, dataplane, identity, json_spec, key, later, now, own, secret, settle, snapshot,
};

const HOUR: u64 = 3600;

/// A clock that is moved by hand, in seconds after the fixture's now.
fn manual() -> (Clock, Arc<AtomicU64>) {
    let seconds = Arc::new(AtomicU64::new(0));
    let read = Arc::clone(&seconds);
    (Arc::new(move || later(read.load(Ordering::Relaxed))), seconds)
}

fn mesh() -> Snapshot {
    settle(snapshot([identity("identity"), dataplane("web-1", "web", &[(80, "", true)])]), now())
}

fn web(snapshot: &Snapshot) -> Arc<Resource> {
    Arc::clone(snapshot.resource(&key(Kind::DATAPLANE, "web-1")).expect("there"))
}

#[test]
fn a_certificate_names_the_workload_and_is_kept() {
    let (clock, _) = manual();
    let (issuer, snapshot) = (Issuer::new("east", clock), mesh());
    let issued = issuer.identity_of(&snapshot, &web(&snapshot)).unwrap();
    assert_eq!(issued.spiffe_id, "spiffe://default.east.mesh.local/workload/web");
    assert_eq!(issued.kri.to_string(), "kri_mid_default_east__identity_");
    let leaf = CertificateInfo::parse(&issued.certificate_pem).unwrap();
    assert_eq!(leaf.uris, [&*issued.spiffe_id]);
    assert_eq!(leaf.validity.not_after, later(24 * HOUR).inner());
    assert_eq!(issued.expires, later(24 * HOUR));
    assert!(!leaf.is_ca);
    assert!(!format!("{issued:?}").contains("PRIVATE KEY"));
    assert!(Arc::ptr_eq(&issued, &issuer.identity_of(&snapshot, &web(&snapshot)).unwrap()));
}

#[test]
fn a_certificate_is_renewed_in_the_last_third_of_its_life() {
    let (clock, seconds) = manual();
    let (issuer, snapshot) = (Issuer::new("east", clock), mesh());
    let first = issuer.identity_of(&snapshot, &web(&snapshot)).unwrap();
    seconds.store(24 * HOUR * 69 / 100, Ordering::Relaxed);
    assert!(Arc::ptr_eq(&first, &issuer.identity_of(&snapshot, &web(&snapshot)).unwrap()));
    seconds.store(24 * HOUR * 81 / 100, Ordering::Relaxed);
    let second = issuer.identity_of(&snapshot, &web(&snapshot)).unwrap();
    assert!(second.expires > first.expires && second.certificate_pem != first.certificate_pem);
}

#[test]
fn another_authority_name_or_lifetime_gives_another_certificate() {
    let (clock, _) = manual();
    let (issuer, start) = (Issuer::new("east", clock), mesh());
    let first = issuer.identity_of(&start, &web(&start)).unwrap();

    let new = authority(Duration::from_secs(1_000_000));
    let replaced = settle(
        start
            .clone()
            .with(secret("identity-root-ca", new.certificate_pem()))
            .with(secret("identity-private-key", new.key().expose())),
        now(),
    );
    let second = issuer.identity_of(&replaced, &web(&replaced)).unwrap();
    assert!(second.certificate_pem.ends_with(new.certificate_pem()));
    assert_ne!(second.certificate_pem, first.certificate_pem);

    let mut renamed = web(&start).to_builder();
    renamed.labels.insert(labels::WORKLOAD.into(), "shop".into());
    let renamed = start.clone().with(renamed.build());
    let third = issuer.identity_of(&renamed, &web(&renamed)).unwrap();
    assert_eq!(third.spiffe_id, "spiffe://default.east.mesh.local/workload/shop");

    let shorter = json_spec(own(Kind::MESH_IDENTITY, "identity", &[]), &bundled_spec("1h")).build();
    let shorter = settle(start.with(shorter), now());
    assert_eq!(issuer.identity_of(&shorter, &web(&shorter)).unwrap().expires, later(HOUR));
}

#[test]
fn nothing_is_issued_without_a_ready_identity_or_by_an_authority_that_ended() {
    let (clock, seconds) = manual();
    let issuer = Issuer::new("east", clock);
    let unready = snapshot([identity("identity"), dataplane("web-1", "web", &[(80, "", true)])]);
    assert!(issuer.identity_of(&unready, &web(&unready)).is_none());

    let short = authority(Duration::from_secs(HOUR));
    let ready = settle(
        unready
            .with(secret("identity-root-ca", short.certificate_pem()))
            .with(secret("identity-private-key", short.key().expose())),
        now(),
    );
    // No certificate outlives its authority.
    assert_eq!(issuer.identity_of(&ready, &web(&ready)).unwrap().expires, later(HOUR));
    seconds.store(2 * HOUR, Ordering::Relaxed);
    assert!(issuer.identity_of(&ready, &web(&ready)).is_none());
}

#[tokio::test(start_paused = true)]
async fn the_timer_announces_what_is_due_and_nothing_else() {
    let started = tokio::time::Instant::now();
    let clock: Clock = Arc::new(move || now().plus(started.elapsed()));
    let issuer = Arc::new(Issuer::new("east", clock));
    let tasks = Tasks::new();
    issuer.spawn(&tasks);
    let mut changes = issuer.changes();
    // The timer already waits when the first certificate is issued.
    tokio::task::yield_now().await;
    let snapshot = mesh();
    let first = issuer.identity_of(&snapshot, &web(&snapshot)).unwrap();
    changes.changed().await.unwrap();
    let waited = started.elapsed().as_secs();
    assert!((24 * HOUR * 70 / 100..=24 * HOUR * 80 / 100 + 1).contains(&waited), "{waited}");
    let second = issuer.identity_of(&snapshot, &web(&snapshot)).unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(!changes.has_changed().unwrap());
    tasks.shutdown(Duration::from_secs(5)).await;
}
