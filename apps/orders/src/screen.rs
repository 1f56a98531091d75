//! The screen: what the program says to the person in front of it.

use std::io::{self, Write};

/// Standard output and standard error. A reader that goes away (`orders demo | head`) is no failure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen;

impl Screen {
    /// A line on standard output.
    pub(crate) fn say(line: &str) {
        let mut out = io::stdout().lock();
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            // Nobody reads any more.
        }
    }

    /// What went wrong, on standard error.
    pub(crate) fn error(what: &str) {
        let mut err = io::stderr().lock();
        if writeln!(err, "error: {what}").is_err() {
            // Nobody reads any more.
        }
    }
}
