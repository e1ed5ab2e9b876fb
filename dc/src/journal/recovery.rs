//! Reads a journal from its first segment to its last: which changes it has, where it ends, and whether that end is one that a crash leaves.
//!
//! Bytes that are no record, with nothing whole after them, in the newest segment, are a *torn tail*: a write that was cut off, of which
//! nothing was acknowledged. Anything else that is not as it was written is *damage*: what was acknowledged may be gone, so nothing is
//! changed and the place is named.

use std::{collections::VecDeque, io};

use super::{
    Closed, change, fact,
    record::{Kind, Record, Stand},
    segment::{self, Break, Header, Scan},
    volume::Volume,
};
use crate::ledger::{Lsn, log::Entry};

/// What the walk comes across.
pub(crate) enum Found {
    Change(Entry),
    Mark,
}

/// Why a journal can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "{} is damaged at byte {at}: {why}. Nothing was changed. Acknowledged changes may be in what follows: copy the folder, look at it with \
         `zone dc verify`, then restore a backup, or set what is behind the place aside with `zone dc cut` and accept the loss",
        segment::name(*segment)
    )]
    Damaged { segment: u32, at: usize, why: String },
    #[error("{} is missing, but later segments are there: restore it; nothing was changed", segment::name(*.0))]
    Missing(u32),
    #[error(
        "changes {from} to {to} are neither in the journal nor in the store, which has those up to {applied}: the database is older than the \
         journal. Restore a newer backup of it; or, to go back to that backup for good, move the journal's folder away and run `zone dc adopt`"
    )]
    Gap { from: Lsn, to: Lsn, applied: Lsn },
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// A tail that is cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Torn {
    pub segment: u32,
    pub at: usize,
    pub bytes: usize,
    pub why: String,
}

/// The newest segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Newest {
    /// Its number is right even if the header is not.
    pub header: Header,
    /// Up to its last good record.
    pub bytes: u64,
    /// False: a crash left it without its header, and so without records.
    pub is_whole: bool,
}

/// One segment that was walked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Walked {
    pub number: u32,
    /// Up to its last good record.
    pub bytes: u64,
    pub records: u64,
    pub first: Option<Lsn>,
    pub last: Lsn,
}

/// A journal that was walked through.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    pub segments: Vec<Walked>,
    pub newest: Option<Newest>,
    pub torn: Option<Torn>,
    /// Where it ends.
    pub stand: Stand,
    /// Stretches of changes that it never had because the store had them: first and last.
    pub gaps: Vec<(Lsn, Lsn)>,
    pub changes: u64,
}

/// The change that a record has; none if it has none, or none that this program can read.
pub(super) fn entry_of(record: &Record<'_>) -> Option<Entry> {
    let lsn = record.stand.sequence;
    match record.kind {
        Kind::Change => change::read(lsn, record.body),
        Kind::Fact => fact::read(record.body).map(|fact| Entry::of_fact(lsn, fact.into())),
        Kind::Mark => None,
    }
}

/// Reads all segments. `each` gets what is in them, in order; a segment whose damage is found later was handed over up to there.
pub(crate) fn walk(volume: &dyn Volume, mut each: impl FnMut(Found) -> anyhow::Result<()>) -> anyhow::Result<Walk> {
    let mut walk = Walk::default();
    walk.run(volume, &mut each)?;
    Ok(walk)
}

impl Walk {
    /// As [`walk`]; after an error it has what came before the place.
    pub(crate) fn run(&mut self, volume: &dyn Volume, each: &mut impl FnMut(Found) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let numbers = volume.numbers().map_err(Refused::Disk)?;
        for (index, &number) in numbers.iter().enumerate() {
            if let Some(before) = index.checked_sub(1).map(|before| numbers[before])
                && before + 1 != number
            {
                return Err(Refused::Missing(before + 1).into());
            }
            let bytes = volume.read(number).map_err(Refused::Disk)?;
            self.segment(number, &bytes, index + 1 == numbers.len(), each)?;
        }
        Ok(())
    }

