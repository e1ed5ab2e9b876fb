//! The database behind dc: a private MariaDB, or the server of a URL; and the bare statements that its drain is measured beside.

use std::{
    net::Ipv4Addr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use mysql_async::{Conn, Opts, OptsBuilder, Params, Value, prelude::Queryable};
use prost::Message;
use proto::record::PlayerRecord;

use crate::bench::installed::{free_address, program};

/// How long a server may take to serve.
const UP_WITHIN: Duration = Duration::from_secs(30);
/// Rows of a statement that seeds or is measured.
const STATEMENT_ROWS: usize = 1024;
/// Statements of a transaction that is measured: as many rows as dc has in one at the most.
const STATEMENTS: usize = 8;
/// Rows of the table that the bare statements write to.
const BARE_ROWS: u64 = 65_536;

/// A server, and the URL of an empty database on it.
pub(super) struct Database {
    pub url: String,
    /// Ours alone; killed when dropped.
    server: Option<Child>,
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            _ = server.kill();
            _ = server.wait();
        }
    }
}

impl Database {
    /// The database of this URL, which must have no tables.
    pub(super) async fn of(url: &str) -> anyhow::Result<Self> {
        let database = Self { url: url.into(), server: None };
        let tables: Option<i64> =
            database.connect().await?.query_first("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()").await?;
        ensure!(tables == Some(0), "use the database of --mysql-url: it has tables already; make an empty one for the benchmark");
        Ok(database)
    }

