//! Own SQL: an application's tables beside Factum's, written in the same commit.
//!
//! A statement may touch the tables of its own service alone: those whose names begin with the service's name
//! and `__`. SQLite asks for each table that a statement is prepared with, so that nothing gets past it; of one that
//! renames a table it tells the old name alone, so that the tables are looked through behind it. A statement that fails is undone to a savepoint, and its commit is poison; its neighbours don't notice.
//!
//! Whose a table is must be certain, since a restore drops a service's tables. What stands for a service's name has
//! no `__` in it and no `_` at its end, so that the first `__` of a table's name ends it: `order__history_x` is of
//! `order`, and `order_history__x` of `order-history`. Services whose names come to the same can't share a file.

use std::cell::{Cell, RefCell};

use factum_core::{Error, ServiceName, SqlValue};
use rusqlite::{
    Connection, ErrorCode, ffi,
    hooks::{AuthAction, AuthContext, Authorization},
    params_from_iter,
    types::{Value, ValueRef},
};

use crate::error::{Doing, sql};

/// What own tables of a service begin with: its name in lower case, with one `_` for all between two words, and `__`.
pub(crate) fn prefix(service: &ServiceName) -> String {
    let mut prefix = words(service).join("_");
    prefix.push_str("__");
    prefix
}

fn words(service: &ServiceName) -> Vec<String> {
    let words = service.as_str().split(|c: char| !c.is_ascii_alphanumeric());
    words
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect()
}

/// Whether a table is an own one of the service with this prefix.
pub(crate) fn is_own(prefix: &str, table: &str) -> bool {
    table.to_ascii_lowercase().starts_with(prefix)
}

/// Refuses a service whose tables could not be told from those of another service of the file, or that has tables from
/// before the present rule, which are looked for in the attached database `schema`.
///
/// # Errors
///
/// Class fatal, with the way out.
pub(crate) fn settle(
    connection: &Connection,
    schema: &str,
    service: &ServiceName,
) -> Result<(), Error> {
    const WHAT: &str = "look whose tables are whose";
    let prefix = prefix(service);
    let column = |sql: &str| -> Result<Vec<String>, Error> {
        let mut statement = connection.prepare(sql).doing(WHAT)?;
        let rows = statement.query_map([], |row| row.get(0)).doing(WHAT)?;
        rows.collect::<Result<_, _>>().doing(WHAT)
    };
    for other in column("SELECT service FROM main.stores")? {
        let Ok(other) = ServiceName::new(&other) else {
            continue;
        };
        if other != *service && self::prefix(&other) == prefix {
            return Err(Error::fatal(format!(
                "service `{service}` can't share a file with service `{other}`: the tables of both would begin with \
                 `{prefix}`; give one of them another name or another data directory"
            )));
        }
    }
    // Once a single underscore was enough, and nobody could tell whose `order_history_x` was.
    let former = &prefix[..prefix.len() - 1];
    let tables = format!("SELECT name FROM {schema}.sqlite_schema WHERE type IN ('table', 'view')");
    for table in column(&tables)? {
        let lower = table.to_ascii_lowercase();
        let is_former = lower.starts_with(former) && !lower.contains("__");
        if is_former && !FACTUMS.contains(&&*lower) && !is_views(&lower) {
            return Err(Error::fatal(format!(
                "table `{table}` is an own one of service `{service}` by a former rule: rename it to `{prefix}{}` \
                 (`ALTER TABLE .. RENAME TO` in SQLite's shell), or to what no service's name begins",
                &table[former.len()..]
            )));
        }
    }
    Ok(())
}

/// Tables of Factum's with an underscore in their names.
const FACTUMS: &[&str] = &[
    "active_generations",
    "message_ids",
    "relay_lasts",
    "stream_events",
];

/// Whether a table has the rows of a view: `view_<digits>_<digits>`.
fn is_views(table: &str) -> bool {
    table.strip_prefix("view_").is_some_and(|rest| {
        rest.split('_').count() == 2 && rest.chars().all(|c| c.is_ascii_digit() || c == '_')
    })
}

thread_local! {
    /// The prefix that statements prepared on this thread are confined to; none for Factum's own.
    static CONFINED: RefCell<Option<String>> = const { RefCell::new(None) };

    /// Whether a statement that was prepared on this thread since may give a table another name.
    static ALTERS: Cell<bool> = const { Cell::new(false) };
}

/// Lets SQLite ask for each table of a statement, on a connection that may be given own SQL.
pub(crate) fn guard(connection: &mut Connection) -> Result<(), Error> {
    let ask = |context: AuthContext<'_>| {
        CONFINED.with_borrow(|confined| match confined {
            None => Authorization::Allow,
            Some(prefix) => {
                if let AuthAction::AlterTable { .. } = context.action {
                    ALTERS.set(true);
                }
                authorize(prefix, context.action)
            }
        })
    };
    connection
        .authorizer(Some(ask))
        .doing("guard Factum's tables")
}

fn authorize(prefix: &str, action: AuthAction<'_>) -> Authorization {
    let allowed = match action {
        AuthAction::Select
        | AuthAction::Function { .. }
        | AuthAction::Recursive
        | AuthAction::Reindex { .. } => true,
        AuthAction::Insert { table_name }
        | AuthAction::Delete { table_name }
        | AuthAction::Update { table_name, .. }
        | AuthAction::Read { table_name, .. } => {
            // Making a table writes SQLite's own; a statement that writes it by itself is refused by SQLite.
            is_own(prefix, table_name) || table_name.starts_with("sqlite_")
        }
        AuthAction::CreateTable { table_name }
        | AuthAction::DropTable { table_name }
        | AuthAction::AlterTable { table_name, .. }
        | AuthAction::Analyze { table_name } => is_own(prefix, table_name),
        AuthAction::CreateIndex { table_name, .. } | AuthAction::DropIndex { table_name, .. } => {
            is_own(prefix, table_name)
        }
        AuthAction::CreateTrigger {
            table_name,
            trigger_name,
        }
        | AuthAction::DropTrigger {
            table_name,
            trigger_name,
        } => is_own(prefix, table_name) && is_own(prefix, trigger_name),
        AuthAction::CreateView { view_name } | AuthAction::DropView { view_name } => {
            is_own(prefix, view_name)
        }
        _ => false,
    };
    if allowed {
        Authorization::Allow
    } else {
        Authorization::Deny
    }
}

