//! MeshIdentities, their authorities and MeshTrusts.

use std::time::Duration;

use auth::pki::{Authority, CertificateInfo};
use model::spec::{self as specs, MeshIdentity, MeshIdentityStatus, MeshTrust, MeshTrustStatus, Secret};
use model::{Key, Kind, labels};
use serde_json::json;
use store::Snapshot;

use super::fixture::*;

const IDENTITY: Kind = Kind::MESH_IDENTITY;
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn text(snapshot: &Snapshot, name: &str) -> String {
    String::from_utf8(spec::<Secret>(snapshot, Kind::SECRET, name).data.unwrap()).unwrap()
}

fn bundles(snapshot: &Snapshot, name: &str) -> Vec<String> {
    let trust: MeshTrust = spec(snapshot, Kind::MESH_TRUST, name);
    trust.ca_bundles.into_iter().map(|bundle| bundle.pem.unwrap().value).collect()
}

fn conditions(snapshot: &Snapshot, name: &str) -> Vec<(String, bool)> {
    let status: MeshIdentityStatus = status(snapshot, IDENTITY, name);
    status.conditions.into_iter().map(|condition| (condition.r#type, condition.status == "True")).collect()
}

fn is_ready(snapshot: &Snapshot, name: &str) -> bool {
    let status: MeshIdentityStatus = status(snapshot, IDENTITY, name);
    specs::holds(&status.conditions, MeshIdentity::READY)
}

#[test]
fn an_authority_is_made_once_and_published() {
    let settled = settle(snapshot([identity("identity")]), now());
    let certificate = text(&settled, "identity-root-ca");
    Authority::from_pem(&certificate, &text(&settled, "identity-private-key")).unwrap();
    let info = CertificateInfo::parse(&certificate).unwrap();
    assert_eq!(info.uris, ["spiffe://default.east.mesh.local"]);
    let trust: MeshTrust = spec(&settled, Kind::MESH_TRUST, "identity");
    assert_eq!(trust.trust_domain, "default.east.mesh.local");
    assert_eq!(bundles(&settled, "identity"), [certificate]);
    let origin = status::<MeshTrustStatus>(&settled, Kind::MESH_TRUST, "identity").origin.unwrap();
    assert_eq!(origin.kri.as_deref(), Some("kri_mid_default_east__identity_"));
    let want = [("Provider", true), ("MeshTrustCreated", true), ("Ready", true)];
    assert_eq!(conditions(&settled, "identity"), want.map(|(name, holds)| (name.to_owned(), holds)));
}

#[test]
fn an_authority_that_is_there_is_used_and_half_of_one_is_not_replaced() {
    let authority = authority(YEAR);
    let held = snapshot([identity("identity"), secret("identity-root-ca", authority.certificate_pem())]);
    let half = settle(held, now());
    assert!(!is_ready(&half, "identity"));
    assert!(!has(&half, Kind::SECRET, "identity-private-key"));
    let whole = settle(half.with(secret("identity-private-key", authority.key().expose())), now());
    assert!(is_ready(&whole, "identity"));
    assert_eq!(bundles(&whole, "identity"), [authority.certificate_pem()]);
}

#[test]
fn certificate_and_key_that_do_not_belong_together_fail_clearly() {
    let (one, other) = (authority(YEAR), authority(YEAR));
    let settled = settle(
        snapshot([
            identity("identity"),
            secret("identity-root-ca", one.certificate_pem()),
            secret("identity-private-key", other.key().expose()),
        ]),
        now(),
    );
    let status: MeshIdentityStatus = status(&settled, IDENTITY, "identity");
    assert!(status.conditions[0].message.contains("does not belong"), "{status:?}");
    assert!(!status.conditions[0].message.contains("PRIVATE"));
    assert_eq!(settled.count(Kind::MESH_TRUST), 0);
}

#[test]
fn a_replaced_authority_is_trusted_beside_the_former_until_that_ends() {
    let old = authority(Duration::from_secs(1000));
    let start = snapshot([
        identity("identity"),
        secret("identity-root-ca", old.certificate_pem()),
        secret("identity-private-key", old.key().expose()),
    ]);
    let settled = settle(start, now());
    let new = authority(YEAR);
    let replaced = settled
        .with(secret("identity-root-ca", new.certificate_pem()))
        .with(secret("identity-private-key", new.key().expose()));
    let both = settle(replaced, later(10));
    assert_eq!(bundles(&both, "identity"), [new.certificate_pem(), old.certificate_pem()]);
    let one = settle(both, later(1001));
    assert_eq!(bundles(&one, "identity"), [new.certificate_pem()]);
}

#[test]
fn what_was_made_for_an_identity_outlives_it_by_the_grace_period() {
    let settled = settle(snapshot([identity("identity")]), now());
    let certificate = text(&settled, "identity-root-ca");
    let gone = settle(settled.without(&key(IDENTITY, "identity")), later(1));
    for (kind, name) in [
        (Kind::MESH_TRUST, "identity"),
        (Kind::SECRET, "identity-root-ca"),
        (Kind::SECRET, "identity-private-key"),
    ] {
        let held = gone.resource(&key(kind, name)).expect(name);
        assert!(held.label(labels::GRACE_PERIOD_STARTED_AT).is_some(), "{name}");
    }
    let back = settle(gone.clone().with(identity("identity")), later(2));
    assert_eq!(text(&back, "identity-root-ca"), certificate);
    let marked = |kind| back.kind(kind).any(|held| held.label(labels::GRACE_PERIOD_STARTED_AT).is_some());
    assert!(!marked(Kind::SECRET) && !marked(Kind::MESH_TRUST));

    let removed = settle(gone, later(3601));
    assert_eq!((removed.count(Kind::SECRET), removed.count(Kind::MESH_TRUST)), (0, 0));
}

#[test]
fn a_secret_that_others_wrote_is_never_removed() {
    let foreign = own(Kind::SECRET, "other-root-ca", &[]).build();
    let settled = settle(snapshot([foreign]), now());
    assert!(has(&settle(settled, later(100_000)), Kind::SECRET, "other-root-ca"));
}

#[test]
fn a_mesh_trust_of_somebody_else_is_not_overwritten() {
    let spec = json!({"trustDomain": "other", "caBundles": [{"type": "Pem", "pem": {"value": "x"}}]});
    let taken = json_spec(own(Kind::MESH_TRUST, "identity", &[]), &spec).build();
    let settled = settle(snapshot([taken.clone(), identity("identity")]), now());
    assert_eq!(settled.resource(taken.key()).unwrap().raw_spec(), taken.raw_spec());
    assert!(!is_ready(&settled, "identity"));
}

#[test]
fn a_given_authority_may_be_in_secrets_or_inline() {
    let authority = authority(YEAR);
    let source = |name: &str| json!({"type": "Secret", "secretRef": {"kind": "Secret", "name": name}});
    let spec = json!({
        "selector": {"dataplane": {"matchLabels": {}}},
        "provider": {"type": "Bundled", "bundled": {"ca": {
            "certificate": {"type": "InsecureInline", "insecureInline": {"value": authority.certificate_pem()}},
            "privateKey": source("my-key"),
        }}},
    });
    let given = json_spec(own(IDENTITY, "given", &[]), &spec).build();
    let without = settle(snapshot([given]), now());
    let status: MeshIdentityStatus = status(&without, IDENTITY, "given");
    assert_eq!(status.conditions[0].message, "ca.privateKey cannot be read: there is no Secret \"my-key\"");
    let with = settle(without.with(secret("my-key", authority.key().expose())), now());
    assert!(is_ready(&with, "given"));
    assert_eq!(bundles(&with, "given"), [authority.certificate_pem()]);
    assert_eq!(with.count(Kind::SECRET), 1);
}

#[test]
fn identities_of_other_zones_and_other_providers_are_not_served() {
    let mut foreign = identity("foreign").to_builder();
    foreign.labels.insert(labels::ZONE.into(), "west".into());
    let provider = |r#type: &str| json!({"selector": {"dataplane": {}}, "provider": {"type": r#type}});
    let settled = settle(
        snapshot([
            foreign.build(),
            json_spec(own(IDENTITY, "spire", &[]), &provider("Spire")).build(),
            json_spec(own(IDENTITY, "vault", &[]), &provider("Extension")).build(),
        ]),
        now(),
    );
    assert!(conditions(&settled, "foreign").is_empty());
    assert!(is_ready(&settled, "spire") && !is_ready(&settled, "vault"));
    assert_eq!(settled.count(Kind::SECRET), 0);
}

#[test]
fn an_identity_of_the_global_gets_an_authority_of_this_zone() {
    let mut builder = identity("identity-hash").to_builder();
    builder.labels.remove(labels::ZONE);
    builder.labels.insert(labels::ORIGIN.into(), "global".into());
    builder.labels.insert(labels::DISPLAY_NAME.into(), "identity".into());
    let settled = settle(snapshot([builder.build()]), now());
    let trust = settled.resource(&Key::new(Kind::MESH_TRUST, MESH, "identity-hash")).unwrap();
    assert_eq!(trust.zone(), Some("east"));
    assert_eq!(trust.spec::<MeshTrust>().unwrap().trust_domain, "default.east.mesh.local");
    let origin = trust.status::<MeshTrustStatus>().unwrap().origin.clone().unwrap();
    assert_eq!(origin.kri.as_deref(), Some("kri_mid_default___identity_"));
    assert!(has(&settled, Kind::SECRET, "identity-hash-private-key"));
}
