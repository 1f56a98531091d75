//! Queries of views as SQL.
//!
//! Order is by the bytes of UTF-8 (SQLite's own), nulls last in both directions, ties by id. A page by cursor is
//! two ranges of an index, the rows with a value and behind them those without; a page by number counts rows from
//! the start, which is why numbers have a bound.

use std::fmt::Write as _;

use factum_core::{
    Cursor, Error, FieldKind, Json, Operator, Page, Position, Query, Row, Rows, Value,
};
use rusqlite::{Connection, OptionalExtension, params_from_iter, types};

use crate::{
    error::{Doing, damaged},
    view_table::{ViewTable, column, push, value},
};

/// One row.
pub(crate) fn get(
    connection: &Connection,
    table: &ViewTable,
    id: &str,
) -> Result<Option<Row>, Error> {
    let sql = format!(
        "SELECT version, document FROM {} WHERE id = ?1 AND document IS NOT NULL",
        table.name
    );
    let found: Option<(i64, String)> = connection
        .prepare_cached(&sql)
        .and_then(|mut statement| {
            statement
                .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })
        .doing("read a row")?;
    found
        .map(|(version, document)| row(table, id.into(), version, &document))
        .transpose()
}

/// How many rows meet the query's filter, counting no further than `cap`.
pub(crate) fn count(
    connection: &Connection,
    table: &ViewTable,
    query: &Query,
    cap: u64,
) -> Result<u64, Error> {
    let mut select = Select::of(query);
    select.values.push(types::Value::Integer(
        i64::try_from(cap).unwrap_or(i64::MAX),
    ));
    let sql = format!(
        "SELECT count(*) FROM (SELECT 1 FROM {} WHERE document IS NOT NULL{} LIMIT ?)",
        table.name, select.conditions
    );
    let count: i64 = connection
        .prepare_cached(&sql)
        .and_then(|mut statement| {
            statement.query_row(params_from_iter(select.values), |row| row.get(0))
        })
        .doing("count the rows of a view")?;
    Ok(count.cast_unsigned())
}

/// A page of rows.
pub(crate) fn page(
    connection: &Connection,
    table: &ViewTable,
    query: &Query,
) -> Result<Rows, Error> {
    let sort = query.sort.as_ref().map(|(field, descending)| Sort {
        column: column(field),
        kind: table.definition.kind(field).unwrap_or(FieldKind::Text),
        descending: *descending,
    });
    // One more than asked for, to know whether there is a next page.
    let limit = query.limit as usize + 1;
    // Several statements may make one page: they read one state.
    let transaction = connection
        .unchecked_transaction()
        .doing("read a page of a view")?;
    let mut found = Vec::new();
    let mut run =
        |condition: &str, values: Vec<types::Value>, order: &str, skip: u64| -> Result<(), Error> {
            let rest = limit - found.len();
            if rest > 0 {
                let select = Select {
                    limit: rest,
                    skip,
                    ..Select::of(query)
                };
                let sorted = sort.as_ref();
                found.extend(select.and(condition, values).run(
                    &transaction,
                    table,
                    sorted,
                    order,
                )?);
            }
            Ok(())
        };
    match (&query.page, &sort) {
        (Page::Number(number), None) => {
            run(
                "",
                Vec::new(),
                "id",
                u64::from(number - 1) * u64::from(query.limit),
            )?;
        }
        (Page::Number(number), Some(sort)) => {
            let skip = u64::from(number - 1) * u64::from(query.limit);
            let order = if sort.descending {
                format!("{0} DESC NULLS LAST, id DESC", sort.column)
            } else {
                format!("{0} NULLS LAST, id", sort.column)
            };
            run("", Vec::new(), &order, skip)?;
        }
        (Page::After(cursor), None) => {
            run(
                " AND id > ?",
                vec![types::Value::Text(cursor.id.clone())],
                "id",
                0,
            )?;
        }
        (Page::After(cursor), Some(sort)) => {
            let (column, id) = (&sort.column, types::Value::Text(cursor.id.clone()));
            let (than, direction) = if sort.descending {
                ("<", " DESC")
            } else {
                (">", "")
            };
            let (order, behind) = (
                format!("{column}{direction}, id{direction}"),
                format!("id{direction}"),
            );
            match &cursor.value {
                None | Some(Value::Null) => {
                    run(
                        &format!(" AND {column} IS NULL AND id {than} ?"),
                        vec![id],
                        &behind,
                        0,
                    )?;
                }
                Some(last) => {
                    // A value of another kind than the field's comes from a cursor that somebody made up: it
                    // is compared as SQLite compares kinds, which harms nobody.
                    let condition = format!(" AND ({column}, id) {than} (?, ?)");
                    run(&condition, vec![value(last), id], &order, 0)?;
                    run(&format!(" AND {column} IS NULL"), Vec::new(), &behind, 0)?;
                }
            }
        }
    }
    let more = found.len() >= limit;
    found.truncate(query.limit as usize);
    let next = found.last().filter(|_| more).map(|(row, value)| Cursor {
        value: sort.is_some().then(|| value.clone()),
        id: row.id.clone(),
    });
    Ok(Rows {
        rows: found.into_iter().map(|(row, _)| row).collect(),
        next,
    })
}

