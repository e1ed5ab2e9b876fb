//! Who asks: GM accounts of dc, and the tokens of those who have logged in. Tokens are kept hashed, in memory only: whoever restarts
//! center logs in again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use proto::internal::{CallFaultCode, GmAccountFind};
use tokio::{
    sync::{OnceCell, Semaphore},
    time::Instant,
};

use super::{GmError, of_call, registry::Role};
use crate::center::Center;

/// How long a token lasts without use.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(15 * 60);
/// Tokens at most. Full? The one that was used longest ago ends.
const TOKENS_MAX: usize = 1000;
/// Failed attempts of one address in [`FAILURES_WITHIN`]; the next one is refused unlooked at.
const FAILURES_MAX: u32 = 10;
const FAILURES_WITHIN: Duration = Duration::from_secs(60);
/// Addresses whose failures are counted. Full? Those whose time is over are let go; still full: the attempt is refused.
const ADDRESSES_MAX: usize = 10_000;
/// Passwords verified at once: each takes 19 MiB and tens of milliseconds.
const HASHERS: usize = 2;
/// Logins that may wait for a hasher. Full? UNAVAILABLE.
const HASHES_MAX: usize = 16;

/// A GM who has logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    pub name: String,
    pub role: Role,
    pub address: String,
}

/// The tokens and the counts of failures.
#[derive(Debug)]
pub(crate) struct Auth {
    tokens: Mutex<BTreeMap<[u8; 32], (Who, Instant)>>,
    failures: Mutex<BTreeMap<String, (u32, Instant)>>,
    waiting: Semaphore,
    hashers: Arc<Semaphore>,
    nobody: OnceCell<String>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            tokens: Mutex::default(),
            failures: Mutex::default(),
            waiting: Semaphore::new(HASHES_MAX),
            hashers: Arc::new(Semaphore::new(HASHERS)),
            nobody: OnceCell::new(),
        }
    }
}

impl Auth {
    /// Logs a GM in; returns the token and the role. Unknown name and wrong password look the same.
    pub(crate) async fn login(&self, center: &Center, name: &str, password: &str, address: &str) -> Result<(String, Role), GmError> {
        self.may_try(address, Instant::now())?;
        let _place = self.waiting.try_acquire().map_err(|_| GmError::unavailable("too many logins at once; try again"))?;
        let account = match center.dc(&GmAccountFind { name: name.into() }).await {
            Ok(account) => Some(account),
            Err(err) if err.code() == Some(CallFaultCode::CallNotFound) => None,
            Err(err) => return Err(of_call(&err, "")),
        };
        let hash = match &account {
            Some(account) => account.password_hash.clone(),
            None => self.nobody.get_or_try_init(|| hash(service::secret::made(16))).await?.clone(),
        };
        let good = self.verify(password.to_owned(), hash).await?;
        let role = account.filter(|_| good).and_then(|account| Role::named(&account.role));
        let Some(role) = role else {
            self.failed(address, Instant::now());
            return Err(GmError::unauthorized("wrong name or password"));
        };
        let who = Who { name: name.to_ascii_lowercase(), role, address: address.into() };
        Ok((self.issue(who, Instant::now()), role))
    }

    /// Who holds a token. Using it keeps it alive.
    pub(crate) fn who(&self, token: &str, address: &str, now: Instant) -> Result<Who, GmError> {
        let mut tokens = self.tokens.lock().expect("no holder panics");
        let key = digest(token);
        match tokens.get_mut(&key) {
            Some((who, used)) if now.duration_since(*used) < IDLE_MAX => {
                *used = now;
                Ok(Who { address: address.into(), ..who.clone() })
            }
            _ => {
                tokens.remove(&key);
                Err(GmError::unauthorized("log in first: the token is unknown or has expired"))
            }
        }
    }

