//! Mail: coins and items that are out of the sender's record and not yet in the taker's. A unit sends a mail with the sender's save, or
//! takes one with the taker's; either is one change, so the goods are always in exactly one of the three places.
//!
//! A mail to a player for whom `mail_max` others wait is refused with its unit, before anything is changed or numbered; what the journal
//! gives back was let through when it was written, and is not asked again.
//!
//! A mail is in memory from when it is sent, or asked for, until the store has it as it is and [`MAILS_MAX`] others came after it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use prost::Message;
use proto::{
    ids::ItemId,
    internal::{CommitUnit, PlayerSave},
    record::Mail,
};

use super::{Ledger, Lsn, save::COINS_MAX, units::UnitId};
use crate::{items::ids_of, refusal::Refusal, store::Batch};

/// In the place of a player: the item is in the mail. No player has this number.
pub(crate) const IN_THE_MAIL: u64 = 0;
/// Mails that stay in memory when the store has them.
const MAILS_MAX: usize = 16_384;
/// Encoded bytes of a mail.
const MAIL_BYTES_MAX: usize = 16 * 1024;

/// The mails in memory.
#[derive(Debug, Default)]
pub(crate) struct Mails {
    hot: HashMap<UnitId, HotMail>,
    order: VecDeque<UnitId>,
    dirty_bytes: usize,
}

#[derive(Debug)]
struct HotMail {
    mail: Arc<Mail>,
    items: Arc<[ItemId]>,
    /// The change that made it so; 0: as the store has it.
    lsn: Lsn,
}

impl Mails {
    /// Bytes of mails that the store does not have as they are.
    pub(super) fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    fn get(&self, id: UnitId) -> Option<&Arc<Mail>> {
        self.hot.get(&id).map(|hot| &hot.mail)
    }

    fn put(&mut self, id: UnitId, hot: HotMail) {
        self.dirty_bytes += hot.bytes();
        match self.hot.insert(id, hot) {
            Some(before) => self.dirty_bytes -= before.bytes(),
            None => self.order.push_back(id),
        }
    }

    fn remove(&mut self, id: UnitId) -> Option<HotMail> {
        let gone = self.hot.remove(&id)?;
        self.dirty_bytes -= gone.bytes();
        Some(gone)
    }

    fn stored(&mut self, id: UnitId, lsn: Lsn) {
        if let Some(hot) = self.hot.get_mut(&id).filter(|hot| hot.lsn <= lsn) {
            self.dirty_bytes -= hot.bytes();
            hot.lsn = 0;
        }
    }

    /// Forgets the oldest that the store has, down to the limit; returns them.
    fn evict(&mut self) -> Vec<HotMail> {
        let mut gone = Vec::new();
        for _ in MAILS_MAX..self.order.len() {
            let Some(oldest) = self.order.pop_front() else { break };
            match self.hot.get(&oldest) {
                Some(hot) if hot.lsn != 0 => self.order.push_back(oldest),
                Some(_) => gone.extend(self.remove(oldest)),
                None => (),
            }
        }
        gone
    }
}

impl HotMail {
    fn bytes(&self) -> usize {
        if self.lsn == 0 { 0 } else { self.mail.encoded_len() }
    }
}

impl Ledger {
    /// Whether the mail has to be loaded before anything can be said about it.
    pub(crate) fn lacks_mail(&self, id: UnitId) -> bool {
        self.mails.get(id).is_none()
    }

    /// Takes what the store has of a mail. What is in memory is newer, and stays.
    ///
    /// Refused when the stored mail breaks the rules.
    pub(crate) fn load_mail(&mut self, mail: Mail) -> Result<(), Refusal> {
        let known = UnitId::parse(&mail.id)?.is_some_and(|id| !self.lacks_mail(id));
        if known { Ok(()) } else { self.put_mail(Arc::new(mail), 0) }
    }

    /// Whether the player's mailbox has to be loaded before a mail can be sent to it.
    pub(crate) fn lacks_mailbox(&self, player: u64) -> bool {
        self.mailboxes.waiting(player).is_none()
    }

