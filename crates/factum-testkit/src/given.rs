//! Given, when, then: tests of aggregates, reactors and projections that read as what they say.
//!
//! * [`given`] starts with what happened to an aggregate, gives it commands, and looks at what it decides.
//! * [`given_event`] gives an event to a reactor, and looks at what shall happen because of it.
//! * [`project`] gives events to a projection, and looks at its rows.
//!
//! Everything passes through what is stored: each event is encoded, read back and compared, so that one that
//! changes on the way is found here and not in production. Nothing waits, spawns or looks at a clock; the same
//! test says the same each time.
//!
//! A failed expectation panics at the line of the test that states it, with what was expected, what came, and the
//! story so far.

#![expect(
    clippy::return_self_not_must_use,
    reason = "a chain of expectations may end with any of them"
)]

mod aggregate;
mod block_on;
mod diff;
mod projection;
mod reactor;
mod stored;

pub use aggregate::{Decided, Given, given, given_stored};
pub use projection::{Projected, project};
pub use reactor::{GivenEvent, Reacted, given_event, given_stored_event, when_event};

/// What the test kit says when `test` fails.
#[cfg(test)]
fn failure_of(test: impl FnOnce()) -> String {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test));
    let told = caught.expect_err("the test should have failed");
    told.downcast_ref::<String>().cloned().unwrap_or_default()
}
