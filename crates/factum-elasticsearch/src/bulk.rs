//! Rows on their way to the cluster: in requests of bounded size, and each with an outcome of its own.
//!
//! A row that is there in a newer version is as good as written. One that can't be taken at the moment is given again,
//! alone; one that can never be taken is named.

use bytes::Bytes;
use factum_core::Error;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::{Duration, sleep, timeout};

use crate::client::{Client, Refusal};

/// The largest request, one larger row aside: what Elastic recommends to begin with, and far below the 100 MB at which
/// clusters refuse to read on.
const BULK_BYTES_MAX: usize = 5 << 20;

/// The first wait before rows are given again. It doubles each time.
const BACKOFF_MIN: Duration = Duration::from_millis(50);

/// The longest wait before rows are given again.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// A row as it is to be written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Written {
    /// What the cluster knows it by.
    pub(crate) key: String,
    pub(crate) version: u64,
    pub(crate) source: Map<String, Value>,
}

impl Written {
    fn lines(&self) -> String {
        let action = json!({ "index": {
            // A write at the version that is there is the same write again, or the later of one commit.
            "_id": self.key, "version": self.version, "version_type": "external_gte"
        } });
        let source = serde_json::to_string(&self.source).expect("a map of JSON is JSON");
        format!("{action}\n{source}\n")
    }
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// It is there, or a newer one.
    Written,
    /// It was not taken for a reason that passes.
    Again(String),
    /// There is no such index.
    Gone,
    /// It was not taken, and never will be.
    Refused(StatusCode, Refusal),
}

#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    errors: bool,
    #[serde(default)]
    items: Vec<Map<String, Value>>,
}

/// Writes rows to the index with this alias, until all are there, for as long as `patience`.
///
/// # Errors
///
/// Class conflict when there is no such index; poison when a row can't be taken: all others are written then.
/// Transient or unknown: some are written.
pub(crate) async fn write(
    client: &Client,
    alias: &str,
    rows: &[Written],
    patience: Duration,
) -> Result<(), Error> {
    let mut reason = String::new();
    let written = timeout(patience, write_all(client, alias, rows, &mut reason)).await;
    written.unwrap_or_else(|_| {
        Err(Error::unknown(format!(
            "the search cluster did not take all rows within {patience:?}: {reason}"
        )))
    })
}

async fn write_all(
    client: &Client,
    alias: &str,
    rows: &[Written],
    reason: &mut String,
) -> Result<(), Error> {
    let mut refused = None;
    for batch in batches(rows.iter().map(|row| (row, row.lines()))) {
        let (mut waiting, mut backoff) = (batch, BACKOFF_MIN);
        loop {
            let mut again = Vec::new();
            let outcomes = send(client, alias, &waiting).await?;
            for ((row, lines), outcome) in waiting.into_iter().zip(outcomes) {
                match outcome {
                    Outcome::Written => {}
                    Outcome::Again(why) => {
                        *reason = why;
                        again.push((row, lines));
                    }
                    Outcome::Gone => return Err(gone()),
                    Outcome::Refused(status, refusal) => {
                        let id = row.source.get("id").and_then(Value::as_str);
                        let id: String = id.unwrap_or_default().chars().take(60).collect();
                        refused
                            .get_or_insert_with(|| refusal.error(status, &format!("row `{id}`")));
                    }
                }
            }
            if again.is_empty() {
                break;
            }
            tracing::debug!(
                "the search cluster takes {} rows later: {reason}",
                again.len()
            );
            sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
            waiting = again;
        }
    }
    refused.map_or(Ok(()), Err)
}

/// Why nothing is written or read any more.
pub(crate) fn gone() -> Error {
    Error::conflict("these rows are gone from the search cluster, or were never there")
}

/// Rows with their lines, in batches of bounded size.
fn batches<'a>(
    rows: impl Iterator<Item = (&'a Written, String)>,
) -> Vec<Vec<(&'a Written, String)>> {
    let mut batches: Vec<Vec<_>> = Vec::new();
    let mut bytes = usize::MAX;
    for (row, lines) in rows {
        let length = lines.len();
        match batches.last_mut() {
            Some(batch) if bytes.saturating_add(length) <= BULK_BYTES_MAX => {
                batch.push((row, lines));
                bytes += length;
            }
            _ => {
                batches.push(vec![(row, lines)]);
                bytes = length;
            }
        }
    }
    batches
}

/// Sends one request, and says what became of each row.
async fn send(
    client: &Client,
    alias: &str,
    rows: &[(&Written, String)],
) -> Result<Vec<Outcome>, Error> {
    let path = format!(
        "/{alias}/_bulk?require_alias=true&filter_path=errors,items.*.status,items.*.error"
    );
    let lines: String = rows.iter().map(|(_, lines)| lines.as_str()).collect();
    let reply = client.ask_lines(&path, Bytes::from(lines)).await?;
    if !reply.status.is_success() {
        let outcome = outcome(reply.status, reply.refusal());
        return Ok(vec![outcome; rows.len()]);
    }
    let answer: Answer = reply.parse("writing rows")?;
    if !answer.errors {
        return Ok(vec![Outcome::Written; rows.len()]);
    }
    if answer.items.len() != rows.len() {
        return Err(Error::unknown(
            "the search cluster did not say what became of each row",
        ));
    }
    let items = answer.items.iter().map(|item| {
        let item = item.values().next().unwrap_or(&Value::Null);
        let status = item["status"]
            .as_u64()
            .and_then(|status| u16::try_from(status).ok());
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        outcome(
            status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            Refusal::read(&item["error"]),
        )
    });
    Ok(items.collect())
}

fn outcome(status: StatusCode, refusal: Refusal) -> Outcome {
    if status.is_success() || refusal.kind == "version_conflict_engine_exception" {
        return Outcome::Written;
    }
    if refusal.kind == "index_not_found_exception" {
        return Outcome::Gone;
    }
    if refusal.passes(status) {
        return Outcome::Again(refusal.error(status, "writing rows").to_string());
    }
    Outcome::Refused(status, refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_an_outcome_of_its_own() {
        let item = |status: u16, kind: &str| {
            let error = json!({ "type": kind, "reason": "" });
            outcome(StatusCode::from_u16(status).unwrap(), Refusal::read(&error))
        };
        assert_eq!(
            item(409, "version_conflict_engine_exception"),
            Outcome::Written
        );
        assert_eq!(item(201, ""), Outcome::Written);
        assert_eq!(item(404, "index_not_found_exception"), Outcome::Gone);
        for (status, kind) in [
            (429, "es_rejected_execution_exception"),
            (429, "rejected_execution_exception"),
            (503, "unavailable_shards_exception"),
            (403, "cluster_block_exception"),
        ] {
            assert!(matches!(item(status, kind), Outcome::Again(_)), "{kind}");
        }
        for (status, kind) in [
            (400, "mapper_parsing_exception"),
            (400, "strict_dynamic_mapping_exception"),
            (403, "security_exception"),
        ] {
            assert!(matches!(item(status, kind), Outcome::Refused(..)), "{kind}");
        }
    }

    #[test]
    fn requests_have_a_largest_size() {
        let row = Written {
            key: "r".into(),
            version: 1,
            source: Map::new(),
        };
        let lengths = [BULK_BYTES_MAX - 10, 10, 1, BULK_BYTES_MAX + 1, 1];
        let rows = lengths.map(|length| (&row, "x".repeat(length)));
        let batches = batches(rows.into_iter());
        let shape: Vec<_> = batches.iter().map(Vec::len).collect();
        assert_eq!(shape, [2, 1, 1, 1]);
    }
}
