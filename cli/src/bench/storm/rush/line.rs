//! What clients that waited in one line were told, and what came of it: whether the order was kept, and what the words were worth. Pure.
//!
//! Nobody joins behind somebody and comes to stand before him, so how many stand behind a client tells its place in the line: that
//! never changes while he waits, once all have joined, whoever passes in front.

use std::time::Duration;

use serde::Serialize;

use super::Told;

/// An answer may be on its way for so long, on a machine that is busy with hashes: who was answered so shortly before came with it.
const ON_ITS_WAY: Duration = Duration::from_millis(250);
/// Who waits for so long must have heard of its place. A login tells who has waited for a second, once a second.
const HEARD_WITHIN: Duration = Duration::from_secs(3);

/// One client's wait. Times are since the storm began.
#[derive(Clone, Debug, Default)]
pub(super) struct Waited {
    pub(super) asked: Duration,
    /// None: it did not get in.
    pub(super) answered: Option<Duration>,
    pub(super) words: Vec<Told>,
    /// How many words it had heard when it dropped its connection while it waited, if it did.
    pub(super) left_after: Option<usize>,
    /// How often it was told to ask again later.
    pub(super) put_off: usize,
}

/// Whether login let through in the order in which they joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(in crate::bench::storm) struct Order {
    /// Clients whose place in the line is known.
    pub(in crate::bench::storm) placed: usize,
    /// Logins that are under way at once, and may end in any order.
    pub(in crate::bench::storm) under_way: usize,
    /// Clients before whom more than that were answered who had joined after them.
    pub(in crate::bench::storm) overtaken: usize,
    /// The most places that anybody was late.
    pub(in crate::bench::storm) late_by_max: usize,
}

/// What those who waited were told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(in crate::bench::storm) struct Words {
    pub(in crate::bench::storm) count: usize,
    /// Clients that heard any.
    pub(in crate::bench::storm) told: usize,
    /// Clients that waited for three seconds or more and heard nothing of their place,
    pub(in crate::bench::storm) not_told: usize,
    /// or nothing of how long they would wait.
    pub(in crate::bench::storm) without_wait: usize,
    /// Words by which somebody stood farther back than before, but for those who pass.
    pub(in crate::bench::storm) grew: usize,
    /// The wait that clients were told first, beside what it became: half of the words missed by less than this,
    pub(in crate::bench::storm) wait_error_median_s: f64,
    /// which is this share of the real wait.
    pub(in crate::bench::storm) wait_error_median_share: f64,
}

/// Those who dropped their connection while they waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(in crate::bench::storm) struct Returners {
    pub(in crate::bench::storm) left: usize,
    /// Who were at their place, or let in, when they were heard of again.
    pub(in crate::bench::storm) kept_place: usize,
}

impl Waited {
    /// How many stand behind it, as it was told last.
    fn behind(&self) -> Option<u32> {
        self.words.last().map(Told::behind)
    }

    fn waited(&self) -> Duration {
        self.answered.unwrap_or_default().saturating_sub(self.asked)
    }
}

impl Order {
    /// Of clients of whom so many are under way at once.
    pub(super) fn of(clients: &[Waited], under_way: usize) -> Self {
        let mut placed: Vec<(u32, Duration)> = clients.iter().filter_map(|client| Some((client.behind()?, client.answered?))).collect();
        placed.sort_by_key(|(behind, _)| std::cmp::Reverse(*behind));
        let mut answers: Vec<Duration> = placed.iter().map(|(_, answered)| *answered).collect();
        answers.sort_unstable();
        let late_by = |(place, (_, answered)): (usize, &(u32, Duration))| {
            let before = answers.partition_point(|other| *other + ON_ITS_WAY < *answered);
            before.saturating_sub(place)
        };
        let late: Vec<usize> = placed.iter().enumerate().map(late_by).collect();
        Self {
            placed: placed.len(),
            under_way,
            overtaken: late.iter().filter(|late| under_way < **late).count(),
            late_by_max: late.into_iter().max().unwrap_or(0),
        }
    }
}

impl Words {
    /// Of clients whom so many passed.
    pub(super) fn of(clients: &[Waited], passers: u32) -> Self {
        let long = |client: &&Waited| HEARD_WITHIN <= client.waited();
        let grew = |client: &Waited| {
            let steps = client.words.iter().zip(client.words.iter().skip(1));
            steps.filter(|(before, after)| before.position + passers < after.position).count()
        };
        let mut errors: Vec<(f64, f64)> = clients.iter().filter_map(wait_error).collect();
        let mut median = |pick: fn(&(f64, f64)) -> f64| {
            errors.sort_by(|one, other| pick(one).total_cmp(&pick(other)));
            errors.get(errors.len() / 2).map_or(0.0, pick)
        };
        Self {
            count: clients.iter().map(|client| client.words.len()).sum(),
            told: clients.iter().filter(|client| !client.words.is_empty()).count(),
            not_told: clients.iter().filter(long).filter(|client| client.words.is_empty()).count(),
            without_wait: clients.iter().filter(long).filter(|client| client.words.iter().all(|told| told.wait.is_none())).count(),
            grew: clients.iter().map(grew).sum(),
            wait_error_median_s: median(|error| error.0),
            wait_error_median_share: median(|error| error.1),
        }
    }
}

