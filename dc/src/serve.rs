//! The calls of the other processes. [`Calls`] takes them off the links, [`Desk`] does them: accounts and roles (`accounts`), records
//! (`players`), profiles and relations (`social`), rankings (`ranking`), sanctions, GM accounts and the audit log (`gm`); `show` is for people.
//!
//! Calls about records are begun in the order of their link, so that two saves of a player stay in order, and are answered by whoever makes
//! them durable, without a task that waits; all others run in a task of their own. Full? The call after [`CALLS_MAX`] unanswered ones is answered UNAVAILABLE.

mod accounts;
mod gm;
mod players;
mod ranking;
pub(crate) mod show;
mod social;
#[cfg(test)]
mod tests;
mod units;

use std::{future::Future, sync::Arc};

use proto::{
    client,
    internal::{self, CallFault, CallFaultCode, Durability},
    link::{Call, LinkFrame},
    record::PlayerRecord,
};
use service::{Handler, IncomingCall, Link, link::fault, tasks::Tasks};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tracing::{debug, info};

use crate::{
    journal::id::JournalId,
    journal::promise::Promised,
    ledger::{Ledger, Lsn},
    readers::Readers,
    refusal::Refusal,
    store::{Reader, StoreError},
    writer::Shared,
};

/// Calls that may be unanswered, from all links together: several for every player of a full zone, at 1 KiB or so.
const CALLS_MAX: usize = 65_536;
/// How often something is read anew because the store took a batch meanwhile.
const READ_TRIES: usize = 16;
/// Locks that keep two loads of one player apart.
const LOADS: usize = 64;

/// Does what is asked.
pub(crate) struct Desk {
    pub shared: Shared,
    /// That of this database.
    pub journal: Option<JournalId>,
    readers: Readers,
    loads: Vec<Mutex<()>>,
    /// Keeps two loads of one mail apart.
    mail_loads: Mutex<()>,
}

impl Desk {
    pub(crate) fn new(shared: Shared, readers: Vec<Box<dyn Reader>>) -> Self {
        Self {
            shared,
            journal: None,
            readers: Readers::new(readers),
            loads: (0..LOADS).map(|_| Mutex::new(())).collect(),
            mail_loads: Mutex::new(()),
        }
    }

    /// The same, beside the journal of this id.
    pub(crate) fn of_journal(self, journal: JournalId) -> Self {
        Self { journal: Some(journal), ..self }
    }

    pub(crate) async fn read<T, F>(&self, read: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Reader) -> Result<T, StoreError> + Send + 'static,
    {
        self.readers.read(read).await
    }

    /// Reads what the store has, and lays over it what it lacks: both of one moment, so again if the store took a batch between the two.
    async fn read_over<T, U, F>(&self, read: F, over: impl Fn(&mut Ledger, T) -> U) -> Result<U, Refusal>
    where
        T: Send + 'static,
        F: Fn(&dyn Reader) -> Result<T, StoreError> + Clone + Send + 'static,
    {
        for _ in 0..READ_TRIES {
            let before = self.shared.look(|state| state.ledger.batches());
            let stored = self.read(read.clone()).await?;
            let done = self.shared.look_mut(|state| (state.ledger.batches() == before).then(|| over(&mut state.ledger, stored)));
            if let Some(done) = done {
                return Ok(done);
            }
        }
        Err(Refusal::Unavailable("the database changes faster than it can be read; try again later".into()))
    }

    /// Makes a change of a fact; it is safe when this ends well.
    async fn change<A>(&self, change: impl FnOnce(&mut Ledger) -> Result<(A, Lsn), Refusal>) -> Result<A, Refusal> {
        let pending = self.shared.with(|state| {
            state.admit(Durability::D2)?;
            let (answer, lsn) = change(&mut state.ledger)?;
            Ok(Pending { answer, durable: state.journal.wait(lsn, Durability::D2) })
        })?;
        pending.finish().await
    }
}

/// An answer that waits for the journal, or does not.
pub(crate) struct Pending<A> {
    answer: A,
    durable: Option<Promised>,
}

impl<A> Pending<A> {
    pub(crate) async fn finish(self) -> Result<A, Refusal> {
        if let Some(durable) = self.durable {
            durable.outcome().await?;
        }
        Ok(self.answer)
    }
}

/// Takes calls off the links.
pub(crate) struct Calls {
    tasks: Tasks,
    desk: Arc<Desk>,
    free: Arc<Semaphore>,
}

impl Calls {
    pub(crate) fn new(tasks: Tasks, desk: Arc<Desk>) -> Self {
        Self { tasks, desk, free: Arc::new(Semaphore::new(CALLS_MAX)) }
    }

    /// Begins now, in the link's order; is answered by whoever makes it durable.
    async fn begin<C, F>(&self, call: IncomingCall, begin: impl FnOnce(Arc<Desk>, C) -> F + Send)
    where
        C: Call,
        C::Answer: Send,
        F: Future<Output = Result<Pending<C::Answer>, Refusal>> + Send,
    {
        let Some((call, request, permit)) = self.admit::<C>(call) else { return };
        match begin(self.desk.clone(), request).await {
            Err(refusal) => answer::<C>(call, Err(refusal)),
            Ok(Pending { answer: good, durable: None }) => answer::<C>(call, Ok(good)),
            Ok(Pending { answer: good, durable: Some(durable) }) => durable.then(move |outcome| {
                answer::<C>(call, outcome.map(|()| good));
                drop(permit);
            }),
        }
    }

