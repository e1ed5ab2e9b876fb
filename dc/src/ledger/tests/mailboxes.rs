//! Mailboxes have a bound: players write to each other, take, and dc flushes, forgets and is killed, in random order. After every step each
//! mailbox holds what a plain model says and never more than it may, and coins and items are conserved over players and mails (I2).

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    cast::{COINS, PLAYERS, conserved, players},
    *,
};

const OWNER: &str = "scene-1/1";

#[derive(Clone, Copy, Debug)]
enum Step {
    Send {
        from: u64,
        to: u64,
        coins: u64,
        item: bool,
    },
    Resend,
    Take {
        player: u64,
        which: usize,
    },
    /// The mailbox has to be read again.
    Forget {
        player: u64,
    },
    Flush,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let player = 1..=PLAYERS;
    prop_oneof![
        6 => (player.clone(), 1..=2u64, 0..COINS, any::<bool>()).prop_map(|(from, to, coins, item)| Step::Send { from, to, coins, item }),
        1 => Just(Step::Resend),
        3 => (player.clone(), 0..4usize).prop_map(|(player, which)| Step::Take { player, which }),
        1 => player.prop_map(|player| Step::Forget { player }),
        1 => Just(Step::Flush),
        1 => Just(Step::Kill),
    ]
}

struct Post {
    disk: Disk,
    ledger: Ledger,
    /// What waits, by the numbers of the mails.
    waiting: BTreeMap<UnitId, Mail>,
    /// The same on the disk.
    stored: BTreeMap<UnitId, Mail>,
    last: Option<CommitUnit>,
    next: u8,
}

impl Post {
    fn new() -> Self {
        let disk = Disk::with_players(players());
        let ledger = disk.start();
        let mut post = Self { disk, ledger, waiting: BTreeMap::new(), stored: BTreeMap::new(), last: None, next: 0 };
        post.claim();
        post
    }

