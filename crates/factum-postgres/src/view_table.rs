//! The table of one generation of a view: its columns, its indexes, and how rows are written.
//!
//! Each declared field has a column beside the document, so that queries compare columns. A deleted row stays as a
//! tombstone with its version and without a document.

use std::{collections::BTreeMap, fmt::Write as _};

use factum_core::{FieldKind, Json, Position, Value, ViewDefinition};

use crate::{call::Call, number::signed, schema::Schema, text::escape};

/// One generation of a view.
#[derive(Debug)]
pub(crate) struct ViewTable {
    pub(crate) definition: ViewDefinition,
    /// The table's name as it is written in a statement.
    pub(crate) name: String,
    plain: String,
}

/// What is written to a row: its version, and its document with the values of the declared fields, or a tombstone.
pub(crate) type Written = (Position, Option<(Json, Vec<Value>)>);

/// A row's version, and whether it has a document.
pub(crate) type RowVersion = (Position, bool);

impl ViewTable {
    /// The generation with this number.
    pub(crate) fn new(definition: ViewDefinition, schema: &Schema, number: i64) -> Self {
        let plain = format!("view_{number}");
        Self {
            definition,
            name: format!("{}.{plain}", schema.quoted),
            plain,
        }
    }

    /// The statements that make the table and its indexes.
    pub(crate) fn create(&self) -> Vec<String> {
        let name = &self.name;
        let mut sql = format!(
            "CREATE TABLE {name} (id text COLLATE \"C\" PRIMARY KEY, version bigint NOT NULL, document text"
        );
        for field in &self.definition.fields {
            push(
                &mut sql,
                format_args!(", {} {}", column(&field.name), column_type(field.kind)),
            );
        }
        sql.push(')');
        let mut statements = vec![sql];
        for (number, fields) in self.definition.indexes.iter().enumerate() {
            // Tombstones are in no index. Ties are by id, so it is the last column of each.
            let mut sql = format!("CREATE INDEX {}_{number} ON {name} (", self.plain);
            for field in fields {
                let kind = self.definition.kind(field).unwrap_or(FieldKind::Text);
                push(
                    &mut sql,
                    format_args!("{}, ", indexed(&column(field), kind)),
                );
            }
            sql.push_str("id) WHERE document IS NOT NULL");
            statements.push(sql);
        }
        statements
    }

