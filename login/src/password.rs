//! Passwords: argon2id on a fixed number of threads, each with memory of its own ([`argon`]) that is used again for every hash.
//!
//! Whoever wants a hash first waits for a [`Turn`]: a hash costs tens of milliseconds and tens of megabytes, and a thousand at a time
//! would take the machine down. How many wait is bounded by `waiting`, which lets a few through for each hasher.

mod argon;

use std::sync::{Arc, Mutex, mpsc};

use argon2::{Algorithm, Argon2, Params, Version, password_hash};
use secrecy::{ExposeSecret, SecretString};
use service::config::LoginConfig;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};

use argon::Memory;

/// Bytes of a salt.
const SALT_BYTES: usize = 16;

/// Why there is no hash.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HashError {
    /// A stored hash is none, or the parameters are not allowed.
    #[error("hash a password: {0}")]
    Hash(#[from] password_hash::Error),
    /// The parameters of the zone file are not allowed.
    #[error("argon2 parameters: {0}")]
    Params(#[from] argon2::Error),
    /// The work panicked.
    #[error("hash a password: the thread panicked")]
    Panicked(#[from] oneshot::error::RecvError),
    /// The threads could not be started.
    #[error("start a hash thread: {0}")]
    Start(#[from] std::io::Error),
}

type Job = Box<dyn FnOnce(&mut Memory) + Send>;

/// The threads that hash.
#[derive(Debug)]
pub(crate) struct Hashers {
    /// Bounded by the turns: a job holds one. The threads end when this and all turns are dropped.
    jobs: mpsc::Sender<Job>,
    argon2: Argon2<'static>,
    /// Checked for accounts that do not exist: a hash of nobody's password with the parameters that new ones get.
    dummy: String,
    turns: Arc<Semaphore>,
}

/// The right to compute one hash.
#[derive(Debug)]
pub(crate) struct Turn {
    jobs: mpsc::Sender<Job>,
    argon2: Argon2<'static>,
    dummy: String,
    permit: OwnedSemaphorePermit,
}

impl Hashers {
    /// Makes the dummy hash, which takes as long as every other.
    ///
    /// # Errors
    /// When the parameters are not allowed.
    pub(crate) async fn start(config: &LoginConfig) -> Result<Self, HashError> {
        let params = Params::new(config.argon2_memory_kib, config.argon2_passes, 1, None)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let turns = Arc::new(Semaphore::new(config.hashers.max(1)));
        let jobs = start_threads(config.hashers.max(1), &argon2)?;
        let mut hashers = Self { jobs, argon2, dummy: String::new(), turns };
        let nobodys = SecretString::from(service::secret::made(SALT_BYTES));
        hashers.dummy = hashers.turn().await.hash(nobodys).await?;
        Ok(hashers)
    }

    /// Waits for a turn, first come first served. Cancel-safe.
    pub(crate) async fn turn(&self) -> Turn {
        let permit = Arc::clone(&self.turns).acquire_owned().await.expect("the semaphore is never closed");
        Turn { jobs: self.jobs.clone(), argon2: self.argon2.clone(), dummy: self.dummy.clone(), permit }
    }
}

impl Turn {
    /// The PHC string of a new password.
    pub(crate) async fn hash(self, password: SecretString) -> Result<String, HashError> {
        let salt = service::secret::made(SALT_BYTES);
        self.compute(move |argon2, memory, _| Ok(argon::hash(argon2, memory, password.expose_secret().as_bytes(), salt.as_bytes())?)).await
    }

    /// Whether the password is the one of `hash`. Without a hash the same work is done, and it is not.
    pub(crate) async fn verify(self, password: SecretString, hash: Option<String>) -> Result<bool, HashError> {
        self.compute(move |_, memory, dummy| {
            let known = hash.is_some();
            let good = argon::verify(memory, password.expose_secret().as_bytes(), &hash.unwrap_or(dummy))?;
            Ok(good && known)
        })
        .await
    }

    /// The permit goes with the work: a request that is dropped meanwhile does not make room for more threads than allowed.
    async fn compute<T: Send + 'static>(
        self,
        work: impl FnOnce(&Argon2<'static>, &mut Memory, String) -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let Turn { jobs, argon2, dummy, permit } = self;
        let (done, result) = oneshot::channel();
        let job = move |memory: &mut Memory| {
            let begun = Instant::now();
            let result = work(&argon2, memory, dummy);
            metrics::histogram!("paifang_login_hash_seconds").record(begun.elapsed());
            drop(permit);
            // Whoever waited may have gone.
            let _ = done.send(result);
        };
        // The threads live as long as a sender does; a job that can't be sent is dropped, and its result with it.
        let _ = jobs.send(Box::new(job));
        result.await?
    }
}

/// Starts the threads that work jobs off.
fn start_threads(count: usize, argon2: &Argon2) -> std::io::Result<mpsc::Sender<Job>> {
    let (jobs, waiting) = mpsc::channel::<Job>();
    let waiting = Arc::new(Mutex::new(waiting));
    for number in 0..count {
        let (waiting, memory) = (Arc::clone(&waiting), Memory::for_hashes_of(argon2));
        std::thread::Builder::new().name(format!("hasher-{number}")).spawn(move || work_off(&waiting, memory))?;
    }
    Ok(jobs)
}

fn work_off(waiting: &Mutex<mpsc::Receiver<Job>>, mut memory: Memory) {
    loop {
        let job = waiting.lock().expect("no holder of the jobs panics").recv();
        let Ok(job) = job else { return };
        // The panic hook has logged it; the one who waits hears of it, and the thread goes on.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(&mut memory)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn hashers() -> Hashers {
        let config = LoginConfig {
            hashers: 1,
            logins_per_s: None,
            queue_max: 1,
            queue_grace: Duration::ZERO,
            argon2_memory_kib: 64,
            argon2_passes: 1,
            failures_per_minute: 10,
        };
        Hashers::start(&config).await.expect("hashers")
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_account_is_good() {
        let hashers = hashers().await;
        let hash = hashers.turn().await.hash("correct horse".into()).await.expect("a hash");
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        assert!(hashers.turn().await.verify("correct horse".into(), Some(hash.clone())).await.expect("checked"));
        assert!(!hashers.turn().await.verify("wrong horse".into(), Some(hash)).await.expect("checked"));
        assert!(!hashers.turn().await.verify("correct horse".into(), None).await.expect("checked"));
        assert!(hashers.turn().await.verify("any".into(), Some("no hash".into())).await.is_err());
    }

    #[tokio::test]
    async fn salts_differ_and_the_dummy_costs_what_others_do() {
        let hashers = hashers().await;
        let one = hashers.turn().await.hash("correct horse".into()).await.expect("a hash");
        let two = hashers.turn().await.hash("correct horse".into()).await.expect("a hash");
        assert_ne!(one, two);
        let cost = |hash: &str| hash.split('$').take(4).collect::<Vec<_>>().join("$");
        assert_eq!(cost(&one), cost(&hashers.dummy));
        assert_eq!(one.len(), hashers.dummy.len());
    }
}
