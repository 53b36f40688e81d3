//! The resource model: every kind, its metadata, names and typed specs.
//!
//! First stop of the data flow: the store keeps [`Resource`]s, the index serves them, KDS and REST carry
//! them. Nothing here does I/O, reads a clock or knows a transport.

pub mod duration;
pub mod hostnames;
pub mod kind;
pub mod kri;
pub mod labels;
pub mod names;
pub mod payload;
pub mod resource;
pub mod rest;
pub mod schema;
pub mod sni;
pub mod spec;
pub mod time;
pub mod validation;
pub mod yaml;

pub use kind::{Kind, KindInfo, Scope};
pub use kri::Kri;
pub use labels::Origin;
pub use payload::{DecodeError, Payload, SpecFormat};
pub use resource::{Key, Labels, Resource};
pub use time::Timestamp;
pub use validation::{Violation, Violations};