/// By how much the first wait that it was told was wrong: in seconds, and as a share of the real one.
fn wait_error(client: &Waited) -> Option<(f64, f64)> {
    let (told, wait) = client.words.iter().find_map(|told| Some((told, told.wait?)))?;
    let real = client.answered?.saturating_sub(told.at).as_secs_f64();
    let error = (wait.as_secs_f64() - real).abs();
    Some((error, error / real.max(0.001)))
}

impl Returners {
    /// Of all clients, of whom some left.
    pub(super) fn of(clients: &[Waited]) -> Self {
        let left = || clients.iter().filter_map(|client| Some((client, client.left_after?)));
        // Who was let in before it heard of its place again: the order tells whether that was its turn.
        let kept = |(client, words): &(&Waited, usize)| {
            let before = words.checked_sub(1).and_then(|last| client.words.get(last));
            let (Some(before), Some(after)) = (before, client.words.get(*words)) else { return client.answered.is_some() };
            before.behind() <= after.behind()
        };
        Self { left: left().count(), kept_place: left().filter(kept).count() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn told(at: f64, position: u32, waiting: u32, wait: Option<f64>) -> Told {
        Told { at: secs(at), position, waiting, wait: wait.map(secs) }
    }

    /// A line of so many, of whom one is let in each second, and whom the first words reach after one.
    fn line(count: u32) -> Vec<Waited> {
        let client = |place: u32| Waited {
            words: vec![told(1.0, place, count, Some(f64::from(place)))],
            answered: Some(secs(1.0 + f64::from(place))),
            ..Waited::default()
        };
        (1..=count).map(client).collect()
    }

    #[test]
    fn a_line_that_is_worked_off_in_order_has_no_overtaken_and_right_words() {
        let clients = line(50);
        assert_eq!(Order::of(&clients, 0), Order { placed: 50, under_way: 0, overtaken: 0, late_by_max: 0 });
        let words = Words::of(&clients, 0);
        assert_eq!((words.count, words.told, words.not_told, words.without_wait, words.grew), (50, 50, 0, 0, 0));
        assert!(words.wait_error_median_s < 1e-9, "{words:?}");
    }

    #[test]
    fn who_is_answered_after_more_than_are_under_way_was_overtaken() {
        let mut clients = line(10);
        clients[2].answered = Some(secs(7.5));
        assert_eq!(Order::of(&clients, 3).overtaken, 0, "three are under way at once");
        assert_eq!(Order::of(&clients, 2), Order { placed: 10, under_way: 2, overtaken: 1, late_by_max: 3 });
        // Answers that come together come in any order.
        clients.iter_mut().for_each(|client| client.answered = Some(secs(9.0)));
        assert_eq!(Order::of(&clients, 0).overtaken, 0);
    }

    #[test]
    fn places_are_compared_by_who_stands_behind_whenever_they_were_told() {
        let early = Waited { words: vec![told(1.0, 80, 100, None)], answered: Some(secs(5.0)), ..Waited::default() };
        // Half of the line has gone meanwhile: 30 of 50 is behind 80 of 100.
        let late = Waited { words: vec![told(4.0, 31, 50, None)], answered: Some(secs(6.0)), ..Waited::default() };
        assert_eq!(Order::of(&[late.clone(), early.clone()], 0).overtaken, 0);
        let wrong = Waited { answered: Some(secs(4.5)), ..late };
        assert_eq!(Order::of(&[wrong, early], 0).overtaken, 1);
    }

    #[test]
    fn who_waits_long_must_be_told_and_who_stands_must_not_fall_back() {
        let silent = Waited { answered: Some(secs(3.0)), ..Waited::default() };
        let quick = Waited { answered: Some(secs(2.9)), ..Waited::default() };
        let vague = Waited { words: vec![told(1.0, 3, 9, None)], answered: Some(secs(4.0)), ..Waited::default() };
        let back =
            Waited { words: vec![told(1.0, 3, 9, Some(3.0)), told(2.0, 5, 9, None)], answered: Some(secs(5.0)), ..Waited::default() };
        let words = Words::of(&[silent, quick, vague, back.clone()], 0);
        assert_eq!((words.not_told, words.without_wait, words.grew), (1, 2, 1));
        assert!((words.wait_error_median_s - 1.0).abs() < 1e-9 && (words.wait_error_median_share - 0.25).abs() < 1e-9, "{words:?}");
        assert_eq!(Words::of(&[back], 2).grew, 0, "two passed");
    }

    #[test]
    fn who_comes_back_has_its_place_or_has_lost_it() {
        let words = |after: Told| vec![told(1.0, 40, 100, None), after];
        let left = |words, answered| Waited { words, answered, left_after: Some(1), ..Waited::default() };
        let kept = left(words(told(2.0, 30, 90, None)), Some(secs(9.0)));
        let lost = left(words(told(2.0, 90, 90, None)), Some(secs(9.0)));
        let let_in = left(vec![told(1.0, 1, 100, None)], Some(secs(2.0)));
        let gone = left(vec![told(1.0, 1, 100, None)], None);
        assert_eq!(Returners::of(&[kept, lost, let_in, gone, Waited::default()]), Returners { left: 4, kept_place: 2 });
    }
}
