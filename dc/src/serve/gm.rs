//! Calls of center for game masters: sanctions, GM accounts, the audit log.

use std::sync::Arc;

use prost::Message;
use proto::internal::{
    AuditAppend, AuditList, AuditOutcome, AuditRecord, AuditReply, Done, GmAccountCreate, GmAccountFind, GmAccountReply, Sanction,
    SanctionAdd, SanctionKind, SanctionLift, SanctionList, Sanctions,
};

use super::{Desk, bounded};
use crate::{
    ledger::{known::Whose, sanctions::Wanted},
    refusal::Refusal,
    store::{Command, Reader},
};

/// Characters of a reason, as wide as its column.
const REASON_CHARS_MAX: usize = 500;
/// Characters of a name of a person, an address, a command.
const NAME_CHARS_MAX: usize = 64;
/// Characters of the arguments and the outcome of a command.
const TEXT_CHARS_MAX: usize = 8192;

impl Desk {
    pub(super) async fn sanction_add(self: Arc<Self>, call: SanctionAdd) -> Result<Sanctions, Refusal> {
        let sanction = call.sanction.ok_or_else(|| Refusal::invalid("no sanction"))?;
        check_sanction(sanction.kind(), sanction.account, &sanction.address)?;
        bounded("a reason", &sanction.reason, REASON_CHARS_MAX)?;
        bounded("a name", &sanction.by, NAME_CHARS_MAX)?;
        let account_name = match sanction.account {
            0 => String::new(),
            account => self.account(Whose::Number(account)).await?.ok_or(Refusal::NotFound("account"))?.name,
        };
        let now_ms = crate::now_ms();
        let from_ms = if sanction.from_ms == 0 { now_ms } else { sanction.from_ms };
        let sanction = Sanction { id: 0, from_ms, account_name, ..sanction };
        let id = self.change(|ledger| ledger.sanction(sanction.clone(), now_ms)).await?;
        Ok(Sanctions { sanctions: vec![Sanction { id, ..sanction }] })
    }

    pub(super) async fn sanction_lift(self: Arc<Self>, call: SanctionLift) -> Result<Sanctions, Refusal> {
        let kind = call.kind();
        check_sanction(kind, call.account, &call.address)?;
        bounded("a name", &call.by, NAME_CHARS_MAX)?;
        let sanctions = self.change(|ledger| ledger.lift(kind, (call.account, call.address), call.by, crate::now_ms())).await?;
        Ok(Sanctions { sanctions })
    }

    pub(super) async fn sanction_list(self: Arc<Self>, call: SanctionList) -> Result<Sanctions, Refusal> {
        let kind = Some(call.kind()).filter(|kind| *kind != SanctionKind::Unspecified);
        let against = (call.account != 0 || !call.address.is_empty()).then_some((call.account, call.address));
        let limit = if call.limit == 0 { u32::MAX } else { call.limit };
        let wanted = Wanted { kind, against, now_ms: crate::now_ms(), limit };
        Ok(Sanctions { sanctions: self.shared.look(|state| state.ledger.sanctions(&wanted)) })
    }

    pub(super) async fn gm_account_find(self: Arc<Self>, call: GmAccountFind) -> Result<GmAccountReply, Refusal> {
        if let Some(known) = self.shared.look(|state| state.ledger.known.gm_account(&call.name).cloned()) {
            return Ok(known);
        }
        let found = self.read(move |reader| reader.gm_account(&call.name)).await;
        found.map_err(|refusal| refusal.for_want_of_the_store("this name can't be looked up now"))?.ok_or(Refusal::NotFound("GM account"))
    }

    pub(super) async fn gm_account_create(self: Arc<Self>, call: GmAccountCreate) -> Result<GmAccountReply, Refusal> {
        let GmAccountCreate { name, password_hash, role } = call;
        if name.is_empty() {
            return Err(Refusal::invalid("a GM account has a name"));
        }
        bounded("a name", &name, NAME_CHARS_MAX)?;
        bounded("a password hash", &password_hash, 255)?;
        if !["observer", "helper", "gm", "admin"].contains(&role.as_str()) {
            return Err(Refusal::invalid("the roles of GM accounts are observer, helper, gm and admin"));
        }
        let command = Command::GmAccountCreate { name: name.clone(), password_hash: password_hash.clone(), role: role.clone() };
        let made = self.shared.command(command).await;
        made.map_err(|refusal| refusal.for_want_of_the_store("no GM account can be made now, as its name has to be unique"))?;
        Ok(GmAccountReply { name, password_hash, role })
    }

    pub(crate) async fn audit_append(self: Arc<Self>, call: AuditAppend) -> Result<AuditReply, Refusal> {
        let record = call.record.ok_or_else(|| Refusal::invalid("no audit record"))?;
        for (what, text) in [("a name", &record.by), ("an address", &record.address), ("a command", &record.command)] {
            bounded(what, text, NAME_CHARS_MAX)?;
        }
        bounded("a role", &record.role, 32)?;
        bounded("a reason", &record.reason, REASON_CHARS_MAX)?;
        bounded("the arguments of a command", &record.arguments, TEXT_CHARS_MAX)?;
        bounded("an outcome", &record.outcome, TEXT_CHARS_MAX)?;
        let at_ms = if record.at_ms == 0 { crate::now_ms() } else { record.at_ms };
        let record = AuditRecord { id: 0, at_ms, ..record };
        let id = self.change(|ledger| ledger.audit(record.clone())).await?;
        Ok(AuditReply { records: vec![AuditRecord { id, ..record }] })
    }

    pub(super) async fn audit_outcome(self: Arc<Self>, call: AuditOutcome) -> Result<Done, Refusal> {
        // What a command brought may be long; how it begins tells enough, and an outcome is never lost for its length.
        let outcome = call.outcome.chars().take(TEXT_CHARS_MAX).collect();
        self.change(|ledger| Ok(((), ledger.audit_outcome(AuditOutcome { id: call.id, outcome })?))).await?;
        Ok(Done {})
    }

    pub(super) async fn audit_list(self: Arc<Self>, call: AuditList) -> Result<AuditReply, Refusal> {
        let limit = if call.limit == 0 { u32::MAX } else { call.limit };
        let (by, command) = (call.by.clone(), call.command.clone());
        let read = move |reader: &dyn Reader| reader.audit(&by, &command, limit);
        let newest = self.read_over(read, |ledger, stored| ledger.audits(stored, &call.by, &call.command, limit)).await;
        let mut records = newest.map_err(|refusal| refusal.for_want_of_the_store("the audit log can't be read now"))?;
        let mut bytes = 0;
        let mut fits = |record: &AuditRecord| {
            bytes += record.encoded_len() + 16;
            bytes <= proto::link::CALL_BODY_MAX
        };
        let count = records.iter().take_while(|record| fits(record)).count();
        records.truncate(count);
        Ok(AuditReply { records })
    }
}

/// A sanction has a kind, and is against an account or an address, not both.
fn check_sanction(kind: SanctionKind, account: u64, address: &str) -> Result<(), Refusal> {
    if kind == SanctionKind::Unspecified {
        return Err(Refusal::invalid("a sanction is a ban or a mute"));
    }
    if (account != 0) != address.is_empty() {
        return Err(Refusal::invalid("a sanction is against an account or an address"));
    }
    bounded("an address", address, NAME_CHARS_MAX)
}
