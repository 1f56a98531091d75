//! The schema of the file: whose it is, which version it has, and how it gets from one to the next.

use std::path::Path;

use factum_core::Error;
use rusqlite::{Connection, TransactionBehavior};

use crate::error::Doing;

/// Says that a SQLite file is Factum's: `FACT` in ASCII, in the file's header.
pub(crate) const APPLICATION_ID: i64 = 0x4641_4354;

/// All migrations, in order. The schema's version is how many of them were applied.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_begin.sql"),
    include_str!("migrations/0002_topics.sql"),
    include_str!("migrations/0003_witness.sql"),
    include_str!("migrations/0004_snapshots.sql"),
    include_str!("migrations/0005_discarded.sql"),
    include_str!("migrations/0006_snapshots.sql"),
    include_str!("migrations/0007_restored.sql"),
    include_str!("migrations/0008_marks.sql"),
];

/// Brings the file up to the present schema, or says why it can't be used.
///
/// # Errors
///
/// Class fatal: another application's file, one of a newer version, a damaged one.
pub(crate) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), Error> {
    prepare_with(connection, path, MIGRATIONS)
}

/// Whether the file is ours, empty or of a known version. Changes nothing.
///
/// # Errors
///
/// Class fatal, as for [`prepare`].
pub(crate) fn check(connection: &Connection, path: &Path) -> Result<(), Error> {
    applied(connection, path, MIGRATIONS).map(drop)
}

/// Whether a file of ours has the present schema; it may have an older one.
///
/// # Errors
///
/// Class fatal, as for [`prepare`].
pub(crate) fn is_present(connection: &Connection, path: &Path) -> Result<bool, Error> {
    Ok(applied(connection, path, MIGRATIONS)? == MIGRATIONS.len())
}

/// How many migrations the file has seen.
fn applied(connection: &Connection, path: &Path, migrations: &[&str]) -> Result<usize, Error> {
    let what = format!("open `{}`", path.display());
    let number = |sql: &str| {
        connection
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .doing(&what)
    };
    let application = number("PRAGMA application_id")?;
    let version = number("PRAGMA user_version")?;
    let is_empty = number("SELECT count(*) FROM sqlite_schema")? == 0;
    if application != APPLICATION_ID && !(application == 0 && version == 0 && is_empty) {
        return Err(Error::fatal(format!(
            "`{}` is a SQLite database of another application (id {application:#x}): move it away, or choose \
             another data directory",
            path.display()
        )));
    }
    let applied = usize::try_from(version).unwrap_or(usize::MAX);
    if applied > migrations.len() {
        return Err(Error::fatal(format!(
            "`{}` has schema version {version}, and this program knows versions up to {}: start the newer program \
             that wrote it, or restore a backup from before",
            path.display(),
            migrations.len()
        )));
    }
    Ok(applied)
}

fn prepare_with(
    connection: &mut Connection,
    path: &Path,
    migrations: &[&str],
) -> Result<(), Error> {
    let applied = applied(connection, path, migrations)?;
    if applied == migrations.len() {
        return Ok(());
    }
    let what = format!(
        "migrate `{}` from schema version {applied} to {}",
        path.display(),
        migrations.len()
    );
    let (from, to) = (applied, migrations.len());
    tracing::info!(schema.from = from, schema.to = to, "migration begins");
    // One transaction: a crash in the middle leaves the file as it was.
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .doing(&what)?;
    for migration in &migrations[applied..] {
        transaction.execute_batch(migration).doing(&what)?;
    }
    transaction
        .pragma_update(None, "application_id", APPLICATION_ID)
        .doing(&what)?;
    transaction
        .pragma_update(
            None,
            "user_version",
            i64::try_from(migrations.len()).unwrap_or(i64::MAX),
        )
        .doing(&what)?;
    transaction.commit().doing(&what)?;
    tracing::info!(schema.from = from, schema.to = to, "migration ended");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_that_fails_leaves_the_file_as_it_was() {
        let mut connection = Connection::open_in_memory().unwrap();
        let path = Path::new("factum.db");
        prepare(&mut connection, path).unwrap();
        let with = |more| [MIGRATIONS, &[more]].concat();
        let broken = with("CREATE TABLE more (n INTEGER); CREATE TABLE more (n INTEGER);");
        assert!(
            prepare_with(&mut connection, path, &broken)
                .unwrap_err()
                .is_fatal()
        );
        let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'more'";
        assert_eq!(connection.query_row(tables, [], |row| row.get(0)), Ok(0));
        let mended = with("CREATE TABLE more (n INTEGER);");
        prepare_with(&mut connection, path, &mended).unwrap();
        assert_eq!(connection.query_row(tables, [], |row| row.get(0)), Ok(1));
        let error = prepare(&mut connection, path).unwrap_err();
        let known = MIGRATIONS.len();
        let expected = format!(
            "has schema version {}, and this program knows versions up to {known}",
            known + 1
        );
        assert!(error.to_string().contains(&expected), "{error}");
    }
}
