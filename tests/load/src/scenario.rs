//! The scenarios, one a module.

pub(crate) mod inventory;
pub(crate) mod proxies;
pub(crate) mod zones;
