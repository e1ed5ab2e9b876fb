//! The admin port of a process: `/metrics` (Prometheus), `/healthz`, `/readyz`, `/status`, and whatever routes its kind adds.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Json, Router, http::StatusCode, routing::get};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{link::Links, process::Process};

/// What `/status` says, beside the facts that all processes share: an object whose fields are the kind's own. One has the same meaning for
/// all: `trouble`, in a few words, is what an operator has to look at though the process serves (`disk full`).
pub type Detail = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// How often histograms are folded into their buckets.
const UPKEEP_PERIOD: Duration = Duration::from_secs(5);
/// How long answers that are under way may take when the process ends.
const ANSWERS_GRACE: Duration = Duration::from_millis(500);

/// Whether the process can serve, and for whom it waits. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ready(Arc<watch::Sender<Option<Vec<String>>>>);

impl Default for Ready {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Ready {
    /// It can serve.
    pub fn set(&self) {
        self.put(Vec::new());
    }

    /// It can't serve, because of these (`dc-1`).
    pub fn wait_for(&self, whom: Vec<String>) {
        self.put(whom);
    }

    /// Whether it can serve.
    pub fn is_ready(&self) -> bool {
        self.0.borrow().as_ref().is_some_and(Vec::is_empty)
    }

    /// For whom it waits; empty when it can serve, and before it knows.
    pub fn waiting_for(&self) -> Vec<String> {
        self.0.borrow().clone().unwrap_or_default()
    }

    /// Ends when it can serve. Cancel-safe.
    pub async fn ready(&self) {
        let mut watched = self.0.subscribe();
        // The sender lives as long as `self`.
        _ = watched.wait_for(|waiting| waiting.as_ref().is_some_and(Vec::is_empty)).await;
    }

    /// Says a change once.
    fn put(&self, whom: Vec<String>) {
        self.0.send_if_modified(|waiting| {
            if waiting.as_ref() == Some(&whom) {
                return false;
            }
            match whom.as_slice() {
                [] => tracing::info!("ready"),
                whom => tracing::info!("waiting for {}", whom.join(", ")),
            }
            *waiting = Some(whom);
            true
        });
    }
}

/// Serves the admin port until the process has drained.
///
/// # Errors
/// When the address can't be taken.
pub async fn serve(process: &Process, links: Links, detail: Detail, more: axum::Router) -> anyhow::Result<()> {
    let listener = crate::net::listen(process.config.admin)?;
    let source = Arc::new(StatusSource { process: process.clone(), links, detail, since: Instant::now() });
    let router = Router::new()
        .route("/healthz", get(async || "ok"))
        .route(
            "/readyz",
            get({
                let source = source.clone();
                async move || readyz(&source.process.ready, &source.trouble())
            }),
        )
        .route("/metrics", get(async || crate::telemetry::render()))
        .route("/status", get(async move || Json(source.status())))
        .merge(more);
    let (end, tasks) = (process.tasks.end_token(), process.tasks.clone());
    process.tasks.spawn("admin", async move {
        // Whoever adds routes may ask who calls (axum's `ConnectInfo`).
        let service = router.into_make_service_with_connect_info::<std::net::SocketAddr>();
        let serving = axum::serve(listener, service).with_graceful_shutdown(end.cancelled_owned());
        let give_up = async {
            tasks.ended().await;
            tokio::time::sleep(ANSWERS_GRACE).await;
        };
        tokio::select! {
            served = serving => if let Err(err) = served { tracing::error!("failed to serve the admin port: {err}") },
            () = give_up => (),
        }
    });
    let end = process.tasks.end_token();
    process.tasks.spawn("metrics", async move {
        while end.run_until_cancelled(tokio::time::sleep(UPKEEP_PERIOD)).await.is_some() {
            crate::telemetry::upkeep();
        }
    });
    Ok(())
}

/// Whoever has trouble is ready all the same: what it still does, nobody else does.
fn readyz(ready: &Ready, trouble: &Value) -> (StatusCode, Json<Value>) {
    let status = if ready.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "waiting_for": ready.waiting_for(), "trouble": trouble })))
}

