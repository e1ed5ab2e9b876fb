//! Reading, over HTTP on the admin port: `/events` finds stored events, `/events/follow` streams new ones. Both answer JSON lines.
//!
//! A line without `kind` is about the answer: `{"missed":n}` in a stream that was read too slowly (n events of any kind), `{"cut":true}`
//! at the end of an answer that had no room for more.

use std::{
    convert::Infallible,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Query as QueryString, State, rejection::QueryRejection},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    catalog::Catalog,
    query::{self, Filter, Query, QueryError, RawQuery},
    scan::{self, Found},
    segment::ReadError,
    tail::{Follower, News, Tail},
};

/// Scans at once, each on a blocking thread of its own: ingest has another one, and a core on most machines.
const SCANS_MAX: usize = 2;
/// Requests that scan or wait for that. Full? The reader is told to come back.
const SCANS_WAITING_MAX: usize = 32;
/// Readers of new events at once. Full? As above.
const FOLLOWERS_MAX: usize = 64;

/// What readers read. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    folder: Arc<PathBuf>,
    catalog: Catalog,
    tail: Tail,
    scans: Arc<Semaphore>,
    scans_waiting: Arc<Semaphore>,
    followers: Arc<Semaphore>,
    stop: CancellationToken,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("{0}")]
    Query(#[from] QueryError),
    #[error("{}", .0.body_text())]
    QueryString(#[from] QueryRejection),
    #[error("too many readers; try again")]
    TooMany,
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("read segments: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

impl Shelf {
    /// Streams end when `stop` is cancelled.
    pub(crate) fn new(folder: PathBuf, catalog: Catalog, tail: Tail, stop: CancellationToken) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        let (scans, scans_waiting, followers) = (semaphore(SCANS_MAX), semaphore(SCANS_WAITING_MAX), semaphore(FOLLOWERS_MAX));
        Self { folder: Arc::new(folder), catalog, tail, scans, scans_waiting, followers, stop }
    }
}

/// The routes.
pub(crate) fn router(shelf: Shelf) -> Router {
    Router::new().route("/events", get(find)).route("/events/follow", get(follow)).with_state(shelf)
}

type Asked = Result<QueryString<RawQuery>, QueryRejection>;

async fn find(State(shelf): State<Shelf>, asked: Asked) -> Result<Response, NoAnswer> {
    let query = Query::parse(asked?.0)?;
    let _waiting = place(&shelf.scans_waiting)?;
    let turn = Arc::clone(&shelf.scans).acquire_owned().await.map_err(|_| NoAnswer::TooMany)?;
    let given_up = GivenUp::default();
    let (flag, segments) = (Arc::clone(&given_up.0), shelf.catalog.segments());
    let scan = move || {
        let found = scan::scan(&shelf.folder, &segments, &query, &flag);
        drop(turn);
        found.map(|found| lines(&found))
    };
    Ok(json_lines(Body::from(tokio::task::spawn_blocking(scan).await??)))
}

async fn follow(State(shelf): State<Shelf>, asked: Asked) -> Result<Response, NoAnswer> {
    let filter = Query::parse(asked?.0)?.filter;
    let following = Following { follower: shelf.tail.follow(), filter, stop: shelf.stop, _place: place(&shelf.followers)? };
    let chunks = stream::unfold(following, async |mut following| {
        let chunk = following.next().await?;
        Some((Ok::<_, Infallible>(chunk), following))
    });
    Ok(json_lines(Body::from_stream(chunks)))
}

/// One reader of new events.
struct Following {
    follower: Follower,
    filter: Filter,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Following {
    /// The next lines; `None` when the process stops.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let news = self.stop.run_until_cancelled(self.follower.next()).await?;
            let lines = match news {
                News::Missed(missed) => format!("{}\n", serde_json::json!({ "missed": missed })),
                News::Events(events) => events.iter().filter(|event| self.filter.takes(event)).map(query::to_line).collect(),
            };
            if !lines.is_empty() {
                return Some(lines.into());
            }
        }
    }
}

/// Tells a scan that nobody waits for it any more: set when the request is dropped.
#[derive(Default)]
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, NoAnswer> {
    Arc::clone(places).try_acquire_owned().map_err(|_| NoAnswer::TooMany)
}

fn lines(found: &Found) -> String {
    let mut lines: String = found.events.iter().map(query::to_line).collect();
    if found.cut {
        lines.push_str("{\"cut\":true}\n");
    }
    lines
}

fn json_lines(body: Body) -> Response {
    ([(CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

impl IntoResponse for NoAnswer {
    fn into_response(self) -> Response {
        let status = match &self {
            NoAnswer::Query(_) | NoAnswer::QueryString(_) => StatusCode::BAD_REQUEST,
            NoAnswer::TooMany => StatusCode::SERVICE_UNAVAILABLE,
            NoAnswer::Read(_) | NoAnswer::Thread(_) => {
                tracing::error!("failed to find events: {self}");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        (status, Json(serde_json::json!({ "error": self.to_string() }))).into_response()
    }
}
