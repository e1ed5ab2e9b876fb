//! What a client is told when a request fails: from refused and lost calls, from bans, and always short enough for a frame.

use proto::{
    Frame,
    client::{Fault, FaultCode},
    internal::{CallFault, CallFaultCode, Sanction, SanctionKind},
};
use service::CallError;

/// Bytes of a fault's text: with its code and field heads it stays below the longest body of `Fault`.
const TEXT_BYTES_MAX: usize = 900;

/// The fault for a call without a good answer; `None` for what only a defect of the zone explains.
pub(crate) fn of_call(err: &CallError, retry_ms: u32) -> Option<Fault> {
    match err {
        CallError::NoLink(_) | CallError::Down(..) | CallError::Timeout(..) => Some(unavailable(retry_ms)),
        CallError::Malformed(..) => None,
        CallError::Refused(refusal) => of_refusal(refusal, retry_ms),
    }
}

fn of_refusal(refusal: &CallFault, retry_ms: u32) -> Option<Fault> {
    let fault = match refusal.code() {
        // It says for how long: dc and center write it for people.
        CallFaultCode::CallUnavailable => Fault::retry(FaultCode::Unavailable, refusal.text.clone(), retry_ms),
        CallFaultCode::CallNotFound => Fault::new(FaultCode::NotFound, "there is no such role"),
        CallFaultCode::CallNameTaken => Fault::new(FaultCode::NameTaken, "this name is taken"),
        CallFaultCode::CallLimit => Fault::new(FaultCode::RoleLimit, "the account has as many roles as it may"),
        CallFaultCode::CallStaleOwner | CallFaultCode::CallStaleVersion => Fault::new(FaultCode::NotNow, "the role is in the world"),
        CallFaultCode::CallInvalid => Fault::new(FaultCode::Invalid, refusal.text.clone()),
        CallFaultCode::CallReplaced => Fault::new(FaultCode::LoggedInElsewhere, "the account has logged in elsewhere"),
        CallFaultCode::CallNoLine => Fault::retry(FaultCode::Busy, "the map has no room now", retry_ms),
        CallFaultCode::CallZoneFull => Fault::retry(FaultCode::Busy, "the zone is full", retry_ms),
        CallFaultCode::Unspecified
        | CallFaultCode::CallTicketUsed
        | CallFaultCode::CallBlocked
        | CallFaultCode::CallUnknown
        | CallFaultCode::CallInternal => return None,
    };
    Some(fault)
}

/// The zone can't answer now.
pub(crate) fn unavailable(retry_ms: u32) -> Fault {
    Fault::retry(FaultCode::Unavailable, "the zone can't answer this now", retry_ms)
}

/// Unknown account or wrong password; which of the two is nobody's business.
pub(crate) fn bad_credentials() -> Fault {
    Fault::new(FaultCode::BadCredentials, "unknown account or wrong password")
}

/// The fault for the longest of the bans among these, if there is one.
pub(crate) fn of_bans(sanctions: &[Sanction]) -> Option<Fault> {
    let bans = sanctions.iter().filter(|sanction| sanction.kind() == SanctionKind::Ban);
    let ban = bans.max_by_key(|ban| if ban.until_ms == 0 { i64::MAX } else { ban.until_ms })?;
    let whom = if ban.account == 0 { "address" } else { "account" };
    let end = match jiff::Timestamp::from_millisecond(ban.until_ms) {
        Ok(end) if ban.until_ms != 0 => format!("until {end}"),
        _ => "without end".to_owned(),
    };
    let reason = if ban.reason.is_empty() { "no reason given" } else { &ban.reason };
    Some(Fault::new(FaultCode::Banned, format!("this {whom} is banned {end}: {reason}")))
}

/// The frame that answers request `seq`; a text that is too long for it is cut.
pub(crate) fn frame(seq: u32, fault: &Fault) -> Frame {
    let mut end = fault.text.len().min(TEXT_BYTES_MAX);
    while !fault.text.is_char_boundary(end) {
        end -= 1;
    }
    Frame::encode(seq, &Fault { text: fault.text[..end].to_owned(), ..*fault })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use service::{ProcessId, ProcessKind};

    use super::*;

    fn refused(code: CallFaultCode) -> Option<FaultCode> {
        of_call(&CallError::Refused(service::link::fault(code, "")), 500).map(|fault| fault.code())
    }

    #[test]
    fn lost_calls_are_worth_a_new_try() {
        let dc = ProcessId("dc-1".into());
        for err in
            [CallError::NoLink(ProcessKind::Dc), CallError::Down(dc.clone(), "X"), CallError::Timeout(dc.clone(), "X", Duration::ZERO)]
        {
            let fault = of_call(&err, 500).expect("no defect");
            assert_eq!((fault.code(), fault.retry_ms), (FaultCode::Unavailable, 500));
        }
        assert_eq!(of_call(&CallError::Malformed(dc, "X"), 500), None);
    }

    #[test]
    fn refusals_have_the_clients_words() {
        assert_eq!(refused(CallFaultCode::CallReplaced), Some(FaultCode::LoggedInElsewhere));
        assert_eq!(refused(CallFaultCode::CallNoLine), Some(FaultCode::Busy));
        assert_eq!(refused(CallFaultCode::CallNameTaken), Some(FaultCode::NameTaken));
        assert_eq!(refused(CallFaultCode::CallLimit), Some(FaultCode::RoleLimit));
        assert_eq!(refused(CallFaultCode::CallStaleOwner), Some(FaultCode::NotNow));
        assert_eq!(refused(CallFaultCode::CallInternal), None);
    }

    #[test]
    fn what_can_not_be_done_now_is_told_in_the_words_of_who_refused() {
        let refusal = service::link::fault(CallFaultCode::CallUnavailable, "no account can be made now");
        let fault = of_call(&CallError::Refused(refusal), 500).expect("no defect");
        assert_eq!((fault.code(), fault.text.as_str(), fault.retry_ms), (FaultCode::Unavailable, "no account can be made now", 500));
    }

    #[test]
    fn the_longest_ban_is_told_with_reason_and_end() {
        let ban = |until_ms, reason: &str| Sanction {
            kind: SanctionKind::Ban.into(),
            account: 1,
            until_ms,
            reason: reason.into(),
            ..Sanction::default()
        };
        let mute = Sanction { kind: SanctionKind::Mute.into(), ..Sanction::default() };
        assert_eq!(of_bans(std::slice::from_ref(&mute)), None);
        let fault = of_bans(&[ban(1000, "short"), ban(1_767_225_600_000, "spam"), mute]).expect("banned");
        assert_eq!(fault.code(), FaultCode::Banned);
        assert_eq!(fault.text, "this account is banned until 2026-01-01T00:00:00Z: spam");
        let fault = of_bans(&[ban(1000, "short"), ban(0, "")]).expect("banned");
        assert_eq!(fault.text, "this account is banned without end: no reason given");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let fault = Fault::new(FaultCode::Banned, format!("x{}", "世".repeat(1000)));
        let shown: Fault = frame(3, &fault).decode().expect("a fault");
        assert!(shown.text.len() <= TEXT_BYTES_MAX && shown.text.ends_with('世'));
    }
}
