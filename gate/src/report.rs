//! What the gate reports: its sessions to a center that has just linked, and its state to whoever asks.

use prost::Message;
use proto::internal::{GateReport, SessionReport};
use service::Link;

use crate::{gate::Gate, session::Session};

/// Sessions in one part.
const PART_SESSIONS_MAX: usize = 500;
/// Bytes of sessions in one part: it has to fit a link frame.
const PART_BYTES_MAX: usize = 56 * 1024;

const _: () = assert!(PART_BYTES_MAX < proto::link::BODY_MAX);

/// Reports the sessions whose identity login or center has vouched for; returns their numbers.
pub(crate) fn send(sessions: &[std::sync::Arc<Session>], link: &Link) -> Vec<u64> {
    let reports: Vec<SessionReport> = sessions.iter().filter_map(|session| report(session)).collect();
    let ids = reports.iter().map(|report| report.session).collect();
    for part in parts(reports) {
        // A link that is down gets the report when it is up again.
        let _ = link.notify(0, &part);
    }
    ids
}

fn report(session: &Session) -> Option<SessionReport> {
    let state = session.state();
    (state.vouched && !state.is_ended()).then(|| SessionReport {
        session: session.id,
        account: state.identity.account,
        account_name: state.identity.account_name.clone(),
        session_epoch: state.identity.session_epoch,
        player: state.identity.player,
        address: state.address.to_string(),
    })
}

/// At least one part, all but the last with `more`.
fn parts(reports: Vec<SessionReport>) -> Vec<GateReport> {
    let mut parts = vec![GateReport::default()];
    let mut bytes = 0;
    for report in reports {
        // A tag and a length of at most three bytes go before each.
        let length = report.encoded_len() + 4;
        let part = parts.last_mut().expect("there is at least one");
        if part.sessions.len() == PART_SESSIONS_MAX || PART_BYTES_MAX < bytes + length {
            part.more = true;
            parts.push(GateReport { sessions: vec![report], more: false });
            bytes = length;
        } else {
            part.sessions.push(report);
            bytes += length;
        }
    }
    parts
}

/// What `/status` says of a gate.
pub(crate) fn detail(gate: &Gate, addresses: &serde_json::Value) -> serde_json::Value {
    let sessions = gate.all();
    let (mut lost, mut queued_bytes) = (0u64, 0);
    for session in &sessions {
        lost += u64::from(matches!(session.state().life, crate::session::Life::Lost(_)));
        queued_bytes += session.queued_bytes();
    }
    serde_json::json!({
        "sessions": sessions.len(),
        "connected": gate.connections.len(),
        "lost": lost,
        "groups": gate.backends.groups(),
        "queued_bytes": queued_bytes,
        "addresses": addresses,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_cut_into_parts_that_fit_and_the_last_says_so() {
        let report = |session| SessionReport { session, account_name: "a".repeat(200), ..SessionReport::default() };
        let parts = parts((0..1700).map(report).collect());
        assert!(parts.iter().all(|part| part.encoded_len() <= proto::link::BODY_MAX && part.sessions.len() <= PART_SESSIONS_MAX));
        let more: Vec<bool> = parts.iter().map(|part| part.more).collect();
        assert_eq!(more.iter().filter(|more| !**more).count(), 1);
        assert_eq!(more.last(), Some(&false));
        let ids: Vec<u64> = parts.iter().flat_map(|part| part.sessions.iter().map(|report| report.session)).collect();
        assert_eq!(ids, (0..1700).collect::<Vec<_>>());
    }

    #[test]
    fn no_sessions_are_one_empty_part() {
        assert_eq!(parts(Vec::new()), [GateReport::default()]);
    }
}
