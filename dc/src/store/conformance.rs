//! What every store must do, as tests that run on each: [`conformance`] makes them for a [`Home`]. Those of facts are in [`facts`].

mod facts;

use std::sync::Arc;

use proto::{
    client::Item,
    ids::ItemId,
    record::{Mail, PlayerRecord},
};

use super::*;
use crate::refusal::Refusal;
pub(crate) use facts::*;

pub(crate) const NOW: i64 = 1_000;

/// An empty place for a store, which can be opened there again and again.
pub(crate) trait Home {
    fn open(&self) -> Opened;
}

/// One test of each kind in the module where it stands. `$home` makes a home, or `None`, having said why there can be none.
macro_rules! conformance {
    ($home:expr) => {
        crate::store::conformance::conformance!($home;
            opening_again_migrates_nothing_and_finds_everything,
            applied_lsn_rises_only_and_with_what_it_says,
            an_older_revision_changes_nothing_and_the_same_is_harmless,
            a_row_that_is_gone_is_not_made_again,
            an_item_moves_in_one_batch_and_is_never_at_two_players,
            many_rows_are_stored_and_told_apart,
            a_refused_row_of_many_is_found_and_the_rest_is_stored,
            a_mail_holds_its_goods_until_it_is_taken,
            a_mail_that_is_sent_and_taken_in_one_batch_of_many,
            units_below_the_floor_are_forgotten,
            names_are_unique_whatever_their_case_until_the_role_is_deleted,
            names_of_any_alphabet_are_kept,
            a_refused_command_does_not_disturb_the_others,
            relations_are_one_a_pair_between_players_who_are_there,
            sanctions_are_read_while_they_are_in_force,
            gm_accounts_are_kept,
            the_audit_log_is_kept_and_filtered,
            facts_that_are_given_twice_are_there_once,
            more_facts_than_a_transaction_has_are_all_there,
            facts_that_are_refused_can_be_set_aside,
            a_journal_belongs_to_the_database_until_another_one_does,
            players_are_taken_from_their_owners_with_epochs_that_they_never_had,
            mails_are_kept_and_their_items_are_at_no_player,
            rankings_and_versions_are_read_without_records,
        );
    };
    ($home:expr; $($name:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                let Some(home) = $home else { return };
                crate::store::conformance::$name(&home);
            }
        )+
    };
}
pub(crate) use conformance;

pub(crate) fn run(opened: &mut Opened, command: Command) -> CommandResult {
    opened.store.apply(&Batch { now_ms: NOW, commands: vec![command], ..Batch::default() }).unwrap().pop().unwrap()
}

