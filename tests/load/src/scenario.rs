//! The scenarios, one a module.

pub(crate) mod inventory;
pub(crate) mod zones;