    fn claim(&mut self) {
        for player in 1..=PLAYERS {
            self.ledger.claim(player, OWNER).unwrap();
        }
        self.disk.flush(&mut self.ledger);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send { from, to, coins, item } if from != to => self.send(from, to, coins, item),
            Step::Send { .. } => (),
            Step::Resend => {
                let (Some(last), before) = (self.last.clone(), self.ledger.lsn()) else { return };
                assert!(self.commit(&last).is_ok(), "what was done is done once, however full the mailbox is by now");
                assert_eq!(self.ledger.lsn(), before);
            }
            Step::Take { player, which } => self.take(player, which),
            Step::Forget { player } => self.ledger.mailboxes.forget(player),
            Step::Flush => {
                self.disk.flush(&mut self.ledger);
                self.stored = self.waiting.clone();
            }
            Step::Kill => {
                self.ledger = self.disk.start();
                (self.waiting, self.last) = (self.stored.clone(), None);
                self.claim();
            }
        }
        self.check();
    }

    fn send(&mut self, from: u64, to: u64, coins: u64, item: bool) {
        let mut save = self.next_save(from);
        let record = save.record.as_mut().unwrap();
        let coins = coins.min(record.coins);
        record.coins -= coins;
        let items = if item { record.items.pop().into_iter().collect() } else { Vec::new() };
        self.next += 1;
        let id = UnitId([self.next; 16]);
        let bytes = id.0.to_vec();
        let mail = Mail { id: bytes.clone().into(), from, to, coins, items, sent_ms: i64::from(self.next), ..Mail::default() };
        let unit = CommitUnit { id: bytes.into(), saves: vec![save], mail: Some(mail.clone()), ..CommitUnit::default() };
        let (before, log) = (self.ledger.lsn(), self.ledger.log_bytes());
        let waiting = self.waiting.values().filter(|mail| mail.to == to).count();
        match self.commit(&unit) {
            Ok(_) => {
                assert!(waiting < LIMITS.mail_max, "a full mailbox took one more");
                self.waiting.insert(id, mail);
                self.last = Some(unit);
            }
            refused => {
                assert_eq!((code(refused), waiting), (CallFaultCode::CallLimit, LIMITS.mail_max));
                assert_eq!((self.ledger.lsn(), self.ledger.log_bytes()), (before, log), "nothing was written");
            }
        }
    }

    fn take(&mut self, player: u64, which: usize) {
        let Some((id, mail)) = self.waiting.iter().filter(|(_, mail)| mail.to == player).nth(which) else { return };
        let (id, mail) = (*id, mail.clone());
        if self.ledger.lacks_mail(id) {
            self.ledger.load_mail(self.disk.mails[&id].clone()).unwrap();
        }
        let mut save = self.next_save(player);
        let record = save.record.as_mut().unwrap();
        record.coins += mail.coins;
        record.items.extend(mail.items);
        self.next += 1;
        let (id, taken) = (UnitId([self.next; 16]), id);
        let unit = CommitUnit { id: id.0.to_vec().into(), saves: vec![save], mail_taken: taken.0.to_vec().into(), ..CommitUnit::default() };
        self.commit(&unit).unwrap();
        self.waiting.remove(&taken);
        self.last = Some(unit);
    }

    /// As dc does it: the mailbox that a mail goes to is loaded before.
    fn commit(&mut self, unit: &CommitUnit) -> Result<Lsn, Refusal> {
        if let Some(to) = unit.mail.as_ref().map(|mail| mail.to).filter(|to| self.ledger.lacks_mailbox(*to)) {
            let rows = self.ledger.mailbox_rows() as usize;
            let stored = self.disk.mails.values().filter(|mail| mail.to == to && mail.taken_ms == 0).take(rows).cloned();
            self.ledger.load_mailbox(to, &stored.collect::<Vec<_>>());
        }
        self.ledger.commit(unit, &Elsewhere::new())
    }

    fn next_save(&self, player: u64) -> PlayerSave {
        let hot = self.ledger.peek(player).unwrap();
        save(OWNER, hot.epoch, hot.version + 1, (*hot.record).clone())
    }

    fn check(&self) {
        let held = |mail: &Mail| PlayerRecord { coins: mail.coins, items: mail.items.clone(), ..PlayerRecord::default() };
        let mails: Vec<PlayerRecord> = self.waiting.values().map(held).collect();
        let records: Vec<_> = (1..=PLAYERS).map(|player| self.ledger.peek(player).unwrap().record.clone()).collect();
        conserved(records.iter().map(|record| &**record).chain(&mails));
        for player in 1..=PLAYERS {
            let waiting = self.waiting.values().filter(|mail| mail.to == player).count();
            assert!(self.ledger.mailboxes.waiting(player).is_none_or(|known| known == waiting), "player {player}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mailbox_holds_what_it_may_and_nothing_is_lost(steps in proptest::collection::vec(step(), 1..120)) {
        let mut post = Post::new();
        for step in steps {
            post.step(step);
        }
    }
}

#[test]
fn a_mailbox_that_holds_more_than_it_may_by_now_takes_one_again_when_it_is_below() {
    let (_, mut ledger) = claimed();
    let mail = |id: u8| Mail { id: vec![id; 16].into(), from: 1, to: 2, sent_ms: i64::from(id), ..Mail::default() };
    let mut stored: Vec<Mail> = (1..=6).map(mail).collect();
    let send = |ledger: &mut Ledger, stored: &[Mail]| {
        if ledger.lacks_mailbox(2) {
            ledger.load_mailbox(2, &stored[..stored.len().min(ledger.mailbox_rows() as usize)]);
        }
        let sends = CommitUnit { mail: Some(mail(9)), ..unit(&[9; 16], vec![save("a", 1, 3, record(1, 100, &[1]))]) };
        ledger.commit(&sends, &Elsewhere::new())
    };
    for version in 3..7 {
        assert_eq!(send(&mut ledger, &stored), Err(Refusal::MailboxFull), "{} wait", stored.len());
        let first = stored.remove(0);
        ledger.load_mail(first.clone()).unwrap();
        let id = u8::try_from(version).unwrap() + 100;
        let takes = CommitUnit { mail_taken: first.id, ..unit(&[id; 16], vec![save("a", 1, version, record(2, 100, &[]))]) };
        ledger.commit(&takes, &Elsewhere::new()).unwrap();
    }
    assert_eq!(stored.len(), LIMITS.mail_max - 1);
    assert!(send(&mut ledger, &stored).is_ok());
}
