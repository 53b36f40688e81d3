//! The paths of the API.

mod call;
mod delete;
mod hostnames;
mod insights;
mod inspect;
mod inspection;
mod kri;
mod kubernetes;
mod openapi;
mod overview;
mod read;
mod removals;
mod service_insights;
mod system;
mod tokens;
mod watch;
mod write;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::Response;
use axum::{Extension, extract::DefaultBodyLimit};
use model::{Kind, Scope};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

use crate::app::Shared;
use crate::endpoint::{Content, Endpoint, Parameter};
use crate::{authn, cors, metrics};

pub(crate) use call::{OverTls, plain};
pub(crate) use overview::is_zone_online;

/// A request that takes longer is given up: the peer's time limit of an answer.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// Every route, with authentication.
pub(crate) fn router(app: Shared, tls: OverTls) -> Router {
    let cross_origin = cors::layer(&app.config.cors_allowed_domains);
    let routes = endpoints().into_iter().fold(Router::new(), |router, endpoint| endpoint.route(router));
    let router = routes
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Shared::clone(&app), authn::authenticate))
        .layer(middleware::from_fn_with_state(Shared::clone(&app), metrics::count))
        .layer(Extension(tls))
        // Bodies are limited where they are read, so that the answer has our shape.
        .layer(DefaultBodyLimit::disable())
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, TIMEOUT))
        .layer(CatchPanicLayer::new());
    // A browser asks for leave without its credentials.
    let router = match cross_origin {
        Some(layer) => router.layer(layer),
        None => router,
    };
    router.with_state(app)
}

/// Every path of the API.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    [system(), resources(), overviews(), proxies(), inspection::endpoints()].into_iter().flatten().collect()
}

const PAGING: [Parameter; 2] = [
    Parameter { name: "size", shape: "integer", about: "Items of a page: 1 to 1000, else 100." },
    Parameter { name: "offset", shape: "integer", about: "Items before the page." },
];
const FILTERS: [Parameter; 2] = [
    Parameter { name: "name", shape: "string", about: "Only resources whose name contains this." },
    Parameter {
        name: "filter[labels.KEY]",
        shape: "string",
        about: "Only resources whose label KEY has this value; may be repeated for other labels.",
    },
];
const PROXY_FILTERS: [Parameter; 2] = [
    Parameter {
        name: "tag",
        shape: "string",
        about: "Dataplanes: `key:part` of a tag or label; may be repeated.",
    },
    Parameter { name: "gateway", shape: "string", about: "Dataplanes: `true`, `false` or `delegated`." },
];
const FORMAT: [Parameter; 2] = [
    Parameter { name: "format", shape: "string", about: "`universal`, `k8s` or `kubernetes`." },
    Parameter { name: "namespace", shape: "string", about: "Namespace of the Kubernetes form." },
];
const SHADOW: [Parameter; 2] = [
    Parameter { name: "shadow", shape: "boolean", about: "As it would be with shadow policies in force." },
    Parameter {
        name: "include",
        shape: "string",
        about: "`diff`: the difference to what is in force, as JSON patch.",
    },
];
const ADMIN: [Parameter; 3] = [
    Parameter { name: "include_eds", shape: "boolean", about: "`xds`: endpoints too." },
    Parameter { name: "format", shape: "string", about: "`stats` and `clusters`: `json`, else text." },
    Parameter {
        name: "usedonly",
        shape: "boolean",
        about: "`stats`: only those ever written; true if left out.",
    },
];

fn is_global(kind: Kind) -> bool {
    kind.path.is_some() && kind.scope == Scope::Global
}

fn is_in_mesh(kind: Kind) -> bool {
    kind.path.is_some() && kind.scope == Scope::Mesh
}

fn system() -> Vec<Endpoint> {
    vec![
        Endpoint::at("/").get(system::index, "What this control plane is"),
        Endpoint::at("/config").get(system::config, "The configuration of the control plane, secrets masked"),
        Endpoint::at("/policies").get(system::policies, "The kinds of policies"),
        Endpoint::at("/_resources").get(system::resources, "All kinds of resources"),
        Endpoint::at("/who-am-i").get(system::who_am_i, "Who makes the request"),
        Endpoint::at("/global-insight").get(insights::global, "Counts of everything"),
        Endpoint::at("/global-insights").get(insights::legacy, "Counts of global resources").deprecated(),
        Endpoint::at("/_kri/{kri}").get(kri::get, "The resource with an identifier").query(&FORMAT),
        Endpoint::at("/tokens/dataplane")
            .post(tokens::dataplane, "Issue a token for proxies")
            .answers(Content::Text),
        Endpoint::at("/tokens/zone").post(tokens::zone, "Issue a token for a zone").answers(Content::Text),
        Endpoint::at("/tokens/user")
            .post(tokens::user, "Issue a token for a person or program")
            .answers(Content::Text),
        Endpoint::at("/withheld-removals")
            .get(removals::list, "Mass removals by a peer that wait for a confirmation"),
        Endpoint::at("/withheld-removals/{peer}/confirm")
            .post(removals::confirm, "Carry out the removals of a peer that wait"),
        Endpoint::at("/openapi.json").get(openapi::document, "This description of the API"),
        Endpoint::at("/docs").get(openapi::page, "This description as a page").answers(Content::Html),
    ]
}

