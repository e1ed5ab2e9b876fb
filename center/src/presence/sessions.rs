//! The one live session of each account. The highest session epoch wins; the others are closed at their gates.

use std::collections::BTreeMap;

use proto::{
    client::FaultCode,
    ids::{AccountId, SessionEpoch, SessionId},
    internal::SessionClaim,
};
use service::ProcessId;
use tokio::time::Instant;

use super::{Action, ELSEWHERE, Presence, Run};

/// The live session of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub session: SessionId,
    pub account: AccountId,
    pub account_name: String,
    pub epoch: SessionEpoch,
    /// Where its socket is, or was.
    pub gate: Run,
    pub address: String,
    /// When center learnt of it.
    pub since: Instant,
    /// Since when its socket is lost.
    pub lost: Option<Instant>,
}

/// All live sessions: at most one an account.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_account: BTreeMap<AccountId, Session>,
    accounts: BTreeMap<SessionId, AccountId>,
    highest: u64,
}

impl Sessions {
    pub(crate) fn len(&self) -> usize {
        self.by_account.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.by_account.values()
    }

    pub(crate) fn get(&self, account: AccountId) -> Option<&Session> {
        self.by_account.get(&account)
    }

    pub(crate) fn of(&self, session: SessionId) -> Option<&Session> {
        self.accounts.get(&session).and_then(|account| self.by_account.get(account))
    }

    pub(super) fn of_mut(&mut self, session: SessionId) -> Option<&mut Session> {
        self.accounts.get(&session).and_then(|account| self.by_account.get_mut(account))
    }

    /// Whether this is the live session of the account.
    pub(crate) fn is_live(&self, account: AccountId, session: SessionId) -> bool {
        self.get(account).is_some_and(|live| live.session == session)
    }

    /// Epochs rise over restarts of center too, as every one that was seen anywhere is passed over.
    pub(super) fn saw(&mut self, epoch: SessionEpoch) {
        self.highest = self.highest.max(epoch.0);
    }

    fn next_epoch(&mut self, now_ms: i64) -> SessionEpoch {
        self.highest = u64::try_from(now_ms).unwrap_or(0).max(self.highest.saturating_add(1));
        SessionEpoch(self.highest)
    }

    /// Makes this the live session of its account; returns the one that it replaces.
    pub(super) fn put(&mut self, session: Session) -> Option<Session> {
        let (number, account) = (session.session, session.account);
        self.saw(session.epoch);
        // A session number that another account had: its gate has forgotten that one.
        if let Some(other) = self.accounts.get(&number).copied().filter(|other| *other != account) {
            self.by_account.remove(&other);
        }
        let replaced = self.by_account.insert(account, session);
        if let Some(replaced) = &replaced {
            self.accounts.remove(&replaced.session);
        }
        self.accounts.insert(number, account);
        replaced.filter(|replaced| replaced.session != number)
    }

    pub(crate) fn remove(&mut self, session: SessionId) -> Option<Session> {
        let account = self.accounts.remove(&session)?;
        self.by_account.remove(&account)
    }
}

impl Session {
    /// Tells its gate that a newer session has its account.
    pub(super) fn closed_by_a_newer(&self) -> Action {
        Action::Close { gate: self.gate.id.clone(), session: self.session, code: FaultCode::LoggedInElsewhere, text: ELSEWHERE.into() }
    }
}

impl Presence {
    /// Whether the zone takes the session of a claim: one more than `online_max` only if it is the next of an account that has one.
    pub(crate) fn has_room(&self, claim: &SessionClaim, online_max: Option<usize>) -> bool {
        let stays = self.sessions.get(AccountId(claim.account)).is_some();
        stays || claim.passes || online_max.is_none_or(|max| claim.first && self.sessions.len() < max)
    }

    /// The account is good: this is its live session from now on. Doing it twice is doing it once.
    ///
    /// Until its gate says that the session is open it counts as lost: the client, its gate or its login may be gone before they hear
    /// of the claim, and then nobody else would ever end it.
    pub(crate) fn claim(&mut self, claim: &SessionClaim, now_ms: i64, now: Instant) -> (SessionEpoch, Vec<Action>) {
        let (session, account) = (SessionId(claim.session), AccountId(claim.account));
        if let Some(live) = self.sessions.get(account).filter(|live| live.session == session) {
            return (live.epoch, Vec::new());
        }
        let epoch = self.sessions.next_epoch(now_ms);
        let gate = self.gate_run(&claim.gate);
        let (account_name, address) = (claim.account_name.clone(), claim.address.clone());
        let replaced = self.sessions.put(Session { session, account, account_name, epoch, gate, address, since: now, lost: Some(now) });
        (epoch, replaced.iter().map(Session::closed_by_a_newer).collect())
    }

    /// The socket is lost; the session can be resumed for the window.
    pub(crate) fn session_lost(&mut self, gate: &ProcessId, session: SessionId, now: Instant) {
        if let Some(session) = self.at_gate(gate, session) {
            session.lost.get_or_insert(now);
        }
    }

    /// The socket is back on the same gate.
    pub(crate) fn session_back(&mut self, gate: &ProcessId, session: SessionId) {
        if let Some(session) = self.at_gate(gate, session) {
            session.lost = None;
        }
    }

