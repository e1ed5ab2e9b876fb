//! What waits in memory: events in order, numbered when they are taken in, so that a batch has no gaps.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use proto::{
    event::{Event, EventsDropped, event::Body},
    internal::EventsAppend,
};

use super::{BUFFER_BYTES_MAX, Subject};

/// A batch is closed at this size; one call carries it.
pub(super) const BATCH_BYTES_MAX: usize = 512 * 1024;
/// From here on there is no room for samples.
const SAMPLES_BYTES_MAX: usize = BUFFER_BYTES_MAX / 4 * 3;

// One event more than a batch's size must still fit a call.
const _: () = assert!(2 * BATCH_BYTES_MAX < proto::link::CALL_BODY_MAX);

/// Events in order.
#[derive(Debug)]
pub(super) struct Buffer {
    zone: String,
    process: String,
    incarnation: u64,
    events: VecDeque<(Event, usize)>,
    bytes: usize,
    /// Sequence of the next event, from 1.
    next: u64,
    /// Dropped and not yet told.
    samples_dropped: u64,
    others_dropped: u64,
}

impl Buffer {
    pub(super) fn new(zone: &str, process: &str, incarnation: u64) -> Self {
        let (zone, process) = (zone.to_owned(), process.to_owned());
        Self { zone, process, incarnation, events: VecDeque::new(), bytes: 0, next: 1, samples_dropped: 0, others_dropped: 0 }
    }

    /// Memory that the events take, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Takes an event in, and returns its id; `None` if there is no room for its class.
    pub(super) fn push(&mut self, now_ms: i64, subject: &Subject, body: Body, cause: Bytes) -> Option<Bytes> {
        let is_sample = matches!(body, Body::PlayerMoved(_));
        if if is_sample { SAMPLES_BYTES_MAX } else { BUFFER_BYTES_MAX } <= self.bytes {
            *(if is_sample { &mut self.samples_dropped } else { &mut self.others_dropped }) += 1;
            return None;
        }
        self.tell_dropped(now_ms);
        Some(self.append(now_ms, subject, body, cause))
    }

    /// The oldest events, up to the size of a batch.
    pub(super) fn take(&mut self) -> Option<EventsAppend> {
        let first_sequence = self.next - self.events.len() as u64;
        let mut taken = 0;
        let mut events = Vec::new();
        while taken < BATCH_BYTES_MAX
            && let Some((event, bytes)) = self.events.pop_front()
        {
            taken += bytes;
            events.push(event);
        }
        self.bytes -= taken;
        let producer = format!("{}/{}", self.process, self.incarnation);
        (!events.is_empty()).then_some(EventsAppend { producer, first_sequence, events })
    }

    fn tell_dropped(&mut self, now_ms: i64) {
        for (count, class) in [(std::mem::take(&mut self.samples_dropped), "samples"), (std::mem::take(&mut self.others_dropped), "all")] {
            if count > 0 {
                let body = Body::EventsDropped(EventsDropped { count, class: class.into() });
                self.append(now_ms, &Subject::default(), body, Bytes::new());
            }
        }
    }

    fn append(&mut self, now_ms: i64, subject: &Subject, body: Body, cause: Bytes) -> Bytes {
        let mut id = BytesMut::with_capacity(16);
        id.put_u64(self.incarnation);
        id.put_u64(self.next);
        let id = id.freeze();
        let event = Event {
            time_ms: now_ms,
            zone: self.zone.clone(),
            process: self.process.clone(),
            id: id.clone(),
            caused_by: cause,
            account: subject.account,
            player: subject.player,
            player_name: subject.player_name.clone(),
            session: subject.session,
            map: subject.map.clone(),
            line: subject.line,
            body: Some(body),
        };
        // The encoded length stands for the texts on the heap, the type's size for the rest.
        let bytes = prost::Message::encoded_len(&event) + size_of::<(Event, usize)>();
        self.next += 1;
        self.bytes += bytes;
        self.events.push_back((event, bytes));
        id
    }
}

#[cfg(test)]
mod tests {
    use proto::event::{PlayerMoved, ProcessState};

    use super::*;

    fn buffer() -> Buffer {
        Buffer::new("dev", "scene-1", 7)
    }

    fn push(buffer: &mut Buffer, text: &str) -> Option<Bytes> {
        buffer.push(1, &Subject::default(), Body::ProcessState(ProcessState { state: text.into() }), Bytes::new())
    }

    fn push_sample(buffer: &mut Buffer) -> Option<Bytes> {
        buffer.push(1, &Subject::default(), Body::PlayerMoved(PlayerMoved::default()), Bytes::new())
    }

    #[test]
    fn ids_are_the_incarnation_and_a_sequence_without_gaps() {
        let mut buffer = buffer();
        let ids: Vec<Bytes> = (0..3).map(|_| push(&mut buffer, "x").unwrap()).collect();
        assert_eq!(ids[0][..], [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1]);
        let batch = buffer.take().unwrap();
        assert_eq!((batch.producer.as_str(), batch.first_sequence), ("scene-1/7", 1));
        assert_eq!(batch.events.iter().map(|event| event.id.clone()).collect::<Vec<_>>(), ids);
        push(&mut buffer, "x");
        assert_eq!(buffer.take().unwrap().first_sequence, 4);
        assert_eq!((buffer.take(), buffer.bytes()), (None, 0));
    }

    #[test]
    fn samples_go_first_then_everything_and_both_are_told() {
        let mut buffer = buffer();
        let text = "x".repeat(10_000);
        while push_sample(&mut buffer).is_some() {
            push(&mut buffer, &text).unwrap();
        }
        assert!(buffer.bytes() < BUFFER_BYTES_MAX, "others still have room");
        while push(&mut buffer, &text).is_some() {}
        assert!(push_sample(&mut buffer).is_none());
        let (mut batches, before) = (Vec::new(), buffer.len());
        while let Some(batch) = buffer.take() {
            batches.push(batch);
        }
        assert_eq!(batches.iter().map(|batch| batch.events.len()).sum::<usize>(), before);
        push(&mut buffer, "room again").unwrap();
        let told = buffer.take().unwrap();
        let dropped: Vec<(u64, &str)> = told.events.iter().filter_map(|event| dropped(event)).collect();
        // The first sample dropped ended the first loop; the telling of it, with the next event, was its own event.
        assert_eq!(dropped, [(1, "samples"), (1, "all")]);
        assert_eq!(told.events.len(), 3);
        assert!(batches.iter().flat_map(|batch| &batch.events).any(|event| dropped_class(event) == Some("samples")));
    }

    fn dropped(event: &Event) -> Option<(u64, &str)> {
        match &event.body {
            Some(Body::EventsDropped(dropped)) => Some((dropped.count, &dropped.class)),
            _ => None,
        }
    }

    fn dropped_class(event: &Event) -> Option<&str> {
        dropped(event).map(|(_, class)| class)
    }

    #[test]
    fn a_batch_has_a_size() {
        let mut buffer = buffer();
        for _ in 0..100 {
            push(&mut buffer, &"x".repeat(10_000)).unwrap();
        }
        let first = buffer.take().unwrap();
        assert!(prost::Message::encoded_len(&first) <= BATCH_BYTES_MAX + 11_000);
        assert_eq!(buffer.take().unwrap().first_sequence, 1 + first.events.len() as u64);
    }
}
