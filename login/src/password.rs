//! Passwords: argon2id on a fixed number of threads. An allocator keeps what a thread has freed for that thread, and a hash takes
//! tens of megabytes, so threads that come and go would add up.
//!
//! Whoever wants a hash first waits for a [`Turn`]. Full? [`Hashers::turn`] says so at once and the client is told to come back: a
//! hash costs tens of milliseconds and tens of megabytes, and a thousand at a time would take the machine down.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version,
    password_hash::{self, phc::PasswordHash},
};
use secrecy::{ExposeSecret, SecretString};
use service::config::LoginConfig;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};

/// How long somebody may wait for a turn; the client would not wait longer.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Bytes of a salt.
const SALT_BYTES: usize = 16;

/// Too many wait for a hash, or waited too long.
#[derive(Debug)]
pub(crate) struct Busy;

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

type Job = Box<dyn FnOnce() + Send>;

/// The threads that hash.
#[derive(Debug)]
pub(crate) struct Hashers {
    /// Bounded by the turns: a job holds one. The threads end when this and all turns are dropped.
    jobs: mpsc::Sender<Job>,
    argon2: Argon2<'static>,
    /// Checked for accounts that do not exist: a hash of nobody's password with the parameters that new ones get.
    dummy: String,
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
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
        let jobs = start_threads(config.hashers.max(1))?;
        let mut hashers =
            Self { jobs, argon2, dummy: String::new(), turns, waiting: AtomicUsize::new(0), waiting_max: config.hash_queue_max };
        let nobodys = SecretString::from(service::secret::made(SALT_BYTES));
        hashers.dummy = match hashers.turn().await {
            Ok(turn) => turn.hash(nobodys).await?,
            Err(Busy) => unreachable!("nobody else hashes yet"),
        };
        Ok(hashers)
    }

    /// Waits for a turn, first come first served. Cancel-safe.
    ///
    /// # Errors
    /// When too many wait already, or the turn does not come in time.
    pub(crate) async fn turn(&self) -> Result<Turn, Busy> {
        let permit = match Arc::clone(&self.turns).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.wait().await?,
        };
        Ok(Turn { jobs: self.jobs.clone(), argon2: self.argon2.clone(), dummy: self.dummy.clone(), permit })
    }

    /// How many wait for a turn.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    async fn wait(&self) -> Result<OwnedSemaphorePermit, Busy> {
        let _place = Place::take(&self.waiting, self.waiting_max)?;
        match tokio::time::timeout(WAIT_MAX, Arc::clone(&self.turns).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Busy),
        }
    }
}

impl Turn {
    /// The PHC string of a new password.
    pub(crate) async fn hash(self, password: SecretString) -> Result<String, HashError> {
        let salt = service::secret::made(SALT_BYTES);
        self.compute(move |argon2, _| {
            let hash: PasswordHash = argon2.hash_password_with_salt(password.expose_secret().as_bytes(), salt.as_bytes())?;
            Ok(hash.to_string())
        })
        .await
    }

    /// Whether the password is the one of `hash`. Without a hash the same work is done, and it is not.
    pub(crate) async fn verify(self, password: SecretString, hash: Option<String>) -> Result<bool, HashError> {
        self.compute(move |argon2, dummy| {
            let known = hash.is_some();
            let hash = PasswordHash::new(&hash.unwrap_or(dummy)).map_err(password_hash::Error::from)?;
            match argon2.verify_password(password.expose_secret().as_bytes(), &hash) {
                Ok(()) => Ok(known),
                Err(password_hash::Error::PasswordInvalid) => Ok(false),
                Err(err) => Err(err.into()),
            }
        })
        .await
    }

    /// The permit goes with the work: a request that is dropped meanwhile does not make room for more threads than allowed.
    async fn compute<T: Send + 'static>(
        self,
        work: impl FnOnce(&Argon2<'static>, String) -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let Turn { jobs, argon2, dummy, permit } = self;
        let (done, result) = oneshot::channel();
        let job = move || {
            let begun = Instant::now();
            let result = work(&argon2, dummy);
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
fn start_threads(count: usize) -> std::io::Result<mpsc::Sender<Job>> {
    let (jobs, waiting) = mpsc::channel::<Job>();
    let waiting = Arc::new(Mutex::new(waiting));
    for number in 0..count {
        let waiting = Arc::clone(&waiting);
        std::thread::Builder::new().name(format!("hasher-{number}")).spawn(move || work_off(&waiting))?;
    }
    Ok(jobs)
}

fn work_off(waiting: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let job = waiting.lock().expect("no holder of the jobs panics").recv();
        let Ok(job) = job else { return };
        // The panic hook has logged it; the one who waits hears of it, and the thread goes on.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
    }
}

/// A place in the queue, given back when it is dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, max: usize) -> Result<Self, Busy> {
        let one_more = |waiting: usize| (waiting < max).then_some(waiting + 1);
        waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).map_err(|_| Busy)?;
        metrics::gauge!("paifang_login_hash_waiting_count").increment(1);
        Ok(Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!("paifang_login_hash_waiting_count").decrement(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn hashers(hash_queue_max: usize) -> Hashers {
        let config = LoginConfig { hashers: 1, hash_queue_max, argon2_memory_kib: 64, argon2_passes: 1, failures_per_minute: 10 };
        Hashers::start(&config).await.expect("hashers")
    }

    async fn turn(hashers: &Hashers) -> Turn {
        hashers.turn().await.expect("a turn")
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_account_is_good() {
        let hashers = hashers(1).await;
        let hash = turn(&hashers).await.hash("correct horse".into()).await.expect("a hash");
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        assert!(turn(&hashers).await.verify("correct horse".into(), Some(hash.clone())).await.expect("checked"));
        assert!(!turn(&hashers).await.verify("wrong horse".into(), Some(hash)).await.expect("checked"));
        assert!(!turn(&hashers).await.verify("correct horse".into(), None).await.expect("checked"));
        assert!(turn(&hashers).await.verify("any".into(), Some("no hash".into())).await.is_err());
    }

    #[tokio::test]
    async fn salts_differ_and_the_dummy_costs_what_others_do() {
        let hashers = hashers(1).await;
        let one = turn(&hashers).await.hash("correct horse".into()).await.expect("a hash");
        let two = turn(&hashers).await.hash("correct horse".into()).await.expect("a hash");
        assert_ne!(one, two);
        let cost = |hash: &str| hash.split('$').take(4).collect::<Vec<_>>().join("$");
        assert_eq!(cost(&one), cost(&hashers.dummy));
        assert_eq!(one.len(), hashers.dummy.len());
    }

    #[tokio::test]
    async fn one_more_than_the_queue_holds_is_busy() {
        let hashers = Arc::new(hashers(1).await);
        let first = turn(&hashers).await;
        let second = tokio::spawn({
            let hashers = Arc::clone(&hashers);
            async move { hashers.turn().await.is_ok() }
        });
        while hashers.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(hashers.turn().await.is_err());
        drop(first);
        assert!(second.await.expect("joined"));
        assert_eq!(hashers.waiting(), 0);
    }
}
