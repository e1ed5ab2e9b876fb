use proptest::prelude::*;

use super::*;

const GRACE: Duration = Duration::from_secs(60);

fn order(queue: &mut Queue<u32, u32>, now: Instant) -> Vec<u32> {
    queue.standings(now).map(|(_, value)| *value).collect()
}

#[test]
fn who_comes_first_is_first_and_the_full_queue_takes_nobody() {
    let (mut queue, now) = (Queue::new(2, GRACE), Instant::now());
    assert_eq!(queue.join(1, Rank::Ordinary, 10), Joined::Waits);
    assert_eq!(queue.join(2, Rank::Ordinary, 20), Joined::Waits);
    assert_eq!(queue.join(3, Rank::First, 30), Joined::Full(30), "nobody who waits loses its place");
    assert_eq!(queue.next(now).map(|(_, key, value)| (key, value)), Some((1, 10)));
    assert_eq!(queue.join(3, Rank::First, 30), Joined::Waits);
    assert_eq!(order(&mut queue, now), [30, 20], "who waits for nobody");
}

#[test]
fn who_comes_back_in_time_has_its_place() {
    let (mut queue, now) = (Queue::new(9, GRACE), Instant::now());
    for key in 1..=3 {
        queue.join(key, Rank::Ordinary, key);
    }
    assert_eq!(queue.leave(&1, now), Some(1));
    assert_eq!(queue.leave(&1, now + GRACE / 2), None, "its grace is not prolonged");
    assert_eq!(queue.next(now).map(|(_, key, _)| key), Some(2), "its turn passes it over");
    assert!(queue.is_away(&1));
    assert_eq!(queue.join(1, Rank::Ordinary, 11), Joined::Back);
    assert_eq!(order(&mut queue, now), [11, 3]);
    queue.leave(&1, now);
    assert_eq!(order(&mut queue, now + GRACE), [3]);
    assert_eq!(queue.join(1, Rank::Ordinary, 12), Joined::Waits, "too late: at the end");
    assert_eq!(order(&mut queue, now + GRACE), [3, 12]);
}

#[test]
fn a_second_one_with_the_same_key_takes_the_place() {
    let (mut queue, now) = (Queue::new(9, GRACE), Instant::now());
    queue.join(1, Rank::Ordinary, 1);
    queue.join(2, Rank::Ordinary, 2);
    assert_eq!(queue.join(1, Rank::Ordinary, 11), Joined::Replaced(1));
    assert_eq!(order(&mut queue, now), [11, 2]);
}

#[test]
fn whose_turn_was_not_yet_is_the_next_again() {
    let (mut queue, now) = (Queue::new(9, GRACE), Instant::now());
    queue.join(1, Rank::Ordinary, 1);
    queue.join(2, Rank::Ordinary, 2);
    let (place, key, value) = queue.next(now).expect("a turn");
    queue.put_back(place, key, value).expect("its place is free");
    assert_eq!(order(&mut queue, now), [1, 2]);
    let (place, key, value) = queue.next(now).expect("a turn");
    queue.join(1, Rank::Ordinary, 11);
    assert_eq!(queue.put_back(place, key, value), Err(1), "another one with the key waits by now");
}

#[test]
fn the_expected_wait_follows_the_pace() {
    let (mut queue, now) = (Queue::new(9, GRACE), Instant::now());
    queue.join(1, Rank::Ordinary, 1);
    queue.join(2, Rank::Ordinary, 2);
    let waits = |queue: &mut Queue<u32, u32>, now| queue.standings(now).map(|(standing, _)| standing.wait).collect::<Vec<_>>();
    assert_eq!(waits(&mut queue, now), [None, None]);
    for second in 0..10 {
        queue.passed(now + Duration::from_secs(second));
    }
    let last = now + Duration::from_secs(9);
    assert_eq!(waits(&mut queue, last), [1, 2].map(|seconds| Some(Duration::from_secs(seconds))));
    assert_eq!(waits(&mut queue, last + PACE_FRESH), [None, None], "of long ago");
}

