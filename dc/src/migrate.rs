//! The schema as numbered migrations, and which of them a database still needs. Pure; a store carries them out.

use aws_lc_rs::digest::{SHA256, digest};

/// One file of the folder `sql`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Migration {
    pub number: i64,
    pub name: &'static str,
    pub sql: &'static str,
}

/// What a database says that it has run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    pub number: i64,
    pub name: String,
    pub hash: String,
}

/// All migrations, by number, from 1 without a gap.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration { number: 1, name: "players", sql: include_str!("../../sql/0001_players.sql") },
    Migration { number: 2, name: "relations", sql: include_str!("../../sql/0002_relations.sql") },
    Migration { number: 3, name: "gm", sql: include_str!("../../sql/0003_gm.sql") },
    Migration { number: 4, name: "journal", sql: include_str!("../../sql/0004_journal.sql") },
    Migration { number: 5, name: "mails", sql: include_str!("../../sql/0005_mails.sql") },
    Migration { number: 6, name: "journals", sql: include_str!("../../sql/0006_journals.sql") },
];

/// Why a database can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MigrateError {
    #[error(
        "the database has migration {found} ({name}), this program knows up to {known}: start a newer program, or restore a backup from before it"
    )]
    Newer { found: i64, name: String, known: i64 },
    #[error(
        "migration {number} ({name}) is not what the database has run: sql/ was edited; restore the file and put the change into a new one"
    )]
    Edited { number: i64, name: String },
    #[error("the database lacks migration {0} but has later ones: it was not made by this program")]
    Gap(i64),
}

impl Migration {
    /// SHA-256 of the file, in hexadecimal digits.
    pub(crate) fn hash(&self) -> String {
        digest(&SHA256, self.sql.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The migrations that a database with `applied` (by number) still needs.
pub(crate) fn needed<'a>(migrations: &'a [Migration], applied: &[Applied]) -> Result<&'a [Migration], MigrateError> {
    let known = migrations.last().map_or(0, |last| last.number);
    if let Some(newer) = applied.iter().find(|applied| known < applied.number) {
        return Err(MigrateError::Newer { found: newer.number, name: newer.name.clone(), known });
    }
    for (migration, applied) in migrations.iter().zip(applied) {
        if migration.number != applied.number {
            return Err(MigrateError::Gap(migration.number));
        }
        if migration.hash() != applied.hash {
            return Err(MigrateError::Edited { number: migration.number, name: migration.name.into() });
        }
    }
    Ok(&migrations[applied.len().min(migrations.len())..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(migrations: &[Migration]) -> Vec<Applied> {
        migrations.iter().map(|it| Applied { number: it.number, name: it.name.into(), hash: it.hash() }).collect()
    }

    #[test]
    fn numbers_rise_from_one_without_a_gap() {
        assert!(MIGRATIONS.iter().zip(1..).all(|(migration, number)| migration.number == number));
    }

    #[test]
    fn only_what_is_missing_runs() {
        assert_eq!(needed(MIGRATIONS, &[]).unwrap().len(), MIGRATIONS.len());
        assert_eq!(needed(MIGRATIONS, &applied(&MIGRATIONS[..1])).unwrap()[0].number, 2);
        assert!(needed(MIGRATIONS, &applied(MIGRATIONS)).unwrap().is_empty());
    }

    #[test]
    fn newer_edited_and_foreign_databases_are_refused() {
        let all = applied(MIGRATIONS);
        assert!(matches!(needed(&MIGRATIONS[..1], &all), Err(MigrateError::Newer { found: 2, known: 1, .. })));
        let mut edited = all.clone();
        edited[1].hash = "0".into();
        assert!(matches!(needed(MIGRATIONS, &edited), Err(MigrateError::Edited { number: 2, .. })));
        assert_eq!(needed(MIGRATIONS, &all[1..]).unwrap_err(), MigrateError::Gap(1));
    }
}