    /// Asks for the versions of rows, tombstones included: id, version, whether there is a document.
    pub(crate) fn versions<'a>(&self, ids: impl Iterator<Item = &'a String>) -> Call {
        Call::new(format!(
            "SELECT id, version, document IS NOT NULL FROM {} WHERE id = ANY ($1)",
            self.name
        ))
        .with(ids.map(|id| escape(id).into_owned()).collect::<Vec<_>>())
    }

    /// Compares the versions of rows with those that were read.
    pub(crate) fn compare<'a>(
        &self,
        schema: &Schema,
        rows: impl Iterator<Item = (&'a String, &'a Option<RowVersion>)>,
    ) -> Call {
        let (mut ids, mut versions, mut live) = (Vec::new(), Vec::new(), Vec::new());
        for (id, row) in rows {
            ids.push(escape(id).into_owned());
            versions.push(row.map(|(version, _)| signed(version.0)));
            live.push(row.map(|(_, live)| live));
        }
        schema
            .call(&format!(
                "SELECT factum.must(NOT EXISTS (SELECT 1 FROM unnest($1, $2, $3) AS given (id, version, live) \
                 LEFT JOIN {} t ON t.id = given.id WHERE t.version IS DISTINCT FROM given.version \
                 OR (t.id IS NOT NULL AND (t.document IS NOT NULL) IS DISTINCT FROM given.live)), 'row')",
                self.name
            ))
            .with(ids)
            .with(versions)
            .with(live)
    }

    /// Writes rows and tombstones, each unless a newer version of it was written.
    pub(crate) fn write(&self, rows: BTreeMap<String, Written>) -> Call {
        let fields = &self.definition.fields;
        let columns: Vec<_> = fields.iter().map(|field| column(&field.name)).collect();
        let mut sql = format!("INSERT INTO {} AS t (id, version, document", self.name);
        for column in &columns {
            push(&mut sql, format_args!(", {column}"));
        }
        sql.push_str(") SELECT * FROM unnest($1, $2, $3");
        for index in 0..columns.len() {
            push(&mut sql, format_args!(", ${}", index + 4));
        }
        sql.push_str(") ON CONFLICT (id) DO UPDATE SET version = excluded.version, document = excluded.document");
        for column in &columns {
            push(&mut sql, format_args!(", {column} = excluded.{column}"));
        }
        sql.push_str(" WHERE excluded.version >= t.version");

        let (mut ids, mut versions, mut documents) = (Vec::new(), Vec::new(), Vec::new());
        let mut values: Vec<Column> = fields.iter().map(|field| Column::of(field.kind)).collect();
        // In the order of ids, so that two who write the same rows don't wait for each other.
        for (id, (version, content)) in rows {
            ids.push(escape(&id).into_owned());
            versions.push(signed(version.0));
            let (document, mut given) = match content {
                Some((document, given)) => (Some(document.as_str().to_string()), given),
                None => (None, Vec::new()),
            };
            documents.push(document);
            given.resize(values.len(), Value::Null);
            for (column, value) in values.iter_mut().zip(given) {
                column.push(value);
            }
        }
        let mut call = Call::new(sql).with(ids).with(versions).with(documents);
        for column in values {
            match column {
                Column::Text(values) => call.put(values),
                Column::Integer(values) => call.put(values),
                Column::Boolean(values) => call.put(values),
            };
        }
        call
    }
}

/// The values of one field in many rows.
enum Column {
    Text(Vec<Option<String>>),
    Integer(Vec<Option<i64>>),
    Boolean(Vec<Option<bool>>),
}

impl Column {
    fn of(kind: FieldKind) -> Self {
        match kind {
            FieldKind::Text => Self::Text(Vec::new()),
            FieldKind::Integer => Self::Integer(Vec::new()),
            FieldKind::Boolean => Self::Boolean(Vec::new()),
        }
    }

    /// A value of the field's kind, or null: the definition has seen to it.
    fn push(&mut self, value: Value) {
        match (self, value) {
            (Self::Text(column), Value::Text(text)) => {
                column.push(Some(escape(&text).into_owned()));
            }
            (Self::Integer(column), Value::Integer(number)) => column.push(Some(number)),
            (Self::Boolean(column), Value::Boolean(value)) => column.push(Some(value)),
            (Self::Text(column), _) => column.push(None),
            (Self::Integer(column), _) => column.push(None),
            (Self::Boolean(column), _) => column.push(None),
        }
    }
}

fn column_type(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Text => "text COLLATE \"C\"",
        FieldKind::Integer => "bigint",
        FieldKind::Boolean => "boolean",
    }
}

/// The column of a declared field. Field names are letters, digits and `_`; they are quoted, since they differ in case, too,
/// and the prefix keeps them apart from our own columns.
pub(crate) fn column(field: &str) -> String {
    format!("\"f_{field}\"")
}

/// How many letters of a text are in an index, whose entries have a largest size of 2,704 bytes: enough to find one among
/// many, and few enough for indexes over several fields.
const LETTERS_INDEXED: u32 = 64;

/// What of a column, or of a value to be compared with it, is in an index: of a text its beginning. Texts are in the order of
/// their beginnings.
pub(crate) fn indexed(column: &str, kind: FieldKind) -> String {
    match kind {
        FieldKind::Text => format!("left({column}, {LETTERS_INDEXED})"),
        FieldKind::Integer | FieldKind::Boolean => column.into(),
    }
}

/// Appends to a statement.
pub(crate) fn push(sql: &mut String, text: std::fmt::Arguments<'_>) {
    sql.write_fmt(text).expect("writing to a string can't fail");
}
