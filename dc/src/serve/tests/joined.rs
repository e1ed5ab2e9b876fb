//! Journal and database belong together (FAULTS 54): restores of one, of both, of another's.

use super::*;
use crate::{
    adopt::{Adopted, adopt_with},
    journal::{self, Folder},
};

/// Why dc does not start.
fn refusal(folder: &Path) -> String {
    let started = start::start(folder, &config(), MAIL_MAX, Rng::new(5), sqlite::open(folder).unwrap());
    format!("{:#}", started.err().expect("dc refuses to start"))
}

fn adopt(folder: &Path) -> anyhow::Result<Adopted> {
    adopt_with(Folder::take(folder)?, &config(), &mut sqlite::open(folder)?, &mut Rng::new(9))
}

fn journal_id(folder: &Path) -> String {
    journal::verify(folder).unwrap().id.unwrap()
}

/// Copies the database, as a backup of a running zone does.
fn back_up(folder: &Path, to: &Path) {
    rusqlite::Connection::open(folder.join(sqlite::FILE)).unwrap().execute("VACUUM INTO ?1", [to.to_str().unwrap()]).unwrap();
}

/// Takes the database away.
fn lose(folder: &Path) {
    for file in [sqlite::FILE, "players.sqlite-wal", "players.sqlite-shm"] {
        drop(std::fs::remove_file(folder.join(file)));
    }
}

fn restore(folder: &Path, from: &Path) {
    lose(folder);
    std::fs::copy(from, folder.join(sqlite::FILE)).unwrap();
}

/// A zone whose database was backed up when Ann was at version 2; at the end, killed, she is at version 4, of the same owner.
async fn backed_up() -> (TempDir, std::path::PathBuf, PlayerSave) {
    let (folder, dc) = started().await;
    let saved = next(&dc.claim(1).await, |ann| ann.coins = 70);
    dc.commit(Durability::D2, &plain(saved.clone())).await;
    dc.desk().account_create(AccountCreate { name: "bob".into(), password_hash: "x".into() }).await.unwrap();
    let backup = folder.path().join("backup.sqlite");
    back_up(folder.path(), &backup);
    let later = next(&next(&dc.claim(1).await, |ann| ann.coins = 60), |ann| ann.coins = 50);
    let first = PlayerSave { version: saved.version + 1, ..later.clone() };
    dc.commit(Durability::D2, &plain(first)).await;
    dc.commit(Durability::D2, &plain(later.clone())).await;
    dc.kill().await;
    (folder, backup, later)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_database_gets_what_it_lacks_from_its_journal() {
    let (folder, backup, later) = backed_up().await;
    restore(folder.path(), &backup);
    let dc = Dc::start(folder.path());
    assert_eq!((dc.profile(1).await.version, dc.profile(1).await.record.unwrap().coins), (later.version, 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_its_journal_is_adopted_and_old_owners_are_refused() {
    let (folder, backup, later) = backed_up().await;
    let before = journal_id(folder.path());
    restore(folder.path(), &backup);
    std::fs::remove_dir_all(folder.path().join("journal")).unwrap();
    let told = refusal(folder.path());
    assert!(told.contains(&before) && told.contains("zone dc adopt") && told.contains("Nothing was changed"), "{told}");
    assert_eq!(refusal(folder.path()), told, "the refusal changed nothing");

    let adopted = adopt(folder.path()).unwrap();
    assert_eq!((adopted.before.as_deref(), adopted.players, adopted.records), (Some(before.as_str()), 2, 0));
    assert_eq!(journal_id(folder.path()), adopted.journal);
    let dc = Dc::start(folder.path());
    assert_eq!((dc.profile(1).await.version, dc.profile(1).await.owner.as_str()), (2, ""), "as it was backed up, and nobody's");
    for version in 3..=later.version + 1 {
        let stale = dc.commit(Durability::D2, &plain(PlayerSave { version, ..later.clone() })).await;
        assert_eq!(stale.refused(), CallFaultCode::CallStaleOwner, "version {version}");
    }
    let anew = dc.claim(1).await;
    assert!(u64::from(u32::MAX) < anew.epoch, "{}", anew.epoch);
    assert_eq!(dc.commit(Durability::D2, &plain(PlayerSave { version: 3, ..later })).await.refused(), CallFaultCode::CallStaleOwner);
    assert_eq!(dc.commit(Durability::D2, &plain(next(&anew, |ann| ann.coins = 1))).await, UnitResult::default());
    dc.kill().await;
    assert_eq!(Dc::start(folder.path()).profile(1).await.record.unwrap().coins, 1, "the new journal is the database's");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_zones_journal_is_refused_and_can_not_be_adopted() {
    let (folder, _, _) = backed_up().await;
    let other = tempfile::tempdir().unwrap();
    let (desk, writer) = start::start(other.path(), &config(), MAIL_MAX, Rng::new(77), sqlite::open(other.path()).unwrap()).unwrap();
    let dc = Dc { desk: Arc::new(desk), writer: tokio::spawn(writer.run()) };
    dc.desk().account_create(AccountCreate { name: "zed".into(), password_hash: "x".into() }).await.unwrap();
    dc.role(1, "Zed").await;
    for _ in 0..20 {
        dc.claim(1).await;
    }
    dc.kill().await;
    std::fs::remove_dir_all(folder.path().join("journal")).unwrap();
    std::fs::rename(other.path().join("journal"), folder.path().join("journal")).unwrap();
    let told = refusal(folder.path());
    assert!(told.contains(&journal_id(folder.path())) && told.contains("the database belongs to journal"), "{told}");
    let refused = format!("{:#}", adopt(folder.path()).unwrap_err());
    assert!(refused.contains("move its folder away first"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_whose_database_is_new_is_refused() {
    let (folder, _, _) = backed_up().await;
    lose(folder.path());
    let told = refusal(folder.path());
    assert!(told.contains(&journal_id(folder.path())) && told.contains("has never had one"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_lost_its_id_is_adopted_with_all_that_it_has() {
    let (folder, _, later) = backed_up().await;
    std::fs::remove_file(folder.path().join("journal/id")).unwrap();
    assert!(refusal(folder.path()).contains("journal without an id"));
    assert_eq!(adopt(folder.path()).unwrap().records, 1);
    let dc = Dc::start(folder.path());
    assert_eq!((dc.profile(1).await.version, dc.profile(1).await.owner.as_str()), (later.version, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_and_a_database_from_before_there_were_ids_are_joined() {
    let (folder, _, later) = backed_up().await;
    std::fs::remove_file(folder.path().join("journal/id")).unwrap();
    rusqlite::Connection::open(folder.path().join(sqlite::FILE)).unwrap().execute("DELETE FROM journals", []).unwrap();
    let dc = Dc::start(folder.path());
    assert_eq!(dc.profile(1).await.version, later.version);
    dc.kill().await;
    assert_eq!(Dc::start(folder.path()).profile(1).await.version, later.version);
}
