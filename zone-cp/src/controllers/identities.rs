//! Authorities of MeshIdentities, the MeshTrusts that publish them, and what became of both.

use std::time::Duration;

use auth::pki::{Authority, CertificateInfo, Validity};
use model::resource::Builder;
use model::spec::{
    BundledProvider, CaBundle, Condition, MeshIdentity, MeshIdentityStatus, MeshTrust, MeshTrustStatus,
    ProviderType, Secret, Switch, TrustOrigin,
};
use model::{Key, Kind, Resource, Timestamp, labels};
use proxy_config::spiffe;
use time::OffsetDateTime;

use super::generated::retire;
use super::plan::Plan;
use crate::identity::authority::{self, AuthorityError, Material};

/// Who manages authorities and their MeshTrusts.
pub(crate) const IDENTITY_GENERATOR: &str = "meshidentity-generator";

/// Lifetime of an authority that the zone makes: ten years, as the peer's.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Wants authorities and MeshTrusts for the mesh's identities, and says of each whether it can be used. What belongs
/// to an identity that is gone is kept for `grace`: certificates that it signed are still in use.
pub(crate) fn identities(plan: &mut Plan<'_>, grace: Duration) {
    for identity in plan.list(Kind::MESH_IDENTITY) {
        if identity.zone().is_some_and(|zone| zone != plan.zone()) {
            continue;
        }
        let conditions = conditions_of(plan, &identity);
        plan.put_status(&identity, &MeshIdentityStatus { conditions });
    }
    retire_leftovers(plan, grace);
}

fn conditions_of(plan: &mut Plan<'_>, identity: &Resource) -> Vec<Condition> {
    let spec = match identity.spec::<MeshIdentity>() {
        Ok(spec) => spec,
        Err(error) => return failure(MeshIdentity::PROVIDER, error.to_string()),
    };
    if spec.provider.r#type == ProviderType::Spire {
        let provider = Condition::new(MeshIdentity::PROVIDER, true, "SpireAvailable", "");
        return vec![provider, ready(true)];
    }
    let authority = ensure_authority(plan, identity, spec);
    let (material, info) = match authority {
        Ok(found) => found,
        Err(error) => return failure(MeshIdentity::PROVIDER, error.to_string()),
    };
    let provider = Condition::new(MeshIdentity::PROVIDER, true, "BundledAvailable", "");
    if spec.provider.bundled.as_ref().is_some_and(|bundled| !creates_trust(bundled)) {
        return vec![provider, ready(true)];
    }
    match ensure_trust(plan, identity, &material, &info) {
        Ok(()) => {
            vec![
                provider,
                Condition::new(MeshIdentity::TRUST_CREATED, true, "MeshTrustCreated", ""),
                ready(true),
            ]
        }
        Err(reason) => {
            let mut conditions = failure(MeshIdentity::TRUST_CREATED, reason);
            conditions.insert(0, provider);
            conditions
        }
    }
}

fn ready(holds: bool) -> Condition {
    let (reason, message) = if holds { ("Ready", "") } else { ("Failure", "not initialized") };
    Condition::new(MeshIdentity::READY, holds, reason, message)
}

fn failure(of: &str, message: String) -> Vec<Condition> {
    vec![Condition::new(of, false, "Failure", message), ready(false)]
}

fn creates_trust(bundled: &BundledProvider) -> bool {
    bundled.mesh_trust_creation.unwrap_or_default() == Switch::Enabled
}

/// The authority of an identity; made here if it is the zone's to make and neither half of it is there.
fn ensure_authority(
    plan: &mut Plan<'_>,
    identity: &Resource,
    spec: &MeshIdentity,
) -> Result<(Material, CertificateInfo), AuthorityError> {
    let keys = [authority::certificate_key(identity), authority::private_key_key(identity)];
    let absent = keys.iter().all(|key| plan.snapshot().get(key).is_none());
    if absent && spec.provider.bundled.as_ref().is_some_and(authority::is_generated) {
        let domain = spiffe::trust_domain(identity, plan.zone());
        let domain = domain.ok_or_else(|| AuthorityError::Spec("the trust domain has no value".into()))?;
        let validity = Validity::starting(plan.now.inner(), AUTHORITY_LIFETIME)?;
        let made = Authority::generate(&domain, Some(&domain), validity)?;
        for (key, pem) in keys.into_iter().zip([made.certificate_pem(), made.key().expose()]) {
            let spec = Secret { data: Some(pem.as_bytes().to_vec()) };
            let labels = plan.labels(Kind::SECRET, &key.name, IDENTITY_GENERATOR);
            plan.put(Builder::new(key).labels(labels).spec(&spec));
        }
        tracing::info!(identity = %identity.key(), "made a certificate authority");
    }
    let material = Material::read(plan.snapshot(), identity)?;
    material.authority()?;
    let info = material.info()?;
    Ok((material, info))
}

