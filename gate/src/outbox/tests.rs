//! What a client gets over any cuts and resumes, and what an outbox holds while a client does not read.

use proptest::prelude::*;
use proto::{
    ClientMessage, Frame,
    client::{CellMoves, Heartbeat, Resumed, Said},
    frame,
    kinds::Direction,
};

use super::*;

fn said(number: u64, padding: usize) -> Bytes {
    Frame::encode(0, &Said { text: format!("{number}{}", "x".repeat(padding)), ..Said::default() }).into_bytes()
}

fn moves(tick: u32) -> Bytes {
    Frame::encode(0, &CellMoves { tick, ..CellMoves::default() }).into_bytes()
}

fn key(group: u64) -> FrameKey {
    FrameKey { link: 1, group: Some(group), kind: CellMoves::KIND }
}

fn resumed(missed: u32) -> Bytes {
    Frame::encode(1, &Resumed { missed, ..Resumed::default() }).into_bytes()
}

fn connected(unsent_max: usize) -> Outbox {
    let mut outbox = Outbox::new(unsent_max);
    outbox.attach();
    outbox
}

/// A client that counts as the protocol says, and remembers what was said.
#[derive(Default)]
struct Client {
    buffer: BytesMut,
    said: Vec<u64>,
    moves: Vec<u32>,
}

impl Client {
    fn read(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        while let Some(frame) = frame::split(&mut self.buffer, Direction::ToClient).unwrap() {
            match frame.kind() {
                Said::KIND => self.said.push(frame.decode::<Said>().unwrap().text.trim_end_matches('x').parse().unwrap()),
                CellMoves::KIND => self.moves.push(frame.decode::<CellMoves>().unwrap().tick),
                _ => {}
            }
        }
    }

    fn received(&self) -> u64 {
        self.said.len() as u64
    }
}

fn take_all(outbox: &mut Outbox, client: &mut Client) {
    let mut buffer = BytesMut::new();
    while outbox.take(&mut buffer, 1 << 16) {
        client.read(&buffer.split());
        outbox.written(0);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Say,
    Move(u64),
    Beat,
    Write { bytes_max: usize },
    Ack,
    Cut { per_mille: usize },
    Resume,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Say),
        4 => (0u64..3).prop_map(Step::Move),
        1 => Just(Step::Beat),
        4 => (1usize..200).prop_map(|bytes_max| Step::Write { bytes_max }),
        2 => Just(Step::Ack),
        2 => (0usize..=1000).prop_map(|per_mille| Step::Cut { per_mille }),
        3 => Just(Step::Resume),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn over_any_cuts_and_resumes_a_client_gets_each_reliable_message_once_in_order(steps in steps()) {
        let mut outbox = connected(1 << 20);
        let (mut client, mut attached, mut sent) = (Client::default(), true, 0u64);
        for step in steps {
            match step {
                Step::Say => {
                    sent += 1;
                    prop_assert_eq!(outbox.push_reliable(said(sent, 0)), Verdict::Fine);
                }
                Step::Move(group) => outbox.push_frame(key(group), moves(1)),
                Step::Beat => outbox.push_control(Frame::encode(0, &Heartbeat::default()).into_bytes()),
                Step::Write { bytes_max } if attached => {
                    let mut buffer = BytesMut::new();
                    if outbox.take(&mut buffer, bytes_max) {
                        client.read(&buffer);
                        outbox.written(0);
                    }
                }
                Step::Ack if attached => prop_assert_eq!(outbox.ack(client.received()), Ok(())),
                Step::Cut { per_mille } if attached => {
                    // The last write arrives in part.
                    let mut buffer = BytesMut::new();
                    outbox.take(&mut buffer, 500);
                    client.read(&buffer[..buffer.len() * per_mille / 1000]);
                    client.buffer.clear();
                    outbox.detach();
                    attached = false;
                }
                Step::Resume => {
                    client.buffer.clear();
                    let missed = outbox.resume(client.received(), resumed).unwrap();
                    prop_assert_eq!(u64::from(missed), sent - client.received());
                    attached = true;
                }
                Step::Write { .. } | Step::Ack | Step::Cut { .. } => {}
            }
        }
        client.buffer.clear();
        outbox.resume(client.received(), resumed).unwrap();
        take_all(&mut outbox, &mut client);
        prop_assert_eq!(client.said, (1..=sent).collect::<Vec<_>>());
    }

    #[test]
    fn whatever_comes_a_client_that_reads_nothing_costs_a_bounded_number_of_bytes(
        lengths in proptest::collection::vec((any::<bool>(), 0usize..400, 0u64..20), 0..400)
    ) {
        const UNSENT_MAX: usize = 4096;
        let mut outbox = connected(UNSENT_MAX);
        let longest = said(u64::MAX, 400).len();
        for (reliable, length, group) in lengths {
            if reliable {
                let _ = outbox.push_reliable(said(1, length));
            } else {
                outbox.push_frame(key(group), said(1, length));
            }
            prop_assert!(outbox.bytes() <= UNSENT_MAX * UNACKED_FACTOR + longest);
            prop_assert!(!outbox.attached || outbox.unsent_bytes() <= UNSENT_MAX);
            let (queued, frames) = sums(&outbox);
            prop_assert_eq!((outbox.queued_bytes, outbox.frame_bytes), (queued, frames));
        }
    }
}

