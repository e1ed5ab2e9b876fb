//! Deals over several records: a trade, one of whose players crosses a portal meanwhile; mail. Never both, never neither.

use proptest::prelude::*;
use proto::record::Mail;

use super::*;

/// A message on its way to dc.
#[derive(Clone, Debug)]
enum Asked {
    Trade,
    Fence(usize),
    Handoff,
    Claim(usize),
}

/// Two players, 1 and 2, of scenes `a` and `b`, who have agreed: 1 gives 30 coins and item 1, 2 gives 5 coins.
struct Deal {
    disk: Disk,
    ledger: Ledger,
    saves: [PlayerSave; 2],
    fences: [PlayerSave; 2],
    /// What each scene knows: `None` as long as it has to ask.
    known: [Option<bool>; 2],
    handed: bool,
}

impl Deal {
    fn new() -> Self {
        let mut disk = Disk::with_players(vec![record(1, 100, &[1]), record(2, 100, &[])]);
        let mut ledger = disk.start();
        for (player, owner) in [(1, "a"), (2, "b")] {
            ledger.claim(player, owner).unwrap();
        }
        disk.flush(&mut ledger);
        let saves = [save("a", 1, 2, record(1, 75, &[])), save("b", 1, 2, record(2, 125, &[1]))];
        let fences = [save("a", 1, 2, record(1, 100, &[1])), save("b", 1, 2, record(2, 100, &[]))];
        Self { disk, ledger, saves, fences, known: [None, None], handed: false }
    }

    fn id() -> UnitId {
        UnitId([9; 16])
    }

    fn ask(&mut self, asked: &Asked) {
        let nowhere = Elsewhere::new();
        match asked {
            Asked::Trade => drop(self.ledger.commit(&unit(&Self::id().0, self.saves.to_vec()), &nowhere)),
            Asked::Fence(side) => match commit(&mut self.ledger, vec![self.fences[*side].clone()]) {
                Ok(_) => self.hears(*side, false),
                Err(refusal) if refusal.code() == CallFaultCode::CallStaleVersion => {
                    let applied = self.ledger.unit(Self::id()).is_some();
                    assert!(applied, "only the unit can have written this version");
                    self.hears(*side, true);
                }
                Err(refusal) => assert_eq!(refusal.code(), CallFaultCode::CallStaleOwner, "{refusal}"),
            },
            // The player crosses a portal as soon as its scene is free to let it go.
            Asked::Handoff => {
                let Some(done) = self.known[0] else { return };
                let now = if done { &self.saves[0] } else { &self.fences[0] };
                let next = PlayerSave { version: 3, ..now.clone() };
                self.handed |= self.ledger.handoff(&next, "b", &nowhere).is_ok();
            }
            Asked::Claim(side) => drop(self.ledger.claim(self.saves[*side].player, "c").unwrap()),
        }
    }

    fn hears(&mut self, side: usize, done: bool) {
        assert_ne!(self.known[side], Some(!done), "a scene hears one thing and then another");
        self.known[side] = Some(done);
    }

    /// dc is killed: what the store has not got is gone with it, or was in the journal.
    fn kill(&mut self, durable: bool) {
        if durable {
            self.disk.flush(&mut self.ledger);
        } else if self.known != [None, None] || self.handed {
            return; // what was answered is durable
        }
        self.ledger = self.disk.start();
    }

