//! Why a run of the benchmark came to nothing.

use std::fmt;

/// A failure in words, for the person who runs the benchmark.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    /// A failure that is said like this.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    /// What went wrong while something was done.
    pub(crate) fn while_(doing: impl fmt::Display, error: impl fmt::Display) -> Self {
        Self(format!("{doing}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<factum::Error> for Failure {
    fn from(error: factum::Error) -> Self {
        Self(format!("{error:#}"))
    }
}
