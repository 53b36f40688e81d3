//! What policies do to a configuration: one module a kind, applied in the order of the kinds. Each edits the draft
//! through its roles, and states what holds where no policy says anything.

mod mesh_access_log;
mod mesh_circuit_breaker;
mod mesh_fault_injection;
mod mesh_health_check;
mod mesh_load_balancing_strategy;
mod mesh_metric;
mod mesh_passthrough;
mod mesh_proxy_patch;
mod mesh_rate_limit;
mod mesh_retry;
mod mesh_timeout;
pub(crate) mod mesh_tls;
mod mesh_trace;
mod mesh_traffic_permission;
mod otel;
mod outbound;
mod peers;
pub(crate) mod percent;

/// Makes the changes that users write in Envoy's own terms, after everything else; says which could not be made.
pub(crate) use mesh_proxy_patch::apply as patch;
pub(crate) use mesh_proxy_patch::check as check_patch;

use crate::draft::Draft;
use crate::generate::Context;

/// Applies all kinds.
pub(crate) fn apply(context: &Context<'_>, draft: &mut Draft) {
    mesh_tls::apply(context, draft);
    mesh_load_balancing_strategy::apply(context, draft);
    mesh_passthrough::apply(context, draft);
    mesh_access_log::apply(context, draft);
    mesh_trace::apply(context, draft);
    mesh_fault_injection::apply(context, draft);
    mesh_rate_limit::apply(context, draft);
    mesh_timeout::apply(context, draft);
    mesh_traffic_permission::apply(context, draft);
    mesh_health_check::apply(context, draft);
    mesh_circuit_breaker::apply(context, draft);
    mesh_retry::apply(context, draft);
    mesh_metric::apply(context, draft);
    otel::add_document(draft);
}
