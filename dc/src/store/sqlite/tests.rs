use tempfile::TempDir;

use super::*;
use crate::store::conformance::{Home, conformance, reader, with_players};

struct Folder(TempDir);

impl Folder {
    #[expect(clippy::unnecessary_wraps, reason = "other stores may have no home on a machine")]
    fn new() -> Option<Self> {
        Some(Self(tempfile::tempdir().unwrap()))
    }
}

impl Home for Folder {
    fn open(&self) -> Opened {
        open(self.0.path()).unwrap()
    }
}

conformance!(Folder::new());

#[test]
fn two_processes_never_have_one_database() {
    let folder = Folder::new().unwrap();
    let _opened = folder.open();
    let refused = open(folder.0.path()).err().unwrap();
    assert!(refused.to_string().contains("another dc"), "{refused:#}");
}

#[test]
fn newer_and_edited_databases_are_refused() {
    let folder = Folder::new().unwrap();
    drop(folder.open());
    let older = open_with(folder.0.path(), &MIGRATIONS[..2]).err().unwrap();
    assert!(format!("{older:#}").contains("start a newer program"), "{older:#}");
    let mut edited = MIGRATIONS.to_vec();
    edited[0].sql = "SELECT 1";
    let edited = open_with(folder.0.path(), &edited).err().unwrap();
    assert!(format!("{edited:#}").contains("sql/ was edited"), "{edited:#}");
}

#[test]
fn a_migration_that_fails_leaves_nothing_behind() {
    let folder = Folder::new().unwrap();
    let bad = [MIGRATIONS[0], Migration { number: 2, name: "bad", sql: "CREATE TABLE half (a BIGINT); CREATE TABLE half (a BIGINT);" }];
    assert!(open_with(folder.0.path(), &bad).is_err());
    let good = [MIGRATIONS[0], Migration { number: 2, name: "good", sql: "CREATE TABLE half (a BIGINT);" }];
    open_with(folder.0.path(), &good).unwrap();
}

#[test]
fn a_full_disk_changes_nothing_and_can_be_tried_again() {
    let folder = Folder::new().unwrap();
    let mut opened = with_players(&folder);
    let before = reader(&opened).player(1).unwrap().unwrap();
    let full = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None);
    assert!(matches!(StoreError::from(full), StoreError::Unavailable(_)));
    let sync = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_FSYNC), None);
    assert!(matches!(StoreError::from(sync), StoreError::Fatal(_)), "a failed sync is never tried again");
    let unique = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CONSTRAINT_UNIQUE), None);
    assert!(matches!(StoreError::from(unique), StoreError::Refused(_)));
    opened.store.close().unwrap();
    assert_eq!(reader(&opened).player(1).unwrap().unwrap(), before);
}
