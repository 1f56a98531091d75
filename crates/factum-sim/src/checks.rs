//! What holds in every history, whatever the application: checked by rules written anew from the protocol's text.
//!
//! Nothing here calls the code that is checked: the fold of a partition, the order of a key, the count of effects are
//! all done again, small and slow. What an application means by its events is its own test's to say.

mod effects;
mod fold;
mod log;
mod projections;
mod publishing;
#[cfg(test)]
mod tests;

use std::fmt;

pub use effects::{Expected, effects};
pub use log::log;
pub use projections::projections;
pub use publishing::publishing;

/// A law that a history breaks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Broken {
    /// The law, in a word or two: the same for all that breaks it.
    pub law: &'static str,
    /// What breaks it.
    pub what: String,
}

impl Broken {
    /// `law` is broken by `what`.
    pub fn new(law: &'static str, what: impl Into<String>) -> Self {
        Self {
            law,
            what: what.into(),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.law, self.what)
    }
}
