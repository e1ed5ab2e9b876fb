//! The journal: every change of the ledger, on the disk before anybody is told that it is safe.
//!
//! Read in this order: [`record`] and [`segment`] (the files), [`change`] and [`fact`] (what a record says), [`id`] (which
//! journal it is), [`volume`] (the disk), [`recovery`] (what a
//! crash left: a torn tail is cut off and told, damage anywhere else is refused), [`Journal`] here (append, sync, rotate, checkpoint),
//! [`queue`] (who waits for what, and back-pressure) and [`promise`], [`thread`] (group commit), [`verify`] (the offline check), [`cut`] (the
//! way out of damage), [`sample`] (journals to measure recovery with).
//!
//! A group of changes is one write and, when somebody waits for class D2, one sync. A segment that the store has wholly is deleted, the
//! oldest first, so what is left is always one piece. A sync that failed is never tried again: the process aborts, and the next start
//! reads from the disk what is true. A write that failed (a full disk) leaves no trace: the segment is cut back to its last good record.
//!
//! Kill points ([`service::kill`]) in the order of a save: `recv`, `published`, `journal_append`, `journal_torn`, `journal_written`,
//! `journal_synced`, `acked`, `batch`, `store_begin`, `store_rows`, `store_committed`, `checkpoint`, `journal_remove`; and `journal_make` for
//! a new segment.

pub(crate) mod change;
pub mod cut;
pub(crate) mod fact;
pub(crate) mod id;
pub(crate) mod promise;
pub(crate) mod queue;
pub(crate) mod record;
pub(crate) mod recovery;
pub mod sample;
pub(crate) mod segment;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod thread;
pub mod verify;
pub(crate) mod volume;

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use service::{fs, kill, random::Rng};
use tracing::{error, info, warn};

use crate::{
    journal::{
        id::Named,
        record::{Kind, Stand},
        recovery::{Found, Walk},
        segment::Header,
        volume::{Disk, Medium, Volume},
    },
    ledger::{Lsn, log::Entry},
};

pub use cut::cut;
pub use verify::verify;

/// The journal's folder in the process' folder.
pub(crate) const FOLDER: &str = "journal";

/// A segment that is written to no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Closed {
    number: u32,
    bytes: u64,
    /// Its last change.
    last: Lsn,
}

/// What the journal takes on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub bytes: u64,
    pub segments: usize,
}

/// A journal that is open for appending. Only its thread has it.
pub(crate) struct Journal {
    volume: Box<dyn Volume>,
    medium: Box<dyn Medium>,
    closed: VecDeque<Closed>,
    /// The segment that is written to, and its length.
    header: Header,
    bytes: u64,
    segment_bytes: u64,
    /// After the last record.
    stand: Stand,
    /// This run. Its first record is a mark.
    epoch: u64,
    salts: Rng,
    buffer: Vec<u8>,
    /// Held as long as the journal is: two processes would write over each other.
    _lock: Option<fs::Lock>,
}

/// A journal's folder that nobody else has.
pub(crate) struct Folder {
    pub path: PathBuf,
    lock: fs::Lock,
}

impl Folder {
    /// Takes the journal in a process' folder, making it if it is not there.
    ///
    /// # Errors
    /// When another process has it, or the disk fails.
    pub(crate) fn take(process: &Path) -> anyhow::Result<Self> {
        let path = process.join(FOLDER);
        fs::make_folder(&path)?;
        fs::sync_folder(process)?;
        Self::take_it(path)
    }

    /// As [`Folder::take`], of the journal's own folder, which is there.
    pub(crate) fn take_it(path: PathBuf) -> anyhow::Result<Self> {
        match fs::Lock::take(&path.join("lock"))? {
            Ok(lock) => Ok(Self { path, lock }),
            Err(holder) => bail!("{} is locked by process {holder}: another dc has this journal; stop it first", path.display()),
        }
    }

    /// What is written of its id.
    pub(crate) fn named(&self) -> anyhow::Result<Named> {
        let (settled, offered) = id::read(&self.path)?;
        Ok(Named { settled, offered, is_empty: Disk::new(&self.path).numbers()?.is_empty() })
    }

