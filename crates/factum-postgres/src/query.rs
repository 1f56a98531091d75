//! Queries of views as SQL.
//!
//! Order is by the bytes of UTF-8 (the collation `C`), nulls last in both directions, ties by id. A page by cursor is two
//! ranges of an index, the rows with a value and behind them those without; a page by number counts rows from the start,
//! which is why numbers have a bound.

use factum_core::{
    Cursor, Error, FieldKind, Json, Operator, Page, Position, Query, Row, Rows, Value,
};
use tokio_postgres::Row as Columns;

use crate::{
    call::Call,
    error::{column as read, damaged},
    number::{rows as bound, signed},
    text::{escape, unescape},
    view_table::{ViewTable, column, indexed, push},
};

/// Asks for one row.
pub(crate) fn get(table: &ViewTable, id: &str) -> Call {
    Call::new(format!(
        "SELECT id, version, document FROM {} WHERE id = $1 AND document IS NOT NULL",
        table.name
    ))
    .with(escape(id).into_owned())
}

/// The row that [`get`] asked for.
pub(crate) fn row(table: &ViewTable, columns: &Columns) -> Result<Row, Error> {
    let id = unescape(read(columns, 0)?);
    let document: String = read(columns, 2)?;
    let broken = |_| damaged(format!("row `{id}` of view `{}`", table.definition.name));
    Ok(Row {
        version: Position(read::<i64>(columns, 1)?.cast_unsigned()),
        document: Json::parse(&document).map_err(broken)?,
        id,
    })
}

/// Asks how many rows meet the query's filter, counting no further than `cap`.
pub(crate) fn count(table: &ViewTable, query: &Query, cap: u64) -> Call {
    let mut select = Select::of(query, table);
    let number = select.call.put(signed(cap.min(i64::MAX.cast_unsigned())));
    select.call.sql = format!(
        "SELECT count(*) FROM (SELECT 1 FROM {} WHERE document IS NOT NULL{} LIMIT ${number}) counted",
        table.name, select.conditions
    )
    .into();
    select.call
}

/// What makes a page: one statement, or two ranges of which the second is needed when the first is too short.
pub(crate) fn page(table: &ViewTable, query: &Query) -> Result<Vec<Call>, Error> {
    // One more than asked for, to know whether there is a next page.
    let limit = query.limit as usize + 1;
    let skip = match &query.page {
        Page::Number(number) => u64::from(number - 1) * u64::from(query.limit),
        Page::After(_) => 0,
    };
    let Some((field, descending)) = &query.sort else {
        let mut select = Select::of(query, table);
        if let Page::After(cursor) = &query.page {
            let id = select.call.put(escape(&cursor.id).into_owned());
            push(&mut select.conditions, format_args!(" AND id > ${id}"));
        }
        return Ok(vec![select.end(table, None, "id", limit, skip)]);
    };
    let sorted = column(field);
    let kind = table.definition.declared(field)?;
    let (than, direction) = if *descending {
        ("<", " DESC")
    } else {
        (">", "")
    };
    // By what is in the index first, so that the rest is sorted among few.
    let by = |nulls: &str| match kind {
        FieldKind::Text => {
            let beginning = indexed(&sorted, kind);
            format!("{beginning}{direction}{nulls}, {sorted}{direction}{nulls}, id{direction}")
        }
        FieldKind::Integer | FieldKind::Boolean => {
            format!("{sorted}{direction}{nulls}, id{direction}")
        }
    };
    let without = format!("id{direction}");
    let cursor = match &query.page {
        Page::Number(_) => {
            let select = Select::of(query, table);
            return Ok(vec![select.end(
                table,
                Some(&sorted),
                &by(" NULLS LAST"),
                limit,
                skip,
            )]);
        }
        Page::After(cursor) => cursor,
    };
    let mut nulls = Select::of(query, table);
    push(&mut nulls.conditions, format_args!(" AND {sorted} IS NULL"));
    match &cursor.value {
        None | Some(Value::Null) => {
            let id = nulls.call.put(escape(&cursor.id).into_owned());
            push(&mut nulls.conditions, format_args!(" AND id {than} ${id}"));
            Ok(vec![nulls.end(table, Some(&sorted), &without, limit, 0)])
        }
        Some(last) => {
            if !last.is(kind) {
                return Err(Error::poison(format!(
                    "view `{}`: the cursor is of a query with another order",
                    table.definition.name
                )));
            }
            let mut values = Select::of(query, table);
            let value = put(&mut values.call, last);
            let id = values.call.put(escape(&cursor.id).into_owned());
            push(
                &mut values.conditions,
                format_args!(" AND ({sorted}, id) {than} (${value}, ${id})"),
            );
            if kind == FieldKind::Text {
                let (beginning, given) =
                    (indexed(&sorted, kind), indexed(&format!("${value}"), kind));
                push(
                    &mut values.conditions,
                    format_args!(" AND {beginning} {than}= {given}"),
                );
            }
            Ok(vec![
                values.end(table, Some(&sorted), &by(""), limit, 0),
                nulls.end(table, Some(&sorted), &without, limit, 0),
            ])
        }
    }
}

