//! What is wrong with whom, said once a change and not once a retry.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use tokio::time::Instant;

/// Peers (or addresses of strangers) that are remembered, and news said in a [`WINDOW`]. Full? It is silent until the window ends:
/// a stranger who invents names must not fill the log.
const NEWS_MAX: usize = 64;
const WINDOW: Duration = Duration::from_secs(60);

pub(super) struct Complaints(Mutex<State>);

struct State {
    last: HashMap<String, String>,
    said: usize,
    window: Instant,
}

impl Complaints {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { last: HashMap::new(), said: 0, window: Instant::now() }))
    }

    /// Whether this is to be said now: it is not what was said of `whom` last.
    pub(super) fn is_news(&self, whom: &str, what: &str) -> bool {
        let mut state = self.0.lock().expect("no holder of the complaints panics");
        if WINDOW <= state.window.elapsed() {
            (state.said, state.window) = (0, Instant::now());
        }
        if state.last.get(whom).is_some_and(|last| last == what) || NEWS_MAX <= state.said {
            return false;
        }
        state.said += 1;
        if NEWS_MAX <= state.last.len() {
            state.last.clear();
        }
        state.last.insert(whom.into(), what.into());
        true
    }

    /// All is well with `whom`: the next complaint is news, whatever it is.
    pub(super) fn settle(&self, whom: &str) {
        self.0.lock().expect("no holder of the complaints panics").last.remove(whom);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_news_once_a_change() {
        let complaints = Complaints::new();
        assert!(complaints.is_news("dc-1", "away"));
        assert!(!complaints.is_news("dc-1", "away"));
        assert!(complaints.is_news("dc-2", "away"));
        assert!(complaints.is_news("dc-1", "another zone"));
        complaints.settle("dc-1");
        assert!(complaints.is_news("dc-1", "another zone"));
    }

    #[test]
    fn invented_names_do_not_fill_the_log() {
        let complaints = Complaints::new();
        let said = (0..10_000).filter(|name| complaints.is_news(&name.to_string(), "unknown")).count();
        assert_eq!(said, NEWS_MAX);
    }
}