/// Runs one statement, confined to the tables of `service`.
///
/// # Errors
///
/// Class poison when the statement is bad or touches other tables; the connection's own errors otherwise.
pub(crate) fn run(
    connection: &Connection,
    service: &ServiceName,
    statement: &str,
    parameters: &[SqlValue],
) -> Result<(), Error> {
    read(connection, service, statement, parameters, usize::MAX).map(drop)
}

/// As [`run`], and returns the statement's rows, at most `limit`.
pub(crate) fn read(
    connection: &Connection,
    service: &ServiceName,
    statement: &str,
    parameters: &[SqlValue],
    limit: usize,
) -> Result<Vec<Vec<SqlValue>>, Error> {
    let prefix = prefix(service);
    CONFINED.set(Some(prefix.clone()));
    ALTERS.set(false);
    let result = read_confined(connection, &prefix, statement, parameters, limit);
    CONFINED.set(None);
    result.map_err(|error| {
        let shown: String = statement.chars().take(60).collect();
        match error.sqlite_error_code() {
            Some(ErrorCode::AuthorizationForStatementDenied) => Error::poison(format!(
                "own SQL `{shown}` is refused: service `{service}` may touch only its own tables, whose names begin \
                 with `{prefix}`"
            ))
            .caused_by(error),
            Some(
                ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::OutOfMemory
                | ErrorCode::DatabaseBusy
                | ErrorCode::OperationInterrupted,
            ) => sql("run own SQL", error),
            _ => Error::poison(format!("own SQL `{shown}` failed")).caused_by(error),
        }
    })
}

fn read_confined(
    connection: &Connection,
    prefix: &str,
    statement: &str,
    parameters: &[SqlValue],
    limit: usize,
) -> rusqlite::Result<Vec<Vec<SqlValue>>> {
    // Prepared anew each time: a cached statement would have been asked about under another confinement.
    let mut prepared = connection.prepare(statement)?;
    let others = if ALTERS.get() {
        Some(tables_of_others(connection, prefix)?)
    } else {
        None
    };
    let columns = prepared.column_count();
    let mut rows = prepared.query(params_from_iter(parameters.iter().map(own_value)))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        if found.len() < limit && limit < usize::MAX {
            found.push(
                (0..columns)
                    .map(|index| value_of(row.get_ref(index)?))
                    .collect::<rusqlite::Result<_>>()?,
            );
        } else if limit < usize::MAX {
            break;
        }
    }
    if let Some(others) = others
        && tables_of_others(connection, prefix)? != others
    {
        // As SQLite would say, had it asked about the new name.
        let denied = ffi::Error::new(ffi::SQLITE_AUTH);
        return Err(rusqlite::Error::SqliteFailure(denied, None));
    }
    Ok(found)
}

/// How many tables and views are not own ones of the service with this prefix.
fn tables_of_others(connection: &Connection, prefix: &str) -> rusqlite::Result<usize> {
    let mut statement = connection
        .prepare("SELECT name FROM main.sqlite_schema WHERE type IN ('table', 'view')")?;
    let mut names = statement.query([])?;
    let mut others = 0;
    while let Some(row) = names.next()? {
        others += usize::from(!is_own(prefix, row.get_ref(0)?.as_str()?));
    }
    Ok(others)
}

/// A value as SQLite takes it.
fn own_value(value: &SqlValue) -> Value {
    match value {
        SqlValue::Null => Value::Null,
        SqlValue::Integer(number) => Value::Integer(*number),
        SqlValue::Text(text) => Value::Text(text.clone()),
        SqlValue::Bytes(bytes) => Value::Blob(bytes.clone()),
    }
}

/// A column as a value. There are no fractions: one is shown as text.
fn value_of(column: ValueRef<'_>) -> rusqlite::Result<SqlValue> {
    Ok(match column {
        ValueRef::Null => SqlValue::Null,
        ValueRef::Integer(number) => SqlValue::Integer(number),
        ValueRef::Real(number) => SqlValue::Text(number.to_string()),
        ValueRef::Text(_) => SqlValue::Text(column.as_str()?.into()),
        ValueRef::Blob(bytes) => SqlValue::Bytes(bytes.to_vec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_prefix_is_the_beginning_of_another_one() {
        let names = [
            "order",
            "order-history",
            "order.history.x",
            "orders",
            "o",
            "order-1",
            "a--b",
            "_a",
            "a_",
            "view",
            "-",
        ];
        let prefixes: Vec<_> = names
            .iter()
            .map(|name| prefix(&ServiceName::new(name).unwrap()))
            .collect();
        for (name, one) in names.iter().zip(&prefixes) {
            for other in &prefixes {
                let nested = other.starts_with(one.as_str());
                assert!(!nested || one == other, "`{name}`: {one} and {other}");
            }
        }
        assert_eq!(prefixes[1], "order_history__");
        assert_eq!(prefixes[6], "a_b__");
        assert_eq!(prefixes[7], prefixes[8], "and such are refused in one file");
    }
}