/// The field that a query is sorted by.
struct Sort {
    column: String,
    kind: FieldKind,
    descending: bool,
}

/// A statement that is being made.
struct Select {
    conditions: String,
    values: Vec<types::Value>,
    limit: usize,
    skip: u64,
}

impl Select {
    /// The rows that meet a query's filter.
    fn of(query: &Query) -> Self {
        let mut select = Self {
            conditions: String::new(),
            values: Vec::new(),
            limit: 0,
            skip: 0,
        };
        for comparison in &query.filter {
            let column = column(&comparison.field);
            let operator = match (comparison.operator, &comparison.value) {
                (Operator::Equal, Value::Null) => {
                    push(
                        &mut select.conditions,
                        format_args!(" AND {column} IS NULL"),
                    );
                    continue;
                }
                // Null is neither less nor greater than anything, and NULL compared is not true.
                (Operator::Equal, _) => "=",
                (Operator::Less, _) => "<",
                (Operator::AtMost, _) => "<=",
                (Operator::Greater, _) => ">",
                (Operator::AtLeast, _) => ">=",
            };
            push(
                &mut select.conditions,
                format_args!(" AND {column} {operator} ?"),
            );
            select.values.push(value(&comparison.value));
        }
        select
    }

    fn and(mut self, condition: &str, values: Vec<types::Value>) -> Self {
        self.conditions.push_str(condition);
        self.values.extend(values);
        self
    }

    /// The rows with the value that they are sorted by.
    fn run(
        mut self,
        connection: &Connection,
        table: &ViewTable,
        sort: Option<&Sort>,
        order: &str,
    ) -> Result<Vec<(Row, Value)>, Error> {
        const WHAT: &str = "read a page of a view";
        let mut sql = String::from("SELECT id, version, document");
        if let Some(sort) = sort {
            push(&mut sql, format_args!(", {}", sort.column));
        }
        write!(
            sql,
            " FROM {} WHERE document IS NOT NULL{} ORDER BY {order} LIMIT ? OFFSET ?",
            table.name, self.conditions
        )
        .expect("writing to a string can't fail");
        self.values.push(types::Value::Integer(
            i64::try_from(self.limit).unwrap_or(i64::MAX),
        ));
        self.values.push(types::Value::Integer(
            i64::try_from(self.skip).unwrap_or(i64::MAX),
        ));
        let mut statement = connection.prepare_cached(&sql).doing(WHAT)?;
        let mut rows = statement.query(params_from_iter(self.values)).doing(WHAT)?;
        let mut found = Vec::new();
        while let Some(columns) = rows.next().doing(WHAT)? {
            let value = match sort {
                None => Value::Null,
                Some(sort) => sorted_value(sort.kind, columns.get(3).doing(WHAT)?),
            };
            let document: String = columns.get(2).doing(WHAT)?;
            let id: String = columns.get(0).doing(WHAT)?;
            found.push((
                row(table, id, columns.get(1).doing(WHAT)?, &document)?,
                value,
            ));
        }
        Ok(found)
    }
}

fn sorted_value(kind: FieldKind, stored: types::Value) -> Value {
    match (kind, stored) {
        (FieldKind::Boolean, types::Value::Integer(value)) => Value::Boolean(value != 0),
        (_, types::Value::Integer(value)) => Value::Integer(value),
        (_, types::Value::Text(value)) => Value::Text(value),
        _ => Value::Null,
    }
}

fn row(table: &ViewTable, id: String, version: i64, document: &str) -> Result<Row, Error> {
    let broken = |_| damaged(format!("row `{id}` of view `{}`", table.definition.name));
    let document = Json::parse(document).map_err(broken)?;
    Ok(Row {
        version: Position(version.cast_unsigned()),
        document,
        id,
    })
}