pub(crate) fn number(result: CommandResult) -> u64 {
    match result {
        Ok(Reply::Number(number)) => number,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn account(opened: &mut Opened, name: &str) -> u64 {
    number(run(opened, Command::AccountCreate { name: name.into(), password_hash: "hash".into() }))
}

pub(crate) fn role(opened: &mut Opened, account: u64, name: &str) -> CommandResult {
    let record = PlayerRecord { account, name: name.into(), map: "meadow".into(), ..PlayerRecord::default() };
    run(opened, Command::RoleCreate { record, roles_max: 3 })
}

/// Two players of one account.
pub(crate) fn with_players(home: &dyn Home) -> Opened {
    let mut opened = home.open();
    let account = account(&mut opened, "alice");
    assert_eq!(number(role(&mut opened, account, "Ann")), 1);
    assert_eq!(number(role(&mut opened, account, "Bo")), 2);
    opened
}

/// As many players of one account.
pub(crate) fn with_many_players(home: &dyn Home, count: u64) -> Opened {
    let mut opened = home.open();
    let account = account(&mut opened, "alice");
    let role = |n: u64| Command::RoleCreate {
        record: PlayerRecord { account, name: format!("Player{n}"), map: "meadow".into(), ..PlayerRecord::default() },
        roles_max: u32::MAX,
    };
    let results = opened.store.apply(&Batch { now_ms: NOW, commands: (1..=count).map(role).collect(), ..Batch::default() }).unwrap();
    assert!(results.iter().all(Result::is_ok));
    opened
}

pub(crate) fn reader(opened: &Opened) -> &dyn Reader {
    &*opened.readers[0]
}

/// A player as it is stored, at another revision and with these items.
pub(crate) fn row(opened: &Opened, player: u64, revision: u64, items: &[u8]) -> Row {
    let items = items.iter().map(|id| Item { id: vec![*id; 16].into(), kind: "sword".into(), count: 1 }).collect();
    let record = PlayerRecord { items, level: 7, ..reader(opened).player(player).unwrap().unwrap().record };
    let (owner, items_changed, deleted) = ("scene-1/7".into(), true, false);
    Row { player, record: Arc::new(record), owner, epoch: 3, version: revision, revision, lsn: revision, items_changed, deleted }
}

pub(crate) fn rows(rows: Vec<Row>) -> Batch {
    Batch { lsn: 1, now_ms: NOW, rows, ..Batch::default() }
}

fn item(id: u8) -> ItemId {
    ItemId::from_bytes(&[id; 16]).unwrap()
}

pub(crate) fn opening_again_migrates_nothing_and_finds_everything(home: &dyn Home) {
    let mut opened = with_players(home);
    let row = row(&opened, 1, 5, &[1, 2]);
    let unit = PendingUnit { lsn: 9, id: Some(UnitId([7; 16])), players: vec![1], mail: None };
    opened.store.apply(&Batch { units: vec![unit], ..rows(vec![row.clone()]) }).unwrap();
    drop(opened);
    let again = home.open();
    let stored = reader(&again).player(1).unwrap().unwrap();
    assert_eq!((stored.owner.as_str(), stored.epoch, stored.version, stored.revision), ("scene-1/7", 3, 5, 5));
    assert_eq!(stored.record, *row.record);
    assert_eq!(again.applied, [(UnitId([7; 16]), 9)]);
    assert_eq!(reader(&again).holders(&[item(2), ItemId(5)]).unwrap().len(), 1);
}

pub(crate) fn applied_lsn_rises_only_and_with_what_it_says(home: &dyn Home) {
    let mut opened = with_players(home);
    assert_eq!(opened.store.applied_lsn(), Ok(0));
    let batch = |lsn, rows| Batch { lsn, now_ms: NOW, rows, ..Batch::default() };
    opened.store.apply(&batch(7, vec![row(&opened, 1, 2, &[1])])).unwrap();
    assert_eq!(opened.store.applied_lsn(), Ok(7));
    opened.store.apply(&batch(5, Vec::new())).unwrap();
    opened.store.apply(&batch(0, vec![row(&opened, 1, 3, &[1])])).unwrap();
    assert_eq!(opened.store.applied_lsn(), Ok(7), "it never goes back");
    let refused = batch(9, vec![row(&opened, 1, 4, &[1]), row(&opened, 2, 2, &[1])]);
    assert!(matches!(opened.store.apply(&refused), Err(StoreError::Refused(_))));
    assert_eq!(opened.store.applied_lsn(), Ok(7), "a batch that is not stored is not said to be");
    drop(opened);
    assert_eq!(home.open().store.applied_lsn(), Ok(7));
}

pub(crate) fn an_older_revision_changes_nothing_and_the_same_is_harmless(home: &dyn Home) {
    let mut opened = with_players(home);
    let newest = rows(vec![row(&opened, 1, 5, &[1])]);
    opened.store.apply(&newest).unwrap();
    opened.store.apply(&newest).unwrap();
    let older = rows(vec![row(&opened, 1, 4, &[])]);
    assert!(matches!(opened.store.apply(&older), Err(StoreError::Refused(_))));
    let stored = reader(&opened).player(1).unwrap().unwrap();
    assert_eq!((stored.version, stored.record.items.len()), (5, 1));
    assert_eq!(reader(&opened).holders(&[item(1)]).unwrap().len(), 1);
}

pub(crate) fn a_row_that_is_gone_is_not_made_again(home: &dyn Home) {
    let mut opened = with_players(home);
    let named = |name: &str| {
        let row = row(&opened, 1, 6, &[]);
        let record = PlayerRecord { player: 9, name: name.into(), ..(*row.record).clone() };
        rows(vec![Row { player: 9, record: Arc::new(record), ..row }])
    };
    for gone in [named("Ann"), named("Nobody")] {
        assert!(matches!(opened.store.apply(&gone), Err(StoreError::Refused(_))));
        assert_eq!(reader(&opened).player(9).unwrap(), None);
        assert_eq!(reader(&opened).player(1).unwrap().unwrap().version, 1, "nobody else is written to");
    }
}

pub(crate) fn an_item_moves_in_one_batch_and_is_never_at_two_players(home: &dyn Home) {
    let mut opened = with_players(home);
    let batch = rows(vec![row(&opened, 1, 2, &[1]), row(&opened, 2, 2, &[2])]);
    opened.store.apply(&batch).unwrap();
    let swapped = rows(vec![row(&opened, 1, 3, &[2]), row(&opened, 2, 3, &[1])]);
    opened.store.apply(&swapped).unwrap();
    let doubled = rows(vec![row(&opened, 1, 4, &[1, 2])]);
    assert!(matches!(opened.store.apply(&doubled), Err(StoreError::Refused(_))));
    opened.store.set_aside(&doubled, &"item 1 is at player 2 ".repeat(100)).unwrap();
    let stored = reader(&opened).player(1).unwrap().unwrap();
    assert_eq!((stored.version, stored.record.items[0].id[0]), (3, 2), "the refused batch left nothing");
}

/// More than fit into one transaction or statement of any store.
const MANY: u64 = 1_500;

pub(crate) fn many_rows_are_stored_and_told_apart(home: &dyn Home) {
    let mut opened = with_many_players(home, MANY);
    for revision in [2, 3] {
        let item = |n: u64| Item { id: u128::from(n).to_be_bytes().to_vec().into(), kind: "sword".into(), count: 1 };
        let row = |player: u64| {
            let record = PlayerRecord { player, account: 1, name: format!("Player{player}"), ..PlayerRecord::default() };
            let record = PlayerRecord { coins: player + revision, items: vec![item(player), item(MANY + player)], ..record };
            Row { player, record: Arc::new(record), version: revision, revision, ..row(&opened, 1, revision, &[]) }
        };
        let rows: Vec<Row> = (1..=MANY).map(row).collect();
        // Pairs of players that a unit ties together.
        let unit =
            |n: u64| PendingUnit { lsn: n, id: Some(UnitId(u128::from(n).to_be_bytes())), players: vec![n, MANY + 1 - n], mail: None };
        let units = (1..=MANY / 2).map(unit).collect();
        opened.store.apply(&Batch { lsn: revision, now_ms: NOW, rows, units, ..Batch::default() }).unwrap();
        assert_eq!(opened.store.applied_lsn(), Ok(revision));
    }
    for player in [1, 2, MANY / 2, MANY] {
        let stored = reader(&opened).player(player).unwrap().unwrap();
        assert_eq!((stored.version, stored.record.coins), (3, player + 3));
    }
    let all: Vec<ItemId> = (1..=2 * MANY).map(|n| ItemId(u128::from(n))).collect();
    let holders = reader(&opened).holders(&all).unwrap();
    assert_eq!((holders.len() as u64, holders[&all[0]], holders[&all[all.len() - 1]]), (2 * MANY, 1, MANY));
    drop(opened);
    assert_eq!(home.open().applied.len() as u64, MANY / 2);
}

/// As the writer does it: the whole, then each part alone, then the end.
pub(crate) fn a_refused_row_of_many_is_found_and_the_rest_is_stored(home: &dyn Home) {
    let mut opened = with_many_players(home, 600);
    let taken = rows(vec![row(&opened, 600, 2, &[9])]);
    opened.store.apply(&taken).unwrap();
    let mut all: Vec<Row> = (1..600).map(|player| Row { items_changed: false, ..row(&opened, player, 2, &[]) }).collect();
    for thief in [77, 501] {
        all[thief - 1] = row(&opened, thief as u64, 2, &[9]);
    }
    let units = vec![PendingUnit { lsn: 3, id: None, players: vec![77, 78], mail: None }];
    let command = Command::AccountCreate { name: "late".into(), password_hash: "hash".into() };
    let batch = Batch { lsn: 5, now_ms: NOW, rows: all, units, commands: vec![command], ..Batch::default() };
    assert!(matches!(opened.store.apply(&batch), Err(StoreError::Refused(_))));
    let mut refused = Vec::new();
    for part in batch.parts() {
        match opened.store.apply(&part) {
            Ok(_) => (),
            Err(StoreError::Refused(reason)) => {
                opened.store.set_aside(&part, &reason).unwrap();
                refused.extend(part.rows.iter().map(|row| row.player));
            }
            Err(err) => panic!("{err}"),
        }
    }
    assert_eq!(refused, [77, 78, 501], "and whoever is tied to one of them");
    assert_eq!(opened.store.applied_lsn(), Ok(1), "not before the end");
    let end = Batch { rows: Vec::new(), units: Vec::new(), ..batch };
    assert_eq!(opened.store.apply(&end).unwrap(), [Ok(Reply::Number(2))], "the command was not done before");
    assert_eq!(opened.store.applied_lsn(), Ok(5));
    for player in 1..=600 {
        let version = if refused.contains(&player) { 1 } else { 2 };
        assert_eq!(reader(&opened).player(player).unwrap().unwrap().version, version, "player {player}");
    }
}

/// A mail with item 5, and the unit that sends or takes it.
fn mail(player: u64, lsn: Lsn, from: u64, to: u64, taken_ms: i64) -> PendingUnit {
    let items = vec![Item { id: vec![5; 16].into(), kind: "sword".into(), count: 1 }];
    let mail = Mail { id: vec![8; 16].into(), from, to, coins: 3, items, sent_ms: 7, taken_ms, ..Mail::default() };
    PendingUnit { lsn, id: Some(UnitId([u8::try_from(lsn).unwrap(); 16])), players: vec![player], mail: Some(Arc::new(mail)) }
}

pub(crate) fn a_mail_holds_its_goods_until_it_is_taken(home: &dyn Home) {
    let mut opened = with_players(home);
    opened.store.apply(&rows(vec![row(&opened, 1, 2, &[5])])).unwrap();
    let sent = Batch { units: vec![mail(1, 3, 1, 2, 0)], ..rows(vec![row(&opened, 1, 3, &[])]) };
    for _ in 0..2 {
        opened.store.apply(&sent).unwrap(); // twice is once
        assert_eq!(reader(&opened).holders(&[item(5)]).unwrap()[&item(5)], 0, "it is in the mail");
        assert_eq!(reader(&opened).mails_of(2, 9).unwrap(), [(**sent.units[0].mail.as_ref().unwrap()).clone()]);
    }
    let taken = Batch { units: vec![mail(2, 4, 1, 2, 9)], ..rows(vec![row(&opened, 2, 2, &[5])]) };
    for _ in 0..2 {
        opened.store.apply(&taken).unwrap();
        assert_eq!(reader(&opened).holders(&[item(5)]).unwrap()[&item(5)], 2);
        assert_eq!(reader(&opened).mails_of(2, 9).unwrap(), []);
        assert_eq!(reader(&opened).mail(&[8; 16]).unwrap().unwrap().taken_ms, 9);
    }
    assert_eq!(reader(&opened).mail(&[9; 16]).unwrap(), None);
}

pub(crate) fn a_mail_that_is_sent_and_taken_in_one_batch_of_many(home: &dyn Home) {
    let mut opened = with_many_players(home, 600);
    opened.store.apply(&rows(vec![row(&opened, 600, 2, &[5])])).unwrap();
    let at = |player: u64| {
        let items: &[u8] = if player == 1 { &[5] } else { &[] };
        Row { items_changed: player == 1 || player == 600, ..row(&opened, player, 3, items) }
    };
    let units = vec![mail(600, 3, 600, 1, 0), mail(1, 4, 600, 1, 9)];
    let batch = Batch { units, ..rows((1..=600).map(at).collect()) };
    opened.store.apply(&batch).unwrap();
    for part in batch.parts() {
        opened.store.apply(&part).unwrap();
    }
    assert_eq!(reader(&opened).holders(&[item(5)]).unwrap()[&item(5)], 1);
    assert_eq!(reader(&opened).mails_of(1, 9).unwrap(), []);
}

pub(crate) fn units_below_the_floor_are_forgotten(home: &dyn Home) {
    let mut opened = with_players(home);
    let unit = |n: u8| PendingUnit { lsn: u64::from(n), id: Some(UnitId([n; 16])), players: vec![1], mail: None };
    opened.store.apply(&Batch { units: vec![unit(1), unit(2)], ..Batch::default() }).unwrap();
    opened.store.apply(&Batch { units: vec![unit(2), unit(3)], units_floor: 2, ..Batch::default() }).unwrap();
    drop(opened);
    assert_eq!(home.open().applied, [(UnitId([2; 16]), 2), (UnitId([3; 16]), 3)]);
}

pub(crate) fn names_are_unique_whatever_their_case_until_the_role_is_deleted(home: &dyn Home) {
    let mut opened = with_players(home);
    assert_eq!(run(&mut opened, Command::AccountCreate { name: "alice".into(), password_hash: "x".into() }), Err(Refusal::NameTaken));
    assert_eq!(role(&mut opened, 1, "ANN"), Err(Refusal::NameTaken));
    assert_eq!(role(&mut opened, 9, "Cid"), Err(Refusal::NotFound("account")));
    let batch = rows(vec![row(&opened, 1, 5, &[1])]);
    opened.store.apply(&batch).unwrap();
    let deleted = Row { deleted: true, ..row(&opened, 1, 6, &[1]) };
    opened.store.apply(&rows(vec![deleted.clone()])).unwrap();
    opened.store.apply(&rows(vec![deleted])).unwrap();
    assert_eq!(number(role(&mut opened, 1, "ANN")), 3, "numbers are never given twice");
    assert_eq!(number(role(&mut opened, 1, "Cid")), 4);
    assert_eq!(role(&mut opened, 1, "Dan"), Err(Refusal::Limit(3, "roles")));
    assert!(reader(&opened).holders(&[item(1)]).unwrap().is_empty());
    assert_eq!(reader(&opened).player_named("ann").unwrap(), Some(3));
    assert_eq!(reader(&opened).versions_of(1).unwrap().len(), 3);
}

pub(crate) fn names_of_any_alphabet_are_kept(home: &dyn Home) {
    let mut opened = home.open();
    let account = account(&mut opened, "alice");
    for name in ["王小明", "Ærøskøbing", "𠜎🐗"] {
        let player = number(role(&mut opened, account, name));
        assert_eq!(reader(&opened).player(player).unwrap().unwrap().record.name, name);
        assert_eq!(reader(&opened).player_named(&proto::names::player_key(name)).unwrap(), Some(player));
    }
    assert_eq!(reader(&opened).player_named("aeroskobing").unwrap(), None, "texts are compared by their bytes");
}

pub(crate) fn a_refused_command_does_not_disturb_the_others(home: &dyn Home) {
    let mut opened = home.open();
    let create = |name: &str| Command::AccountCreate { name: name.into(), password_hash: "x".into() };
    let batch = Batch { commands: vec![create("a"), create("a"), create("b")], ..Batch::default() };
    let results = opened.store.apply(&batch).unwrap();
    assert_eq!(results, [Ok(Reply::Number(1)), Err(Refusal::NameTaken), Ok(Reply::Number(2))]);
    assert_eq!(reader(&opened).account_named("b").unwrap().unwrap().account, 2);
    assert_eq!(reader(&opened).account(1).unwrap().unwrap().name, "a");
    assert_eq!(reader(&opened).account_named("c").unwrap(), None);
}

pub(crate) fn rankings_and_versions_are_read_without_records(home: &dyn Home) {
    let mut opened = with_players(home);
    let mut second = row(&opened, 2, 5, &[]);
    Arc::make_mut(&mut second.record).coins = i64::MAX as u64;
    opened.store.apply(&rows(vec![second])).unwrap();
    let foremost = |by, limit| {
        let entries = reader(&opened).foremost(by, limit).unwrap();
        entries.into_iter().map(|entry| (entry.player, entry.name, entry.value)).collect::<Vec<_>>()
    };
    assert_eq!(foremost(RankBy::Level, 5), [(2, "Bo".into(), 7), (1, "Ann".into(), 0)]);
    assert_eq!(foremost(RankBy::Coins, 1), [(2, "Bo".into(), i64::MAX as u64)]);
    let versions = reader(&opened).versions_of(1).unwrap();
    assert_eq!(versions.iter().map(|role| (role.player, role.version)).collect::<Vec<_>>(), [(1, 1), (2, 5)]);
    assert_eq!(reader(&opened).versions_of(2).unwrap(), []);
    let standing = |player, name: &str, of| Standing { player, name: name.into(), of: Some(of) };
    let (ann, bo) = (standing(1, "Ann", (0, 0)), standing(2, "Bo", (7, i64::MAX as u64)));
    assert_eq!(reader(&opened).standings(0, 1).unwrap(), [ann]);
    assert_eq!(reader(&opened).standings(1, 5).unwrap(), [bo]);
    assert_eq!(reader(&opened).standings(2, 5).unwrap(), []);
}

pub(crate) fn mails_are_kept_and_their_items_are_at_no_player(home: &dyn Home) {
    let mut opened = home.open();
    let mut roles = (1..=2).map(|number| {
        run(&mut opened, Command::AccountCreate { name: format!("mailer{number}"), password_hash: "x".into() }).unwrap();
        let record = PlayerRecord { account: number, name: format!("Mailer{number}"), ..PlayerRecord::default() };
        PlayerRecord { player: self::number(run(&mut opened, Command::RoleCreate { record: record.clone(), roles_max: 1 })), ..record }
    });
    let (one, two) = (roles.next().unwrap(), roles.next().unwrap());
    drop(roles);
    let tusk = Item { id: vec![7; 16].into(), kind: "tusk".into(), count: 1 };
    let holder = |opened: &Opened| opened.readers[0].holders(&[ItemId::from_bytes(&[7; 16]).unwrap()]).unwrap().into_values().next();
    let sent = proto::record::Mail {
        id: vec![5; 16].into(),
        from: one.player,
        to: two.player,
        coins: 3,
        items: vec![tusk],
        sent_ms: 1,
        ..Default::default()
    };
    let taken = proto::record::Mail { taken_ms: 9, ..sent.clone() };
    let unit = |lsn, mail: &proto::record::Mail| PendingUnit {
        lsn,
        id: Some(UnitId([u8::try_from(lsn).unwrap(); 16])),
        players: vec![one.player, two.player],
        mail: Some(Arc::new(mail.clone())),
    };
    opened.store.apply(&Batch { lsn: 2, ..rows(vec![row(&opened, one.player, 2, &[7])]) }).unwrap();
    let sending = Batch { lsn: 3, units: vec![unit(3, &sent)], ..rows(vec![row(&opened, one.player, 3, &[])]) };
    for _ in 0..2 {
        opened.store.apply(&sending).unwrap(); // the second time as after an unknown outcome
        assert_eq!(holder(&opened), Some(0));
        assert_eq!(opened.readers[0].mails_of(two.player, 9).unwrap(), std::slice::from_ref(&sent));
        assert_eq!(opened.readers[0].mails_of(one.player, 9).unwrap(), []);
    }
    let taking = Batch { lsn: 4, units: vec![unit(4, &taken)], ..rows(vec![row(&opened, two.player, 2, &[7])]) };
    for _ in 0..2 {
        opened.store.apply(&taking).unwrap();
        assert_eq!(holder(&opened), Some(two.player));
        assert_eq!(opened.readers[0].mails_of(two.player, 9).unwrap(), []);
        assert_eq!(opened.readers[0].mail(&[5; 16]).unwrap().as_ref(), Some(&taken));
    }
    assert_eq!(opened.readers[0].mail(&[6; 16]).unwrap(), None);
}
