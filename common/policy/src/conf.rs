//! A merged configuration and the policies it came from.

use model::Kri;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::merge::merge;

/// What several policies say together.
#[derive(Clone, Debug, PartialEq)]
pub struct Conf {
    /// The merged configuration.
    pub value: Value,
    /// The policies it came from, each once, in the order in which they were first merged.
    pub policies: Vec<Kri>,
}

impl Conf {
    /// Merges the given parts in order; `None` when there is none.
    pub(crate) fn of<'a>(parts: impl IntoIterator<Item = (&'a Kri, &'a Value)>) -> Option<Self> {
        let mut parts = parts.into_iter();
        let (kri, first) = parts.next()?;
        let mut conf = Self { value: Value::Null, policies: Vec::new() };
        conf.add(kri, first);
        for (kri, value) in parts {
            conf.add(kri, value);
        }
        Some(conf)
    }

    fn add(&mut self, kri: &Kri, value: &Value) {
        merge(&mut self.value, value);
        if !self.policies.contains(kri) {
            self.policies.push(kri.clone());
        }
    }

    /// The typed form.
    ///
    /// # Errors
    /// When a field does not fit.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.value)
    }
}