    /// Opens it. `applied`: what the store has; every change after it goes to `replay`, in order.
    ///
    /// # Errors
    /// When it is damaged other than at its tail, when changes are missing between the store and the journal, or the disk fails. The error
    /// names the place and says what to do.
    pub(crate) fn open(
        self,
        segment_bytes: u64,
        applied: Lsn,
        salts: Rng,
        replay: impl FnMut(&Entry) -> anyhow::Result<()>,
    ) -> anyhow::Result<Journal> {
        let mut journal = open_on(Box::new(Disk::new(&self.path)), segment_bytes, applied, salts, replay)
            .with_context(|| format!("recover the journal in {}", self.path.display()))?;
        journal._lock = Some(self.lock);
        Ok(journal)
    }
}

/// Takes and opens the journal in a process' folder, whichever database it belongs to.
///
/// # Errors
/// As [`Folder::take`] and [`Folder::open`].
pub(crate) fn open(
    process: &Path,
    segment_bytes: u64,
    applied: Lsn,
    salts: Rng,
    replay: impl FnMut(&Entry) -> anyhow::Result<()>,
) -> anyhow::Result<Journal> {
    Folder::take(process)?.open(segment_bytes, applied, salts, replay)
}

/// As [`Folder::open`], on a volume that nobody else has.
pub(crate) fn open_on(
    mut volume: Box<dyn Volume>,
    segment_bytes: u64,
    applied: Lsn,
    mut salts: Rng,
    mut replay: impl FnMut(&Entry) -> anyhow::Result<()>,
) -> anyhow::Result<Journal> {
    let mut replayed = 0u64;
    let walk = recovery::walk(&*volume, |found| match found {
        Found::Change(entry) if applied < entry.lsn => {
            replayed += 1;
            replay(&entry)
        }
        Found::Change(_) | Found::Mark => Ok(()),
    })?;
    walk.check_against(applied)?;
    let (header, medium) = reopen(&mut *volume, &walk, &mut salts)?;
    let closed = walk.closed();
    let mut journal = Journal {
        volume,
        medium,
        closed,
        bytes: walk.kept(header.number),
        header,
        segment_bytes,
        stand: walk.stand,
        epoch: walk.stand.epoch + 1,
        salts,
        buffer: Vec::new(),
        _lock: None,
    };
    match journal.mark(applied) {
        Ok(()) => journal.sync(),
        // The disk is full: reads and what is of class D0 go on, and so does the journal when there is room.
        Err(err) => warn!(%err, "failed to write to the journal"),
    }
    let Size { bytes, segments } = journal.size();
    info!(replayed, segments, bytes, last = journal.last(), applied, epoch = journal.epoch, "the journal is open");
    Ok(journal)
}

/// Opens the newest segment at its last good record; makes one if there is none, or if a crash left it without its header.
fn reopen(volume: &mut dyn Volume, walk: &Walk, salts: &mut Rng) -> anyhow::Result<(Header, Box<dyn Medium>)> {
    if let Some(torn) = &walk.torn {
        warn!(segment = %segment::name(torn.segment), at = torn.at, bytes = torn.bytes, why = %torn.why,
            "cut off the journal's torn tail: a write that was never acknowledged");
    }
    match &walk.newest {
        Some(newest) if newest.is_whole => {
            let mut medium = volume.reopen(newest.header.number)?;
            if walk.torn.is_some() {
                medium.cut(newest.bytes)?;
                medium.sync()?;
            }
            Ok((newest.header, medium))
        }
        newest => {
            let number = newest.as_ref().map_or(1, |newest| newest.header.number);
            if newest.is_some() {
                volume.remove(number)?;
            }
            let header = Header { number, salt: salt(salts), stand: walk.stand };
            let mut medium = volume.make(number, &header.bytes())?;
            medium.sync()?;
            volume.sync()?;
            Ok((header, medium))
        }
    }
}

fn salt(salts: &mut Rng) -> u32 {
    u32::try_from(salts.next_u64() >> 32).expect("the high half of 64 bits has 32")
}

impl Journal {
    /// The last change that it has, or that was in the store before it.
    pub(crate) fn last(&self) -> Lsn {
        self.stand.sequence
    }

    pub(crate) fn size(&self) -> Size {
        Size { bytes: self.bytes + self.closed.iter().map(|closed| closed.bytes).sum::<u64>(), segments: self.closed.len() + 1 }
    }

