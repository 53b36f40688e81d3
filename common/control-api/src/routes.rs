//! The paths of the API.

mod call;
mod delete;
mod hostnames;
mod insights;
mod inspect;
mod inspection;
mod kri;
mod kubernetes;
mod overview;
mod read;
mod service_insights;
mod system;
mod tokens;
mod watch;
mod write;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, extract::DefaultBodyLimit};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

use crate::app::Shared;
use crate::authn;
use crate::metrics;

pub(crate) use call::OverTls;

/// A request that takes longer is given up: the peer's time limit of an answer.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// Every route, with authentication.
pub(crate) fn router(app: Shared, tls: OverTls) -> Router {
    Router::new()
        .merge(system())
        .merge(resources())
        .merge(proxies())
        .merge(inspection::router())
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Shared::clone(&app), authn::authenticate))
        .layer(middleware::from_fn_with_state(Shared::clone(&app), metrics::count))
        .layer(Extension(tls))
        // Bodies are limited where they are read, so that the answer has our shape.
        .layer(DefaultBodyLimit::disable())
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, TIMEOUT))
        .layer(CatchPanicLayer::new())
        .with_state(app)
}

fn system() -> Router<Shared> {
    Router::new()
        .route("/", get(system::index))
        .route("/config", get(system::config))
        .route("/policies", get(system::policies))
        .route("/_resources", get(system::resources))
        .route("/who-am-i", get(system::who_am_i))
        .route("/global-insight", get(insights::global))
        .route("/global-insights", get(insights::legacy))
        .route("/_kri/{kri}", get(kri::get))
        .route("/tokens/dataplane", post(tokens::dataplane))
        .route("/tokens/zone", post(tokens::zone))
        .route("/tokens/user", post(tokens::user))
}

fn resources() -> Router<Shared> {
    let global = get(read::global).put(write::global).delete(delete::global);
    let mesh = get(read::in_mesh).put(write::in_mesh).delete(delete::in_mesh);
    Router::new()
        .route("/{path}", get(read::list_all))
        .route("/{path}/{name}", global)
        .route("/meshes/{mesh}/{path}", get(read::list_in_mesh))
        .route("/meshes/{mesh}/{path}/{name}", mesh)
        .route("/{path}/{name}/_dry-run", post(write::try_global))
        .route("/meshes/{mesh}/_dry-run", post(write::try_mesh))
        .route("/meshes/{mesh}/{path}/{name}/_dry-run", post(write::try_in_mesh))
        .route("/meshes/{mesh}/dataplanes/{name}/_dry-run", post(write::try_dataplane))
        .route("/{path}/_watch", get(watch::all))
        .route("/meshes/{mesh}/{path}/_watch", get(watch::in_mesh))
        .route("/service-insights", get(service_insights::list_all))
        .route("/meshes/{mesh}/service-insights", get(service_insights::list_in_mesh))
        .route(
            "/meshes/{mesh}/service-insights/{name}",
            get(service_insights::get).put(write::service_insight).delete(delete::service_insight),
        )
        .route("/{path}/_overview", get(overview::list_all))
        .route("/{path}/{name}/_overview", get(overview::global))
        .route("/meshes/{mesh}/{path}/_overview", get(overview::list_in_mesh))
        .route("/meshes/{mesh}/{path}/{name}/_overview", get(overview::in_mesh))
        .route("/dataplanes+insights", get(overview::legacy_dataplanes))
        .route("/meshes/{mesh}/dataplanes+insights", get(overview::legacy_dataplanes_in_mesh))
        .route("/meshes/{mesh}/dataplanes+insights/{name}", get(overview::dataplane))
        .route("/zones+insights", get(overview::legacy_zones))
        .route("/zones+insights/{name}", get(overview::legacy_zone))
}

fn proxies() -> Router<Shared> {
    Router::new()
        .route("/meshes/{mesh}/{path}/{name}/_hostnames", get(hostnames::list))
        .route("/meshes/{mesh}/dataplanes/{name}/_overview", get(overview::dataplane))
        .route("/meshes/{mesh}/dataplanes/{name}/_hostnames", get(hostnames::of_dataplane))
        .route("/meshes/{mesh}/dataplanes/{name}/_config", get(inspect::configuration))
        .route("/meshes/{mesh}/dataplanes/{name}/{admin}", get(inspect::admin))
}

async fn unknown() -> Response {
    call::plain(StatusCode::NOT_FOUND)
}

async fn wrong_method() -> Response {
    call::plain(StatusCode::METHOD_NOT_ALLOWED)
}
