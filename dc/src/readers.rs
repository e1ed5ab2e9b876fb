//! The store's reading side for async callers: as many reads at once as there are readers, the others wait their turn.

use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;

use crate::{
    refusal::Refusal,
    store::{Reader, StoreError},
};

/// The readers. Who waits for one is bounded by the calls that dc takes.
pub(crate) struct Readers {
    free: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Box<dyn Reader>>>>,
}

impl Readers {
    pub(crate) fn new(readers: Vec<Box<dyn Reader>>) -> Self {
        Self { free: Arc::new(Semaphore::new(readers.len())), idle: Arc::new(Mutex::new(readers)) }
    }

    /// Reads on a thread of its own.
    pub(crate) async fn read<T, F>(&self, read: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Reader) -> Result<T, StoreError> + Send + 'static,
    {
        let gone = |_| Refusal::Internal("a reader of the store is gone".into());
        let permit = self.free.clone().acquire_owned().await.map_err(|err| gone(err.to_string()))?;
        let idle = self.idle.clone();
        let read = move || {
            let reader = idle.lock().expect("nobody panics with it").pop().ok_or_else(|| gone(String::new()))?;
            let result = read(&*reader);
            idle.lock().expect("nobody panics with it").push(reader);
            drop(permit);
            result.map_err(Refusal::from)
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|err| Err(gone(err.to_string())))
    }
}
