//! The GM API on the admin port: `POST /gm/login`, `GET /gm/commands`, `POST /gm/run`. Answers are JSON; an error is
//! `{"error": {"code", "text"}}` with its HTTP status.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{ConnectInfo, DefaultBodyLimit, State},
    http::{Extensions, HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Gm, GmError,
    auth::{IDLE_MAX, Who},
    registry::COMMANDS,
    run::{self, Order},
};

/// Bytes of a request's body at most.
const BODY_MAX: usize = 16 * 1024;

/// The routes of the GM API.
pub(crate) fn router(gm: Arc<Gm>) -> Router {
    Router::new()
        .route("/gm/login", post(login))
        .route("/gm/commands", get(async || Json(COMMANDS)))
        .route("/gm/run", post(run_command))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(gm)
}

impl IntoResponse for GmError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(json!({ "error": { "code": self.code, "text": self.text } }))).into_response()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    name: String,
    password: String,
}

async fn login(State(gm): State<Arc<Gm>>, extensions: Extensions, body: Bytes) -> Result<Json<Value>, GmError> {
    let credentials: Credentials = read(&body)?;
    let address = address(&extensions);
    if 64 < credentials.name.len() || 256 < credentials.password.len() {
        return Err(GmError::unauthorized("wrong name or password"));
    }
    let (token, role) = gm.auth.login(&gm.center, &credentials.name, &credentials.password, &address).await?;
    tracing::info!(by = credentials.name, address, "gm logged in");
    Ok(Json(json!({ "token": token, "role": role, "expires_s": IDLE_MAX.as_secs() })))
}

async fn run_command(State(gm): State<Arc<Gm>>, headers: HeaderMap, extensions: Extensions, body: Bytes) -> Result<Json<Value>, GmError> {
    let who = who(&gm, &headers, &extensions)?;
    let order: Order = read(&body)?;
    // A client that hangs up must not leave a command between its audit record and its end.
    let center = gm.center.clone();
    let (send, receive) = tokio::sync::oneshot::channel();
    let started = center.clone().spawn_request("gm command", async move {
        // Nobody may be there any more to hear it.
        _ = send.send(run::run(&center, &who, &order).await);
    });
    if !started {
        return Err(GmError::unavailable("center is busy"));
    }
    receive.await.map_err(|_| GmError::unavailable("center is stopping"))?.map(Json)
}

fn who(gm: &Gm, headers: &HeaderMap, extensions: &Extensions) -> Result<Who, GmError> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer "));
    let token = token.ok_or_else(|| GmError::unauthorized("log in first, and send `Authorization: Bearer TOKEN`"))?;
    gm.auth.who(token.trim(), &address(extensions), Instant::now())
}

fn address(extensions: &Extensions) -> String {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>();
    peer.map_or_else(|| "unknown".into(), |ConnectInfo(peer)| peer.ip().to_canonical().to_string())
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, GmError> {
    serde_json::from_slice(body).map_err(|err| GmError::bad_request(format!("the body is not what is expected: {err}")))
}
