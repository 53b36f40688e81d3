//! Who may do what, and how they prove who they are: tokens and their signing keys, certificates
//! and their authorities, users and access lists.
//!
//! Everything but [`files`] is free of I/O: time is passed in, and keys and certificates are PEM text
//! that the caller stores. Keys are drawn from the operating system's random source.

pub mod access;
pub mod files;
pub mod keys;
pub mod pki;
mod private;
pub mod token;

pub use private::PrivateKeyPem;
