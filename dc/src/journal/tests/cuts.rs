//! A damaged journal is cut before the damage: dc starts on what was before, what follows is set aside, and what it had is told.

use std::path::Path;

use proto::internal::{AuditRecord, Relation, RelationTo};

use super::*;
use crate::{journal::cut::Cut, ledger::facts::Fact};

/// The segments of a journal with changes 1 to 12, in a folder of its own.
fn on_disk() -> (tempfile::TempDir, Vec<(u32, Vec<u8>)>) {
    let folder = tempfile::tempdir().unwrap();
    let segments = written(600, 12).contents();
    segments.iter().for_each(|(number, bytes)| put(folder.path(), *number, bytes));
    (folder, segments)
}

fn put(folder: &Path, number: u32, bytes: &[u8]) {
    std::fs::write(folder.join(segment::name(number)), bytes).unwrap();
}

fn cut(folder: &Path, dry_run: bool) -> Cut {
    super::super::cut(folder, 7, &mut Rng::new(3), dry_run).unwrap()
}

/// What a start on the folder replays.
fn found(folder: &Path) -> Vec<Lsn> {
    let mut lsns = Vec::new();
    open_on(Box::new(Disk::new(folder)), 600, 0, Rng::new(1), |entry| {
        lsns.push(entry.lsn);
        Ok(())
    })
    .unwrap();
    lsns
}

#[test]
fn what_is_behind_a_flipped_bit_is_set_aside_and_told() {
    let (folder, segments) = on_disk();
    let mut bad = segments[1].1.clone();
    let at = bad.len() / 2;
    bad[at] ^= 1;
    put(folder.path(), 2, &bad);
    let before: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let planned = cut(folder.path(), true);
    let after: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(before, after, "a dry run changes nothing");

    let done = cut(folder.path(), false);
    assert_eq!(done, planned);
    assert_eq!((done.damage.as_ref().unwrap().file.as_str(), done.files.len()), ("00000002.seg", segments.len() - 1));
    assert_eq!(found(folder.path()), (1..=done.last).collect::<Vec<_>>());
    assert!(verify(folder.path()).unwrap().is_sound());
    // The change that was hit is told by nobody; all others are.
    assert_eq!((done.lost.changes, done.lost.last), (12 - done.last - 1, Some(12)));
    assert_eq!(done.lost.players.keys().copied().collect::<Vec<_>>(), [1]);
    assert!(0 < done.lost.unreadable_bytes);
    for (number, bytes) in &segments[1..] {
        let aside = std::fs::read(done.aside.join(segment::name(*number))).unwrap();
        assert_eq!(&aside, if *number == 2 { &bad } else { bytes }, "nothing is deleted");
    }
    let mut journal = open_on(Box::new(Disk::new(folder.path())), 600, 0, Rng::new(1), |_| Ok(())).unwrap();
    journal.append(&[entry(done.last + 1)]).unwrap();
    drop(journal);
    assert_eq!(found(folder.path()).last(), Some(&(done.last + 1)), "and it goes on");
    assert_eq!(cut(folder.path(), false).damage, None);
}

#[test]
fn a_journal_that_is_damaged_from_its_first_byte_begins_anew() {
    let (folder, segments) = on_disk();
    put(folder.path(), 1, &[7; 500]);
    let done = cut(folder.path(), false);
    assert_eq!((done.last, done.files.len(), done.lost.unreadable_bytes), (0, segments.len(), 500));
    assert_eq!(found(folder.path()), [0; 0]);
    assert!(verify(folder.path()).unwrap().is_sound());
}

#[test]
fn what_is_behind_a_missing_segment_is_set_aside() {
    let (folder, segments) = on_disk();
    std::fs::remove_file(folder.path().join(segment::name(2))).unwrap();
    let done = cut(folder.path(), false);
    assert_eq!((done.files.len(), done.lost.unreadable_bytes), (segments.len() - 2, 0));
    assert_eq!(found(folder.path()), (1..=done.last).collect::<Vec<_>>());
}

#[test]
fn facts_that_are_lost_are_counted_and_their_players_named() {
    let memory = Memory::default();
    let (mut journal, _) = open_memory(&memory, 1 << 20, 0).unwrap();
    journal.append(&[entry(1)]).unwrap();
    let at = journal.size().bytes;
    let to = RelationTo { player: 8, name: "Bo".into(), relation: Relation::Friend.into() };
    let facts = [Fact::Audit(AuditRecord::default()), Fact::Relation { player: 7, to, since_ms: 1 }];
    let facts: Vec<Entry> = facts.into_iter().zip(3..).map(|(fact, lsn)| Entry::of_fact(lsn, Arc::new(fact))).collect();
    journal.append(&[entry(2)]).unwrap();
    journal.append(&facts).unwrap();
    drop(journal);
    let (_, mut bytes) = memory.contents().pop().unwrap();
    bytes[usize::try_from(at).unwrap() + 5] ^= 1;
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), 1, &bytes);
    let lost = cut(folder.path(), false).lost;
    assert_eq!((lost.changes, lost.facts, lost.first, lost.last), (0, 2, Some(3), Some(4)));
    assert_eq!(lost.players.into_iter().collect::<Vec<_>>(), [(7, String::new()), (8, "Bo".into())]);
}

#[test]
fn a_journal_of_a_newer_program_is_not_cut() {
    let (folder, segments) = on_disk();
    let (number, bytes) = segments.last().unwrap();
    let header = Header::read(bytes).unwrap();
    let mut newer = bytes.clone();
    let from = newer.len();
    record::put(&mut newer, header.salt, Kind::Mark, 0, (9, 99), |_| ());
    newer[from + 4] = 99;
    let crc = record::crc(header.salt, &newer[from..from + 36]);
    newer[from + 36..from + 40].copy_from_slice(&crc.to_le_bytes());
    put(folder.path(), *number, &newer);
    let refused = super::super::cut(folder.path(), 7, &mut Rng::new(3), false).unwrap_err().to_string();
    assert!(refused.contains("start a newer program"), "{refused}");
}

#[test]
fn a_journal_that_a_dc_has_is_not_cut() {
    let (folder, _) = on_disk();
    put(folder.path(), 1, &[7; 500]);
    let _taken = Folder::take_it(folder.path().to_owned()).unwrap();
    assert!(super::super::cut(folder.path(), 7, &mut Rng::new(3), false).unwrap_err().to_string().contains("another dc has this journal"));
}