/// Publishes the authority. After it was replaced the former ones stay beside it, because certificates that they
/// signed are still in use; whoever wants them gone sooner removes them from the MeshTrust.
fn ensure_trust(
    plan: &mut Plan<'_>,
    identity: &Resource,
    material: &Material,
    info: &CertificateInfo,
) -> Result<(), String> {
    let trust_domain = spiffe::trust_domain(identity, plan.zone()).ok_or("the trust domain has no value")?;
    if info.validity.not_after <= plan.now.inner() {
        return Err("the certificate of the authority has expired".into());
    }
    plan.wake_at(identity.key(), instant(info.validity.not_after));
    let origin = identity.kri().map(|kri| kri.to_string());
    let key = Key::new(Kind::MESH_TRUST, plan.mesh, identity.name());
    let held = plan.snapshot().resource(&key).cloned();
    let mut ca_bundles = vec![CaBundle::pem(&*material.certificate_pem)];
    let builder = match held {
        None => {
            let labels = plan.labels(Kind::MESH_TRUST, identity.name(), IDENTITY_GENERATOR);
            Builder::new(key).labels(labels)
        }
        Some(held) if !is_of(plan, &held, origin.as_deref()) => {
            return Err(format!("{key} was not made for this identity"));
        }
        Some(held) => {
            if let Ok(spec) = held.spec::<MeshTrust>()
                && spec.trust_domain == trust_domain
            {
                for bundle in &spec.ca_bundles {
                    if let Some(end) = end_of_former(plan, bundle, material) {
                        plan.wake_at(identity.key(), end);
                        ca_bundles.push(bundle.clone());
                    }
                }
            }
            let mut builder = held.to_builder();
            builder.labels.remove(labels::GRACE_PERIOD_STARTED_AT);
            builder
        }
    };
    let status = MeshTrustStatus { origin: Some(TrustOrigin { kri: origin }) };
    plan.put(builder.spec(&MeshTrust { trust_domain, ca_bundles }).status(&status));
    Ok(())
}

fn is_of(plan: &Plan<'_>, trust: &Resource, identity: Option<&str>) -> bool {
    let status = trust.status::<MeshTrustStatus>().ok();
    let origin = status.and_then(|status| status.origin.as_ref()?.kri.as_deref());
    plan.is_own(trust) && origin.is_some() && origin == identity
}

/// Until when a bundle of another authority is valid; `None` for one that is not, or is the current one's.
fn end_of_former(plan: &Plan<'_>, bundle: &CaBundle, current: &Material) -> Option<Timestamp> {
    let pem = &bundle.pem.as_ref()?.value;
    let end = CertificateInfo::parse(pem).ok()?.validity.not_after;
    (end > plan.now.inner() && pem.trim() != current.certificate_pem.trim()).then(|| instant(end))
}

fn instant(time: OffsetDateTime) -> Timestamp {
    Timestamp::from_unix(time.unix_timestamp(), 0)
}

/// Secrets and MeshTrusts that were made for an identity that is gone or no longer wants them.
fn retire_leftovers(plan: &mut Plan<'_>, grace: Duration) {
    for kind in [Kind::MESH_TRUST, Kind::SECRET] {
        for held in plan.list(kind) {
            if held.label(labels::MANAGED_BY) != Some(IDENTITY_GENERATOR) || !plan.is_own(&held) {
                continue;
            }
            if is_wanted(plan, &held) {
                if held.label(labels::GRACE_PERIOD_STARTED_AT).is_some() {
                    let mut builder = held.to_builder();
                    builder.labels.remove(labels::GRACE_PERIOD_STARTED_AT);
                    plan.put(builder);
                }
            } else {
                retire(plan, &held, grace);
            }
        }
    }
}

fn is_wanted(plan: &Plan<'_>, held: &Resource) -> bool {
    let is_secret = held.kind() == Kind::SECRET;
    let name = if is_secret { authority::identity_in(held.name()) } else { Some(held.name()) };
    let Some(identity) = name.and_then(|name| plan.find(Kind::MESH_IDENTITY, name)) else { return false };
    // An identity that cannot be read may want it.
    let Ok(spec) = identity.spec::<MeshIdentity>() else { return true };
    let bundled = spec.provider.bundled.as_ref().filter(|_| spec.provider.r#type == ProviderType::Bundled);
    bundled.is_some_and(
        |bundled| if is_secret { authority::is_generated(bundled) } else { creates_trust(bundled) },
    )
}
