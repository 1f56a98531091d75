//! One store's rows, copied from one file to another or deleted: what backup and restore are made of.
//!
//! All rows of a store lie in ranges that its number begins, or name the store; the tables of its views have its
//! number in their names, and own tables its service's name. The topics of the broker belong to no store and are
//! left alone.

use factum_core::{Error, ServiceName};
use rusqlite::{Connection, params};

use crate::{error::Doing, number::range, own_sql};

/// Tables whose rows belong to a store by a range of numbers, and the column with the number.
const BY_RANGE: &[(&str, &str)] = &[
    ("records", "key"),
    ("streams", "number"),
    ("types", "number"),
    ("topics", "number"),
    ("stream_events", "stream"),
    ("snapshots", "stream"),
    ("inboxes", "number"),
    ("parked", "inbox"),
    ("applied", "slot"),
    ("views", "number"),
    ("audit", "number"),
];

/// Tables whose rows name their store.
const BY_STORE: &[(&str, &str)] = &[
    ("stores", "number"),
    ("epochs", "store"),
    ("correlated", "store"),
    ("message_ids", "store"),
    ("answers", "store"),
    ("timers", "store"),
    ("relays", "store"),
    ("relay_lasts", "store"),
    ("projections", "store"),
    ("active_generations", "store"),
];

/// Copies a store from the attached database `from` into the main one, which has nothing of it.
pub(crate) fn copy(
    connection: &Connection,
    from: &str,
    store: i64,
    service: &ServiceName,
) -> Result<(), Error> {
    let (first, last) = range(store);
    for (table, column) in BY_RANGE {
        let sql = format!(
            "INSERT INTO main.{table} SELECT * FROM {from}.{table} WHERE {column} BETWEEN ?1 AND ?2"
        );
        connection
            .execute(&sql, [first, last])
            .doing(&format!("copy table `{table}`"))?;
    }
    for (table, column) in BY_STORE {
        let sql =
            format!("INSERT INTO main.{table} SELECT * FROM {from}.{table} WHERE {column} = ?1");
        connection
            .execute(&sql, [store])
            .doing(&format!("copy table `{table}`"))?;
    }
    let tables = tables_of(connection, from, store, service)?;
    for (table, sql) in &tables {
        let what = format!("copy table `{table}`");
        connection.execute_batch(sql).doing(&what)?;
        let name = quoted(table);
        connection
            .execute(
                &format!("INSERT INTO main.{name} SELECT * FROM {from}.{name}"),
                [],
            )
            .doing(&what)?;
    }
    // Indexes, triggers and views come last: a trigger must not see the rows that are copied.
    let mut statement = connection
        .prepare(&format!(
            "SELECT tbl_name, name, sql FROM {from}.sqlite_schema WHERE type <> 'table' AND sql IS NOT NULL ORDER BY rowid"
        ))
        .doing("copy indexes")?;
    let rows = statement
        .query_map([], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, String>(2)?,
            ))
        })
        .doing("copy indexes")?;
    let prefix = own_sql::prefix(service);
    for row in rows {
        let (table, name, sql) = row.doing("copy indexes")?;
        if tables.iter().any(|(known, _)| *known == table) || own_sql::is_own(&prefix, &table) {
            connection
                .execute_batch(&sql)
                .doing(&format!("copy `{name}`"))?;
        }
    }
    Ok(())
}

/// Deletes all that the main database has of a store.
pub(crate) fn delete(
    connection: &Connection,
    store: i64,
    service: &ServiceName,
) -> Result<(), Error> {
    let (first, last) = range(store);
    for (table, column) in BY_RANGE {
        let sql = format!("DELETE FROM main.{table} WHERE {column} BETWEEN ?1 AND ?2");
        connection
            .execute(&sql, [first, last])
            .doing(&format!("empty table `{table}`"))?;
    }
    for (table, column) in BY_STORE {
        let sql = format!("DELETE FROM main.{table} WHERE {column} = ?1");
        connection
            .execute(&sql, params![store])
            .doing(&format!("empty table `{table}`"))?;
    }
    for (table, _) in tables_of(connection, "main", store, service)? {
        connection
            .execute_batch(&format!("DROP TABLE main.{}", quoted(&table)))
            .doing("drop a table")?;
    }
    let prefix = own_sql::prefix(service);
    let views: Vec<String> = names(
        connection,
        "SELECT name FROM main.sqlite_schema WHERE type = 'view'",
    )?;
    for view in views.iter().filter(|view| own_sql::is_own(&prefix, view)) {
        connection
            .execute_batch(&format!("DROP VIEW main.{}", quoted(view)))
            .doing("drop a view")?;
    }
    Ok(())
}

/// The tables of a store's views and its own tables, with the statements that make them.
fn tables_of(
    connection: &Connection,
    schema: &str,
    store: i64,
    service: &ServiceName,
) -> Result<Vec<(String, String)>, Error> {
    const WHAT: &str = "list a store's tables";
    let (prefix, views) = (own_sql::prefix(service), format!("view_{store}_"));
    let mut statement = connection
        .prepare(&format!(
            "SELECT name, sql FROM {schema}.sqlite_schema WHERE type = 'table' AND sql IS NOT NULL"
        ))
        .doing(WHAT)?;
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .doing(WHAT)?;
    let rows: Vec<(String, String)> = rows.collect::<Result<_, _>>().doing(WHAT)?;
    let belongs = |(table, _): &(String, String)| {
        let is_view = table
            .strip_prefix(&views)
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
        is_view || own_sql::is_own(&prefix, table)
    };
    Ok(rows.into_iter().filter(belongs).collect())
}

fn names(connection: &Connection, sql: &str) -> Result<Vec<String>, Error> {
    const WHAT: &str = "list views";
    let mut statement = connection.prepare(sql).doing(WHAT)?;
    let rows = statement.query_map([], |row| row.get(0)).doing(WHAT)?;
    rows.collect::<Result<_, _>>().doing(WHAT)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The broker's.
    const OF_TOPICS: &[&str] = &["chunks", "offsets", "partitions", "topicspecs"];

    /// And of the whole file.
    const OF_FILE: &[&str] = &["witnessed"];

    #[test]
    fn every_table_is_copied_or_known_to_belong_to_no_store() {
        let mut connection = Connection::open_in_memory().unwrap();
        crate::schema::prepare(&mut connection, std::path::Path::new("factum.db")).unwrap();
        let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name";
        let mut known: Vec<_> = BY_RANGE
            .iter()
            .chain(BY_STORE)
            .map(|(table, _)| (*table).to_string())
            .collect();
        known.sort();
        let mut found = names(&connection, tables).unwrap();
        found.retain(|table| !OF_TOPICS.contains(&&**table) && !OF_FILE.contains(&&**table));
        assert_eq!(found, known);
        for table in &known {
            assert!(
                !table.contains("__"),
                "`{table}` could be taken for an own table"
            );
        }
    }
}