/// The page that the statements of [`page`] led to.
pub(crate) fn page_of(
    table: &ViewTable,
    query: &Query,
    found: impl Iterator<Item = Columns>,
) -> Result<Rows, Error> {
    let kind = query
        .sort
        .as_ref()
        .and_then(|(field, _)| table.definition.kind(field));
    let mut rows = Vec::new();
    let mut more = false;
    let mut last = Value::Null;
    for columns in found {
        if rows.len() >= query.limit as usize {
            more = true;
            break;
        }
        last = match kind {
            None => Value::Null,
            Some(kind) => sorted_value(kind, &columns)?,
        };
        rows.push(row(table, &columns)?);
    }
    let next = rows.last().filter(|_| more).map(|row| Cursor {
        value: kind.is_some().then_some(last),
        id: row.id.clone(),
    });
    Ok(Rows { rows, next })
}

fn sorted_value(kind: FieldKind, columns: &Columns) -> Result<Value, Error> {
    Ok(match kind {
        FieldKind::Text => {
            read::<Option<String>>(columns, 3)?.map(|text| Value::Text(unescape(text)))
        }
        FieldKind::Integer => read::<Option<i64>>(columns, 3)?.map(Value::Integer),
        FieldKind::Boolean => read::<Option<bool>>(columns, 3)?.map(Value::Boolean),
    }
    .unwrap_or(Value::Null))
}

/// Adds a value that is not null, and says its number.
fn put(call: &mut Call, value: &Value) -> usize {
    match value {
        Value::Boolean(value) => call.put(*value),
        Value::Integer(number) => call.put(*number),
        Value::Text(text) => call.put(escape(text).into_owned()),
        Value::Null => call.put(None::<String>),
    }
}

/// A statement that is being made.
struct Select {
    conditions: String,
    call: Call,
}

impl Select {
    /// The rows that meet a query's filter.
    fn of(query: &Query, table: &ViewTable) -> Self {
        let mut select = Self {
            conditions: String::new(),
            call: Call::once(""),
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
                // Null is neither less nor greater than anything.
                (_, Value::Null) => {
                    select.conditions.push_str(" AND false");
                    continue;
                }
                (Operator::Equal, _) => "=",
                (Operator::Less, _) => "<",
                (Operator::AtMost, _) => "<=",
                (Operator::Greater, _) => ">",
                (Operator::AtLeast, _) => ">=",
            };
            let number = put(&mut select.call, &comparison.value);
            push(
                &mut select.conditions,
                format_args!(" AND {column} {operator} ${number}"),
            );
            if let Some(kind @ FieldKind::Text) = table.definition.kind(&comparison.field) {
                // The same of what is in an index, which may hold where the whole does not.
                let operator = match operator {
                    "<" => "<=",
                    ">" => ">=",
                    other => other,
                };
                let (beginning, given) =
                    (indexed(&column, kind), indexed(&format!("${number}"), kind));
                push(
                    &mut select.conditions,
                    format_args!(" AND {beginning} {operator} {given}"),
                );
            }
        }
        select
    }

    fn end(
        mut self,
        table: &ViewTable,
        sorted: Option<&str>,
        order: &str,
        limit: usize,
        skip: u64,
    ) -> Call {
        let (limit, skip) = (self.call.put(bound(limit)), self.call.put(signed(skip)));
        let sorted = sorted.map_or_else(String::new, |column| format!(", {column}"));
        self.call.sql = format!(
            "SELECT id, version, document{sorted} FROM {} WHERE document IS NOT NULL{} ORDER BY {order} \
             LIMIT ${limit} OFFSET ${skip}",
            table.name, self.conditions
        )
        .into();
        self.call
    }
}
