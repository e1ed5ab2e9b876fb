//! Append, rotate, checkpoint, open again; and who may.

use super::*;

#[test]
fn segments_that_the_store_has_are_deleted_and_the_rest_is_replayed() {
    let memory = written(600, 12);
    let (mut journal, replayed) = open_memory(&memory, 600, 0).unwrap();
    assert_eq!(replayed.len(), 12);
    let before = journal.size();
    assert_eq!(before.bytes, memory.contents().iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>());
    journal.checkpoint(7);
    assert!(journal.size().segments < before.segments && journal.size().bytes < before.bytes);
    let first = Header::read(&memory.contents()[0].1).unwrap().stand.sequence;
    assert!(0 < first && first <= 7, "no segment goes that has a change which the store lacks");
    drop(journal);
    memory.crash(0);
    assert_eq!(super::replayed(&memory, 7).unwrap(), (8..=12).collect::<Vec<_>>());
    journal = open_memory(&memory, 600, 12).unwrap().0;
    journal.checkpoint(12);
    assert_eq!(journal.size().segments, 1, "the one that is written to stays");
    journal.append(&[entry(13)]).unwrap();
    drop(journal);
    assert_eq!(super::replayed(&memory, 12).unwrap(), [13]);
}

#[test]
fn a_checkpoint_leaves_all_that_the_store_lacks() {
    for applied in 0..=12 {
        let memory = written(600, 12);
        let (mut journal, _) = open_memory(&memory, 600, 0).unwrap();
        journal.checkpoint(applied);
        drop(journal);
        memory.crash(0);
        assert_eq!(replayed(&memory, applied).unwrap(), (applied + 1..=12).collect::<Vec<_>>());
    }
}

#[test]
fn a_store_that_is_older_than_the_journal_is_refused() {
    let memory = written(600, 12);
    open_memory(&memory, 600, 12).unwrap().0.checkpoint(12);
    let refused = format!("{:#}", replayed(&memory, 3).unwrap_err());
    assert!(refused.contains("changes 4 to ") && refused.contains("the database is older than the journal"), "{refused}");
}

#[test]
fn what_the_store_has_need_not_be_in_the_journal() {
    let memory = written(1 << 20, 3);
    let (mut journal, _) = open_memory(&memory, 1 << 20, 3).unwrap();
    journal.append(&[entry(6), entry(7)]).unwrap();
    drop(journal);
    assert_eq!(replayed(&memory, 5).unwrap(), [6, 7]);
    assert!(replayed(&memory, 4).is_err(), "change 5 is nowhere");
    let (journal, _) = open_memory(&memory, 1 << 20, 9).unwrap();
    assert_eq!(journal.last(), 9, "a store that is ahead");
    drop(journal);
    assert!(replayed(&memory, 8).is_err());
}

#[test]
fn a_write_that_is_refused_leaves_no_trace() {
    let memory = written(1 << 20, 2);
    let (mut journal, _) = open_memory(&memory, 1 << 20, 0).unwrap();
    let before = memory.contents();
    memory.fill(true);
    for _ in 0..3 {
        assert_eq!(journal.append(&[entry(3), entry(4)]).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(memory.contents(), before);
    }
    memory.fill(false);
    journal.append(&[entry(3)]).unwrap();
    drop(journal);
    assert_eq!(replayed(&memory, 0).unwrap(), [1, 2, 3]);
}

#[test]
fn a_start_on_a_full_disk_goes_on_when_there_is_room() {
    let memory = written(1 << 20, 2);
    memory.fill(true);
    let (mut journal, replayed) = open_memory(&memory, 1 << 20, 0).unwrap();
    assert_eq!(replayed.len(), 2);
    memory.fill(false);
    journal.append(&[entry(3)]).unwrap();
    drop(journal);
    assert_eq!(super::replayed(&memory, 0).unwrap(), [1, 2, 3]);
}

#[test]
fn a_journal_has_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let open = || super::super::open(folder.path(), 1 << 20, 0, Rng::new(1), |_| Ok(()));
    let first = open().unwrap();
    let refused = open().err().unwrap().to_string();
    assert!(refused.contains("another dc has this journal") && refused.contains(&std::process::id().to_string()), "{refused}");
    drop(first);
    let mut again = open().unwrap();
    again.append(&[entry(1)]).unwrap();
    again.sync();
    drop(again);
    assert_eq!(verify(folder.path()).unwrap().changes, 1);
}