    fn segment(
        &mut self,
        number: u32,
        bytes: &[u8],
        is_newest: bool,
        each: &mut impl FnMut(Found) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let damaged = |at: usize, why: &str| Refused::Damaged { segment: number, at, why: why.into() };
        let Some(header) = Header::read(bytes) else {
            // The header is synced before a record is written.
            if !is_newest || segment::HEADER_BYTES < bytes.len() {
                return Err(damaged(0, "the segment's header is damaged, and more follows").into());
            }
            self.torn = Some(Torn { segment: number, at: 0, bytes: bytes.len(), why: "a segment was being made".into() });
            let header = Header { number, salt: 0, stand: self.stand };
            self.newest = Some(Newest { header, bytes: 0, is_whole: false });
            return Ok(());
        };
        if header.number != number {
            return Err(damaged(0, &format!("it is segment {}", header.number)).into());
        }
        if self.segments.is_empty() {
            self.stand = header.stand;
            self.gap(0, header.stand.sequence);
        } else if header.stand != self.stand {
            return Err(damaged(0, "it does not follow the segment before, whose end is missing or which is another journal's").into());
        }
        self.segments.push(Walked { number, bytes: segment::HEADER_BYTES as u64, records: 0, first: None, last: self.stand.sequence });
        self.records(&header, bytes, is_newest, each)?;
        let bytes = self.kept(number);
        self.newest = Some(Newest { header, bytes, is_whole: true });
        Ok(())
    }

    fn records(
        &mut self,
        header: &Header,
        bytes: &[u8],
        is_newest: bool,
        each: &mut impl FnMut(Found) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let damaged = |at: usize, why: String| Refused::Damaged { segment: header.number, at, why };
        let mut scan = Scan::new(bytes, header);
        let mut at = scan.at;
        while let Some(next) = scan.next() {
            let record = match next {
                Ok(record) => record,
                Err(Break { at, why, torn: true }) if is_newest => {
                    self.torn = Some(Torn { segment: header.number, at, bytes: bytes.len() - at, why });
                    return Ok(());
                }
                Err(Break { at, why, .. }) => return Err(damaged(at, why).into()),
            };
            let sequence = record.stand.sequence;
            match record.kind {
                Kind::Change | Kind::Fact => {
                    let no_change = || damaged(at, "a record that is whole but whose change can't be read".into());
                    each(Found::Change(entry_of(&record).ok_or_else(no_change)?))?;
                    self.changes += 1;
                }
                Kind::Mark => {
                    self.gap(self.stand.sequence, sequence);
                    each(Found::Mark)?;
                }
            }
            at = scan.at;
            self.stand = record.stand;
            let walked = self.segments.last_mut().expect("this segment was pushed");
            (walked.bytes, walked.last) = (at as u64, sequence);
            walked.records += 1;
            if record.kind != Kind::Mark {
                walked.first.get_or_insert(sequence);
            }
        }
        Ok(())
    }

    fn gap(&mut self, before: Lsn, last: Lsn) {
        if before < last {
            self.gaps.push((before + 1, last));
        }
    }

    /// Whether the store has what the journal lacks.
    pub(crate) fn check_against(&self, applied: Lsn) -> Result<(), Refused> {
        match self.gaps.iter().find(|(_, to)| applied < *to) {
            Some(&(from, to)) => Err(Refused::Gap { from: from.max(applied + 1), to, applied }),
            None => Ok(()),
        }
    }

    /// Bytes of a segment up to its last good record.
    pub(super) fn kept(&self, number: u32) -> u64 {
        let walked = self.segments.iter().find(|walked| walked.number == number);
        walked.map_or(segment::HEADER_BYTES as u64, |walked| walked.bytes)
    }

    /// The segments but the newest.
    pub(super) fn closed(&self) -> VecDeque<Closed> {
        let newest = self.newest.as_ref().map(|newest| newest.header.number);
        let others = self.segments.iter().filter(|walked| Some(walked.number) != newest);
        others.map(|walked| Closed { number: walked.number, bytes: walked.bytes, last: walked.last }).collect()
    }
}
