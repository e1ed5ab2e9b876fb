//! What dc asks of a store. A [`Store`] writes, one batch a transaction, on one thread; [`Reader`]s read, on others, what is committed.

pub(crate) mod batch;
#[cfg(test)]
pub(crate) mod conformance;
pub(crate) mod mysql;
pub(crate) mod sqlite;

use std::collections::HashMap;

use proto::{
    ids::ItemId,
    internal::{AuditRecord, GmAccountReply, RankBy, RankEntry, RelationTo, RoleVersion, Sanction},
    record::{Mail, PlayerRecord},
};

pub(crate) use batch::{Batch, Command, PendingUnit, Reply, Row};

use service::cache::ranking::Standing;

use crate::{
    journal::id::JournalId,
    ledger::{Lsn, facts::Numbers, units::UnitId},
    refusal::Refusal,
};

/// How records are encoded in the `body` column.
pub(crate) const RECORD_FORMAT: i64 = 1;
/// Characters of the reason why something is set aside.
pub(crate) const REASON_MAX: usize = 500;
/// What an epoch rises by when a player is taken from whoever had it: more than a player ever changes its owner.
pub(crate) const EPOCH_LEAP: i64 = 1 << 32;
/// Rows of one answer that lists something.
pub(crate) const LIST_MAX: u32 = 1000;

/// Why the store did not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// It can't now (disk full, I/O error, busy): nothing was changed, and the same may succeed later.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// It does not take this content: nothing was changed, and trying again does not help.
    #[error("the store refuses: {0}")]
    Refused(String),
    /// What is on the disk is unknown or damaged (a failed sync, corruption): only a new start, which reads it, can tell.
    #[error("the store can't go on: {0}")]
    Fatal(String),
}

impl From<StoreError> for Refusal {
    fn from(err: StoreError) -> Self {
        match err {
            StoreError::Unavailable(_) => Refusal::Away("this can't be answered now"),
            StoreError::Refused(_) | StoreError::Fatal(_) => Refusal::Internal(err.to_string()),
        }
    }
}

/// What came of a [`Command`].
pub(crate) type CommandResult = Result<Reply, Refusal>;

/// The writing side.
pub(crate) trait Store: Send {
    /// The change up to which the store has everything: the highest [`Batch::lsn`] that it applied, 0 in a new database. Asked once, after
    /// the store was opened: the journal is replayed from there.
    fn applied_lsn(&mut self) -> Result<Lsn, StoreError>;

    /// Writes the batch in one transaction, synced before it returns: all of it or, on an error, nothing. A row whose revision the store has
    /// already is no error, so a batch whose outcome is unknown can be applied again.
    /// In the same transaction the store's `applied_lsn` becomes [`Batch::lsn`] unless it is higher already. Returns what came of each command.
    fn apply(&mut self, batch: &Batch) -> Result<Vec<CommandResult>, StoreError>;

    /// The journal that belongs to this database; none: it has had none. Asked once, after the store was opened.
    fn journal(&mut self) -> Result<Option<JournalId>, StoreError>;

    /// From here on this journal belongs to the database.
    fn take_journal(&mut self, journal: JournalId, now_ms: i64) -> Result<(), StoreError>;

    /// Takes all players from their owners, with epochs that none of them ever had. Returns how many players there are. Broken off, it is
    /// done in part, and can be done again.
    fn dispossess(&mut self) -> Result<u64, StoreError>;

    /// Keeps rows and facts that `apply` refused beside the others, with the reason, for a person to look at.
    fn set_aside(&mut self, batch: &Batch, reason: &str) -> Result<(), StoreError>;

    /// The end: leaves the files in their most compact form.
    fn close(&mut self) -> Result<(), StoreError>;
}

/// A player as the store has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredPlayer {
    pub record: PlayerRecord,
    pub owner: String,
    pub epoch: u64,
    pub version: u64,
    pub revision: u64,
}

/// An account as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredAccount {
    pub account: u64,
    pub name: String,
    pub password_hash: String,
}

