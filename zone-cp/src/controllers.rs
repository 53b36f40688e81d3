//! Reactions to changes of the zone's store.
