//! Calls about units and mail: what was applied, and what waits for whom.

use std::sync::Arc;

use proto::internal::{Commit, Durability, MailFind, MailListed, UnitFind, UnitFound};

use super::{Desk, Pending};
use crate::{
    ledger::units::UnitId,
    refusal::Refusal,
    store::{LIST_MAX, Reader},
    writer::State,
};

impl Desk {
    /// Whether a unit was applied; if it was, answered when that is safe.
    pub(super) async fn unit_find(self: Arc<Self>, call: UnitFind) -> Result<Pending<UnitFound>, Refusal> {
        let id = UnitId::parse(&call.id)?.ok_or_else(|| Refusal::invalid("a unit without an id can't be found"))?;
        self.shared.with(|state: &mut State| {
            let applied = state.ledger.unit(id);
            let durable = applied.and_then(|lsn| state.journal.wait(lsn, Durability::D2));
            Ok(Pending { answer: UnitFound { applied: applied.is_some() }, durable })
        })
    }

    /// Mails that wait for a player.
    pub(super) async fn mail_find(self: Arc<Self>, call: MailFind) -> Result<MailListed, Refusal> {
        if let Some(id) = UnitId::parse(&call.id)? {
            self.load_mail(id).await?;
            let mail = self.shared.with(|state| state.ledger.mail_for(call.player, id).map(|mail| (**mail).clone()))?;
            return Ok(MailListed { mails: vec![mail] });
        }
        let limit = call.limit.clamp(1, LIST_MAX);
        let stored = self.read(move |reader| reader.mails_of(call.player, limit)).await?;
        let mails = self.shared.look(|state| state.ledger.mails_for(call.player, stored, usize::try_from(limit).unwrap_or(usize::MAX)));
        Ok(MailListed { mails })
    }

    /// Brings the mails that a commit is about into memory, and the mailboxes that they go to. Returns whose those are: they have to be there.
    pub(super) async fn load_mails(&self, call: &Commit) -> Result<Vec<u64>, Refusal> {
        let mut takers = Vec::new();
        for unit in &call.units {
            let id = unit.mail.as_ref().map_or(&unit.mail_taken, |mail| &mail.id);
            if let Some(mail) = &unit.mail {
                takers.push(mail.to);
                self.load_mailbox(mail.to).await?;
            }
            if let Ok(Some(id)) = UnitId::parse(id) {
                self.load_mail(id).await?;
            }
        }
        Ok(takers)
    }

    /// Brings what waits for a player into memory, by number.
    async fn load_mailbox(&self, player: u64) -> Result<(), Refusal> {
        let _one_at_a_time = self.mail_loads.lock().await;
        let (lacks, rows) = self.shared.look(|state| (state.ledger.lacks_mailbox(player), state.ledger.mailbox_rows()));
        if !lacks {
            return Ok(());
        }
        let read = move |reader: &dyn Reader| reader.mails_of(player, rows);
        self.read_over(read, move |ledger, stored| ledger.load_mailbox(player, &stored)).await
    }

    /// Brings a mail into memory, if there is one.
    async fn load_mail(&self, id: UnitId) -> Result<(), Refusal> {
        let _one_at_a_time = self.mail_loads.lock().await;
        if !self.shared.look(|state| state.ledger.lacks_mail(id)) {
            return Ok(());
        }
        match self.read(move |reader| reader.mail(&id.0)).await? {
            Some(mail) => self.shared.with(|state| state.ledger.load_mail(mail)),
            None => Ok(()),
        }
    }
}
