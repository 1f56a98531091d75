//! What is being written, where it is too much for one document: put aside in parts, before the state names them.

use factum_core::Error;
use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    bulk::Written,
    document::{DOCUMENT, MARK},
    index::Index,
    state::Plan,
};

/// The largest plan that stands in the state itself, and the largest part of one that doesn't: with what escaping adds, well
/// below the 100 MB of a request at which clusters refuse to read on.
const PLAN_BYTES_MAX: usize = 8 << 20;

/// The parts of a plan. Their names are made of who made it and where it leads, so that nobody else writes to them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parts {
    maker: u64,
    count: usize,
}

impl Parts {
    fn keys(&self, plan: &Plan) -> impl Iterator<Item = String> {
        let (maker, to) = (self.maker, plan.to);
        (0..self.count).map(move |number| format!("plan-{maker}-{to}-{number}"))
    }
}

/// About as much as a row takes: the document, and of it what is compared.
fn bytes(row: &Written) -> usize {
    let document = row.source.get(DOCUMENT).and_then(Value::as_str);
    512 + 2 * document.map_or(0, str::len)
}

/// Puts a plan aside, if it is too large to stand in the state.
pub(crate) async fn put_aside(index: &Index, maker: u64, plan: &mut Plan) -> Result<(), Error> {
    let mut parts: Vec<&[Written]> = Vec::new();
    let (mut first, mut size) = (0, 0);
    for (number, row) in plan.rows.iter().enumerate() {
        let more = bytes(row);
        if size + more > PLAN_BYTES_MAX && number > first {
            parts.push(&plan.rows[first..number]);
            (first, size) = (number, 0);
        }
        size += more;
    }
    if parts.is_empty() {
        return Ok(());
    }
    parts.push(&plan.rows[first..]);
    let count = parts.len();
    let named = Parts { maker, count };
    for (key, rows) in named.keys(plan).zip(parts) {
        let body = json!({ MARK: rows });
        let path = format!("_doc/{key}?require_alias=true");
        let reply = index.ask(Method::PUT, &path, Some(&body)).await?;
        reply.done(&format!("{index}: putting rows aside"))?;
    }
    plan.parts = Some(named);
    Ok(())
}

/// Reads what was put aside by somebody else.
pub(crate) async fn fetch(index: &Index, plan: &mut Plan) -> Result<(), Error> {
    let Some(parts) = plan.parts.clone().filter(|_| plan.rows.is_empty()) else {
        return Ok(());
    };
    for key in parts.keys(plan).collect::<Vec<_>>() {
        let (_, mark) = index.document(&key).await?.ok_or_else(|| {
            Error::fatal(format!(
                "{index}: `{key}` is gone, with rows that were to be written"
            ))
        })?;
        let rows: Vec<Written> = serde_json::from_value(mark).map_err(|error| {
            Error::fatal(format!("{index}: `{key}` is damaged")).caused_by(error)
        })?;
        plan.rows.extend(rows);
    }
    Ok(())
}

/// Drops what was put aside. What is left of it when that fails goes with the generation.
pub(crate) async fn drop_parts(index: &Index, plan: &Plan) {
    for key in plan.parts.iter().flat_map(|parts| parts.keys(plan)) {
        let dropped = index
            .ask(Method::DELETE, &format!("_doc/{key}"), None)
            .await;
        if let Err(error) = dropped {
            tracing::debug!("{index}: `{key}` stays behind: {error}");
        }
    }
}
