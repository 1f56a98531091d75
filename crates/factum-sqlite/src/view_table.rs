//! The table of one generation of a view: its columns, its indexes, and how rows are written.
//!
//! Each declared field has a column beside the document, so that queries compare columns. A deleted row stays as
//! a tombstone with its version and without a document.

use std::fmt::Write as _;

use factum_core::{Error, FieldKind, Json, Position, Value, ViewDefinition};
use rusqlite::{
    Connection, OptionalExtension, params_from_iter,
    types::{self, ToSqlOutput, ValueRef},
};

use crate::{
    error::Doing,
    number::{signed, within_store},
};

/// One generation of a view.
#[derive(Debug)]
pub(crate) struct ViewTable {
    pub(crate) definition: ViewDefinition,
    /// The table's name: safe, since it is made of numbers.
    pub(crate) name: String,
    put: String,
    version: String,
}

impl ViewTable {
    /// The generation with this number.
    pub(crate) fn new(definition: ViewDefinition, store: i64, number: i64) -> Self {
        let name = table_name(store, number);
        let columns: Vec<_> = definition
            .fields
            .iter()
            .map(|field| column(&field.name))
            .collect();
        let mut put = format!("INSERT INTO {name} (id, version, document");
        for column in &columns {
            push(&mut put, format_args!(", {column}"));
        }
        put.push_str(") VALUES (?1, ?2, ?3");
        for index in 0..columns.len() {
            push(&mut put, format_args!(", ?{}", index + 4));
        }
        put.push_str(") ON CONFLICT (id) DO UPDATE SET version = excluded.version, document = excluded.document");
        for column in &columns {
            push(&mut put, format_args!(", {column} = excluded.{column}"));
        }
        put.push_str(" WHERE excluded.version >= version");
        let version = format!("SELECT version FROM {name} WHERE id = ?1 AND document IS NOT NULL");
        Self {
            definition,
            name,
            put,
            version,
        }
    }

    /// Makes the table and its indexes.
    pub(crate) fn create(&self, connection: &Connection) -> Result<(), Error> {
        let name = &self.name;
        let mut sql = format!(
            "CREATE TABLE {name} (id TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, document TEXT"
        );
        for field in &self.definition.fields {
            let kind = match field.kind {
                FieldKind::Text => "TEXT",
                FieldKind::Integer | FieldKind::Boolean => "INTEGER",
            };
            push(&mut sql, format_args!(", {} {kind}", column(&field.name)));
        }
        sql.push_str(") STRICT;\n");
        for (number, fields) in self.definition.indexes.iter().enumerate() {
            // Tombstones are in no index. Ties are by id, so it is the last column of each.
            push(
                &mut sql,
                format_args!("CREATE INDEX {name}_{number} ON {name} ("),
            );
            for field in fields {
                push(&mut sql, format_args!("{}, ", column(field)));
            }
            sql.push_str("id) WHERE document IS NOT NULL;\n");
        }
        connection
            .execute_batch(&sql)
            .doing("make the table of a view")
    }

    /// Drops the table.
    pub(crate) fn drop_from(&self, connection: &Connection) -> Result<(), Error> {
        connection
            .execute_batch(&format!("DROP TABLE {}", self.name))
            .doing("drop the table of a view")
    }

    /// The version of a row; `None` when there is none, or only its tombstone.
    pub(crate) fn version(
        &self,
        connection: &Connection,
        id: &str,
    ) -> Result<Option<Position>, Error> {
        let version: Option<i64> = connection
            .prepare_cached(&self.version)
            .and_then(|mut statement| statement.query_row([id], |row| row.get(0)).optional())
            .doing("read a row's version")?;
        Ok(version.map(|version| Position(version.cast_unsigned())))
    }

    /// Writes a row, or its tombstone, unless a newer version of it was written.
    pub(crate) fn write(
        &self,
        connection: &Connection,
        id: &str,
        version: Position,
        content: Option<(&Json, &[Value])>,
    ) -> Result<(), Error> {
        let fields = self.definition.fields.len();
        let mut values = Vec::with_capacity(fields + 3);
        values.push(text(id));
        values.push(ToSqlOutput::Owned(types::Value::Integer(signed(version.0))));
        match content {
            Some((document, fields)) => {
                values.push(text(document.as_str()));
                values.extend(fields.iter().map(|field| match field {
                    Value::Text(field) => text(field),
                    field => ToSqlOutput::Owned(value(field)),
                }));
            }
            None => values.resize(fields + 3, ToSqlOutput::Owned(types::Value::Null)),
        }
        connection
            .prepare_cached(&self.put)
            .and_then(|mut statement| statement.execute(params_from_iter(values)))
            .doing("write a row of a view")?;
        Ok(())
    }
}

/// The name of the table with the rows of a view's generation.
pub(crate) fn table_name(store: i64, number: i64) -> String {
    format!("view_{store}_{}", within_store(number))
}

/// The column of a declared field. Field names are letters, digits and `_`, so that nothing needs quoting; the
/// prefix keeps them apart from our own columns and from SQL's words.
pub(crate) fn column(field: &str) -> String {
    format!("f_{field}")
}

fn text(text: &str) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes()))
}

/// A field's value as SQLite takes it.
pub(crate) fn value(value: &Value) -> types::Value {
    match value {
        Value::Boolean(value) => types::Value::Integer((*value).into()),
        Value::Integer(value) => types::Value::Integer(*value),
        Value::Text(value) => types::Value::Text(value.clone()),
        Value::Null => types::Value::Null,
    }
}

/// Appends to a statement.
pub(crate) fn push(sql: &mut String, text: std::fmt::Arguments<'_>) {
    sql.write_fmt(text).expect("writing to a string can't fail");
}
