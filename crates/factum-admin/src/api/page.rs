//! What many requests have in common: how many, from where on, and why.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::web::Problem;
pub(crate) use crate::web::reason;

/// How many a page has, unless asked for otherwise.
const LIMIT: usize = 100;
/// How many a page has at most.
pub(crate) const LIMIT_MAX: usize = 500;

/// The size of a page that was asked for.
pub(crate) fn limit(asked: Option<u64>) -> Result<usize, Problem> {
    match asked.map(usize::try_from) {
        None => Ok(LIMIT),
        Some(Ok(asked)) if (1..=LIMIT_MAX).contains(&asked) => Ok(asked),
        Some(_) => Err(Problem::invalid("the page can't be that large")
            .field("limit", format!("must be from 1 to {LIMIT_MAX}"))),
    }
}

/// Why an operator does something.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Why {
    /// Why, for the audit record.
    #[serde(default)]
    pub(crate) reason: Option<String>,
}

/// A reason where there has to be one.
pub(crate) fn needed_reason(given: Option<String>) -> Result<String, Problem> {
    match reason(given)? {
        Some(reason) if !reason.trim().is_empty() => Ok(reason),
        _ => Err(
            Problem::invalid("this needs a reason, for the audit record")
                .field("reason", "is missing: say why this is right"),
        ),
    }
}
