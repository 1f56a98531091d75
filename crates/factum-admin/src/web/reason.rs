//! Reasons: why somebody did something, for the audit record.

use super::Problem;

/// The longest reason, in characters: the audit record is kept for ever.
pub const REASON_CHARS_MAX: usize = 2_000;

/// A reason within its bound.
///
/// # Errors
///
/// Names the field `reason` when it is longer.
pub fn reason(given: Option<String>) -> Result<Option<String>, Problem> {
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
