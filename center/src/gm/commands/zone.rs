//! Commands about the zone as a whole.

use std::{sync::Arc, time::Duration};

use proto::internal::{AuditList, AuditRecord};
use serde_json::{Value, json};
use service::ProcessKind;

use super::{Effect, Prepared, required};
use crate::{
    center::Center,
    gm::{
        GmError,
        arguments::{Arguments, Span},
        of_call,
    },
};

/// The longest countdown.
const COUNTDOWN_MAX: Duration = Duration::from_secs(24 * 3600);
/// Audit records in an answer, if the GM does not say, and at most.
const RECORDS: u32 = 20;
const RECORDS_MAX: u32 = 500;

pub(super) fn announce(arguments: &Arguments) -> Result<Prepared, GmError> {
    let text = required(arguments.text("text"), "text")?.to_owned();
    Ok(Prepared::change(json!({ "announces": text }), Effect::Announce { text }))
}

pub(super) fn do_announce(center: &Center, text: &str) -> Value {
    let id = center.announce(text);
    json!({ "announced": text, "id": id, "online": center.presence().players.online() })
}

pub(super) fn info(center: &Center) -> Prepared {
    let linked: Vec<Value> = ProcessKind::ALL
        .into_iter()
        .flat_map(|kind| center.links_of(kind))
        .map(|link| json!({ "id": link.peer().id, "kind": link.peer().kind, "incarnation": link.peer().incarnation }))
        .collect();
    let status = center.status();
    Prepared::Answer(json!({
        "zone": center.process.zone.name,
        "version": env!("CARGO_PKG_VERSION"),
        "up_s": center.started.elapsed().as_secs(),
        "ready": center.process.ready.is_ready(),
        "rebuilt": status["rebuilt"],
        "online": status["online"],
        "sessions": status["sessions"],
        "homeless": status["homeless"],
        "lines": status["lines"].as_array().map_or(0, Vec::len),
        "shutdown_in_s": center.countdown.notice().and_then(|notice| notice.in_s),
        "linked": linked,
    }))
}

pub(super) fn shutdown(center: &Center, arguments: &Arguments) -> Result<Prepared, GmError> {
    match (arguments.text("action"), arguments.span("in")) {
        (Some(_), Some(_)) => Err(GmError::bad_argument("in", "goes without `cancel`")),
        (Some(_), None) if center.countdown.is_running() => {
            Ok(Prepared::change(json!({ "cancels": "the countdown" }), Effect::CancelShutdown))
        }
        (Some(_), None) => Err(none_runs()),
        (None, None) => Err(GmError::bad_argument("in", "is missing; or write `cancel`")),
        (None, Some(Span::Permanent)) => Err(GmError::bad_argument("in", "is a time from now, such as 60s")),
        (None, Some(span)) => {
            let within = if let Span::For(within) = span { within } else { Duration::ZERO };
            if COUNTDOWN_MAX < within {
                return Err(GmError::bad_argument("in", "is at most 24h"));
            }
            if center.countdown.is_running() {
                return Err(runs_already());
            }
            let would = json!({ "shuts_down_in_s": within.as_secs(), "online": center.presence().players.online() });
            Ok(Prepared::Change { would, effect: Effect::BeginShutdown { within }, needs_reason: true })
        }
    }
}

pub(super) fn do_begin_shutdown(center: &Arc<Center>, within: Duration, reason: &str) -> Result<Value, GmError> {
    if center.begin_shutdown(within, reason) { Ok(json!({ "shuts_down_in_s": within.as_secs() })) } else { Err(runs_already()) }
}

pub(super) fn do_cancel_shutdown(center: &Center) -> Result<Value, GmError> {
    if center.cancel_shutdown() { Ok(json!({ "cancelled": true })) } else { Err(none_runs()) }
}

pub(super) async fn audit(center: &Center, arguments: &Arguments) -> Result<Prepared, GmError> {
    let text = |name| arguments.text(name).unwrap_or_default().to_owned();
    let limit = arguments.count("limit").unwrap_or(RECORDS).min(RECORDS_MAX);
    let list = AuditList { limit, by: text("by"), command: text("command") };
    let reply = center.dc(&list).await.map_err(|err| of_call(&err, "there is no audit record"))?;
    Ok(Prepared::Answer(json!({ "records": reply.records.iter().map(record).collect::<Vec<_>>() })))
}

fn record(record: &AuditRecord) -> Value {
    let arguments = serde_json::from_str(&record.arguments).unwrap_or_else(|_| Value::String(record.arguments.clone()));
    json!({
        "id": record.id,
        "at_ms": record.at_ms,
        "by": record.by,
        "role": record.role,
        "address": record.address,
        "command": record.command,
        "arguments": arguments,
        "reason": record.reason,
        "outcome": record.outcome,
    })
}

fn runs_already() -> GmError {
    GmError::conflict("a countdown runs already; cancel it first")
}

fn none_runs() -> GmError {
    GmError::conflict("no countdown runs")
}
