//! The writer over real files, and over a disk that is full or fails; and what a start makes of damaged files.

use std::{path::Path, sync::atomic::AtomicBool};

use proto::event::Event;

use super::*;
use crate::{recovery, volume::Disk};

/// What came of each batch, in the order of the answers.
type Answers = Arc<Mutex<Vec<Result<u64, CallFaultCode>>>>;

struct Bench {
    writer: Writer,
    answers: Answers,
}

impl Bench {
    /// Starts over what is in the folder.
    fn start(process: &Path, segment_bytes_max: u64) -> Self {
        let recovered = recovery::recover(process).expect("recovered");
        Self::over(Box::new(Disk::new(process)), recovered, segment_bytes_max)
    }

    fn over(volume: Box<dyn Volume>, recovered: Recovered, segment_bytes_max: u64) -> Self {
        let catalog = Catalog::new(recovered.segments.clone());
        let writer = Writer::open(volume, recovered, segment_bytes_max, catalog, Tail::default()).expect("opened");
        Self { writer, answers: Answers::default() }
    }

    /// Stores the batches as one group, and returns what was answered.
    fn store(&mut self, batches: &[EventsAppend]) -> Result<Vec<Result<u64, CallFaultCode>>, Fatal> {
        let answers = Arc::clone(&self.answers);
        let item = |batch: &EventsAppend| {
            let answers = Arc::clone(&answers);
            let reply: Reply = Box::new(move |stored| {
                answers.lock().unwrap().push(stored.map(|stored| stored.highest_sequence).map_err(|fault| fault.code()));
            });
            (batch.clone(), reply)
        };
        self.writer.store(batches.iter().map(item))?;
        Ok(std::mem::take(&mut *self.answers.lock().unwrap()))
    }
}

/// `count` events whose `player` is their sequence.
fn batch(producer: &str, first_sequence: u64, count: u64) -> EventsAppend {
    let event = |player| Event { player, time_ms: player as i64, ..Event::default() };
    let events = (first_sequence..first_sequence + count).map(event).collect();
    EventsAppend { producer: producer.into(), first_sequence, events }
}

/// What is stored, read back as a new start would.
fn stored(process: &Path) -> Vec<u64> {
    let folder = segment::folder(process);
    let recovered = recovery::recover(process).expect("recovered");
    let query = serde_json::from_str(r#"{"order":"oldest","limit":10000}"#).expect("a query");
    let query = crate::query::Query::parse(query).expect("a query");
    let found = crate::scan::scan(&folder, &recovered.segments, &query, &AtomicBool::new(false)).expect("read");
    found.events.iter().map(|event| event.player).collect()
}

fn newest(process: &Path) -> std::path::PathBuf {
    let folder = segment::folder(process);
    segment::path(&folder, *segment::numbers(&folder).expect("listed").last().expect("a segment"))
}

const NO_ROTATION: u64 = 1 << 40;

#[test]
fn what_was_acknowledged_is_there_after_a_restart_and_a_resend_adds_nothing() {
    let data = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(data.path(), NO_ROTATION);
    let group = [batch("a/1", 1, 3), batch("b/1", 1, 2), batch("a/1", 1, 3), batch("a/1", 3, 3)];
    assert_eq!(bench.store(&group).unwrap(), [Ok(3), Ok(2), Ok(3), Ok(5)]);
    drop(bench);
    assert_eq!(stored(data.path()), [1, 1, 2, 2, 3, 4, 5]);

    let mut bench = Bench::start(data.path(), NO_ROTATION);
    assert_eq!(
        bench.store(&[batch("a/1", 1, 5), batch("a/1", 6, 1), batch("", 1, 1)]).unwrap(),
        [Ok(5), Ok(6), Err(CallFaultCode::CallInvalid)]
    );
    drop(bench);
    assert_eq!(stored(data.path()), [1, 1, 2, 2, 3, 4, 5, 6]);
}

#[test]
fn segments_rotate_and_a_start_with_or_without_the_index_finds_the_same() {
    let data = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(data.path(), 200);
    for sequence in 1..=60 {
        assert_eq!(bench.store(&[batch("a/1", sequence, 1)]).unwrap(), [Ok(sequence)]);
    }
    let catalog = bench.writer.catalog.clone();
    assert!(catalog.segments().len() > 3);
    assert_eq!(catalog.totals().events, 60);
    drop(bench);
    let with = recovery::recover(data.path()).unwrap();
    assert_eq!(with.segments, catalog.segments());
    std::fs::remove_file(data.path().join("index.json")).unwrap();
    let without = recovery::recover(data.path()).unwrap();
    assert_eq!((with.segments, with.producers), (without.segments, without.producers));
    assert_eq!(stored(data.path()), (1..=60).collect::<Vec<_>>());
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_the_rest_serves_on() {
    let data = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(data.path(), NO_ROTATION);
    bench.store(&[batch("a/1", 1, 2)]).unwrap();
    let keep = bench.writer.open.bytes as usize;
    bench.store(&[batch("a/1", 3, 2)]).unwrap();
    drop(bench);
    let file = newest(data.path());
    let whole = std::fs::read(&file).unwrap();
    for end in keep..whole.len() {
        std::fs::write(&file, &whole[..end]).unwrap();
        assert_eq!(stored(data.path()), [1, 2], "torn at byte {end}");
        assert_eq!(std::fs::metadata(&file).unwrap().len() as usize, keep);
    }
    let mut bench = Bench::start(data.path(), NO_ROTATION);
    assert_eq!(bench.store(&[batch("a/1", 3, 2)]).unwrap(), [Ok(4)], "what was torn was not acknowledged and is sent again");
    drop(bench);
    assert_eq!(stored(data.path()), [1, 2, 3, 4]);
    assert_eq!(std::fs::read(&file).unwrap(), whole);
}

#[test]
fn a_bit_flipped_in_the_middle_is_refused_wherever_it_is() {
    let data = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(data.path(), NO_ROTATION);
    bench.store(&[batch("a/1", 1, 1)]).unwrap();
    let middle = bench.writer.open.bytes as usize;
    bench.store(&[batch("a/1", 2, 1)]).unwrap();
    drop(bench);
    let file = newest(data.path());
    let whole = std::fs::read(&file).unwrap();
    for bit in 0..middle * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&file, &flipped).unwrap();
        let err = format!("{:#}", recovery::recover(data.path()).expect_err("refused"));
        assert!(err.contains("00000001.seg at byte "), "bit {bit}: {err}");
        assert_eq!(std::fs::read(&file).unwrap(), flipped, "a refused file is left as it is");
    }
}