    /// How many of a player's mails the store has to name for [`Ledger::load_mailbox`].
    pub(crate) fn mailbox_rows(&self) -> u32 {
        u32::try_from(self.limits.mail_max).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Takes what the store says waits for a player, at most [`Ledger::mailbox_rows`]. What is in memory is newer.
    pub(crate) fn load_mailbox(&mut self, player: u64, stored: &[Mail]) {
        // A limit that was higher left more than are named: then it is full until the store says otherwise.
        let partial = self.limits.mail_max < stored.len();
        let ids = stored.iter().filter_map(|mail| UnitId::parse(&mail.id).ok().flatten());
        let waits = |mail: &Mail| mail.to == player && mail.taken_ms == 0;
        let still = ids.filter(|id| partial || self.mails.get(*id).is_none_or(|mail| waits(mail)));
        let hot = self.mails.hot.iter().filter(|(_, hot)| waits(&hot.mail)).map(|(id, _)| *id);
        let waiting = still.chain(hot).collect();
        self.mailboxes.load(player, waiting, partial);
    }

    /// A mail that waits for this player.
    pub(crate) fn mail_for(&self, player: u64, id: UnitId) -> Result<&Arc<Mail>, Refusal> {
        let waits = |mail: &&Arc<Mail>| mail.to == player && mail.taken_ms == 0;
        self.mails.get(id).filter(waits).ok_or(Refusal::NotFound("mail"))
    }

    /// What waits for a player, oldest first, given what the store says of it.
    pub(crate) fn mails_for(&self, player: u64, stored: Vec<Mail>, limit: usize) -> Vec<Mail> {
        let unknown = |mail: &Mail| UnitId::parse(&mail.id).ok().flatten().is_some_and(|id| self.lacks_mail(id));
        let hot = self.mails.hot.values().map(|hot| &*hot.mail).filter(|mail| mail.to == player && mail.taken_ms == 0).cloned();
        let mut mails: Vec<Mail> = stored.into_iter().filter(unknown).chain(hot).collect();
        mails.sort_by(|one, other| (one.sent_ms, &one.id).cmp(&(other.sent_ms, &other.id)));
        mails.truncate(limit);
        mails
    }

    /// The mail that a unit sends or takes, as it is after it; none if it does neither.
    pub(super) fn mail_of(&self, unit: &CommitUnit, id: Option<UnitId>) -> Result<Option<Arc<Mail>>, Refusal> {
        if unit.mail.is_none() && unit.mail_taken.is_empty() {
            return Ok(None);
        }
        let (Some(id), [save]) = (id, &unit.saves[..]) else {
            return Err(Refusal::invalid("a unit with a mail has an id and one save"));
        };
        match &unit.mail {
            Some(_) if !unit.mail_taken.is_empty() => Err(Refusal::invalid("a unit sends a mail or takes one")),
            Some(mail) => self.sent(mail, id, save).map(Some),
            None => self.taken(&unit.mail_taken, save).map(Some),
        }
    }

    fn sent(&self, mail: &Mail, id: UnitId, save: &PlayerSave) -> Result<Arc<Mail>, Refusal> {
        if mail.id[..] != id.0 || mail.from != save.player || mail.to == mail.from || mail.taken_ms != 0 {
            return Err(Refusal::invalid("a mail has its unit's id, is from the one who is saved, and to somebody else"));
        }
        if MAIL_BYTES_MAX < mail.encoded_len() || COINS_MAX < mail.coins {
            return Err(Refusal::invalid("the mail is too large"));
        }
        if self.mails.get(id).is_some() {
            return Err(Refusal::invalid("this id is another mail's"));
        }
        self.writable(mail.to)?;
        match self.mailboxes.waiting(mail.to) {
            Some(waiting) if waiting < self.limits.mail_max => Ok(Arc::new(mail.clone())),
            Some(_) => Err(Refusal::MailboxFull),
            None => Err(Refusal::Unavailable("the mailbox is not read yet; try again".into())),
        }
    }

    fn taken(&self, id: &[u8], save: &PlayerSave) -> Result<Arc<Mail>, Refusal> {
        let id = UnitId::parse(id)?.ok_or(Refusal::NotFound("mail"))?;
        let seen_ms = save.record.as_ref().map_or(0, |record| record.seen_ms);
        let mail = self.mail_for(save.player, id)?;
        Ok(Arc::new(Mail { taken_ms: seen_ms.max(1), ..(**mail).clone() }))
    }

    /// A mail is so from now on. Its items are checked by who calls.
    pub(super) fn keep_mail(&mut self, mail: Arc<Mail>, lsn: Lsn) {
        let kept = self.put_mail(mail, lsn);
        debug_assert!(kept.is_ok(), "checked with the unit");
    }

    /// As [`Ledger::keep_mail`], for what was checked when it was written.
    pub(super) fn put_mail(&mut self, mail: Arc<Mail>, lsn: Lsn) -> Result<(), Refusal> {
        let id = UnitId::parse(&mail.id)?.ok_or_else(|| Refusal::invalid("a mail without an id"))?;
        let items: Arc<[ItemId]> = ids_of(&mail.items)?.into();
        self.mailboxes.follow(id, &mail);
        match mail.taken_ms {
            0 => self.items.insert(IN_THE_MAIL, &items),
            _ => self.items.remove(IN_THE_MAIL, &items),
        }
        self.mails.put(id, HotMail { mail, items, lsn });
        Ok(())
    }

    /// The store has the mails of a batch, but for those of the players that it refused: they are as the store has them.
    pub(super) fn mails_stored(&mut self, batch: &Batch, refused: &HashSet<u64>) {
        for unit in &batch.units {
            let Some(id) = unit.mail.as_ref().and_then(|mail| UnitId::parse(&mail.id).ok().flatten()) else { continue };
            if !unit.players.iter().any(|player| refused.contains(player)) {
                self.mails.stored(id, unit.lsn);
            } else if let Some(gone) = self.mails.remove(id) {
                self.mailboxes.forget(gone.mail.to);
                self.items.remove(IN_THE_MAIL, &gone.items);
            }
        }
    }

    /// Forgets mails that are over the limit.
    pub(super) fn evict_mails(&mut self) {
        for gone in self.mails.evict() {
            self.items.remove(IN_THE_MAIL, &gone.items);
        }
    }
}
