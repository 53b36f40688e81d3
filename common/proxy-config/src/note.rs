//! What a proxy's configuration could not be made of.

use model::Kri;

/// A part of a policy that took no effect on a proxy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// The policy.
    pub policy: Kri,
    /// The part of it, for example `spec.default.appendModifications[0].cluster`.
    pub path: String,
    /// Why it took no effect.
    pub reason: String,
    /// Whether it should have: a patch for what a proxy happens not to have is none that failed.
    pub failed: bool,
}