#[test]
fn a_segment_made_by_a_crash_is_removed_and_a_missing_one_refused() {
    let data = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(data.path(), 64);
    for sequence in 1..=8 {
        bench.store(&[batch("a/1", sequence, 1)]).unwrap();
    }
    drop(bench);
    let folder = segment::folder(data.path());
    let last = *segment::numbers(&folder).unwrap().last().unwrap();
    std::fs::write(segment::path(&folder, last + 1), &segment::header(last + 1)[..7]).unwrap();
    assert_eq!(stored(data.path()), (1..=8).collect::<Vec<_>>());
    assert!(!segment::path(&folder, last + 1).exists());

    let second = std::fs::read(segment::path(&folder, 2)).unwrap();
    std::fs::write(segment::path(&folder, 2), &second[..second.len() - 1]).unwrap();
    let err = format!("{:#}", recovery::recover(data.path()).expect_err("refused"));
    assert!(err.contains("00000002.seg") && err.contains("when it was closed"), "{err}");
    std::fs::remove_file(data.path().join("index.json")).unwrap();
    let err = format!("{:#}", recovery::recover(data.path()).expect_err("refused"));
    assert!(err.contains("00000002.seg at byte "), "{err}");
    std::fs::remove_file(segment::path(&folder, 2)).unwrap();
    let err = format!("{:#}", recovery::recover(data.path()).expect_err("refused"));
    assert!(err.contains("00000002.seg is missing"), "{err}");
}

