//! Connections: a pool that hands none on in the middle of a transaction, and [`Session`], one connection with a limit for every statement.

use std::{future::Future, time::Duration};

use deadpool::{
    Runtime,
    managed::{self, Metrics, Object, PoolError, RecycleResult},
};
use mysql_async::{Conn, Error, Opts, OptsBuilder, Params, Row, SslOpts, Value, prelude::Queryable};
use tokio::runtime::Handle;

use super::failure::{Class, Failure, breaks_connection};

/// How long a connection from the pool may take to show that it lives; after that the next one is tried.
const RECYCLE_TIMEOUT: Duration = Duration::from_secs(2);
/// Prepared statements that a connection keeps: every statement of the store, in every number of rows that it is used with.
const STATEMENTS_MAX: usize = 128;
/// What every session is set to. A row's lock that another transaction has is waited for this long, not the server's minute.
const SETUP: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',
    SESSION innodb_lock_wait_timeout = 3, SESSION autocommit = 1, SESSION time_zone = '+00:00'";

/// Makes connections, and clears them between two users.
pub(super) struct Manager {
    opts: Opts,
}

impl managed::Manager for Manager {
    type Type = Conn;
    type Error = Error;

    async fn create(&self) -> Result<Conn, Error> {
        Conn::new(self.opts.clone()).await
    }

    /// Whoever had it may have gone in the middle of a transaction; the next must not go on with it, nor commit it.
    async fn recycle(&self, connection: &mut Conn, _: &Metrics) -> RecycleResult<Error> {
        Ok(connection.query_drop("ROLLBACK").await?)
    }
}

/// The database, for those who use it from a blocking thread.
#[derive(Clone)]
pub(super) struct Database {
    pool: managed::Pool<Manager>,
    runtime: Handle,
    statement_timeout: Duration,
}

impl Database {
    /// Connects to nothing yet. `ca`: whom to trust, in PEM; then there is TLS, or no connection. Must be called within a tokio runtime.
    pub(super) fn new(opts: Opts, ca: Option<Vec<u8>>, connections_max: usize, statement_timeout: Duration) -> anyhow::Result<Self> {
        let ssl = match ca {
            Some(pem) => Some(SslOpts::default().with_root_certs(vec![pem.into()]).with_disable_built_in_roots(true)),
            None => opts.ssl_opts().cloned(),
        };
        // Without this the driver leaves the address it was given for the server's local socket.
        let opts = OptsBuilder::from_opts(opts)
            .prefer_socket(false)
            .ssl_opts(ssl)
            .stmt_cache_size(STATEMENTS_MAX)
            .setup(vec![SETUP])
            .tcp_keepalive(Some(Duration::from_secs(30)));
        let pool = managed::Pool::builder(Manager { opts: opts.into() })
            .max_size(connections_max)
            .create_timeout(Some(statement_timeout))
            .recycle_timeout(Some(RECYCLE_TIMEOUT))
            .runtime(Runtime::Tokio1)
            .build()?;
        Ok(Self { pool, runtime: Handle::current(), statement_timeout })
    }

    /// Waits for the future on this thread, which must be none of the runtime's.
    pub(super) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// A connection, within the time of one statement. Readers are fewer than connections, so the writer waits for none of them.
    pub(super) async fn session(&self) -> Result<Session, Failure> {
        let late =
            || Failure::new(Class::Unavailable, "timeout", format!("no connection within {} s", self.statement_timeout.as_secs_f64()));
        let connection = match tokio::time::timeout(self.statement_timeout, self.pool.get()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(PoolError::Backend(err))) => return Err(err.into()),
            Ok(Err(PoolError::Timeout(_))) | Err(_) => return Err(late()),
            Ok(Err(other)) => return Err(Failure::new(Class::Unavailable, "other", other.to_string())),
        };
        Ok(Session { connection: Some(connection), timeout: self.statement_timeout })
    }

    pub(super) fn close(&self) {
        self.pool.close();
    }
}

/// One connection of the pool. After a failure that breaks it, or a statement without an answer, it has none any more.
pub(super) struct Session {
    connection: Option<Object<Manager>>,
    timeout: Duration,
}

impl Session {
    /// Runs a statement of the text protocol.
    pub(super) async fn run(&mut self, sql: &str) -> Result<(), Failure> {
        self.limited(async |connection| connection.query_drop(sql).await).await
    }

    /// Executes a prepared statement; returns the rows that it changed, as the server counts them.
    pub(super) async fn execute(&mut self, sql: &str, values: Vec<Value>) -> Result<u64, Failure> {
        self.limited(async |connection| {
            connection.exec_drop(sql, positional(values)).await?;
            Ok(connection.affected_rows())
        })
        .await
    }

    /// As [`Session::execute`], for a statement that sets `LAST_INSERT_ID(x)`; returns x.
    pub(super) async fn execute_for_id(&mut self, sql: &str, values: Vec<Value>) -> Result<u64, Failure> {
        self.limited(async |connection| {
            connection.exec_drop(sql, positional(values)).await?;
            Ok(connection.last_insert_id().unwrap_or(0))
        })
        .await
    }

    pub(super) async fn rows(&mut self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, Failure> {
        self.limited(async |connection| connection.exec(sql, positional(values)).await).await
    }

    pub(super) async fn first(&mut self, sql: &str, values: Vec<Value>) -> Result<Option<Row>, Failure> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    async fn limited<T>(&mut self, work: impl AsyncFnOnce(&mut Conn) -> Result<T, Error>) -> Result<T, Failure> {
        let lost = |text: &str| Failure::new(Class::Lost, "lost", text);
        let connection = self.connection.as_mut().ok_or_else(|| lost("the connection is gone"))?;
        let failure = match tokio::time::timeout(self.timeout, work(connection)).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(err)) if !breaks_connection(&err) => return Err(err.into()),
            Ok(Err(err)) => err.into(),
            Err(_) => Failure::new(Class::Lost, "timeout", format!("no answer within {} s", self.timeout.as_secs_f64())),
        };
        // An answer may still be on its way: nobody else may read it as its own.
        drop(self.connection.take().map(Object::take));
        Err(failure)
    }
}

fn positional(values: Vec<Value>) -> Params {
    if values.is_empty() { Params::Empty } else { Params::Positional(values) }
}

/// A column of a row, which the statement selected with this type.
pub(super) fn column<T: mysql_async::prelude::FromValue>(row: &Row, index: usize) -> Result<T, Failure> {
    match row.get_opt(index) {
        Some(Ok(value)) => Ok(value),
        Some(Err(err)) => Err(Failure::refused(format!("column {index} of an answer: {err}"))),
        None => Err(Failure::refused(format!("an answer lacks column {index}"))),
    }
}

/// A number as dc wrote it; never negative.
pub(super) fn number(row: &Row, index: usize) -> Result<u64, Failure> {
    Ok(u64::try_from(column::<i64>(row, index)?).unwrap_or(0))
}

/// How dc's numbers are in a column. One that no column can hold becomes one that no row has.
pub(super) fn key(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(-1))
}

/// A text, as a value.
pub(super) fn text(text: &str) -> Value {
    Value::Bytes(text.as_bytes().to_vec())
}