    /// Writes changes, in one write. Those between its last one and these are in the store. After an error nothing of it is there.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        self.rotate_if_full()?;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let mut stand = self.stand;
        for entry in entries {
            if stand.sequence + 1 < entry.lsn || stand.epoch < self.epoch {
                stand = record::put(&mut buffer, self.header.salt, Kind::Mark, stand.chain, (self.epoch, entry.lsn - 1), |_| ());
            }
            let kind = if entry.fact.is_some() { Kind::Fact } else { Kind::Change };
            let put = |to: &mut Vec<u8>| match &entry.fact {
                Some(fact) => fact::put(to, fact),
                None => change::put(to, entry),
            };
            stand = record::put(&mut buffer, self.header.salt, kind, stand.chain, (self.epoch, entry.lsn), put);
        }
        let written = self.write(&buffer, stand);
        buffer.shrink_to(GROUP_BYTES_KEPT);
        self.buffer = buffer;
        written
    }

    /// Writes that all up to `sequence` is here or in the store. After an error nothing of it is there.
    pub(crate) fn mark(&mut self, sequence: Lsn) -> io::Result<()> {
        self.rotate_if_full()?;
        let mut bytes = Vec::new();
        let (epoch, sequence) = (self.epoch, sequence.max(self.stand.sequence));
        let stand = record::put(&mut bytes, self.header.salt, Kind::Mark, self.stand.chain, (epoch, sequence), |_| ());
        self.write(&bytes, stand)
    }

    fn write(&mut self, bytes: &[u8], stand: Stand) -> io::Result<()> {
        kill::point("journal_append");
        kill::point_after("journal_torn", || _ = self.medium.append(&bytes[..bytes.len() / 2]));
        if let Err(err) = self.medium.append(bytes) {
            if let Err(cut) = self.medium.cut(self.bytes) {
                abort(&format!("{err}; then the segment could not be cut back to its last good record: {cut}"));
            }
            return Err(err);
        }
        self.bytes += bytes.len() as u64;
        self.stand = stand;
        kill::point("journal_written");
        Ok(())
    }

    /// Makes durable all that was appended. Does not return when that fails: what the disk has is unknown then, and only a new start reads it.
    pub(crate) fn sync(&mut self) {
        synced(self.medium.sync(), self.header.number);
        kill::point("journal_synced");
    }

    fn rotate_if_full(&mut self) -> io::Result<()> {
        if self.bytes < self.segment_bytes {
            return Ok(());
        }
        self.sync(); // damage in a segment that has a successor is never a torn tail
        let header = Header { number: self.header.number + 1, salt: salt(&mut self.salts), stand: self.stand };
        self.medium = self.volume.make(header.number, &header.bytes())?;
        synced(self.medium.sync(), header.number);
        synced(self.volume.sync(), header.number);
        self.closed.push_back(Closed { number: self.header.number, bytes: self.bytes, last: self.stand.sequence });
        (self.header, self.bytes) = (header, segment::HEADER_BYTES as u64);
        Ok(())
    }

    /// The store has everything up to `applied`: deletes the segments that are wholly below it.
    pub(crate) fn checkpoint(&mut self, applied: Lsn) {
        kill::point("checkpoint");
        while let Some(closed) = self.closed.pop_front_if(|closed| closed.last <= applied) {
            if let Err(err) = self.volume.remove(closed.number) {
                warn!(%err, segment = %segment::name(closed.number), "failed to delete a segment that the store has; trying again later");
                self.closed.push_front(closed);
                return;
            }
            synced(self.volume.sync(), closed.number); // before the next: what a power cut leaves is one piece
        }
    }
}

fn synced(result: io::Result<()>, segment: u32) {
    if let Err(err) = result {
        abort(&format!("the sync of {} failed: {err}", segment::name(segment)));
    }
}

/// What is kept of the buffer between groups.
const GROUP_BYTES_KEPT: usize = 4 * 1024 * 1024;

/// Ends the process at once: what is on the disk is unknown.
fn abort(why: &str) -> ! {
    error!(%why, "the journal's disk failed; aborting, the next start reads what is on the disk");
    // The log may be written by a thread that this ends.
    eprintln!("dc: the journal's disk failed: {why}; aborting, the next start reads what is on the disk");
    std::process::abort()
}
