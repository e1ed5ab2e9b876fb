//! Redis: a pool of connections, a bound on every operation, and the breaker.
//!
//! The client opens its sockets by itself: a simulated network has to take the place of this file.

use std::sync::{Mutex, MutexGuard};

use anyhow::{Context, ensure};
use deadpool_redis::{
    Connection, Manager, Pool,
    redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisFuture, RedisResult, TlsCertificates, aio::MultiplexedConnection},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout_at};

use super::{
    Away, BOUND,
    breaker::{Breaker, Change},
};
use crate::config::RedisConfig;

/// A server of Redis.
pub(super) struct Redis {
    /// Begins every key.
    prefix: String,
    pool: Pool,
    breaker: Mutex<Breaker>,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The pool has the URL, and the URL the password.
        write!(to, "Redis({}..)", self.prefix)
    }
}

impl Redis {
    pub(super) fn new(zone: &str, url: &SecretString, config: &RedisConfig) -> anyhow::Result<Self> {
        let ca = config.ca.as_deref().map(crate::tls::certificates).transpose().context("read `redis.ca`")?;
        let manager = manager(url, ca).context("take the URL of Redis")?;
        // No waiting for more than the bound, which `run` keeps over everything.
        let pool = Pool::builder(manager).max_size(config.connections_max).build().context("make the pool of connections to Redis")?;
        metrics::gauge!("paifang_cache_breaker_open").set(0.0);
        Ok(Self { prefix: format!("zone:{zone}:"), pool, breaker: Mutex::new(Breaker::new()) })
    }

    /// A key of the zone.
    pub(super) fn key(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix)
    }

    /// Does something with a connection, within the bound. After an error it is unknown whether it was done, or will be: what Redis has
    /// in a socket it still reads when it wakes up.
    pub(super) async fn run<T>(
        &self,
        what: &'static str,
        work: impl for<'a> FnOnce(&'a mut MultiplexedConnection) -> RedisFuture<'a, T>,
    ) -> Result<T, Away> {
        if !self.breaker().admit(Instant::now()) {
            return Err(Away);
        }
        let started = Instant::now();
        // The client's futures are large; whoever asks is many.
        let done = Box::pin(self.attempt(started + BOUND, work)).await;
        metrics::histogram!("paifang_cache_seconds", "what" => what).record(started.elapsed().as_secs_f64());
        done.inspect(|_| self.succeeded()).map_err(|why| {
            metrics::counter!("paifang_cache_failures_total", "what" => what).increment(1);
            tracing::debug!(what, "the cache failed: {why}");
            self.failed(&why);
            Away
        })
    }

    async fn attempt<T>(
        &self,
        deadline: Instant,
        work: impl for<'a> FnOnce(&'a mut MultiplexedConnection) -> RedisFuture<'a, T>,
    ) -> Result<T, String> {
        let late = |_| format!("no answer within {} ms", BOUND.as_millis());
        let mut connection = timeout_at(deadline, self.pool.get()).await.map_err(late)?.map_err(|err| err.to_string())?;
        let done = match timeout_at(deadline, work(&mut connection)).await {
            Ok(done) => done.map_err(|err| err.to_string()),
            Err(elapsed) => Err(late(elapsed)),
        };
        if done.is_err() {
            // Whatever it still brings is nobody's answer.
            drop(Connection::take(connection));
        }
        done
    }

    fn succeeded(&self) {
        let change = self.breaker().succeeded();
        if change == Some(Change::Closed) {
            metrics::gauge!("paifang_cache_breaker_open").set(0.0);
            tracing::info!("the cache answers again");
        }
    }

    fn failed(&self, why: &str) {
        let change = self.breaker().failed(Instant::now());
        if change == Some(Change::Opened) {
            metrics::gauge!("paifang_cache_breaker_open").set(1.0);
            tracing::warn!("going on without the cache: {why}");
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().expect("nobody panics with the breaker")
    }
}

/// Makes connections. `ca`: whom to trust, in PEM, in place of whom the system trusts.
fn manager(url: &SecretString, ca: Option<Vec<u8>>) -> anyhow::Result<Manager> {
    // The client's own errors may say what the URL is.
    let taken = |result: RedisResult<_>| result.map_err(|err| anyhow::anyhow!("it is none ({:?})", err.kind()));
    let mut info = taken(url.expose_secret().into_connection_info())?;
    if ca.is_some() {
        ensure!(
            matches!(info.addr(), ConnectionAddr::TcpTls { .. }),
            "`redis.ca` is for TLS, but the URL begins with redis://; write rediss://"
        );
        let certificates = TlsCertificates { client_tls: None, root_cert: ca };
        info = taken(Client::build_with_tls(info, certificates).map(|client| client.get_connection_info().clone()))?;
    }
    Manager::new(info).map_err(|err| anyhow::anyhow!("it is none ({:?})", err.kind()))
}
