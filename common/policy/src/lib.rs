//! Which policies apply to a proxy, and what they say together.
//!
//! Between the index and the configuration generator: a [`PolicySet`] is made once per snapshot, mesh and kind,
//! and answers for every proxy. All kinds share it because it works on JSON; typed views are decoded from the
//! merged [`Conf`]. Nothing here does I/O, and the order in which resources arrive never changes a result.

mod conf;
mod items;
mod merge;
mod order;
mod proxy;
mod reference;
mod routes;
mod rules;
mod selected;
mod set;

pub use conf::Conf;
pub use merge::merge;
pub use proxy::{Proxy, Section};
pub use routes::{RoutedRule, routed};
pub use rules::{InboundItem, Rule};
pub use selected::{Destination, RouteRule, Selected};
pub use set::{Policy, PolicySet};
