//! What is known of the sessions that each gate link has opened here, and which of them have a request running.
//!
//! A session has at most one request at a time: [`Sessions::begin`] gives a [`Running`], and until that is dropped the next request
//! is refused. All of it is the gate's to say again: a link that goes down takes its sessions with it.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard},
};

/// Sessions of one link. Full? A further session is not known here, and its requests are answered UNAVAILABLE.
const PER_LINK_MAX: usize = 100_000;

/// Who a session is. `account` 0: not logged in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) address: String,
    pub(crate) account: u64,
    pub(crate) account_name: String,
}

/// Why a request may not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoBegin {
    /// The gate has not opened this session here.
    Unknown,
    /// An earlier request of the session is not yet answered.
    Running,
}

/// All sessions, by link number and session. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions(Arc<Mutex<HashMap<u64, HashMap<u64, Session>>>>);

#[derive(Debug, Default)]
struct Session {
    facts: Facts,
    running: bool,
}

/// A request of the session is running while this is held.
#[derive(Debug)]
pub(crate) struct Running {
    sessions: Sessions,
    link: u64,
    session: u64,
}

impl Sessions {
    /// The gate has opened a session, or says again who it is.
    pub(crate) fn opened(&self, link: u64, session: u64, facts: Facts) {
        let mut links = self.lock();
        let sessions = links.entry(link).or_default();
        let count = sessions.len();
        match sessions.entry(session) {
            Entry::Occupied(mut known) => known.get_mut().facts = facts,
            Entry::Vacant(_) if PER_LINK_MAX <= count => (),
            Entry::Vacant(new) => {
                new.insert(Session { facts, running: false });
            }
        }
    }

    /// The session is over.
    pub(crate) fn ended(&self, link: u64, session: u64) {
        if let Some(sessions) = self.lock().get_mut(&link) {
            sessions.remove(&session);
        }
    }

    /// The link is down, and its sessions with it.
    pub(crate) fn link_down(&self, link: u64) {
        self.lock().remove(&link);
    }

    /// A request begins.
    pub(crate) fn begin(&self, link: u64, session: u64) -> Result<(Facts, Running), NoBegin> {
        let mut links = self.lock();
        let known = links.get_mut(&link).and_then(|sessions| sessions.get_mut(&session)).ok_or(NoBegin::Unknown)?;
        if std::mem::replace(&mut known.running, true) {
            return Err(NoBegin::Running);
        }
        Ok((known.facts.clone(), Running { sessions: self.clone(), link, session }))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().values().map(HashMap::len).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, HashMap<u64, Session>>> {
        self.0.lock().expect("no holder of the sessions panics")
    }
}

impl Running {
    /// Whether the session still is; otherwise nobody waits for the answer.
    pub(crate) fn lives(&self) -> bool {
        self.with(|_| ()).is_some()
    }

    /// The session is this account's from now on.
    pub(crate) fn authenticated(&self, account: u64, account_name: &str) {
        self.with(|session| {
            session.facts.account = account;
            account_name.clone_into(&mut session.facts.account_name);
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut Session) -> T) -> Option<T> {
        self.sessions.lock().get_mut(&self.link)?.get_mut(&self.session).map(act)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.with(|session| session.running = false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Facts {
        Facts { address: address.into(), ..Facts::default() }
    }

    #[test]
    fn a_session_has_one_request_at_a_time() {
        let sessions = Sessions::default();
        assert_eq!(sessions.begin(1, 7).unwrap_err(), NoBegin::Unknown);
        sessions.opened(1, 7, from("192.0.2.1"));
        let (facts, running) = sessions.begin(1, 7).expect("the first");
        assert_eq!(facts.address, "192.0.2.1");
        assert_eq!(sessions.begin(1, 7).unwrap_err(), NoBegin::Running);
        sessions.opened(1, 7, from("192.0.2.2"));
        assert_eq!(sessions.begin(1, 7).unwrap_err(), NoBegin::Running, "saying it again ends nothing");
        running.authenticated(3, "alice");
        drop(running);
        let (facts, _running) = sessions.begin(1, 7).expect("the next");
        assert_eq!((facts.account, facts.account_name.as_str()), (3, "alice"));
    }

    #[test]
    fn a_link_takes_its_sessions_with_it() {
        let sessions = Sessions::default();
        sessions.opened(1, 7, from("a"));
        sessions.opened(2, 7, from("b"));
        let (_, running) = sessions.begin(1, 7).expect("begins");
        sessions.link_down(1);
        assert!(!running.lives());
        drop(running);
        assert_eq!(sessions.count(), 1);
        sessions.ended(2, 7);
        assert_eq!(sessions.count(), 0);
    }
}