/// Bytes in the queue, and those of frames, counted anew.
fn sums(outbox: &Outbox) -> (usize, usize) {
    let (mut queued, mut frames, mut place) = (0, 0, outbox.untaken_place());
    for entry in &outbox.queue {
        match entry {
            Entry::Control(bytes) => queued += bytes.len(),
            Entry::Reliable => {
                queued += outbox.unacked[place].len();
                place += 1;
            }
            Entry::Frame(_, bytes) => {
                queued += bytes.len();
                frames += bytes.len();
            }
            Entry::Gone => {}
        }
    }
    (queued, frames)
}

#[test]
fn a_client_that_keeps_up_gets_every_frame() {
    let mut outbox = connected(1 << 16);
    (1..=5).for_each(|tick| outbox.push_frame(key(1), moves(tick)));
    let mut client = Client::default();
    take_all(&mut outbox, &mut client);
    assert_eq!(client.moves, [1, 2, 3, 4, 5]);
    assert_eq!(outbox.dropped_since(), 0);
}

#[test]
fn behind_the_newest_frame_of_a_group_replaces_the_older() {
    let length = moves(1).len();
    let mut outbox = connected(length * 8);
    for tick in 1..=100 {
        outbox.push_frame(key(1), moves(tick));
        outbox.push_frame(key(2), moves(tick + 1000));
    }
    assert_eq!(outbox.push_reliable(said(7, 0)), Verdict::Fine);
    let mut client = Client::default();
    take_all(&mut outbox, &mut client);
    assert_eq!(client.moves, [100, 1100]);
    assert_eq!(client.said, [7]);
    assert_eq!(outbox.dropped_since(), 198);
}

#[test]
fn a_reliable_message_takes_the_room_of_frames() {
    let mut outbox = connected(1000);
    (0..15).for_each(|group| outbox.push_frame(key(group), said(1, 30)));
    assert_eq!(outbox.push_reliable(said(2, 800)), Verdict::Fine);
    let mut client = Client::default();
    take_all(&mut outbox, &mut client);
    assert_eq!(client.said, [2]);
}

#[test]
fn a_client_that_is_too_slow_resumes_and_gets_all() {
    let mut outbox = connected(1000);
    let mut sent = 0;
    loop {
        sent += 1;
        if outbox.push_reliable(said(sent, 100)) == Verdict::TooSlow {
            break;
        }
    }
    let mut client = Client::default();
    assert_eq!(outbox.resume(0, resumed), Ok(u32::try_from(sent).unwrap()));
    // More than the bound waits after a resume; that alone is no slowness.
    assert_eq!(outbox.push_reliable(said(sent + 1, 100)), Verdict::Fine);
    take_all(&mut outbox, &mut client);
    assert_eq!(client.said, (1..=sent + 1).collect::<Vec<_>>());
}

#[test]
fn a_lost_session_that_misses_too_much_is_stale_and_holds_nothing() {
    let mut outbox = connected(1000);
    outbox.detach();
    for number in 1..1000 {
        assert_eq!(outbox.push_reliable(said(number, 100)), Verdict::Fine);
    }
    assert!(outbox.is_stale());
    assert_eq!(outbox.bytes(), 0);
    assert_eq!(outbox.resume(0, resumed), Err(Impossible));
    outbox.restart();
    assert_eq!(outbox.push_reliable(said(1, 0)), Verdict::Fine);
    assert_eq!(outbox.resume(0, resumed), Ok(1));
}

#[test]
fn a_client_that_never_acknowledges_is_asked_and_then_closed() {
    let mut outbox = connected(1000);
    let (mut asked, mut client) = (0, Client::default());
    let verdict = loop {
        let verdict = outbox.push_reliable(said(1, 100));
        asked += u32::from(outbox.wants_ack());
        take_all(&mut outbox, &mut client);
        if verdict == Verdict::TooSlow || 1000 < client.said.len() {
            break verdict;
        }
    };
    assert_eq!(verdict, Verdict::TooSlow);
    assert!(2 <= asked, "asked {asked} times");
}

#[test]
fn counts_that_cannot_be_are_refused() {
    let mut outbox = connected(1 << 16);
    let mut client = Client::default();
    for number in 1..=5 {
        assert_eq!(outbox.push_reliable(said(number, 0)), Verdict::Fine);
    }
    assert_eq!(outbox.ack(1), Err(Impossible), "nothing was written yet");
    take_all(&mut outbox, &mut client);
    assert_eq!(outbox.ack(6), Err(Impossible));
    assert_eq!(outbox.ack(3), Ok(()));
    assert_eq!(outbox.ack(2), Ok(()), "an older acknowledgement that comes late is no fault");
    outbox.detach();
    assert_eq!(outbox.resume(2, resumed), Err(Impossible), "it had acknowledged 3");
    assert_eq!(outbox.resume(6, resumed), Err(Impossible));
    assert_eq!(outbox.resume(5, resumed), Ok(0));
}
