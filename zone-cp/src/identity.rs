//! Workload identities: certificates for the proxies of the zone.
//!
//! Between the index and the configuration stream: a stream asks [`Issuer::identity_of`] whenever it makes a
//! configuration, and once more when [`Issuer::changes`] says that certificates are due for renewal.

pub(crate) mod authority;
mod issuer;
mod lifetime;

pub use issuer::{Clock, Issuer};
