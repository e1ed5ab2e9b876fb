//! Migrations: the files of the folder `sql`, which SQLite runs too, with what MySQL needs beside them.
//!
//! MySQL commits every change of the schema by itself, so a migration that is interrupted is done in part. `schema_progress` says how
//! many of its statements are done, and the next start goes on there.

use mysql_async::Value;
use tracing::info;

use super::{
    OpenError,
    failure::{Class, Failure},
    pool::{Session, column, key, number, text},
};
use crate::migrate::{self, Applied, Migration};

/// Tables are InnoDB's, and texts are compared by their bytes, whatever the database's defaults are.
const TABLE_OPTIONS: &str = " ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
/// How long another dc's migration is waited for.
const LOCK_SECONDS: u64 = 5;

/// Runs what the database still needs, while no other dc does.
pub(super) async fn migrate(session: &mut Session, database: &str, migrations: &[Migration]) -> Result<(), OpenError> {
    let lock: String = format!("paifang:{database}").chars().take(64).collect();
    let locked = session.first("SELECT GET_LOCK(?, ?)", vec![text(&lock), key(LOCK_SECONDS)]).await?;
    if locked.map(|row| column::<Option<i64>>(&row, 0)).transpose()?.flatten() != Some(1) {
        return Err(OpenError::Away("another dc migrates the database".into()));
    }
    let migrated = migrate_locked(session, migrations).await;
    // If the connection is gone, so is the lock.
    let _ = session.first("SELECT RELEASE_LOCK(?)", vec![text(&lock)]).await;
    migrated
}

async fn migrate_locked(session: &mut Session, migrations: &[Migration]) -> Result<(), OpenError> {
    let tables = [
        "CREATE TABLE IF NOT EXISTS schema_migrations (
            number BIGINT NOT NULL PRIMARY KEY, name VARCHAR(64) NOT NULL, hash VARCHAR(64) NOT NULL, applied_ms BIGINT NOT NULL)",
        "CREATE TABLE IF NOT EXISTS schema_progress (number BIGINT NOT NULL PRIMARY KEY, hash VARCHAR(64) NOT NULL, done BIGINT NOT NULL)",
    ];
    for table in tables {
        // On a read-only server this is refused even if it would do nothing.
        let name = table.split_whitespace().nth(5).unwrap_or_default();
        let there = "SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?";
        if session.first(there, vec![text(name)]).await?.is_none() {
            session.run(&format!("{table}{TABLE_OPTIONS}")).await?;
        }
    }
    let applied = applied(session).await?;
    for migration in migrate::needed(migrations, &applied).map_err(anyhow::Error::from)? {
        run(session, migration).await?;
        info!(number = migration.number, name = migration.name, "migrated the database");
    }
    Ok(())
}

async fn applied(session: &mut Session) -> Result<Vec<Applied>, Failure> {
    let rows = session.rows("SELECT number, name, hash FROM schema_migrations ORDER BY number", Vec::new()).await?;
    rows.iter().map(|row| Ok(Applied { number: column(row, 0)?, name: column(row, 1)?, hash: column(row, 2)? })).collect()
}

async fn run(session: &mut Session, migration: &Migration) -> Result<(), OpenError> {
    let hash = migration.hash();
    let progress = "SELECT done FROM schema_progress WHERE number = ? AND hash = ?";
    let done = session.first(progress, vec![Value::Int(migration.number), text(&hash)]).await?;
    let done = done.map(|row| number(&row, 0)).transpose()?.unwrap_or(0);
    for (statement, count) in statements(migration.sql).into_iter().zip(1..).skip(usize::try_from(done).unwrap_or(usize::MAX)) {
        let resumed = done != 0 && count == done + 1;
        let ran = run_statement(session, &statement, migration, &hash, count).await;
        let ran = match ran {
            // It was done, but the start ended before that was noted.
            Err(failure) if resumed && is_there_already(&failure) => note(session, migration, &hash, count).await,
            ran => ran,
        };
        ran.map_err(|failure| match OpenError::from(failure) {
            OpenError::Refused(err) => {
                OpenError::Refused(err.context(format!("run statement {count} of migration {} ({})", migration.number, migration.name)))
            }
            away => away,
        })?;
    }
    let row = vec![Value::Int(migration.number), text(migration.name), text(&hash), Value::Int(crate::now_ms())];
    session.run("START TRANSACTION").await?;
    session.execute("INSERT INTO schema_migrations (number, name, hash, applied_ms) VALUES (?, ?, ?, ?)", row).await?;
    session.execute("DELETE FROM schema_progress WHERE number = ?", vec![Value::Int(migration.number)]).await?;
    Ok(session.run("COMMIT").await?)
}

/// What changes rows is done together with its note; what changes the schema is noted right after it.
async fn run_statement(session: &mut Session, statement: &str, migration: &Migration, hash: &str, count: u64) -> Result<(), Failure> {
    session.run("START TRANSACTION").await?;
    session.run(statement).await?;
    note(session, migration, hash, count).await?;
    session.run("COMMIT").await
}

async fn note(session: &mut Session, migration: &Migration, hash: &str, count: u64) -> Result<(), Failure> {
    let sql = "REPLACE INTO schema_progress (number, hash, done) VALUES (?, ?, ?)";
    session.execute(sql, vec![Value::Int(migration.number), text(hash), key(count)]).await.map(drop)
}

/// A table, a column or an index of that name.
fn is_there_already(failure: &Failure) -> bool {
    failure.class == Class::Unavailable && ["(error 1050,", "(error 1060,", "(error 1061,"].iter().any(|code| failure.text.contains(code))
}

/// The statements of a file of `sql`, whose lines end no statement but at their end, and whose comments have lines of their own.
fn statements(sql: &str) -> Vec<String> {
    let lines: Vec<&str> = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    let with_options = |statement: &str| match statement.starts_with("CREATE TABLE") {
        true => format!("{statement}{TABLE_OPTIONS}"),
        false => statement.to_owned(),
    };
    lines.join("\n").split(';').map(str::trim).filter(|statement| !statement.is_empty()).map(with_options).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_get_their_options_and_comments_go() {
        let found = statements("-- one; two\nCREATE TABLE a (\n    b BIGINT\n);\nCREATE INDEX c ON a (b);\n\n-- end\n");
        assert_eq!(found, [format!("CREATE TABLE a (\n    b BIGINT\n){TABLE_OPTIONS}"), "CREATE INDEX c ON a (b)".to_owned()]);
    }

    #[test]
    fn no_migration_has_a_semicolon_within_a_statement() {
        for migration in migrate::MIGRATIONS {
            let known =
                ["CREATE TABLE", "CREATE INDEX", "CREATE UNIQUE INDEX", "INSERT INTO", "ALTER TABLE", "UPDATE", "DELETE FROM", "DROP"];
            for statement in statements(migration.sql) {
                assert!(known.iter().any(|known| statement.starts_with(known)), "{}: {statement}", migration.name);
            }
        }
    }
}
