//! The authority of a MeshIdentity: where its certificate and key are kept, and how they are read.

use auth::pki::{Authority, CertificateInfo, PkiError};
use model::spec::{BundledProvider, DataSource, MeshIdentity, ProviderType, Secret};
use model::{Key, Kind, Resource};
use store::Snapshot;

/// Why a MeshIdentity has no authority.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// The zone has not made it yet.
    #[error("the certificate authority is not there yet")]
    Missing,
    /// The provider is not the zone itself.
    #[error("provider {0:?} does not sign in the zone control plane")]
    Provider(ProviderType),
    /// The spec cannot be read or lacks the provider's section.
    #[error("spec.provider.bundled: {0}")]
    Spec(String),
    /// A given certificate or key cannot be read.
    #[error("{field} cannot be read: {reason}")]
    Source {
        /// Which.
        field: &'static str,
        /// Why.
        reason: String,
    },
    /// Certificate and key are no authority.
    #[error("{0}")]
    Pki(#[from] PkiError),
}

/// Key of the secret with the certificate of the authority that the zone makes.
pub(crate) fn certificate_key(identity: &Resource) -> Key {
    Key::new(Kind::SECRET, identity.mesh(), &format!("{}{CERTIFICATE_SUFFIX}", identity.name()))
}

/// Key of the secret with its private key.
pub(crate) fn private_key_key(identity: &Resource) -> Key {
    Key::new(Kind::SECRET, identity.mesh(), &format!("{}{PRIVATE_KEY_SUFFIX}", identity.name()))
}

const CERTIFICATE_SUFFIX: &str = "-root-ca";
const PRIVATE_KEY_SUFFIX: &str = "-private-key";

/// The name of the MeshIdentity in the name of one of these secrets.
pub(crate) fn identity_in(secret: &str) -> Option<&str> {
    secret.strip_suffix(CERTIFICATE_SUFFIX).or_else(|| secret.strip_suffix(PRIVATE_KEY_SUFFIX))
}

/// Whether the zone itself is to make the authority.
pub(crate) fn is_generated(bundled: &BundledProvider) -> bool {
    bundled.autogenerate.is_some_and(|autogenerate| autogenerate.enabled)
}

/// PEM texts of an authority.
pub(crate) struct Material {
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
}

impl Material {
    /// Of a MeshIdentity whose provider is the zone.
    pub(crate) fn read(snapshot: &Snapshot, identity: &Resource) -> Result<Self, AuthorityError> {
        let spec =
            identity.spec::<MeshIdentity>().map_err(|error| AuthorityError::Spec(error.to_string()))?;
        if spec.provider.r#type != ProviderType::Bundled {
            return Err(AuthorityError::Provider(spec.provider.r#type));
        }
        let missing = || AuthorityError::Spec("must be defined".into());
        let bundled = spec.provider.bundled.as_ref().ok_or_else(missing)?;
        if is_generated(bundled) {
            let certificate = secret(snapshot, &certificate_key(identity)).ok_or(AuthorityError::Missing)?;
            let key = secret(snapshot, &private_key_key(identity)).ok_or(AuthorityError::Missing)?;
            return Ok(Self { certificate_pem: certificate, key_pem: key });
        }
        let ca = bundled.ca.as_ref().ok_or_else(missing)?;
        let read = |field, given: &Option<DataSource>| {
            let given = given.as_ref().ok_or_else(|| "must be defined".to_owned());
            given
                .and_then(|given| source(snapshot, identity.mesh(), given))
                .map_err(|reason| AuthorityError::Source { field, reason })
        };
        Ok(Self {
            certificate_pem: read("ca.certificate", &ca.certificate)?,
            key_pem: read("ca.privateKey", &ca.private_key)?,
        })
    }

    /// The authority, once certificate and key are known to belong together.
    pub(crate) fn authority(&self) -> Result<Authority, AuthorityError> {
        Ok(Authority::from_pem(&self.certificate_pem, &self.key_pem)?)
    }

    /// What the certificate says.
    pub(crate) fn info(&self) -> Result<CertificateInfo, AuthorityError> {
        Ok(CertificateInfo::parse(&self.certificate_pem)?)
    }
}

/// The text in a secret.
fn secret(snapshot: &Snapshot, key: &Key) -> Option<String> {
    let data = snapshot.resource(key)?.spec::<Secret>().ok()?.data.clone()?;
    String::from_utf8(data).ok().filter(|text| !text.is_empty())
}

fn source(snapshot: &Snapshot, mesh: &str, from: &DataSource) -> Result<String, String> {
    match from.r#type.as_str() {
        "Secret" => {
            let name = from.secret_ref.as_ref().map(|secret| secret.name.as_str()).unwrap_or_default();
            secret(snapshot, &Key::new(Kind::SECRET, mesh, name))
                .ok_or_else(|| format!("there is no Secret {name:?}"))
        }
        "InsecureInline" => {
            let inline = from.insecure_inline.as_ref().map(|inline| inline.value.clone());
            inline.ok_or_else(|| "insecureInline must be defined".into())
        }
        "File" => {
            let path = from.file.as_ref().map(|file| file.path.as_str()).unwrap_or_default();
            std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
        }
        other => Err(format!("type {other:?} is not known to the zone control plane")),
    }
}
