//! Own SQL: an application's tables beside Factum's, written in the same commit.
//!
//! They live in a schema of their own, `<the store's>_own`, which is the only one that names are looked up in. A commit with
//! own SQL gets a transaction of its own, so that what fails or waits in it does so alone; its statements come first, before
//! the section. What a statement may touch beyond its schema is for the rights of the user to say.

use std::error::Error as StdError;

use bytes::BytesMut;
use factum_core::{Error, SqlValue};
use tokio_postgres::{
    Row,
    types::{Format, IsNull, ToSql, Type, to_sql_checked},
};

use crate::{
    call::Call,
    connection::Connection,
    error::{Doing, Meaning, meaning},
    schema::Schema,
    text::unescape,
};

/// The words that a statement may begin with. All others end the transaction, or reach beyond it.
const BEGINNINGS: &[&str] = &[
    "alter", "comment", "create", "delete", "drop", "insert", "merge", "refresh", "select",
    "truncate", "update", "values", "with",
];

/// Refuses statements that would end the transaction that they are part of, or change the session.
pub(crate) fn check(statement: &str) -> Result<(), Error> {
    let word: String = skip_comments(statement)
        .chars()
        .take_while(char::is_ascii_alphabetic)
        .collect();
    if BEGINNINGS.contains(&&*word.to_ascii_lowercase()) {
        return Ok(());
    }
    Err(Error::poison(format!(
        "own SQL `{}` is refused: it may begin with {} only",
        shown(statement),
        BEGINNINGS.join(", ")
    )))
}

fn skip_comments(mut statement: &str) -> &str {
    loop {
        statement =
            statement.trim_start_matches(|letter: char| letter.is_whitespace() || letter == '(');
        let rest = if let Some(comment) = statement.strip_prefix("--") {
            comment.split_once('\n').map(|(_, rest)| rest)
        } else if let Some(comment) = statement.strip_prefix("/*") {
            comment.split_once("*/").map(|(_, rest)| rest)
        } else {
            return statement;
        };
        statement = rest.unwrap_or_default();
    }
}

/// The beginning of a statement, for people.
pub(crate) fn shown(statement: &str) -> String {
    statement.chars().take(60).collect()
}

/// Lets names be looked up among own tables only, until the transaction ends.
pub(crate) fn confine(schema: &Schema) -> Call {
    Call::new("SELECT set_config('search_path', $1, true)").with(schema.own.clone())
}

/// A statement with its parameters, whose types the server finds out.
pub(crate) fn call(statement: &str, parameters: &[SqlValue]) -> Call {
    let mut call = Call::once(statement.to_string());
    for parameter in parameters {
        call.put_untyped(Given(parameter.clone()));
    }
    call
}

/// What a failed statement of a user's means for its commit.
pub(crate) fn refused(statement: &str, error: tokio_postgres::Error) -> Error {
    match meaning(&error) {
        Meaning::Gone | Meaning::Transient | Meaning::Promoted => {
            Error::transient(format!("own SQL `{}` was given up", shown(statement)))
        }
        Meaning::Stale | Meaning::Refused | Meaning::Fatal => {
            Error::poison(format!("own SQL `{}` failed", shown(statement)))
        }
    }
    .caused_by(error)
}

/// Runs one statement that reads, and returns its rows, at most `limit`.
pub(crate) async fn read(
    connection: &Connection,
    schema: &Schema,
    statement: &str,
    parameters: &[SqlValue],
    limit: usize,
) -> Result<Vec<Vec<SqlValue>>, Error> {
    check(statement)?;
    let calls = [confine(schema), call(statement, parameters)];
    let mut answers = connection
        .transaction("BEGIN READ ONLY", &calls)
        .await
        .map_err(|failure| refused(statement, failure.error))?;
    let rows = answers.pop().unwrap_or_default();
    rows.iter().take(limit).map(values).collect()
}

/// The columns of a row.
fn values(row: &Row) -> Result<Vec<SqlValue>, Error> {
    (0..row.len())
        .map(|index| value(row, index).doing("read own tables"))
        .collect()
}

/// A column as a value. There are no fractions: one is shown as text.
fn value(row: &Row, index: usize) -> Result<SqlValue, tokio_postgres::Error> {
    let of = row.columns()[index].type_();
    let integer = |number: Option<i64>| number.map_or(SqlValue::Null, SqlValue::Integer);
    Ok(if *of == Type::INT2 {
        integer(row.try_get::<_, Option<i16>>(index)?.map(i64::from))
    } else if *of == Type::INT4 {
        integer(row.try_get::<_, Option<i32>>(index)?.map(i64::from))
    } else if *of == Type::INT8 {
        integer(row.try_get(index)?)
    } else if *of == Type::BOOL {
        integer(row.try_get::<_, Option<bool>>(index)?.map(i64::from))
    } else if *of == Type::FLOAT4 {
        row.try_get::<_, Option<f32>>(index)?
            .map_or(SqlValue::Null, |number| SqlValue::Text(number.to_string()))
    } else if *of == Type::FLOAT8 {
        row.try_get::<_, Option<f64>>(index)?
            .map_or(SqlValue::Null, |number| SqlValue::Text(number.to_string()))
    } else if *of == Type::BYTEA {
        row.try_get::<_, Option<Vec<u8>>>(index)?
            .map_or(SqlValue::Null, SqlValue::Bytes)
    } else {
        // Texts, and what says of itself that it is one; for anything else the error names the type, and a cast to text
        // in the statement helps.
        row.try_get::<_, Option<String>>(index)?
            .map_or(SqlValue::Null, |text| SqlValue::Text(unescape(text)))
    })
}

/// A parameter, as text: so that it fits whatever type the server finds for it.
#[derive(Debug)]
struct Given(SqlValue);

impl ToSql for Given {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        let text = match &self.0 {
            SqlValue::Null => return Ok(IsNull::Yes),
            SqlValue::Integer(number) => number.to_string(),
            SqlValue::Text(text) if text.contains('\0') => {
                return Err("PostgreSQL takes no text with NUL".into());
            }
            SqlValue::Text(text) => text.clone(),
            SqlValue::Bytes(bytes) => {
                use std::fmt::Write as _;
                bytes.iter().fold("\\x".to_string(), |mut hex, byte| {
                    write!(hex, "{byte:02x}").expect("writing to a string can't fail");
                    hex
                })
            }
        };
        out.extend_from_slice(text.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_the_transaction_is_refused() {
        for good in [
            "INSERT INTO order_totals VALUES ($1)",
            "  -- a comment\n /* and another */ with a as (select 1) select * from a",
            "(select 1)",
        ] {
            check(good).unwrap();
        }
        for bad in [
            "",
            "COMMIT",
            "rollback",
            "/* */ begin",
            "SET search_path = x",
            "DO $$ $$",
            "call p()",
            "--",
            "/*",
            "lock x",
        ] {
            assert!(check(bad).unwrap_err().is_poison(), "{bad}");
        }
    }
}
