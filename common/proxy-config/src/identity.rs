//! The identity that a proxy proves: made by the zone's issuer, carried to the proxy as a secret.

use std::fmt;

use model::{Kri, Timestamp};

/// A workload certificate and its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The MeshIdentity it comes from; its text names the secret.
    pub kri: Kri,
    /// The name that the certificate proves.
    pub spiffe_id: String,
    /// The certificate, then those that lead to the trust bundle.
    pub certificate_pem: String,
    /// The key.
    pub private_key_pem: String,
    /// When the certificate ends.
    pub expires: Timestamp,
}

impl Identity {
    /// The identity of a proxy as an inspection sees it: resources refer to the secret, and there is none.
    pub fn without_key(kri: Kri, spiffe_id: String) -> Self {
        Self {
            kri,
            spiffe_id,
            certificate_pem: String::new(),
            private_key_pem: String::new(),
            expires: Timestamp::EPOCH,
        }
    }

    /// Name of the secret.
    pub(crate) fn secret_name(&self) -> String {
        self.kri.to_string()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("kri", &self.kri)
            .field("spiffe_id", &self.spiffe_id)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_has_no_key() {
        let kri = Kri::parse("kri_mid_default_east__id_").expect("valid");
        let mut identity = Identity::without_key(kri, "spiffe://d/a".into());
        identity.private_key_pem = "hidden".into();
        assert!(!format!("{identity:?}").contains("hidden"));
    }
}
