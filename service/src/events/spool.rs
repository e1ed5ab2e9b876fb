//! What waits on disk while logsvc is away: files of batches, oldest first, each deleted when all of it is stored.
//!
//! A file is a row of `u32 length | u32 CRC-32 | EventsAppend`, little-endian. What a crash cut off at a file's end was never
//! acknowledged to anybody; it is passed over and said. Not synced: the spool outlives the process, not the power.

use std::{collections::VecDeque, io, io::Write, path::PathBuf, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use proto::internal::EventsAppend;

use super::SPOOL_BYTES_MAX;

/// A file of this size is closed; it is read whole into memory.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Bytes of a batch in a file before the batch itself.
const HEAD_BYTES: usize = 8;

/// The spool's folder, and how far it is read and written.
pub(super) struct Spool {
    folder: PathBuf,
    files: VecDeque<SpoolFile>,
    /// The last of `files`, while it is written to.
    writing: Option<crate::fs::File>,
    /// What of the first file is not stored yet; empty: it was not read.
    front: VecDeque<Arc<EventsAppend>>,
    next_number: u64,
    bytes_max: u64,
}

struct SpoolFile {
    path: PathBuf,
    bytes: u64,
    events: u64,
}

impl Spool {
    /// Opens the folder, with what an earlier run left in it.
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        Self::open_with(folder, SPOOL_BYTES_MAX)
    }

    fn open_with(folder: PathBuf, bytes_max: u64) -> io::Result<Self> {
        crate::fs::make_folder(&folder)?;
        let mut spool = Self { folder, files: VecDeque::new(), writing: None, front: VecDeque::new(), next_number: 1, bytes_max };
        for name in crate::fs::names(&spool.folder)? {
            let Some(number) = name.strip_suffix(".events").and_then(|number| number.parse::<u64>().ok()) else { continue };
            let path = spool.folder.join(name);
            let bytes = crate::fs::read(&path)?;
            let size = bytes.len() as u64;
            let events = batches(bytes.into()).iter().map(|batch| batch.events.len() as u64).sum();
            spool.files.push_back(SpoolFile { path, bytes: size, events });
            spool.next_number = spool.next_number.max(number.saturating_add(1));
        }
        Ok(spool)
    }

    /// Events that wait.
    pub(super) fn events(&self) -> u64 {
        self.files.iter().map(|file| file.events).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Writes a batch behind the others; `false` if the quota is used up.
    pub(super) fn append(&mut self, batch: &EventsAppend) -> io::Result<bool> {
        let body = prost::Message::encode_to_vec(batch);
        let mut record = BytesMut::with_capacity(HEAD_BYTES + body.len());
        record.put_u32_le(u32::try_from(body.len()).map_err(io::Error::other)?);
        record.put_u32_le(crc32fast::hash(&body));
        record.put_slice(&body);
        let size = record.len() as u64;
        let used: u64 = self.files.iter().map(|file| file.bytes).sum();
        if self.bytes_max < used + size {
            return Ok(false);
        }
        if self.writing.is_none() || self.files.back().is_none_or(|file| FILE_BYTES_MAX <= file.bytes) {
            self.begin_file()?;
        }
        let (Some(writing), Some(file)) = (&mut self.writing, self.files.back_mut()) else { unreachable!("a file was begun") };
        if let Err(err) = writing.write_all(&record) {
            // Half a record: what follows it could not be read.
            self.writing = None;
            return Err(err);
        }
        file.bytes += size;
        file.events += batch.events.len() as u64;
        Ok(true)
    }

    fn begin_file(&mut self) -> io::Result<()> {
        let path = self.folder.join(format!("{:016}.events", self.next_number));
        self.writing = Some(crate::fs::append(&path)?);
        self.files.push_back(SpoolFile { path, bytes: 0, events: 0 });
        self.next_number += 1;
        Ok(())
    }

    /// The oldest batch; it stays until [`Spool::pop`].
    pub(super) fn peek(&mut self) -> io::Result<Option<Arc<EventsAppend>>> {
        while self.front.is_empty() {
            let Some(file) = self.files.front() else { return Ok(None) };
            // From now on new batches go to another file.
            if self.files.len() == 1 {
                self.writing = None;
            }
            self.front = batches(crate::fs::read(&file.path)?.into()).into_iter().map(Arc::new).collect();
            if self.front.is_empty() {
                self.remove_first()?;
            }
        }
        Ok(self.front.front().cloned())
    }

    /// The oldest batch is stored.
    pub(super) fn pop(&mut self) -> io::Result<()> {
        let Some(batch) = self.front.pop_front() else { return Ok(()) };
        if let Some(file) = self.files.front_mut() {
            file.events = file.events.saturating_sub(batch.events.len() as u64);
        }
        if self.front.is_empty() { self.remove_first() } else { Ok(()) }
    }

    fn remove_first(&mut self) -> io::Result<()> {
        self.files.pop_front().map_or(Ok(()), |file| crate::fs::remove(&file.path))
    }
}

/// The batches of a file, up to the first that is cut off or damaged.
fn batches(mut bytes: Bytes) -> Vec<EventsAppend> {
    let mut batches = Vec::new();
    while !bytes.is_empty() {
        match split_batch(&mut bytes) {
            Some(batch) => batches.push(batch),
            None => {
                tracing::warn!(bytes = bytes.len(), "the spool has a damaged end, which is passed over");
                break;
            }
        }
    }
    batches
}

fn split_batch(bytes: &mut Bytes) -> Option<EventsAppend> {
    if bytes.len() < HEAD_BYTES {
        return None;
    }
    let (length, checksum) = (bytes.get_u32_le() as usize, bytes.get_u32_le());
    if bytes.len() < length || crc32fast::hash(&bytes[..length]) != checksum {
        return None;
    }
    prost::Message::decode(bytes.split_to(length)).ok()
}

#[cfg(test)]
mod tests {
    use proto::event::Event;

    use super::*;

    fn batch(first_sequence: u64) -> EventsAppend {
        EventsAppend { producer: "gate-1/7".into(), first_sequence, events: vec![Event::default(), Event::default()] }
    }

    /// The first sequences of all that waits, popped.
    fn drain(spool: &mut Spool) -> Vec<u64> {
        let mut found = Vec::new();
        while let Some(batch) = spool.peek().unwrap() {
            found.push(batch.first_sequence);
            spool.pop().unwrap();
        }
        found
    }

    #[test]
    fn batches_come_back_in_order_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = Spool::open(folder.path().into()).unwrap();
        assert!(first.append(&batch(1)).unwrap() && first.append(&batch(3)).unwrap());
        drop(first);
        let mut second = Spool::open(folder.path().into()).unwrap();
        assert!(second.append(&batch(5)).unwrap());
        assert_eq!(second.events(), 6);
        assert_eq!(drain(&mut second), [1, 3, 5]);
        assert_eq!((second.events(), second.is_empty()), (0, true));
        assert_eq!(crate::fs::names(folder.path()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_is_read_is_not_written_to_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path().into()).unwrap();
        spool.append(&batch(1)).unwrap();
        assert_eq!(spool.peek().unwrap().unwrap().first_sequence, 1);
        spool.append(&batch(3)).unwrap();
        assert_eq!(drain(&mut spool), [1, 3]);
    }

    #[test]
    fn a_cut_at_any_byte_loses_only_what_it_cut() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path().into()).unwrap();
        spool.append(&batch(1)).unwrap();
        let whole = spool.files[0].bytes as usize;
        spool.append(&batch(3)).unwrap();
        let path = spool.files[0].path.clone();
        let bytes = std::fs::read(&path).unwrap();
        for cut in 0..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let mut after = Spool::open(folder.path().into()).unwrap();
            let expected: &[u64] = if cut < whole { &[] } else { &[1] };
            assert_eq!(drain(&mut after), expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path().into()).unwrap();
        spool.append(&batch(1)).unwrap();
        let path = spool.files[0].path.clone();
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(drain(&mut Spool::open(folder.path().into()).unwrap()), Vec::<u64>::new());
    }

    #[test]
    fn the_quota_holds() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open_with(folder.path().into(), 100).unwrap();
        let taken = (0..100).filter(|number| spool.append(&batch(*number)).unwrap()).count();
        assert!((1..10).contains(&taken), "{taken}");
        drain(&mut spool);
        assert!(spool.append(&batch(1)).unwrap(), "there is room again");
    }
}