    /// A server with its data in `folder`; none if MariaDB is not installed.
    pub(super) async fn start(folder: &Path) -> anyhow::Result<Option<Self>> {
        let (Some(install), Some(server)) = (program("mariadb-install-db"), program("mariadbd")) else { return Ok(None) };
        service::fs::make_folder(folder)?;
        let (data, port) = (folder.join("data"), free_address()?.port());
        let root = as_root();
        let path = |name: &str| folder.join(name).display().to_string();
        let mut installing = Command::new(install);
        installing.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]).args(root).env("TMPDIR", folder);
        let made = installing.arg(format!("--datadir={}", data.display())).output().context("run mariadb-install-db")?;
        ensure!(made.status.success(), "make a database: {}", String::from_utf8_lossy(&made.stderr).trim());
        let mut command = Command::new(server);
        command.arg("--no-defaults").args(root).args([
            format!("--datadir={}", data.display()),
            format!("--port={port}"),
            "--bind-address=127.0.0.1".into(),
            format!("--socket={}", path("socket")),
            format!("--pid-file={}", path("pid")),
            format!("--log-error={}", path("log")),
            "--skip-name-resolve".into(),
            "--skip-log-bin".into(),
            "--performance-schema=OFF".into(),
            "--innodb-buffer-pool-size=1G".into(),
            "--innodb-log-file-size=1G".into(),
            "--innodb-flush-log-at-trx-commit=1".into(),
            "--max-allowed-packet=64M".into(),
            "--skip-grant-tables".into(),
        ]);
        let server = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("start mariadbd")?;
        let mut database = Self { url: format!("mysql://root@{}:{port}/mysql", Ipv4Addr::LOCALHOST), server: Some(server) };
        let begun = Instant::now();
        while let Err(err) = database.connect().await {
            ensure!(begun.elapsed() < UP_WITHIN, "start mariadbd: it does not serve: {err:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        database.connect().await?.query_drop("CREATE DATABASE zone").await?;
        database.url = format!("mysql://root@{}:{port}/zone", Ipv4Addr::LOCALHOST);
        Ok(Some(database))
    }

    pub(super) async fn connect(&self) -> anyhow::Result<Conn> {
        let opts = Opts::from_url(&self.url).context("the URL of the database is not as it should be")?;
        let opts = OptsBuilder::from_opts(opts).prefer_socket(false);
        Conn::new(opts).await.context("connect to the database")
    }

    /// Puts players into dc's table, as they are before their first change.
    pub(super) async fn seed(&self, players: u64, record_bytes: usize) -> anyhow::Result<()> {
        let mut conn = self.connect().await?;
        let numbers: Vec<u64> = (1..=players).collect();
        conn.query_drop("START TRANSACTION").await?;
        for some in numbers.chunks(STATEMENT_ROWS) {
            let row = "(?, 1, ?, ?, 1, 'meadow', 0, '', 0, 0, 0, 1, ?, 0)";
            let sql = format!("INSERT INTO players VALUES {}", vec![row; some.len()].join(", "));
            let values = some.iter().flat_map(|player| {
                let name = format!("Player{player}");
                let record = PlayerRecord {
                    player: *player,
                    account: 1,
                    name: name.clone(),
                    rules: vec![0; record_bytes].into(),
                    ..Default::default()
                };
                [Value::UInt(*player), name.clone().into(), name.to_lowercase().into(), record.encode_to_vec().into()]
            });
            conn.exec_drop(sql, Params::Positional(values.collect())).await.context("seed players")?;
        }
        conn.query_drop("COMMIT").await?;
        Ok(())
    }

    /// Removes all tables, for whoever is next.
    pub(super) async fn empty(&self) -> anyhow::Result<()> {
        let mut conn = self.connect().await?;
        let tables: Vec<String> = conn.query("SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()").await?;
        for table in tables {
            conn.query_drop(format!("DROP TABLE `{table}`")).await.context("remove a table of the benchmark")?;
        }
        Ok(())
    }

    /// Makes the table that [`Database::upserts`] writes to.
    pub(super) async fn make_bare(&self, record_bytes: usize) -> anyhow::Result<()> {
        let mut conn = self.connect().await?;
        conn.query_drop("CREATE TABLE bare (player BIGINT NOT NULL PRIMARY KEY, revision BIGINT NOT NULL, body LONGBLOB NOT NULL)").await?;
        let numbers: Vec<u64> = (1..=BARE_ROWS).collect();
        for some in numbers.chunks(STATEMENT_ROWS) {
            upsert(&mut conn, some, 1, record_bytes).await?;
        }
        Ok(())
    }

    /// Bare multi-row guarded upserts on one connection, for so long; returns rows a second.
    pub(super) async fn upserts(&self, revision: u64, record_bytes: usize, within: Duration) -> anyhow::Result<f64> {
        let mut conn = self.connect().await?;
        let numbers: Vec<u64> = (1..=BARE_ROWS).collect();
        let (begun, mut rows, mut revision) = (Instant::now(), 0, revision);
        while begun.elapsed() < within {
            revision += 1;
            for some in numbers.chunks(STATEMENT_ROWS * STATEMENTS) {
                conn.query_drop("START TRANSACTION").await?;
                for some in some.chunks(STATEMENT_ROWS) {
                    upsert(&mut conn, some, revision, record_bytes).await?;
                }
                conn.query_drop("COMMIT").await?;
                rows += some.len();
                if within <= begun.elapsed() {
                    break;
                }
            }
        }
        Ok(rows as f64 / begun.elapsed().as_secs_f64())
    }
}

/// A server does not run as root without being told to.
fn as_root() -> Option<&'static str> {
    let root = std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    root.then_some("--user=root")
}

async fn upsert(conn: &mut Conn, players: &[u64], revision: u64, record_bytes: usize) -> anyhow::Result<()> {
    let sql = format!(
        "INSERT INTO bare VALUES {} ON DUPLICATE KEY UPDATE body = IF(bare.revision < VALUES(revision), VALUES(body), bare.body), \
         revision = GREATEST(bare.revision, VALUES(revision))",
        vec!["(?, ?, ?)"; players.len()].join(", ")
    );
    let body = vec![b'x'; record_bytes];
    let values = players.iter().flat_map(|player| [Value::UInt(*player), Value::UInt(revision), Value::Bytes(body.clone())]);
    conn.exec_drop(sql, Params::Positional(values.collect())).await.context("upsert rows")
}