    fn check(&self) {
        let [one, two] = [1, 2].map(|player| self.ledger.peek(player).unwrap().record.clone());
        assert_eq!(one.coins + two.coins, 200);
        let done = self.ledger.unit(Self::id()).is_some();
        let (coins, items) = if done { ([75, 125], [0, 1]) } else { ([100, 100], [1, 0]) };
        assert_eq!(([one.coins, two.coins], [one.items.len(), two.items.len()]), (coins, items), "both or neither");
        for known in self.known.into_iter().flatten() {
            assert_eq!(known, done, "what a scene was told is so, for ever");
        }
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    prop_oneof![
        4 => Just(Asked::Trade),
        4 => (0..2usize).prop_map(Asked::Fence),
        2 => Just(Asked::Handoff),
        1 => (0..2usize).prop_map(Asked::Claim),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    /// Messages lost, repeated and in any order, and dc killed in between.
    #[test]
    fn a_trade_is_done_for_both_or_for_neither_while_one_crosses_a_portal(steps in proptest::collection::vec((asked(), 0..6u8), 1..14)) {
        let mut deal = Deal::new();
        for (step, then) in steps {
            deal.ask(&step);
            deal.check();
            match then {
                0 => deal.kill(true),
                1 => deal.kill(false),
                _ => (),
            }
            deal.check();
        }
        // Whoever still owns its player finds out, and both find out the same.
        deal.ask(&Asked::Fence(0));
        deal.ask(&Asked::Fence(1));
        deal.ask(&Asked::Trade);
        deal.check();
    }
}

fn mail(id: u8, coins: u64, items: &[u8]) -> Mail {
    let items = record(0, 0, items).items;
    Mail { id: vec![id; 16].into(), from: 1, from_name: "p1".into(), to: 2, coins, items, sent_ms: i64::from(id), ..Mail::default() }
}

fn send(id: u8, save: PlayerSave, coins: u64, items: &[u8]) -> CommitUnit {
    CommitUnit { mail: Some(mail(id, coins, items)), ..unit(&[id; 16], vec![save]) }
}

fn take(unit_id: u8, id: u8, save: PlayerSave) -> CommitUnit {
    CommitUnit { mail_taken: vec![id; 16].into(), ..unit(&[unit_id; 16], vec![save]) }
}

fn done(ledger: &mut Ledger, unit: &CommitUnit) -> Result<Lsn, Refusal> {
    ledger.commit(unit, &Elsewhere::new())
}

/// As [`claimed`], with an empty mailbox of player 2.
fn mailing() -> (Disk, Ledger) {
    let (disk, mut ledger) = claimed();
    ledger.load_mailbox(2, &[]);
    (disk, ledger)
}

#[test]
fn mail_is_sent_once_and_taken_once() {
    let (_, mut ledger) = mailing();
    let sending = send(5, save("a", 1, 3, record(1, 60, &[])), 40, &[1]);
    let sent = done(&mut ledger, &sending).unwrap();
    assert_eq!(done(&mut ledger, &sending), Ok(sent), "sent again it is not sent twice");
    let again = send(5, save("a", 1, 4, record(1, 20, &[])), 40, &[]);
    assert_eq!(code(done(&mut ledger, &again)), CallFaultCode::CallInvalid, "the id is used");
    let stolen = commit(&mut ledger, vec![save("a", 1, 3, record(3, 100, &[1]))]);
    assert_eq!(code(stolen), CallFaultCode::CallInvalid, "the item is in the mail");
    assert_eq!(ledger.mails_for(2, Vec::new(), 10).len(), 1);
    assert_eq!(code(done(&mut ledger, &take(6, 5, save("a", 1, 3, record(3, 140, &[1]))))), CallFaultCode::CallNotFound, "another's mail");

    done(&mut ledger, &send(8, save("a", 1, 4, record(1, 59, &[])), 1, &[])).unwrap();
    let more = take(9, 8, save("a", 1, 3, record(2, 101, &[1])));
    assert_eq!(code(done(&mut ledger, &more)), CallFaultCode::CallInvalid, "the item is in another mail");
    let taking = take(6, 5, save("a", 1, 3, record(2, 140, &[1])));
    let taken = done(&mut ledger, &taking).unwrap();
    assert_eq!(done(&mut ledger, &taking), Ok(taken));
    assert_eq!(code(done(&mut ledger, &take(7, 5, save("a", 1, 4, record(2, 180, &[1]))))), CallFaultCode::CallNotFound);
    assert_eq!(ledger.mails_for(2, Vec::new(), 10).len(), 1);
    let batch = ledger.batch();
    let mails: Vec<i64> = batch.units.iter().filter_map(|unit| unit.mail.as_ref()).map(|mail| mail.taken_ms).collect();
    assert_eq!(mails, [0, 0, 1]);
    assert_eq!(batch.parts().iter().filter(|part| part.units.len() == 3 && part.rows.len() == 2).count(), 1, "stored together");
}

#[test]
fn a_mail_goes_to_somebody_and_fits_its_unit() {
    let (_, mut ledger) = mailing();
    let good = send(5, save("a", 1, 3, record(1, 60, &[1])), 40, &[]);
    let with = |change: &dyn Fn(&mut CommitUnit)| {
        let mut unit = good.clone();
        change(&mut unit);
        unit
    };
    let bad = [
        with(&|unit| unit.mail.as_mut().unwrap().to = 99),
        with(&|unit| unit.mail.as_mut().unwrap().to = 1),
        with(&|unit| unit.mail.as_mut().unwrap().from = 2),
        with(&|unit| unit.mail.as_mut().unwrap().taken_ms = 1),
        with(&|unit| unit.mail.as_mut().unwrap().id = vec![6; 16].into()),
        with(&|unit| unit.mail.as_mut().unwrap().items = record(0, 0, &[1]).items),
        with(&|unit| unit.id = Default::default()),
        with(&|unit| unit.saves.push(save("a", 1, 3, record(2, 60, &[])))),
        with(&|unit| unit.mail_taken = vec![6; 16].into()),
    ];
    for unit in bad {
        assert!(done(&mut ledger, &unit).is_err(), "{unit:?}");
    }
    assert!(done(&mut ledger, &good).is_ok());
}

#[test]
fn what_the_journal_gives_back_has_the_mail() {
    let (disk, mut ledger) = mailing();
    let before = ledger.lsn();
    ledger.log().take(usize::MAX);
    done(&mut ledger, &send(5, save("a", 1, 3, record(1, 60, &[])), 40, &[1])).unwrap();
    done(&mut ledger, &take(6, 5, save("a", 1, 3, record(2, 140, &[1])))).unwrap();
    let mut again = disk.start();
    again.go_on_above(before);
    for entry in ledger.log().take(usize::MAX) {
        let mut bytes = Vec::new();
        crate::journal::change::put(&mut bytes, &entry);
        let read = crate::journal::change::read(entry.lsn, &bytes).unwrap();
        assert_eq!(read, entry);
        again.replay(&read).unwrap();
    }
    assert_eq!(again.batch().units, ledger.batch().units);
    assert_eq!(code(done(&mut again, &take(7, 5, save("a", 1, 4, record(2, 180, &[1]))))), CallFaultCode::CallNotFound, "still taken");
}
