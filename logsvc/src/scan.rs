//! Finds stored events: reads segments from the end that the reader wants first, until there are enough.

use std::{
    collections::VecDeque,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use prost::Message;
use proto::event::Event;

use crate::{
    catalog::SegmentFacts,
    query::{Order, Query},
    segment::{ReadError, Reader},
};

/// Encoded bytes of found events. Full? No more are looked for, and the answer says so.
const FOUND_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What was found, in the order that was asked for.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Found {
    pub(crate) events: Vec<Event>,
    /// There was more than an answer may hold, although fewer than the limit.
    pub(crate) cut: bool,
}

/// Looks through the segments. Which events count as newest is decided by the order in which they were stored; within the answer they
/// are sorted by time. Blocks; ends early, with what it has, when `given_up` is set.
///
/// # Errors
/// When a segment is damaged.
pub(crate) fn scan(folder: &Path, segments: &[SegmentFacts], query: &Query, given_up: &AtomicBool) -> Result<Found, ReadError> {
    let wanted = |segment: &&SegmentFacts| query.filter.overlaps(segment.from_ms, segment.to_ms);
    let segments: Box<dyn Iterator<Item = &SegmentFacts>> = match query.order {
        Order::Newest => Box::new(segments.iter().rev().filter(wanted)),
        Order::Oldest => Box::new(segments.iter().filter(wanted)),
    };
    let mut found = Found::default();
    let mut room = FOUND_BYTES_MAX;
    for segment in segments {
        let left = query.limit - found.events.len();
        if left == 0 || found.cut || given_up.load(Ordering::Relaxed) {
            break;
        }
        let (events, cut) = scan_segment(folder, segment, query, (left, room), given_up)?;
        room -= events.iter().map(Event::encoded_len).sum::<usize>().min(room);
        found.cut = cut;
        match query.order {
            Order::Oldest => found.events.extend(events),
            Order::Newest => found.events.extend(events.into_iter().rev()),
        }
    }
    match query.order {
        Order::Oldest => found.events.sort_by_key(|event| event.time_ms),
        Order::Newest => found.events.sort_by_key(|event| std::cmp::Reverse(event.time_ms)),
    }
    Ok(found)
}

/// At most so many events and bytes of one segment, in the order in which they were stored, and whether the bytes were too many.
fn scan_segment(
    folder: &Path,
    segment: &SegmentFacts,
    query: &Query,
    (limit, room): (usize, usize),
    given_up: &AtomicBool,
) -> Result<(VecDeque<Event>, bool), ReadError> {
    let mut reader = Reader::open(folder, segment.number, segment.bytes)?;
    let (mut events, mut bytes, mut cut) = (VecDeque::new(), 0, false);
    while let Some(batch) = reader.next()?
        && !given_up.load(Ordering::Relaxed)
    {
        for event in batch.events.into_iter().filter(|event| query.filter.takes(event)) {
            bytes += event.encoded_len();
            events.push_back(event);
            if query.order == Order::Oldest && (limit <= events.len() || room <= bytes) {
                return Ok((events, room <= bytes));
            }
            while limit < events.len() || (room < bytes && 1 < events.len()) {
                cut |= events.len() <= limit;
                bytes -= events.pop_front().map_or(0, |event| event.encoded_len());
            }
        }
    }
    Ok((events, cut))
}

#[cfg(test)]
mod tests {
    use proto::internal::EventsAppend;

    use super::*;
    use crate::{query::RawQuery, segment};

    /// Two segments with the events of players 1 to 6, a second apart.
    fn stored(folder: &Path) -> Vec<SegmentFacts> {
        let segment = |number: u32, players: std::ops::RangeInclusive<u64>| {
            let (mut bytes, mut facts) = (segment::header(number).to_vec(), SegmentFacts::new(number));
            for player in players {
                let event = Event { player, time_ms: player as i64 * 1000, ..Event::default() };
                facts.count(std::slice::from_ref(&event));
                segment::put_record(&mut bytes, &EventsAppend { producer: "p".into(), first_sequence: player, events: vec![event] });
            }
            facts.bytes = bytes.len() as u64;
            std::fs::write(segment::path(folder, number), bytes).expect("written");
            facts
        };
        vec![segment(1, 1..=3), segment(2, 4..=6)]
    }

    fn players(folder: &Path, segments: &[SegmentFacts], query: &str) -> Vec<u64> {
        let raw: RawQuery = serde_json::from_str(query).expect("a query");
        let query = Query::parse(raw).expect("a query");
        let found = scan(folder, segments, &query, &AtomicBool::new(false)).expect("read");
        assert!(!found.cut);
        found.events.iter().map(|event| event.player).collect()
    }

    #[test]
    fn the_wanted_end_comes_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let segments = stored(folder.path());
        let players = |query| players(folder.path(), &segments, query);
        assert_eq!(players("{}"), [6, 5, 4, 3, 2, 1]);
        assert_eq!(players(r#"{"order":"oldest"}"#), [1, 2, 3, 4, 5, 6]);
        assert_eq!(players(r#"{"limit":2}"#), [6, 5]);
        assert_eq!(players(r#"{"limit":4}"#), [6, 5, 4, 3]);
        assert_eq!(players(r#"{"limit":4,"order":"oldest"}"#), [1, 2, 3, 4]);
        assert_eq!(players(r#"{"since_ms":2000,"until_ms":4000}"#), [3, 2]);
        assert_eq!(players(r#"{"player":"5"}"#), [5]);
    }

    #[test]
    fn segments_outside_the_time_are_not_opened_and_damage_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let segments = stored(folder.path());
        let damaged = segment::path(folder.path(), 1);
        let mut bytes = std::fs::read(&damaged).expect("read");
        bytes[30] ^= 1;
        std::fs::write(&damaged, bytes).expect("written");
        assert_eq!(players(folder.path(), &segments, r#"{"since_ms":4000}"#), [6, 5, 4]);
        let query = Query::parse(RawQuery::default()).expect("a query");
        let err = scan(folder.path(), &segments, &query, &AtomicBool::new(false)).expect_err("damaged");
        assert!(err.to_string().contains("00000001.seg at byte 16"), "{err}");
    }

    #[test]
    fn an_answer_has_a_bound_in_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        let segments = stored(folder.path());
        let query = Query::parse(RawQuery::default()).expect("a query");
        let one = Event { player: 6, time_ms: 6000, ..Event::default() }.encoded_len();
        let (events, cut) = scan_segment(folder.path(), &segments[1], &query, (100, 2 * one), &AtomicBool::new(false)).expect("read");
        assert_eq!((events.iter().map(|event| event.player).collect::<Vec<_>>(), cut), (vec![5, 6], true));
    }
}
