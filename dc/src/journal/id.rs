//! Which journal this is, and whether it belongs to the database beside it.
//!
//! A journal has an id of 128 bits, in the file `id` of its folder, and the database keeps the id of the journal that it goes with. A new id
//! is written to `offered` first, then the database takes it, then `offered` becomes `id`: whenever that is cut off, the next start goes on
//! with it. So a journal with an `id` has segments, and a database that knows it.

use std::{fmt, io, path::Path};

use anyhow::{Context, ensure};
use service::{fs, random::Rng};

/// The file with the id, and the file with one that the database may not know yet.
const SETTLED: &str = "id";
const OFFERED: &str = "offered";

/// Names a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JournalId(pub [u8; 16]);

impl JournalId {
    pub(crate) fn new(chance: &mut Rng) -> Self {
        Self(((u128::from(chance.next_u64()) << 64) | u128::from(chance.next_u64())).to_be_bytes())
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text.trim();
        let is_hex = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        u128::from_str_radix(digits, 16).ok().filter(|_| is_hex).map(|number| Self(number.to_be_bytes()))
    }
}

impl fmt::Display for JournalId {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// What a journal's folder says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub settled: Option<JournalId>,
    pub offered: Option<JournalId>,
    /// It has no segment.
    pub is_empty: bool,
}

/// Why a journal is not the one of the database beside it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misfit {
    #[error(
        "the database belongs to journal {database}, and this is journal {journal}: put the database and the journal back from one backup; or, to \
         go on with these two for good, run `zone dc adopt`, which takes all players from their owners. Nothing was changed"
    )]
    Other { journal: String, database: JournalId },
    #[error(
        "there is no journal here, but the database belongs to journal {0}, which may have what was acknowledged and not stored yet: put it back; \
         or, to go on without it for good, as after the restore of a database alone, run `zone dc adopt`, which begins a new one and takes all \
         players from their owners. Nothing was changed"
    )]
    Missing(JournalId),
    #[error(
        "this is journal {0}, and the database beside it has never had one: put the database of this journal back; or, to go on with this database \
         for good, run `zone dc adopt`, which takes all players from their owners. Nothing was changed"
    )]
    Unknown(JournalId),
}

/// The id of a journal that belongs to a database; none: neither has one yet. `database`: what it knows.
pub(crate) fn belongs(named: Named, database: Option<JournalId>) -> Result<Option<JournalId>, Misfit> {
    match (named.settled, named.offered, database) {
        (Some(settled), _, Some(database)) if settled == database && named.is_empty => Err(Misfit::Missing(database)),
        (settled, offered, Some(database)) if settled == Some(database) || offered == Some(database) => Ok(Some(database)),
        (_, _, Some(database)) if named.is_empty => Err(Misfit::Missing(database)),
        (settled, offered, Some(database)) => {
            let journal = settled.or(offered).map_or("without an id".to_owned(), |id| id.to_string());
            Err(Misfit::Other { journal, database })
        }
        (Some(settled), _, None) => Err(Misfit::Unknown(settled)),
        (None, offered, None) => Ok(offered),
    }
}

/// What the folder says of its id.
pub(super) fn read(folder: &Path) -> anyhow::Result<(Option<JournalId>, Option<JournalId>)> {
    Ok((read_file(&folder.join(SETTLED))?, read_file(&folder.join(OFFERED))?))
}

fn read_file(path: &Path) -> anyhow::Result<Option<JournalId>> {
    let text = match fs::read_text(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let id = JournalId::parse(&text);
    ensure!(id.is_some(), "{} is damaged: it has to be 32 hexadecimal digits; `zone dc adopt` makes a new one", path.display());
    Ok(id)
}

/// Writes a new id, which the database has to take next.
pub(crate) fn offer(folder: &Path, id: JournalId) -> anyhow::Result<()> {
    fs::replace(&folder.join(OFFERED), format!("{id}\n").as_bytes(), 0o600).context("write the journal's id")
}

/// The database has taken the id.
pub(crate) fn settle(folder: &Path, id: JournalId) -> anyhow::Result<()> {
    if read_file(&folder.join(OFFERED))? == Some(id) {
        fs::rename(&folder.join(OFFERED), &folder.join(SETTLED))?;
        fs::sync_folder(folder)?;
    }
    Ok(())
}

/// Forgets what is written of the id; a new one is offered next.
pub(crate) fn forget(folder: &Path) -> anyhow::Result<()> {
    fs::remove(&folder.join(SETTLED))?;
    fs::remove(&folder.join(OFFERED))?;
    Ok(fs::sync_folder(folder)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: JournalId = JournalId([1; 16]);
    const Y: JournalId = JournalId([2; 16]);

    fn named(settled: Option<JournalId>, offered: Option<JournalId>, is_empty: bool) -> Named {
        Named { settled, offered, is_empty }
    }

    #[test]
    fn a_journal_and_its_database_know_each_other() {
        for (journal, database, id) in [
            (named(None, None, true), None, None),
            (named(None, None, false), None, None),
            (named(None, Some(X), true), None, Some(X)),
            (named(None, Some(X), true), Some(X), Some(X)),
            (named(None, Some(X), false), None, Some(X)),
            (named(Some(X), None, false), Some(X), Some(X)),
            (named(Some(X), Some(Y), false), Some(X), Some(X)),
            (named(Some(X), Some(Y), false), Some(Y), Some(Y)),
        ] {
            assert_eq!(belongs(journal, database), Ok(id), "{journal:?} {database:?}");
        }
    }

    #[test]
    fn strangers_are_refused_with_both_names() {
        let told = |journal, database| belongs(journal, database).unwrap_err().to_string();
        for journal in [named(Some(Y), None, false), named(None, Some(Y), false)] {
            let text = told(journal, Some(X));
            assert!(text.contains(&X.to_string()) && text.contains(&Y.to_string()) && text.contains("zone dc adopt"), "{text}");
        }
        assert!(told(named(None, None, false), Some(X)).contains("journal without an id"));
        for journal in [named(None, None, true), named(Some(X), None, true), named(None, Some(Y), true), named(Some(Y), None, true)] {
            assert_eq!(belongs(journal, Some(X)), Err(Misfit::Missing(X)), "{journal:?}");
        }
        assert_eq!(belongs(named(Some(Y), None, false), None), Err(Misfit::Unknown(Y)));
    }

    #[test]
    fn an_id_is_offered_settled_and_read_and_what_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, id) = (folder.path(), JournalId::new(&mut Rng::new(7)));
        assert_eq!(read(folder).unwrap(), (None, None));
        offer(folder, id).unwrap();
        assert_eq!(read(folder).unwrap(), (None, Some(id)));
        settle(folder, Y).unwrap();
        assert_eq!(read(folder).unwrap(), (None, Some(id)), "another one was taken");
        (0..2).for_each(|_| settle(folder, id).unwrap());
        assert_eq!(read(folder).unwrap(), (Some(id), None));
        for text in ["", "12", "g0000000000000000000000000000000", "+1234567890123456789012345678901"] {
            std::fs::write(folder.join(SETTLED), text).unwrap();
            assert!(read(folder).unwrap_err().to_string().contains("is damaged"), "{text}");
        }
        forget(folder).unwrap();
        assert_eq!(read(folder).unwrap(), (None, None));
    }
}
