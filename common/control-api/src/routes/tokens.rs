//! Issuing tokens.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use auth::access::Permission;
use auth::keys::Audience;
use auth::token::{Claims, DataplaneClaims, IssueError, UserClaims, ZoneClaims, issue};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use model::Violations;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::call::{Answer, Call};
use crate::app::{App, Shared};
use crate::defaults::{TEN_YEARS, latest_signing_key, secret_key};
use crate::problem::Problem;
use crate::{body, duration, syntax};

const TITLE: &str = "Could not issue a token";

/// POST for a proxy's token.
pub(super) async fn dataplane(State(app): State<Shared>, call: Call, content: Body) -> Answer {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Asked {
        name: String,
        mesh: String,
        tags: BTreeMap<String, Vec<String>>,
        r#type: String,
        workload: String,
        valid_for: Option<String>,
    }
    let asked: Asked =
        read(&app, &call, Permission::GenerateDataplaneToken, "dataplane token", content).await?;
    let mut violations = Violations::default();
    if asked.mesh.is_empty() {
        violations.add("mesh", "cannot be empty");
    }
    if !matches!(asked.r#type.as_str(), "" | "dataplane") {
        violations.add("type", "must be dataplane");
    }
    let valid_for = valid_for(asked.valid_for.as_deref(), Some(TEN_YEARS), &mut violations);
    let claims = DataplaneClaims {
        name: asked.name,
        mesh: asked.mesh.clone(),
        tags: asked.tags,
        proxy_type: asked.r#type,
        workload: asked.workload,
    };
    answer(&app, &Audience::Dataplane { mesh: asked.mesh }, &claims, valid_for, &violations).await
}

/// POST for a zone's token.
pub(super) async fn zone(State(app): State<Shared>, call: Call, content: Body) -> Answer {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Asked {
        zone: String,
        scope: Vec<String>,
        valid_for: Option<String>,
    }
    let asked: Asked = read(&app, &call, Permission::GenerateZoneToken, "zone token", content).await?;
    let mut violations = Violations::default();
    let valid_for = valid_for(asked.valid_for.as_deref(), Some(TEN_YEARS), &mut violations);
    let claims = ZoneClaims { zone: asked.zone, scope: asked.scope };
    answer(&app, &Audience::Zone, &claims, valid_for, &violations).await
}

/// POST for a user's token.
pub(super) async fn user(State(app): State<Shared>, call: Call, content: Body) -> Answer {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Asked {
        name: String,
        groups: Vec<String>,
        valid_for: Option<String>,
    }
    let asked: Asked = read(&app, &call, Permission::GenerateUserToken, "user token", content).await?;
    let mut violations = Violations::default();
    if asked.name.is_empty() {
        violations.add("name", "cannot be empty");
    }
    let valid_for = valid_for(asked.valid_for.as_deref(), None, &mut violations);
    let claims = UserClaims { name: asked.name, groups: asked.groups };
    answer(&app, &Audience::User, &claims, valid_for, &violations).await
}

async fn read<T: DeserializeOwned>(
    app: &App,
    call: &Call,
    permission: Permission,
    thing: &str,
    content: Body,
) -> Result<T, Problem> {
    let content = body::read(content).await?;
    app.config.access.check(permission, &call.user, &format!("generate {thing}"))?;
    if !app.config.enable_token_issuer {
        let detail = "issuing tokens is switched off on this control plane (api.enableTokenIssuer)";
        return Err(Problem::new(StatusCode::BAD_REQUEST, TITLE, detail));
    }
    if let Some(error) = syntax::error(&content) {
        return Err(Problem::bad_request(error));
    }
    serde_json::from_slice(&content).map_err(|error| Problem::bad_request(error.to_string()))
}

/// The validity that was asked for. Without a default it must be given.
fn valid_for(asked: Option<&str>, default: Option<Duration>, violations: &mut Violations) -> Duration {
    let asked = asked.filter(|text| !text.is_empty());
    let duration = match (asked, default) {
        (None, Some(default)) => return default,
        (None, None) => {
            violations.add("validFor", "cannot be empty");
            return Duration::ZERO;
        }
        (Some(text), _) => duration::parse(text),
    };
    match duration {
        None => violations.add("validFor", "is not a duration such as 30m or 720h"),
        Some(duration) if duration.is_zero() => violations.add("validFor", "cannot be empty or nil"),
        Some(_) => {}
    }
    duration.unwrap_or_default()
}

async fn answer(
    app: &App,
    audience: &Audience,
    claims: &impl Claims,
    valid_for: Duration,
    violations: &Violations,
) -> Answer {
    if !violations.is_empty() {
        return Err(Problem::invalid(TITLE, violations).into());
    }
    let latest = latest_signing_key(&*app.api.store, audience).await;
    let Some((serial, key)) = latest.map_err(|error| Problem::defaults(TITLE, &error))? else {
        let wanted = secret_key(audience, &audience.signing_key(1));
        let detail = format!("there is no signing key: create {wanted} with an RSA private key");
        return Err(Problem::new(StatusCode::NOT_FOUND, "Signing Key not found", detail).into());
    };
    let issued = issue(&key, &serial.to_string(), claims, SystemTime::now().into(), valid_for);
    let issued = issued.map_err(|error| match error {
        IssueError::Validity => Problem::invalid_field(TITLE, "validFor", error.to_string()),
        IssueError::Signing(_) => Problem::internal(TITLE, &error),
    })?;
    tracing::info!(?audience, id = %issued.id, expires = %issued.expires_at, "token issued");
    let mut response = Response::new(Body::from(issued.token));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}
