//! The way out of a damaged journal: what follows the last good record before the damage is set aside, and dc starts on the rest. What
//! can still be read of it is told, so that people know who lost what. Nothing is ever deleted.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use serde::Serialize;
use service::{fs, random::Rng};

use super::{
    Folder,
    record::{self, Bad, Stand},
    recovery::{Walk, entry_of},
    segment::{self, Header},
    verify::{Place, damage_of, folder_of},
    volume::{Disk, Volume},
};
use crate::ledger::{facts::Fact, log::Entry};

/// What a cut does, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// The journal's folder.
    pub folder: PathBuf,
    /// Where it is cut; none: the journal is sound, and nothing is cut.
    pub damage: Option<Place>,
    /// The number of the last change that stays.
    pub last: u64,
    /// The files that are set aside, whole or from the place on, and the folder that takes them.
    pub files: Vec<String>,
    /// The folder that takes them.
    pub aside: PathBuf,
    /// What is lost with them.
    pub lost: Lost,
}

/// What can be read behind the damage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// Changes of players.
    pub changes: u64,
    /// Relations, sanctions and lines of the audit log.
    pub facts: u64,
    /// The lowest and the highest number of them.
    pub first: Option<u64>,
    /// The highest.
    pub last: Option<u64>,
    /// Whom they are about: numbers, with names where they are told.
    pub players: BTreeMap<u64, String>,
    /// Bytes that nothing can be made of.
    pub unreadable_bytes: u64,
}

/// Cuts the damaged journal in `dir`, or in the folder `journal` of it, before its first bad record; what is behind it goes to the folder
/// `damaged-SECONDS` in it. `dry_run`: only says what it would do.
///
/// # Errors
/// When there is no journal, a dc has it, or the disk fails. Cut off by that, it can be done again.
pub fn cut(dir: &Path, seconds: u64, salts: &mut Rng, dry_run: bool) -> anyhow::Result<Cut> {
    let folder = folder_of(dir);
    let mut volume = Disk::new(&folder);
    ensure!(!volume.numbers()?.is_empty(), "{} has no segments: it is no journal", folder.display());
    let _taken = if dry_run { None } else { Some(Folder::take_it(folder.clone())?) };
    let mut walk = Walk::default();
    let damage = match walk.run(&volume, &mut |_| Ok(())) {
        Ok(()) => None,
        Err(err) => Some(damage_of(&err).ok_or(err).context("read the journal")?),
    };
    let aside = folder.join(format!("damaged-{seconds}"));
    let mut cut = Cut { folder, damage: None, last: walk.stand.sequence, files: Vec::new(), aside, lost: Lost::default() };
    let Some((number, at, damage)) = damage else { return Ok(cut) };
    ensure!(!is_newer(&volume, number, at)?, "{} at byte {at}: {}: start a newer program, nothing is damaged", damage.file, damage.why);
    let behind: Vec<u32> = volume.numbers()?.into_iter().filter(|behind| number <= *behind).collect();
    for &segment in &behind {
        cut.lost.read(&volume.read(segment)?, if segment == number { at } else { 0 });
    }
    cut.files = behind.iter().map(|number| segment::name(*number)).collect();
    cut.damage = Some(damage);
    if !dry_run {
        set_aside(&mut volume, &cut, &behind, (number, at), salts).context("set aside what is behind the damage")?;
    }
    Ok(cut)
}

/// Whether there is a record that only a newer program can read.
fn is_newer(volume: &Disk, number: u32, at: usize) -> anyhow::Result<bool> {
    let bytes = if volume.numbers()?.contains(&number) { volume.read(number)? } else { Vec::new() };
    let record = Header::read(&bytes).and_then(|header| Some(record::read(bytes.get(at..)?, header.salt).err()));
    Ok(matches!(record.flatten(), Some(Bad::Newer(..))))
}

/// The damaged segment is copied first and cut last: as long as it is not, the damage is where it was, and all this can be done again.
fn set_aside(volume: &mut Disk, cut: &Cut, behind: &[u32], (number, at): (u32, usize), salts: &mut Rng) -> anyhow::Result<()> {
    let name = cut.aside.file_name().unwrap_or_default().to_string_lossy().into_owned();
    ensure!(!fs::names(&cut.folder)?.contains(&name), "{} is there already; try again in a second", cut.aside.display());
    fs::make_folder(&cut.aside)?;
    fs::sync_folder(&cut.folder)?;
    let stays = |segment: u32| segment == number && segment::HEADER_BYTES <= at;
    for &segment in behind.iter().filter(|segment| stays(**segment)) {
        fs::replace(&cut.aside.join(segment::name(segment)), &volume.read(segment)?, 0o600)?;
    }
    for &segment in behind.iter().rev().filter(|segment| !stays(**segment)) {
        fs::rename(&cut.folder.join(segment::name(segment)), &cut.aside.join(segment::name(segment)))?;
    }
    fs::sync_folder(&cut.aside)?;
    volume.sync()?;
    if behind.iter().any(|segment| stays(*segment)) {
        let mut medium = volume.reopen(number)?;
        medium.cut(at as u64)?;
        medium.sync()?;
    } else if volume.numbers()?.is_empty() {
        // Without a segment it would be no journal any more.
        let header = Header { number: 1, salt: super::salt(salts), stand: Stand::default() };
        volume.make(header.number, &header.bytes())?.sync()?;
        volume.sync()?;
    }
    Ok(())
}

impl Lost {
    /// Reads what there is in a segment from a place on, whole records wherever they begin.
    fn read(&mut self, bytes: &[u8], from: usize) {
        let Some(header) = Header::read(bytes) else {
            self.unreadable_bytes += (bytes.len() - from) as u64; // its salt is gone, and with it the beginnings of its records
            return;
        };
        let mut at = from.max(segment::HEADER_BYTES);
        while at < bytes.len() {
            match record::read(&bytes[at..], header.salt) {
                Ok(record) => {
                    entry_of(&record).iter().for_each(|entry| self.note(entry));
                    at += record.bytes();
                }
                Err(_) => {
                    let bad = record::find(&bytes[at + 1..], header.salt).map_or(bytes.len() - at, |next| next + 1);
                    self.unreadable_bytes += bad as u64;
                    at += bad;
                }
            }
        }
    }

    fn note(&mut self, entry: &Entry) {
        self.first = Some(self.first.map_or(entry.lsn, |first| first.min(entry.lsn)));
        self.last = self.last.max(Some(entry.lsn));
        match entry.fact.as_deref() {
            None => self.changes += 1,
            Some(fact) => {
                self.facts += 1;
                if let Fact::Relation { player, to, .. } = fact {
                    self.players.entry(*player).or_default();
                    self.players.insert(to.player, to.name.clone());
                }
            }
        }
        entry.players.iter().for_each(|player| _ = self.players.entry(*player).or_default());
        self.players.extend(entry.writes.iter().map(|write| (write.player, write.record.name.clone())));
    }
}