    /// Runs in a task.
    fn spawn<C, F>(&self, call: IncomingCall, run: impl FnOnce(Arc<Desk>, C) -> F)
    where
        C: Call,
        C::Answer: Send,
        F: Future<Output = Result<C::Answer, Refusal>> + Send + 'static,
    {
        let Some((call, request, permit)) = self.admit::<C>(call) else { return };
        let run = run(self.desk.clone(), request);
        self.tasks.spawn("call", async move {
            answer::<C>(call, run.await);
            drop(permit);
        });
    }

    /// What is asked, if there is room for it and it is well-formed; otherwise it is answered here.
    fn admit<C: Call>(&self, call: IncomingCall) -> Option<(IncomingCall, C, OwnedSemaphorePermit)> {
        let Ok(permit) = self.free.clone().try_acquire_owned() else {
            call.answer::<C>(Err(fault(CallFaultCode::CallUnavailable, "dc has too many calls to answer; try again later")));
            return None;
        };
        // Decoded from a slice, so that what is kept of a record does not keep the whole call's memory.
        match C::decode(call.body.as_ref()) {
            Ok(request) => Some((call, request, permit)),
            Err(err) => {
                call.answer::<C>(Err(fault(CallFaultCode::CallInvalid, format!("malformed {}: {err}", C::NAME))));
                None
            }
        }
    }
}

/// Counts a call that is refused, or a unit of one that is answered.
fn count_refused(call: &'static str, refusal: &Refusal) {
    metrics::counter!("paifang_dc_refused_total", "call" => call, "code" => refusal.code().as_str_name()).increment(1);
}

fn answer<C: Call>(call: IncomingCall, result: Result<C::Answer, Refusal>) {
    if let Err(refusal) = &result {
        debug!(call = C::NAME, %refusal, "refused");
        count_refused(C::NAME, refusal);
    }
    call.answer::<C>(result.map_err(CallFault::from));
}

impl Handler for Calls {
    async fn on_up(&self, link: &Link) {
        info!(peer = %link.peer().id, "link is up");
    }

    async fn on_down(&self, link: &Link) {
        info!(peer = %link.peer().id, "link is down");
    }

    async fn on_frame(&self, link: &Link, frame: LinkFrame) {
        debug!(peer = %link.peer().id, kind = frame.kind, "a frame that dc has no use for");
    }

    async fn on_call(&self, _link: &Link, call: IncomingCall) {
        match call.kind {
            internal::PlayerClaim::KIND => self.begin(call, Desk::claim).await,
            internal::PlayerTake::KIND => self.begin(call, Desk::take).await,
            internal::Commit::KIND => self.begin(call, Desk::commit).await,
            internal::PlayerHandoff::KIND => self.begin(call, Desk::handoff).await,
            internal::PlayerRelease::KIND => self.begin(call, Desk::release).await,
            internal::RoleDelete::KIND => self.begin(call, Desk::role_delete).await,
            internal::UnitFind::KIND => self.begin(call, Desk::unit_find).await,
            internal::MailFind::KIND => self.spawn(call, Desk::mail_find),
            internal::RoleListCall::KIND => self.spawn(call, Desk::role_list),
            internal::RoleCreate::KIND => self.spawn(call, Desk::role_create),
            internal::AccountCreate::KIND => self.spawn(call, Desk::account_create),
            internal::AccountFind::KIND => self.spawn(call, Desk::account_find),
            internal::ProfileFind::KIND => self.spawn(call, Desk::profile_find),
            internal::RankList::KIND => self.spawn(call, Desk::rank_list),
            internal::RankRebuild::KIND => self.spawn(call, Desk::rank_rebuild),
            internal::RelationSet::KIND => self.spawn(call, Desk::relation_set),
            internal::RelationList::KIND => self.spawn(call, Desk::relation_list),
            internal::SanctionAdd::KIND => self.spawn(call, Desk::sanction_add),
            internal::SanctionLift::KIND => self.spawn(call, Desk::sanction_lift),
            internal::SanctionList::KIND => self.spawn(call, Desk::sanction_list),
            internal::GmAccountFind::KIND => self.spawn(call, Desk::gm_account_find),
            internal::GmAccountCreate::KIND => self.spawn(call, Desk::gm_account_create),
            internal::AuditAppend::KIND => self.spawn(call, Desk::audit_append),
            internal::AuditOutcome::KIND => self.spawn(call, Desk::audit_outcome),
            internal::AuditList::KIND => self.spawn(call, Desk::audit_list),
            _ => call.unknown(),
        }
    }
}

/// What an account sees of a player before entering.
pub(crate) fn role_of(record: &PlayerRecord) -> client::Role {
    client::Role {
        player: record.player,
        name: record.name.clone(),
        level: record.level,
        map: record.map.clone(),
        line: record.line,
        position: record.position,
        coins: record.coins,
    }
}

/// Refuses a text that has no room in its column.
fn bounded(what: &str, text: &str, chars_max: usize) -> Result<(), Refusal> {
    if chars_max < text.chars().count() {
        return Err(Refusal::invalid(format!("{what} has {chars_max} characters at the most")));
    }
    Ok(())
}
