//! Who makes a request: the local administrator, or the bearer of a user token.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use auth::access::{self, User};
use auth::keys::{Audience, revoked_ids};
use auth::token::{SigningKey, TokenError, UserClaims, verify};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use model::{Key, Kind};
use store::{Revision, Snapshot};

use crate::app::{App, Shared};
use crate::defaults::{secret_key, text_of};
use crate::problem::Problem;

/// Public halves of user signing keys by serial, each with the revision it was read from: to read a
/// private key costs as much as to verify many tokens.
#[derive(Default)]
pub(crate) struct UserKeys(Mutex<BTreeMap<u64, (Revision, String)>>);

/// Serials that are remembered: a few keys while they are rotated.
const REMEMBERED: usize = 16;

impl UserKeys {
    fn public(&self, snapshot: &Snapshot, key_id: &str) -> Option<String> {
        let serial: u64 = key_id.parse().ok()?;
        let name = Audience::User.signing_key(serial);
        let stored = snapshot.get(&secret_key(&Audience::User, &name))?;
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((revision, public)) = held.get(&serial)
            && *revision == stored.revision
        {
            return Some(public.clone());
        }
        let public = SigningKey::from_pem(&text_of(&stored.resource)?).ok()?.public_pem().to_owned();
        if held.len() >= REMEMBERED {
            held.clear();
        }
        held.insert(serial, (stored.revision, public.clone()));
        Some(public)
    }
}

/// Paths that tell nothing of the mesh: a browser that opens one has no token to send.
const OPEN: [&str; 3] = ["/", "/docs", "/openapi.json"];

/// Finds out who makes a request and passes it on with the [`User`], or answers 401.
pub(crate) async fn authenticate(State(app): State<Shared>, mut request: Request, next: Next) -> Response {
    match user_of(&app, &request) {
        Ok((user, proof)) => {
            request.extensions_mut().insert(user);
            request.extensions_mut().insert(proof);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// The token that a user was proven by, if by one.
#[derive(Clone, Default)]
pub(crate) struct Proof(Option<String>);

impl Proof {
    /// Whether the token was taken back since it was good. One that has merely expired was not.
    pub(crate) fn is_taken_back(&self, app: &App) -> bool {
        let Some(token) = &self.0 else { return false };
        !matches!(bearer_of(app, token), Ok(_) | Err(TokenError::Expired(_)))
    }
}

fn user_of(app: &App, request: &Request) -> Result<(User, Proof), Problem> {
    if app.config.localhost_is_admin && is_local_admin(request) {
        let admin = User::admin();
        return Ok((User::authenticated(admin.name, admin.groups), Proof::default()));
    }
    let header = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    if let Some(token) = header.and_then(bearer) {
        let user = bearer_of(app, token).map_err(|error| Problem::unauthenticated(error.to_string()))?;
        return Ok((user, Proof(Some(token.to_owned()))));
    }
    if app.config.allow_anonymous || OPEN.contains(&request.uri().path()) {
        return Ok((User::anonymous(), Proof::default()));
    }
    Err(Problem::unauthenticated("a user token is required: send it as \"Authorization: Bearer TOKEN\""))
}

fn is_local_admin(request: &Request) -> bool {
    let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() else {
        return false;
    };
    let authority = request.uri().authority().map(axum::http::uri::Authority::as_str);
    access::is_local_admin(access::Request { peer: *peer, authority, headers: request.headers() })
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn bearer_of(app: &App, token: &str) -> Result<User, TokenError> {
    let snapshot = app.snapshot();
    let revoked = |id: &str| {
        let key = Key::global(Kind::GLOBAL_SECRET, &Audience::User.revocations());
        let list = snapshot.resource(&key).and_then(|resource| text_of(resource));
        list.is_some_and(|list| revoked_ids(&list).contains(id))
    };
    let public = |key_id: &str| app.user_keys.public(&snapshot, key_id);
    let verified = verify::<UserClaims>(token, public, revoked, SystemTime::now().into())?;
    Ok(User::authenticated(verified.claims.name, verified.claims.groups))
}
