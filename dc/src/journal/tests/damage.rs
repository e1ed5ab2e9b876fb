//! What was done to the files, and what a start makes of it (FAULTS 46 to 49).

use super::{super::record::HEAD_BYTES, *};

/// Where each record of a segment begins, and where the last one ends.
fn records(bytes: &[u8]) -> Vec<usize> {
    let header = Header::read(bytes).unwrap();
    let mut scan = segment::Scan::new(bytes, &header);
    let mut begins = vec![scan.at];
    while let Some(record) = scan.next() {
        record.unwrap();
        begins.push(scan.at);
    }
    begins
}

/// The text of the refusal of a start on these segments; none if it starts.
fn refusal(segments: &[(u32, Vec<u8>)]) -> Option<String> {
    let memory = Memory::default();
    segments.iter().for_each(|(number, bytes)| memory.put(*number, bytes.clone()));
    let refused = replayed(&memory, 0).err().map(|err| format!("{err:#}"));
    if refused.is_some() {
        assert_eq!(memory.contents(), segments, "who refuses changes nothing");
    }
    refused
}

#[test]
fn a_tail_cut_at_any_byte_of_the_last_two_records_is_cut_off() {
    let (_, bytes) = written(1 << 20, 5).contents().pop().unwrap();
    let begins = records(&bytes);
    let [.., fourth, fifth, end] = begins[..] else { panic!("{begins:?}") };
    for length in fourth..=end {
        let memory = Memory::default();
        memory.put(1, bytes[..length].to_vec());
        let last = if length == end { 5 } else { 3 + u64::from(fifth <= length) };
        assert_eq!(replayed(&memory, 0).unwrap(), (1..=last).collect::<Vec<_>>(), "{length} bytes");
        assert_eq!(replayed(&memory, 0).unwrap().len() as u64, last, "a second start finds the same");
        let (mut journal, _) = open_memory(&memory, 1 << 20, 0).unwrap();
        journal.append(&[entry(last + 1)]).unwrap();
        drop(journal);
        assert_eq!(replayed(&memory, 0).unwrap().len() as u64, last + 1, "and it goes on from there");
    }
}

#[test]
fn every_flipped_bit_is_noticed_and_refused_unless_it_is_in_the_tail() {
    let (_, good) = written(1 << 20, 4).contents().pop().unwrap();
    let begins = records(&good);
    let last = begins[begins.len() - 2];
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let memory = Memory::default();
        memory.put(1, bad.clone());
        match replayed(&memory, 0) {
            Ok(found) => assert!(last <= bit / 8 && found == [1, 2, 3], "bit {bit} was not noticed: {found:?}"),
            Err(err) => {
                assert!(bit / 8 < last, "bit {bit} is in the tail: {err:#}");
                let place = if bit / 8 < segment::HEADER_BYTES { 0 } else { *begins.iter().rfind(|at| **at <= bit / 8).unwrap() };
                assert!(format!("{err:#}").contains(&format!("00000001.seg is damaged at byte {place}:")), "{err:#}");
                assert_eq!(memory.contents(), [(1, bad)], "who refuses changes nothing");
            }
        }
    }
}

#[test]
fn damage_in_a_closed_segment_is_refused_even_at_its_end() {
    let segments = written(600, 12).contents();
    assert!(3 <= segments.len(), "{}", segments.len());
    for length in [0, 1, segment::HEADER_BYTES, segment::HEADER_BYTES + HEAD_BYTES, segments[1].1.len() - 1] {
        let mut cut = segments.clone();
        cut[1].1.truncate(length);
        assert!(refusal(&cut).unwrap().contains("is damaged at byte"), "{length} bytes");
    }
}

#[test]
fn a_newest_segment_without_its_header_is_legal_and_a_missing_one_is_not() {
    let segments = written(600, 12).contents();
    let next = segments.last().unwrap().0 + 1;
    for header in [0, 1, segment::HEADER_BYTES - 1] {
        let mut torn = segments.clone();
        torn.push((next, vec![0; header]));
        assert_eq!(refusal(&torn), None, "{header} bytes");
        let memory = Memory::default();
        torn.iter().for_each(|(number, bytes)| memory.put(*number, bytes.clone()));
        assert_eq!(replayed(&memory, 0).unwrap().len(), 12);
        assert_eq!(replayed(&memory, 0).unwrap().len(), 12, "and the segment is there now");
    }
    let mut missing = segments.clone();
    missing.remove(1);
    assert!(refusal(&missing).unwrap().contains("00000002.seg is missing"));
    let mut empty = segments;
    empty[1].1.clear();
    assert!(refusal(&empty).is_some(), "empty, but not the newest");
    assert!(replayed(&Memory::default(), 0).unwrap().is_empty(), "no journal is an empty one");
}

#[test]
fn what_was_not_written_here_is_refused_though_it_is_whole() {
    let segments = written(600, 12).contents();
    let mut swapped = segments.clone();
    (swapped[0].1, swapped[1].1) = (segments[1].1.clone(), segments[0].1.clone());
    assert!(refusal(&swapped).unwrap().contains("it is segment"));
    let mut stale = segments.clone();
    let begins = records(&stale[1].1);
    let (first, second) = (stale[1].1[begins[0]..begins[1]].to_vec(), begins[1]..begins[1] + begins[1] - begins[0]);
    stale[1].1.splice(second, first);
    assert!(refusal(&stale).is_some(), "a record where another should be");
    let other = Memory::default();
    let (mut journal, _) = open_memory(&other, 600, 0).unwrap();
    (1..=12).for_each(|lsn| journal.append(&[Entry { players: vec![1, 2], ..entry(lsn) }]).unwrap());
    let mut mixed = segments;
    mixed[1].1 = other.contents()[1].1.clone();
    assert!(refusal(&mixed).unwrap().contains("does not follow"));
}

#[test]
fn the_check_names_what_it_finds() {
    let folder = tempfile::tempdir().unwrap();
    let segments = written(600, 12).contents();
    let put = |number: u32, bytes: &[u8]| std::fs::write(folder.path().join(segment::name(number)), bytes).unwrap();
    assert!(verify(folder.path()).unwrap_err().to_string().contains("is no journal"));
    segments.iter().for_each(|(number, bytes)| put(*number, bytes));
    let sound = verify(folder.path()).unwrap();
    assert_eq!((sound.segments.len(), sound.changes, sound.first, sound.last), (segments.len(), 12, Some(1), 12));
    assert!(sound.is_sound() && sound.torn.is_none() && sound.gaps.is_empty());
    assert_eq!(sound.bytes, segments.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>());

    let (number, bytes) = segments.last().unwrap();
    put(*number, &bytes[..bytes.len() - 1]);
    let torn = verify(folder.path()).unwrap();
    assert!(torn.is_sound() && torn.torn.unwrap().file == segment::name(*number));
    put(1, &segments[0].1[..100]);
    let damage = verify(folder.path()).unwrap().damage.unwrap();
    assert_eq!((damage.file.as_str(), damage.at), ("00000001.seg", 80), "after the header and the mark");
    std::fs::remove_file(folder.path().join(segment::name(2))).unwrap();
    put(1, &segments[0].1);
    let report = verify(folder.path()).unwrap();
    assert!(!report.is_sound() && report.damage.unwrap().why.contains("missing"));
}
