//! Resource identifiers: `kri_<short>_<mesh>_<zone>_<namespace>_<name>_<section>`, always seven fields,
//! empty ones stay empty.

use std::fmt;

use crate::{Kind, Resource};

/// A resource identifier, with the section (a port, a listener, a rule) it points at, if any.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kri {
    /// The kind; it has a short name.
    pub kind: Kind,
    /// Mesh; empty for global scope.
    pub mesh: String,
    /// Zone it was authored in; empty for the global.
    pub zone: String,
    /// Kubernetes namespace it was authored in.
    pub namespace: String,
    /// Display name.
    pub name: String,
    /// Part of the resource; empty for the whole.
    pub section: String,
}

/// Text that is no resource identifier.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum KriError {
    /// Fewer than seven fields.
    #[error("invalid identifier string: {0:?}")]
    Fields(String),
    /// Another first field.
    #[error("identifier must start with 'kri': {0:?}")]
    Prefix(String),
    /// No kind has the short name.
    #[error("unknown short name of resource type: {0:?}")]
    Short(String),
}

impl Kri {
    /// The identifier of a resource, if its kind has one.
    pub fn of(resource: &Resource) -> Option<Self> {
        resource.kind().short?;
        Some(Self {
            kind: resource.kind(),
            mesh: resource.mesh().into(),
            zone: resource.zone().unwrap_or_default().into(),
            namespace: resource.namespace().unwrap_or_default().into(),
            name: resource.display_name().into(),
            section: String::new(),
        })
    }

    /// The same resource, another section.
    pub fn with_section(&self, section: impl Into<String>) -> Self {
        Self { section: section.into(), ..self.clone() }
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// When it is not an identifier of a kind we know.
    pub fn parse(text: &str) -> Result<Self, KriError> {
        let fields: Vec<&str> = text.split('_').collect();
        let [prefix, short, mesh, zone, namespace, name, section @ ..] = fields.as_slice() else {
            return Err(KriError::Fields(text.into()));
        };
        if section.is_empty() {
            return Err(KriError::Fields(text.into()));
        }
        if *prefix != "kri" {
            return Err(KriError::Prefix(text.into()));
        }
        let kind = Kind::by_short(short).ok_or_else(|| KriError::Short((*short).into()))?;
        let [mesh, zone, namespace, name] = [mesh, zone, namespace, name].map(|field| (*field).to_owned());
        Ok(Self { kind, mesh, zone, namespace, name, section: section.concat() })
    }
}

impl fmt::Display for Kri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, mesh, zone, namespace, name, section } = self;
        write!(f, "kri_{}_{mesh}_{zone}_{namespace}_{name}_{section}", kind.short.unwrap_or_default())
    }
}

impl serde::Serialize for Kri {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        for text in
            ["kri_msvc_default_default__redis_", "kri_m____default_", "kri_dp_default_z_ns_dp-1_main-port"]
        {
            assert_eq!(Kri::parse(text).map(|kri| kri.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn errors_name_what_is_wrong() {
        assert_eq!(Kri::parse("kri_x"), Err(KriError::Fields("kri_x".into())));
        assert_eq!(
            Kri::parse("id_dp_a_b_c_d_e").map_err(|error| error.to_string()),
            Err("identifier must start with 'kri': \"id_dp_a_b_c_d_e\"".into())
        );
        assert_eq!(Kri::parse("kri_nope_a_b_c_d_e"), Err(KriError::Short("nope".into())));
    }
}
