//! The offline check of a journal: what it holds, and whether dc would start on it. Changes nothing.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Serialize;

use super::{
    FOLDER, id,
    recovery::{Refused, Walk},
    segment,
    volume::{Disk, Volume},
};

/// What a journal holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The folder that was read.
    pub folder: PathBuf,
    /// Which journal it is; the database that it belongs to has the same. None before the first start that gives it one.
    pub id: Option<String>,
    /// Its segments, up to the place of the damage if there is any.
    pub segments: Vec<SegmentReport>,
    /// Bytes of all files.
    pub bytes: u64,
    /// Records of all kinds.
    pub records: u64,
    /// Records of changes.
    pub changes: u64,
    /// The number of the first change that it has.
    pub first: Option<u64>,
    /// The number of its last change, or of the last one in the store when it was written.
    pub last: u64,
    /// The run that wrote last.
    pub epoch: u64,
    /// Stretches of changes (first and last) that it never had: only a store that has them may be used with it.
    pub gaps: Vec<(u64, u64)>,
    /// The tail that dc will cut off at its start: a write that was never acknowledged.
    pub torn: Option<Place>,
    /// Why dc will not start on it.
    pub damage: Option<Place>,
}

/// What a segment holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SegmentReport {
    /// Its file.
    pub file: String,
    /// Bytes up to its last good record.
    pub bytes: u64,
    /// Records of all kinds.
    pub records: u64,
    /// The number of its first change.
    pub first: Option<u64>,
    /// Where the numbers stand after it.
    pub last: u64,
}

/// A place in a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The segment's file; empty if the trouble is in no single one.
    pub file: String,
    /// The byte in it.
    pub at: u64,
    /// What is wrong.
    pub why: String,
}

impl Report {
    /// Whether dc would start on it.
    pub fn is_sound(&self) -> bool {
        self.damage.is_none()
    }
}

/// Checks the journal in `dir`, or in the folder `journal` of it. While a dc is writing to it the tail may look torn.
///
/// # Errors
/// When there is none, or the disk fails. Damage is no error: the report names it.
pub fn verify(dir: &Path) -> anyhow::Result<Report> {
    let folder = folder_of(dir);
    let volume = Disk::new(&folder);
    let numbers = volume.numbers()?;
    ensure!(!numbers.is_empty(), "{} has no segments (files like {}): it is no journal", folder.display(), segment::name(1));
    let mut bytes = 0;
    for number in numbers {
        bytes += volume.read(number)?.len() as u64;
    }
    let mut walk = Walk::default();
    let damage = match walk.run(&volume, &mut |_| Ok(())) {
        Ok(()) => None,
        Err(err) => Some(damage_of(&err).ok_or(err).context("read the journal")?.2),
    };
    let segments: Vec<SegmentReport> = walk.segments.iter().map(SegmentReport::of).collect();
    let torn = walk.torn.map(|torn| Place { file: segment::name(torn.segment), at: torn.at as u64, why: torn.why });
    let (settled, offered) = id::read(&folder)?;
    Ok(Report {
        id: settled.or(offered).map(|id| id.to_string()),
        folder,
        bytes,
        records: segments.iter().map(|segment| segment.records).sum(),
        changes: walk.changes,
        first: segments.iter().find_map(|segment| segment.first),
        last: walk.stand.sequence,
        epoch: walk.stand.epoch,
        gaps: walk.gaps,
        torn,
        damage,
        segments,
    })
}

impl SegmentReport {
    fn of(walked: &super::recovery::Walked) -> Self {
        let super::recovery::Walked { number, bytes, records, first, last } = *walked;
        Self { file: segment::name(number), bytes, records, first, last }
    }
}

/// The journal's own folder: `dir`, or the folder `journal` of it.
pub(super) fn folder_of(dir: &Path) -> PathBuf {
    let inner = dir.join(FOLDER);
    if inner.is_dir() { inner } else { dir.to_owned() }
}

/// The segment, the byte in it, and both for people; none if the trouble is the disk's and not the journal's.
pub(super) fn damage_of(err: &anyhow::Error) -> Option<(u32, usize, Place)> {
    let (segment, at, why) = match err.downcast_ref::<Refused>()? {
        Refused::Damaged { segment, at, why } => (*segment, *at, why.clone()),
        Refused::Missing(segment) => (*segment, 0, "the segment is missing, but later ones are there".into()),
        Refused::Gap { .. } | Refused::Disk(_) => return None,
    };
    Some((segment, at, Place { file: segment::name(segment), at: at as u64, why }))
}