    /// The session is over. Its player leaves presence when its scene says so; one without a scene leaves now.
    pub(crate) fn session_ended(&mut self, gate: &ProcessId, session: SessionId) -> Vec<Action> {
        if self.at_gate(gate, session).is_none() {
            return Vec::new();
        }
        let account = self.sessions.remove(session).map(|ended| ended.account);
        account.map_or(Vec::new(), |account| self.drop_homeless_of(account))
    }

    /// Forgets a session whose gate can't be told to end it. Its player has to be sent out by the caller.
    pub(crate) fn session_forgotten(&mut self, session: SessionId) -> Vec<Action> {
        let account = self.sessions.remove(session).map(|ended| ended.account);
        account.map_or(Vec::new(), |account| self.drop_homeless_of(account))
    }

    /// The session continues at another gate. The old one, if it still has the session, is told to forget it.
    pub(crate) fn session_moved(&mut self, session: SessionId, gate: Run, address: &str) -> Vec<Action> {
        let Some(live) = self.sessions.of_mut(session) else { return Vec::new() };
        let mut actions = Vec::new();
        if live.gate.id != gate.id {
            let text = "the session goes on at another gate".into();
            actions.push(Action::Close { gate: live.gate.id.clone(), session, code: FaultCode::LoggedInElsewhere, text });
        }
        live.gate = gate;
        live.address = address.into();
        live.lost = None;
        actions
    }

    /// The gate has the session, with its client.
    pub(crate) fn session_opened(&mut self, gate: &Run, session: SessionId) {
        if let Some(session) = self.at_gate(&gate.id, session) {
            session.lost = None;
            session.gate = gate.clone();
        }
    }

    fn at_gate(&mut self, gate: &ProcessId, session: SessionId) -> Option<&mut Session> {
        self.sessions.of_mut(session).filter(|live| live.gate.id == *gate)
    }

    pub(super) fn gate_run(&self, gate: &str) -> Run {
        let id = ProcessId(gate.into());
        let incarnation = self.gates.get(&id).copied().unwrap_or(0);
        Run { id, incarnation }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn claim(session: u64, account: u64, gate: &str) -> SessionClaim {
        SessionClaim {
            session,
            account,
            account_name: format!("a{account}"),
            gate: gate.into(),
            address: "1.2.3.4".into(),
            first: true,
            passes: false,
        }
    }

    fn presence() -> Presence {
        Presence::new(Duration::from_secs(60))
    }

    #[test]
    fn a_full_zone_takes_the_next_session_of_who_is_in_and_those_who_pass() {
        let (mut presence, now) = (presence(), Instant::now());
        presence.claim(&claim(10, 1, "gate-1"), 1000, now);
        let (again, other) = (claim(11, 1, "gate-1"), claim(12, 2, "gate-1"));
        assert!(presence.has_room(&again, Some(1)) && !presence.has_room(&other, Some(1)));
        assert!(presence.has_room(&SessionClaim { passes: true, ..other.clone() }, Some(1)));
        assert!(presence.has_room(&other, Some(2)) && presence.has_room(&other, None));
        assert!(!presence.has_room(&SessionClaim { first: false, ..other }, Some(2)), "others were first");
    }

    #[test]
    fn a_second_login_closes_the_first_at_its_gate() {
        let (mut presence, now) = (presence(), Instant::now());
        let (first, none) = presence.claim(&claim(10, 1, "gate-1"), 1000, now);
        assert!(none.is_empty());
        let (second, closed) = presence.claim(&claim(11, 1, "gate-2"), 900, now);
        assert!(first < second, "the epoch rises though the clock went back");
        let gate = ProcessId("gate-1".into());
        let text = ELSEWHERE.to_owned();
        assert_eq!(closed, [Action::Close { gate, session: SessionId(10), code: FaultCode::LoggedInElsewhere, text }]);
        assert!(presence.sessions.is_live(AccountId(1), SessionId(11)));
        assert_eq!(presence.sessions.of(SessionId(10)), None);
    }

    #[test]
    fn a_claim_sent_twice_has_one_answer() {
        let (mut presence, now) = (presence(), Instant::now());
        let first = presence.claim(&claim(10, 1, "gate-1"), 1000, now);
        assert_eq!(presence.claim(&claim(10, 1, "gate-1"), 2000, now), first);
    }

    #[test]
    fn epochs_follow_the_clock_and_pass_every_seen_one() {
        let (mut presence, now) = (presence(), Instant::now());
        assert_eq!(presence.claim(&claim(1, 1, "g"), 5000, now).0, SessionEpoch(5000));
        presence.sessions.saw(SessionEpoch(9000));
        assert_eq!(presence.claim(&claim(2, 2, "g"), 5001, now).0, SessionEpoch(9001));
    }

    #[test]
    fn only_the_gate_that_has_a_session_ends_it() {
        let (mut presence, now) = (presence(), Instant::now());
        presence.claim(&claim(10, 1, "gate-1"), 1000, now);
        let moved = presence.session_moved(SessionId(10), Run { id: ProcessId("gate-2".into()), incarnation: 5 }, "5.6.7.8");
        assert!(matches!(&moved[..], [Action::Close { gate, .. }] if gate.0 == "gate-1"));
        presence.session_ended(&ProcessId("gate-1".into()), SessionId(10));
        assert!(presence.sessions.is_live(AccountId(1), SessionId(10)));
        presence.session_ended(&ProcessId("gate-2".into()), SessionId(10));
        assert_eq!(presence.sessions.len(), 0);
    }
}
