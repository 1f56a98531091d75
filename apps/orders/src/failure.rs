//! Why the program fails, in words for the person who started it, and its exit code.

use std::fmt;

/// Why the program failed.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    code: u8,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self::with_code(1, what)
    }

    /// `error`, in the course of `what`.
    pub(crate) fn while_(what: impl fmt::Display, error: impl fmt::Display) -> Self {
        Self::new(format!("{what}: {error:#}"))
    }

    /// One that has an exit code of its own.
    pub(crate) fn with_code(code: u8, what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            code,
        }
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}
