//! No store.

use crate::{
    journal::id::JournalId,
    ledger::Lsn,
    store::{Batch, CommandResult, Store, StoreError},
};

/// In the store's place while it is on its thread; stays only if that thread panicked, and then nothing is stored any more.
pub(super) struct Gone;

impl Store for Gone {
    fn applied_lsn(&mut self) -> Result<Lsn, StoreError> {
        Err(StoreError::Fatal("the store is gone".into()))
    }

    fn apply(&mut self, _: &Batch) -> Result<Vec<CommandResult>, StoreError> {
        Err(StoreError::Fatal("the store is gone".into()))
    }

    fn journal(&mut self) -> Result<Option<JournalId>, StoreError> {
        Err(StoreError::Fatal("the store is gone".into()))
    }

    fn take_journal(&mut self, _: JournalId, _: i64) -> Result<(), StoreError> {
        Err(StoreError::Fatal("the store is gone".into()))
    }

    fn dispossess(&mut self) -> Result<u64, StoreError> {
        Err(StoreError::Fatal("the store is gone".into()))
    }

    fn set_aside(&mut self, _: &Batch, _: &str) -> Result<(), StoreError> {
        Err(StoreError::Fatal("the store is gone".into()))
    }

    fn close(&mut self) -> Result<(), StoreError> {
        Err(StoreError::Fatal("the store is gone".into()))
    }
}
