//! The countdown to the zone's end, which players see, and the end.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use proto::client::{FaultCode, ShutdownNotice};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::center::Center;

/// Seconds before the end at which players are told, beside the start.
const MARKS_S: [u32; 8] = [60, 30, 10, 5, 4, 3, 2, 1];
/// How long the end waits for sessions and players to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);
const LOOK_AFTER: Duration = Duration::from_millis(50);

/// The countdown that runs, if one does.
#[derive(Debug, Default)]
pub(crate) struct Countdown(Mutex<Option<Running>>);

#[derive(Clone, Debug)]
struct Running {
    end: Instant,
    reason: String,
    cancel: CancellationToken,
}

impl Countdown {
    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.0.lock().expect("no holder panics")
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running().is_some()
    }

    /// What a player who comes now has to know.
    pub(crate) fn notice(&self) -> Option<ShutdownNotice> {
        let running = self.running().clone()?;
        let left = running.end.saturating_duration_since(Instant::now());
        Some(notice_of(Some(seconds(left)), &running.reason))
    }

    fn begin(&self, within: Duration, reason: &str) -> Option<CancellationToken> {
        let mut running = self.running();
        if running.is_some() {
            return None;
        }
        let cancel = CancellationToken::new();
        *running = Some(Running { end: Instant::now() + within, reason: reason.into(), cancel: cancel.clone() });
        Some(cancel)
    }

    fn stop(&self) -> Option<Running> {
        self.running().take()
    }
}

impl Center {
    /// Begins the countdown; `false`: one runs already.
    pub(crate) fn begin_shutdown(self: &Arc<Self>, within: Duration, reason: &str) -> bool {
        let Some(cancel) = self.countdown.begin(within, reason) else { return false };
        let (center, reason) = (self.clone(), reason.to_owned());
        self.spawn("shutdown", async move {
            let told = center.clone();
            let tell = |left| told.broadcast(0, &notice_of(Some(left), &reason));
            if count_down(seconds(within), &cancel, tell).await {
                center.shut_down(&reason).await;
            }
        });
        true
    }

    /// Cancels the countdown; `false`: none runs.
    pub(crate) fn cancel_shutdown(&self) -> bool {
        let Some(running) = self.countdown.stop() else { return false };
        running.cancel.cancel();
        self.broadcast(0, &notice_of(None, &running.reason));
        true
    }

    async fn shut_down(self: &Arc<Self>, reason: &str) {
        self.close();
        let sessions: Vec<_> = self.presence().sessions.iter().map(|live| (live.gate.id.clone(), live.session)).collect();
        tracing::info!(sessions = sessions.len(), "shutting the zone down");
        let text = if reason.is_empty() { "the zone is shutting down".into() } else { format!("the zone is shutting down: {reason}") };
        for (gate, session) in sessions {
            self.close_session(&gate, session, FaultCode::Shutdown, text.clone());
        }
        // Scenes save each player who leaves; what is left after the wait is saved when they stop.
        let gone = async {
            while self.presence().players.iter().next().is_some() || 0 < self.presence().sessions.len() {
                tokio::time::sleep(LOOK_AFTER).await;
            }
        };
        if tokio::time::timeout(GONE_WITHIN, gone).await.is_err() {
            tracing::warn!("not everybody left in time");
        }
        self.finish();
    }
}

/// Tells the seconds left at the start and at the marks below it; `true` at the end, `false` when cancelled.
async fn count_down(from_s: u32, cancel: &CancellationToken, mut tell: impl FnMut(u32)) -> bool {
    let end = Instant::now() + Duration::from_secs(from_s.into());
    for left in marks(from_s) {
        let at = end - Duration::from_secs(left.into());
        if cancel.run_until_cancelled(tokio::time::sleep_until(at)).await.is_none() {
            return false;
        }
        tell(left);
    }
    cancel.run_until_cancelled(tokio::time::sleep_until(end)).await.is_some()
}

fn marks(from_s: u32) -> impl Iterator<Item = u32> {
    let start = (0 < from_s).then_some(from_s);
    start.into_iter().chain(MARKS_S.into_iter().filter(move |mark| *mark < from_s))
}

fn notice_of(in_s: Option<u32>, reason: &str) -> ShutdownNotice {
    ShutdownNotice { in_s, reason: reason.into() }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(from_s: u32, cancel_at_s: Option<u64>) -> (bool, Vec<(u64, u32)>) {
        let (start, cancel) = (Instant::now(), CancellationToken::new());
        let mut told = Vec::new();
        let counted = {
            let counting = count_down(from_s, &cancel, |left| told.push((start.elapsed().as_secs(), left)));
            let cancelling = async {
                match cancel_at_s {
                    Some(at) => tokio::time::sleep(Duration::from_secs(at)).await,
                    None => std::future::pending().await,
                }
                cancel.cancel();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                counted = counting => counted,
                () = cancelling => unreachable!("it is pending"),
            }
        };
        (counted, told)
    }

    #[tokio::test(start_paused = true)]
    async fn players_are_told_at_the_start_and_at_every_mark_below() {
        let start = Instant::now();
        let (ended, marks) = told(60, None).await;
        assert!(ended);
        assert_eq!(marks, [(0, 60), (30, 30), (50, 10), (55, 5), (56, 4), (57, 3), (58, 2), (59, 1)]);
        assert_eq!(start.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_countdown_has_its_own_start() {
        assert_eq!(told(7, None).await, (true, vec![(0, 7), (2, 5), (3, 4), (4, 3), (5, 2), (6, 1)]));
        assert_eq!(told(90, Some(31)).await.1, [(0, 90), (30, 60)]);
        assert_eq!(told(0, None).await, (true, vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_countdown_does_not_end_in_the_end() {
        let (ended, marks) = told(10, Some(6)).await;
        assert!(!ended);
        assert_eq!(marks, [(0, 10), (5, 5), (6, 4)].map(|mark: (u64, u32)| mark)[..marks.len()]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_countdown_runs_at_a_time() {
        let countdown = Countdown::default();
        assert_eq!(countdown.notice(), None);
        let cancel = countdown.begin(Duration::from_secs(60), "update").unwrap();
        assert!(countdown.begin(Duration::from_secs(5), "again").is_none());
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(countdown.notice(), Some(notice_of(Some(40), "update")));
        countdown.stop().unwrap().cancel.cancel();
        assert!(cancel.is_cancelled() && !countdown.is_running());
    }
}
