//! Why the program ends with exit code 1, in words for the person who started it.

use std::fmt;

/// Why the program failed.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    /// `error`, in the course of `what`.
    pub(crate) fn while_(what: impl fmt::Display, error: impl fmt::Display) -> Self {
        Self(format!("{what}: {error:#}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