/// A disk that does as it is told.
#[derive(Clone, Default)]
struct Sick {
    full: Arc<AtomicBool>,
    fails_sync: Arc<AtomicBool>,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Volume for Sick {
    fn make(&mut self, number: u32) -> io::Result<Box<dyn Medium>> {
        if self.full.load(Ordering::Relaxed) {
            return Err(ErrorKind::StorageFull.into());
        }
        *self.bytes.lock().unwrap() = segment::header(number).to_vec();
        Ok(Box::new(self.clone()))
    }

    fn reopen(&mut self, _number: u32) -> io::Result<Box<dyn Medium>> {
        Ok(Box::new(self.clone()))
    }

    fn put_index(&mut self, _index: &Index) -> io::Result<()> {
        Ok(())
    }
}

impl Medium for Sick {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let full = self.full.load(Ordering::Relaxed);
        let fits = if full { bytes.len() / 2 } else { bytes.len() };
        self.bytes.lock().unwrap().extend_from_slice(&bytes[..fits]);
        if full { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.fails_sync.load(Ordering::Relaxed) { Err(io::Error::other("EIO")) } else { Ok(()) }
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.bytes.lock().unwrap().truncate(length as usize);
        Ok(())
    }
}

#[test]
fn a_full_disk_refuses_and_resumes_by_itself() {
    let sick = Sick::default();
    let mut bench = Bench::over(Box::new(sick.clone()), Recovered::default(), NO_ROTATION);
    assert_eq!(bench.store(&[batch("a/1", 1, 1)]).unwrap(), [Ok(1)]);
    let before = sick.bytes.lock().unwrap().clone();
    sick.full.store(true, Ordering::Relaxed);
    // The resend rests on the batch before it, which is not stored either.
    let refused = Err(CallFaultCode::CallUnavailable);
    assert_eq!(bench.store(&[batch("a/1", 2, 1), batch("a/1", 2, 1)]).unwrap(), [refused, refused]);
    assert_eq!(*sick.bytes.lock().unwrap(), before, "nothing half written is left");
    assert!(bench.writer.catalog.totals().disk_full);
    assert_eq!(bench.store(&[batch("a/1", 1, 1)]).unwrap(), [Ok(1)], "what is stored is acknowledged again");
    sick.full.store(false, Ordering::Relaxed);
    assert_eq!(bench.store(&[batch("a/1", 2, 1)]).unwrap(), [Ok(2)]);
    assert!(!bench.writer.catalog.totals().disk_full);
    assert_eq!(bench.writer.catalog.totals().events, 2);
}

#[test]
fn a_full_disk_at_rotation_lets_the_segment_grow() {
    let sick = Sick::default();
    let mut bench = Bench::over(Box::new(sick.clone()), Recovered::default(), 1);
    bench.store(&[batch("a/1", 1, 1)]).unwrap();
    assert_eq!(bench.writer.open.number, 2);
    sick.full.store(true, Ordering::Relaxed);
    bench.writer.open.bytes = 100;
    bench.writer.rotate().unwrap();
    assert_eq!(bench.writer.open.number, 2);
    sick.full.store(false, Ordering::Relaxed);
    bench.writer.rotate().unwrap();
    assert_eq!(bench.writer.open.number, 3);
}

#[test]
fn a_failed_sync_is_fatal_and_answers_nobody() {
    let sick = Sick::default();
    let mut bench = Bench::over(Box::new(sick.clone()), Recovered::default(), NO_ROTATION);
    sick.fails_sync.store(true, Ordering::Relaxed);
    let fatal = bench.store(&[batch("a/1", 1, 1)]).unwrap_err();
    assert!(fatal.to_string().starts_with("sync events"), "{fatal}");
    assert!(bench.answers.lock().unwrap().is_empty());
    assert_eq!(Arc::strong_count(&bench.answers), 2, "the reply is not dropped either: a dropped call answers");
}

#[test]
fn a_closed_queue_stores_what_waits_and_refuses_the_rest() {
    let data = tempfile::tempdir().unwrap();
    let recovered = recovery::recover(data.path()).unwrap();
    let (ingest, thread) = start(Box::new(Disk::new(data.path())), recovered, NO_ROTATION, Catalog::default(), Tail::default()).unwrap();
    let (to, answers) = channel();
    let offer = |sequence, bytes| {
        let to = to.clone();
        let reply: Reply = Box::new(move |stored| to.send(stored.map_err(|fault| fault.code())).unwrap());
        ingest.offer(batch("a/1", sequence, 1), bytes, reply);
    };
    offer(1, WAITING_BYTES_MAX + 1);
    assert_eq!(answers.recv().unwrap(), Err(CallFaultCode::CallUnavailable));
    (1..=20).for_each(|sequence| offer(sequence, 100));
    ingest.close();
    thread.join().unwrap();
    for highest_sequence in 1..=20 {
        assert_eq!(answers.recv().unwrap(), Ok(EventsStored { highest_sequence }));
    }
    offer(21, 100);
    assert_eq!(answers.recv().unwrap(), Err(CallFaultCode::CallUnavailable));
    assert_eq!(ingest.waiting.load(Ordering::Relaxed), 0);
    assert_eq!(stored(data.path()), (1..=20).collect::<Vec<_>>());
}