/// Where `/status` comes from.
struct StatusSource {
    process: Process,
    links: Links,
    detail: Detail,
    since: Instant,
}

impl StatusSource {
    fn trouble(&self) -> Value {
        (self.detail)()["trouble"].take()
    }

    fn status(&self) -> Value {
        let process = &self.process;
        let detail = (self.detail)();
        json!({
            "id": process.id(),
            "kind": process.config.kind(),
            "ready": process.ready.is_ready(),
            "waiting_for": process.ready.waiting_for(),
            "trouble": detail["trouble"],
            "pid": std::process::id(),
            "incarnation": process.incarnation,
            "uptime_s": self.since.elapsed().as_secs_f64(),
            "cpu_s": cpu_s(),
            "rss_bytes": rss_bytes(),
            "links": self.links.status(),
            "events": process.events.status(),
            "detail": detail,
        })
    }
}

/// Seconds of processor time that this program has used.
fn cpu_s() -> f64 {
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// Memory of this program that is in RAM; 0 where the kernel does not say.
fn rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_says_for_whom_it_waits() {
        let ready = Ready::default();
        let code = |ready: &Ready| readyz(ready, &Value::Null).0;
        assert_eq!(code(&ready), StatusCode::SERVICE_UNAVAILABLE);
        ready.wait_for(vec!["dc-1".into()]);
        assert_eq!(readyz(&ready, &Value::Null).1.0, json!({ "waiting_for": ["dc-1"], "trouble": null }));
        let waiter = tokio::spawn({
            let ready = ready.clone();
            async move { ready.ready().await }
        });
        ready.set();
        waiter.await.unwrap();
        assert_eq!(code(&ready), StatusCode::OK);
        let troubled = readyz(&ready, &json!("disk full"));
        assert_eq!((troubled.0, troubled.1.0), (StatusCode::OK, json!({ "waiting_for": [], "trouble": "disk full" })));
    }

    struct Deaf;

    impl crate::Handler for Deaf {
        async fn on_up(&self, _: &crate::Link) {}
        async fn on_down(&self, _: &crate::Link) {}
        async fn on_frame(&self, _: &crate::Link, _: proto::link::LinkFrame) {}
        async fn on_call(&self, _: &crate::Link, call: crate::IncomingCall) {
            call.unknown();
        }
    }

    /// The status line's code and the body.
    async fn get(address: std::net::SocketAddr, path: &str) -> (String, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = crate::net::connect(address, Duration::from_secs(5)).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().into(), body.into())
    }

    #[tokio::test]
    async fn the_port_tells_health_readiness_and_status_until_the_end() {
        let data = tempfile::tempdir().unwrap();
        let zone = crate::Zone::for_test(crate::config::DEV_ZONE).unwrap();
        let process = Process::for_test(&zone, "logsvc-1", data.path());
        let links = Links::start(&process, Arc::new(Deaf)).await.unwrap();
        let more = Router::new().route("/more", axum::routing::get(async || "more"));
        serve(&process, links, Arc::new(|| json!({ "events_per_s": 1.5 })), more).await.unwrap();
        let admin = process.config.admin;
        assert_eq!(get(admin, "/healthz").await, ("200".into(), "ok".into()));
        assert_eq!(get(admin, "/more").await.1, "more");
        assert_eq!(get(admin, "/readyz").await.0, "503");
        process.ready.set();
        assert_eq!(get(admin, "/readyz").await.0, "200");
        let status: Value = serde_json::from_str(&get(admin, "/status").await.1).unwrap();
        assert_eq!((&status["id"], &status["kind"], &status["ready"]), (&json!("logsvc-1"), &json!("logsvc"), &json!(true)));
        assert_eq!(status["detail"]["events_per_s"], 1.5);
        assert_eq!(status["pid"], std::process::id());
        process.tasks.stop(Duration::from_secs(10)).await.unwrap();
        assert!(crate::net::connect(admin, Duration::from_secs(5)).await.is_err());
    }

    #[test]
    fn a_program_uses_time_and_memory() {
        assert!(rss_bytes() > 0);
        assert!(cpu_s() >= 0.0);
    }
}