#[test]
fn time_in_which_nobody_waited_is_no_turn() {
    let (mut queue, now) = (Queue::new(9, GRACE), Instant::now());
    queue.join(1, Rank::Ordinary, 1);
    for second in 0..10 {
        queue.passed(now + Duration::from_secs(second));
    }
    queue.next(now).expect("a turn");
    let later = now + Duration::from_secs(60);
    queue.join(2, Rank::Ordinary, 2);
    queue.passed(later);
    let wait = queue.standings(later).next().and_then(|(standing, _)| standing.wait);
    assert_eq!(wait, Some(Duration::from_secs(1)));
}

#[derive(Clone, Debug)]
enum Step {
    Join(u32, bool),
    Leave(u32),
    Next,
    NotYet,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u32..12, proptest::bool::weighted(0.2)).prop_map(|(key, first)| Step::Join(key, first)),
        2 => (0u32..12).prop_map(Step::Leave),
        2 => Just(Step::Next),
        1 => Just(Step::NotYet),
        1 => (0u64..40).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..120)
}

proptest! {
    /// The model: a list in order, each with its rank and, if it is away, until when.
    #[test]
    fn the_order_is_that_of_a_list(steps in steps()) {
        let max = 8;
        let (mut queue, mut now) = (Queue::new(max, GRACE), Instant::now());
        let mut model: Vec<(u32, Rank, Option<Instant>)> = Vec::new();
        for step in steps {
            match step {
                Step::Join(key, first) => {
                    let rank = if first { Rank::First } else { Rank::Ordinary };
                    let joined = queue.join(key, rank, key);
                    let waiting = model.len();
                    match model.iter_mut().find(|one| one.0 == key) {
                        Some(one) => {
                            prop_assert_eq!(joined, if one.2.is_some() { Joined::Back } else { Joined::Replaced(key) });
                            one.2 = None;
                        }
                        None if waiting == max => prop_assert_eq!(joined, Joined::Full(key)),
                        None => {
                            prop_assert_eq!(joined, Joined::Waits);
                            let at = model.iter().position(|one| rank < one.1).unwrap_or(model.len());
                            model.insert(at, (key, rank, None));
                        }
                    }
                }
                Step::Leave(key) => {
                    let here = model.iter_mut().find(|one| one.0 == key && one.2.is_none());
                    prop_assert_eq!(queue.leave(&key, now), here.as_ref().map(|one| one.0));
                    if let Some(one) = here {
                        one.2 = Some(now + GRACE);
                    }
                }
                Step::Next => {
                    model.retain(|one| one.2.is_none_or(|end| now < end));
                    let at = model.iter().position(|one| one.2.is_none());
                    prop_assert_eq!(queue.next(now).map(|(_, key, _)| key), at.map(|at| model.remove(at).0));
                }
                Step::NotYet => {
                    model.retain(|one| one.2.is_none_or(|end| now < end));
                    if let Some((place, key, value)) = queue.next(now) {
                        prop_assert!(queue.put_back(place, key, value).is_ok());
                    }
                }
                Step::Wait(seconds) => now += Duration::from_secs(seconds),
            }
            model.retain(|one| one.2.is_none_or(|end| now < end));
            let expected: Vec<u32> = model.iter().filter(|one| one.2.is_none()).map(|one| one.0).collect();
            prop_assert_eq!(order(&mut queue, now), expected);
            prop_assert_eq!(queue.len(), model.len());
            let positions: Vec<usize> = queue.standings(now).map(|(standing, _)| standing.position).collect();
            let expected: Vec<usize> = (1..).zip(&model).filter(|(_, one)| one.2.is_none()).map(|(position, _)| position).collect();
            prop_assert_eq!(positions, expected);
        }
    }
}