fn resources() -> Vec<Endpoint> {
    const READ: &str = "Read a resource";
    const WRITE: &str = "Create or replace a resource";
    const DELETE: &str = "Delete a resource";
    const LIST: &str = "List resources";
    const WATCH: &str = "Follow resources: what is there, then every change";
    const DRY_RUN: &str = "What writing a document would do, without doing it";
    let list = |endpoint: Endpoint| {
        endpoint.answers(Content::Page).query(&PAGING).query(&FILTERS).query(&PROXY_FILTERS)
    };
    let watch = |endpoint: Endpoint| endpoint.answers(Content::Events).query(&FILTERS);
    vec![
        list(Endpoint::at("/{path}").get(read::list_all, LIST)),
        list(Endpoint::at("/meshes/{mesh}/{path}").of(is_in_mesh).get(read::list_in_mesh, LIST)),
        Endpoint::at("/{path}/{name}")
            .of(is_global)
            .get(read::global, READ)
            .query(&FORMAT)
            .answers(Content::Resource)
            .put(write::global, WRITE)
            .delete(delete::global, DELETE),
        Endpoint::at("/meshes/{mesh}/{path}/{name}")
            .of(is_in_mesh)
            .get(read::in_mesh, READ)
            .query(&FORMAT)
            .answers(Content::Resource)
            .put(write::in_mesh, WRITE)
            .delete(delete::in_mesh, DELETE),
        watch(Endpoint::at("/{path}/_watch").get(watch::all, WATCH)),
        watch(Endpoint::at("/meshes/{mesh}/{path}/_watch").of(is_in_mesh).get(watch::in_mesh, WATCH)),
        Endpoint::at("/{path}/{name}/_dry-run")
            .of(is_global)
            .post(write::try_global, DRY_RUN)
            .takes(Content::Resource),
        // A router takes the first of two paths that fit: these would be taken for others.
        Endpoint::at("/meshes/{mesh}/_dry-run").post(write::try_mesh, DRY_RUN).hidden(),
        Endpoint::at("/meshes/{mesh}/{path}/{name}/_dry-run")
            .of(is_in_mesh)
            .post(write::try_in_mesh, DRY_RUN)
            .takes(Content::Resource),
        Endpoint::at("/meshes/{mesh}/dataplanes/{name}/_dry-run")
            .post(write::try_dataplane, DRY_RUN)
            .hidden(),
        list(Endpoint::at("/service-insights").get(service_insights::list_all, LIST)),
        list(Endpoint::at("/meshes/{mesh}/service-insights").get(service_insights::list_in_mesh, LIST)),
        Endpoint::at("/meshes/{mesh}/service-insights/{name}")
            .get(service_insights::get, READ)
            .answers(Content::Resource)
            .put(write::service_insight, WRITE)
            .delete(delete::service_insight, DELETE),
    ]
}

fn overviews() -> Vec<Endpoint> {
    const ONE: &str = "Read a resource and what is observed of it";
    const LIST: &str = "List resources and what is observed of them";
    let list = |endpoint: Endpoint| endpoint.query(&PAGING).query(&FILTERS).query(&PROXY_FILTERS);
    let legacy = |endpoint: Endpoint| list(endpoint).deprecated();
    vec![
        list(Endpoint::at("/{path}/_overview").of(overview::is_observed).get(overview::list_all, LIST)),
        Endpoint::at("/{path}/{name}/_overview")
            .of(|kind| overview::is_observed(kind) && is_global(kind))
            .get(overview::global, ONE),
        list(
            Endpoint::at("/meshes/{mesh}/{path}/_overview")
                .of(|kind| overview::is_observed(kind) && is_in_mesh(kind))
                .get(overview::list_in_mesh, LIST),
        ),
        Endpoint::at("/meshes/{mesh}/{path}/{name}/_overview")
            .of(|kind| overview::is_observed(kind) && is_in_mesh(kind))
            .get(overview::in_mesh, ONE),
        Endpoint::at("/meshes/{mesh}/dataplanes/{name}/_overview").get(overview::dataplane, ONE).hidden(),
        legacy(Endpoint::at("/dataplanes+insights").get(overview::legacy_dataplanes, LIST)),
        legacy(
            Endpoint::at("/meshes/{mesh}/dataplanes+insights").get(overview::legacy_dataplanes_in_mesh, LIST),
        ),
        Endpoint::at("/meshes/{mesh}/dataplanes+insights/{name}").get(overview::dataplane, ONE).deprecated(),
        legacy(Endpoint::at("/zones+insights").get(overview::legacy_zones, LIST)),
        Endpoint::at("/zones+insights/{name}").get(overview::legacy_zone, ONE).deprecated(),
    ]
}

fn proxies() -> Vec<Endpoint> {
    const HOSTNAMES: &str = "The hostnames of a service, by zone";
    vec![
        Endpoint::at("/meshes/{mesh}/{path}/{name}/_hostnames")
            .of(hostnames::has_hostnames)
            .get(hostnames::list, HOSTNAMES),
        Endpoint::at("/meshes/{mesh}/dataplanes/{name}/_hostnames")
            .get(hostnames::of_dataplane, HOSTNAMES)
            .hidden(),
        Endpoint::at("/meshes/{mesh}/dataplanes/{name}/_config")
            .get(inspect::configuration, "The configuration that a proxy gets")
            .query(&SHADOW),
        Endpoint::at("/meshes/{mesh}/dataplanes/{name}/{admin}")
            .get(inspect::admin, "What Envoy says of itself: `xds`, `stats` or `clusters`")
            .query(&ADMIN)
            .answers(Content::TextOrJson),
    ]
}

async fn unknown() -> Response {
    call::plain(StatusCode::NOT_FOUND)
}

async fn wrong_method() -> Response {
    call::plain(StatusCode::METHOD_NOT_ALLOWED)
}