    fn issue(&self, who: Who, now: Instant) -> String {
        let token = service::secret::made(32);
        let mut tokens = self.tokens.lock().expect("no holder panics");
        tokens.retain(|_, (_, used)| now.duration_since(*used) < IDLE_MAX);
        if TOKENS_MAX <= tokens.len() {
            let oldest = tokens.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key);
            oldest.map(|oldest| tokens.remove(&oldest));
        }
        tokens.insert(digest(&token), (who, now));
        token
    }

    fn may_try(&self, address: &str, now: Instant) -> Result<(), GmError> {
        let mut failures = self.failures.lock().expect("no holder panics");
        if ADDRESSES_MAX <= failures.len() {
            failures.retain(|_, (_, since)| now.duration_since(*since) < FAILURES_WITHIN);
        }
        let over = match failures.get(address) {
            Some((count, since)) => FAILURES_MAX <= *count && now.duration_since(*since) < FAILURES_WITHIN,
            None => ADDRESSES_MAX <= failures.len(),
        };
        if over { Err(GmError::too_many("too many failed logins; try again in a minute")) } else { Ok(()) }
    }

    fn failed(&self, address: &str, now: Instant) {
        let mut failures = self.failures.lock().expect("no holder panics");
        let (count, since) = failures.entry(address.into()).or_insert((0, now));
        if FAILURES_WITHIN <= now.duration_since(*since) {
            (*count, *since) = (0, now);
        }
        *count += 1;
    }

    async fn verify(&self, password: String, hash: String) -> Result<bool, GmError> {
        let closed = |_| GmError::unavailable("center is stopping");
        let hasher = self.hashers.clone().acquire_owned().await.map_err(closed)?;
        let verified = tokio::task::spawn_blocking(move || {
            let _hasher = hasher;
            let hash = PasswordHash::new(&hash);
            hash.is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
        });
        verified.await.map_err(|_| GmError::unavailable("the password could not be checked"))
    }
}

/// The argon2id hash of a password, computed on a blocking thread.
pub(crate) async fn hash(password: String) -> Result<String, GmError> {
    let hashed = tokio::task::spawn_blocking(move || {
        let hash: Result<PasswordHash, _> = Argon2::default().hash_password(password.as_bytes());
        hash.map(|hash| hash.to_string())
    });
    match hashed.await {
        Ok(Ok(hash)) => Ok(hash),
        _ => Err(GmError::unavailable("the password could not be hashed")),
    }
}

fn digest(token: &str) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who() -> Who {
        Who { name: "eve".into(), role: Role::Gm, address: "::1".into() }
    }

    #[test]
    fn a_token_lasts_while_it_is_used() {
        let (auth, start) = (Auth::default(), Instant::now());
        let token = auth.issue(who(), start);
        let nearly = IDLE_MAX - Duration::from_secs(1);
        assert_eq!(auth.who(&token, "::1", start + nearly), Ok(who()));
        assert_eq!(auth.who(&token, "::1", start + nearly + nearly), Ok(who()));
        assert!(auth.who(&token, "::1", start + nearly + nearly + IDLE_MAX).is_err());
        assert!(auth.who("guess", "::1", start).is_err());
    }

    #[test]
    fn tokens_are_bounded_and_the_oldest_goes() {
        let (auth, start) = (Auth::default(), Instant::now());
        let first = auth.issue(who(), start);
        let second = auth.issue(who(), start + Duration::from_millis(1));
        for number in 0..u64::try_from(TOKENS_MAX).unwrap() - 1 {
            auth.issue(who(), start + Duration::from_millis(2 + number));
        }
        let now = start + Duration::from_secs(10);
        assert!(auth.who(&first, "::1", now).is_err());
        assert!(auth.who(&second, "::1", now).is_ok());
        assert_eq!(auth.tokens.lock().unwrap().len(), TOKENS_MAX);
    }

    #[test]
    fn an_address_that_fails_too_often_waits_and_others_do_not() {
        let (auth, start) = (Auth::default(), Instant::now());
        for _ in 0..FAILURES_MAX {
            assert_eq!(auth.may_try("1.1.1.1", start), Ok(()));
            auth.failed("1.1.1.1", start);
        }
        assert_eq!(auth.may_try("1.1.1.1", start).unwrap_err().status, 429);
        assert_eq!(auth.may_try("2.2.2.2", start), Ok(()));
        assert_eq!(auth.may_try("1.1.1.1", start + FAILURES_WITHIN), Ok(()));
    }

    #[tokio::test]
    async fn a_hash_verifies_its_password_only() {
        let auth = Auth::default();
        let hash = hash("correct horse".into()).await.unwrap();
        assert_eq!(auth.verify("correct horse".into(), hash.clone()).await, Ok(true));
        assert_eq!(auth.verify("wrong".into(), hash).await, Ok(false));
        assert_eq!(auth.verify("x".into(), "no hash".into()).await, Ok(false));
    }
}
