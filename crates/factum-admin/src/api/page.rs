//! What many requests have in common: how many, from where on, and why.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::web::Problem;

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

/// The longest reason, in characters: the audit record is kept for ever.
const REASON_CHARS_MAX: usize = 2_000;

/// A reason within its bound.
pub(crate) fn reason(given: Option<String>) -> Result<Option<String>, Problem> {
    match given {
        Some(reason) if reason.chars().count() > REASON_CHARS_MAX => {
            Err(Problem::invalid("the reason is too long").field(
                "reason",
                format!("must have at most {REASON_CHARS_MAX} characters"),
            ))
        }
        given => Ok(given),
    }
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