/// Whose relations: all that stand at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RelationsOf {
    pub outgoing: Vec<RelationTo>,
    pub befriended_by: Vec<u64>,
    pub blocked_by: Vec<u64>,
}

/// The reading side: sees all that was committed before the call.
pub(crate) trait Reader: Send {
    fn player(&self, player: u64) -> Result<Option<StoredPlayer>, StoreError>;
    /// The newest of what the store refused of a player and keeps aside, without owner, epoch and revision.
    fn set_aside(&self, player: u64) -> Result<Option<StoredPlayer>, StoreError>;
    fn player_named(&self, name_key: &str) -> Result<Option<u64>, StoreError>;
    /// The players of an account with their versions, and not their records.
    fn versions_of(&self, account: u64) -> Result<Vec<RoleVersion>, StoreError>;
    /// The foremost, of equals the older role first.
    fn foremost(&self, by: RankBy, limit: u32) -> Result<Vec<RankEntry>, StoreError>;
    /// Where players stand whose numbers are above this one, in their order.
    fn standings(&self, after: u64, limit: u32) -> Result<Vec<Standing>, StoreError>;
    /// Who holds these items; those that nobody holds are missing.
    fn holders(&self, items: &[ItemId]) -> Result<HashMap<ItemId, u64>, StoreError>;
    /// A mail, taken or not, by its id.
    fn mail(&self, id: &[u8; 16]) -> Result<Option<Mail>, StoreError>;
    /// What waits for a player, oldest first.
    fn mails_of(&self, player: u64, limit: u32) -> Result<Vec<Mail>, StoreError>;
    fn account_named(&self, name: &str) -> Result<Option<StoredAccount>, StoreError>;
    fn account(&self, account: u64) -> Result<Option<StoredAccount>, StoreError>;
    fn relations(&self, player: u64) -> Result<RelationsOf, StoreError>;
    /// Those in force whose numbers are above this one, in their order.
    fn sanctions(&self, now_ms: i64, after: u64, limit: u32) -> Result<Vec<Sanction>, StoreError>;
    /// The numbers that facts were given last.
    fn numbers(&self) -> Result<Numbers, StoreError>;
    /// The first GM accounts by name.
    fn gm_accounts(&self, limit: u32) -> Result<Vec<GmAccountReply>, StoreError>;
    fn gm_account(&self, name: &str) -> Result<Option<GmAccountReply>, StoreError>;
    /// Newest first; empty `by` and `command` match all.
    fn audit(&self, by: &str, command: &str, limit: u32) -> Result<Vec<AuditRecord>, StoreError>;
}

/// A store that was opened.
pub(crate) struct Opened {
    pub store: Box<dyn Store>,
    pub readers: Vec<Box<dyn Reader>>,
    /// The units that it remembers, oldest first.
    pub applied: Vec<(UnitId, Lsn)>,
}

/// The mails that a batch has, each once, as it leaves them.
pub(crate) fn mails_after(batch: &Batch) -> Vec<&Mail> {
    let mut mails: std::collections::BTreeMap<&[u8], &Mail> = std::collections::BTreeMap::new();
    mails.extend(batch.units.iter().filter_map(|unit| unit.mail.as_deref()).map(|mail| (&mail.id[..], mail)));
    mails.into_values().collect()
}

/// A mail from its columns.
pub(crate) fn read_mail(format: i64, body: &[u8]) -> Result<Mail, StoreError> {
    let unreadable = |why: String| StoreError::Refused(format!("a stored mail can't be read: {why}"));
    if format != RECORD_FORMAT {
        return Err(unreadable(format!("its format is {format}")));
    }
    prost::Message::decode(body).map_err(|err: prost::DecodeError| unreadable(err.to_string()))
}

/// The indexed column of a ranking.
pub(crate) fn ranked_column(by: RankBy) -> &'static str {
    match by {
        RankBy::Coins => "coins",
        _ => "level",
    }
}
