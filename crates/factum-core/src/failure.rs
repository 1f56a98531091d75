//! How a handler fails, and what is done about it: nothing is skipped in silence.

use std::{error::Error as StdError, fmt};

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorClass, wire::WireError};

/// What kind of failure a handler met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// It may work later: a service that doesn't answer, a fact that isn't known yet.
    Transient,
    /// It never will, as the message is: not decodable, breaks a rule.
    Poison,
    /// A command that the handler gave was rejected by its aggregate.
    Rejected,
    /// The handler panicked.
    Panic,
    /// The process died while it handled the message, more often than is allowed.
    Crash,
}

impl FailureClass {
    /// All classes.
    pub const ALL: [Self; 5] = [
        Self::Transient,
        Self::Poison,
        Self::Rejected,
        Self::Panic,
        Self::Crash,
    ];

    /// The class as it stands in stores and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Poison => "poison",
            Self::Rejected => "rejected",
            Self::Panic => "panic",
            Self::Crash => "crash",
        }
    }

    /// The class that [`FailureClass::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == text)
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is done about a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Try again by the group's policy, then dead letter. The default.
    Retry,
    /// Park it as dead at once; its key waits behind it.
    DeadLetter,
    /// Leave it out, for this reason, which is recorded.
    Skip(String),
    /// Stop the consumer and wait for a person.
    Stop,
}

/// A failure of a handler: what happened, of which kind, and what to do about it.
///
/// Any error becomes a transient one by `?`; say [`Failure::poison`] when trying again is useless.
///
/// ```
/// use factum_core::{Failure, FailureClass, Outcome};
/// fn parse(text: &str) -> Result<u32, Failure> {
///     text.parse().map_err(|error| Failure::poison(format!("`{text}` is not a number")).caused_by(&error))
/// }
/// let failure = parse("x").unwrap_err();
/// assert_eq!(failure.class(), FailureClass::Poison);
/// assert_eq!(*failure.outcome(), Outcome::Retry); // the policy gives poison no retries, so: dead letter
/// assert_eq!(failure.to_string(), "`x` is not a number: invalid digit found in string");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    class: FailureClass,
    message: String,
    outcome: Outcome,
}

impl Failure {
    /// A failure of `class`, treated as the group's policy says.
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            outcome: Outcome::Retry,
        }
    }

    /// A failure that may pass.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Transient, message)
    }

    /// A failure that will not pass.
    pub fn poison(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Poison, message)
    }

    /// Leave the message out, for this reason, which is recorded.
    pub fn skip(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self {
            outcome: Outcome::Skip(reason.clone()),
            ..Self::poison(reason)
        }
    }

    /// Stop the consumer and wait for a person.
    pub fn stop(message: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Stop,
            ..Self::transient(message)
        }
    }

    /// Park the message as dead at once.
    pub fn dead_letter(message: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::DeadLetter,
            ..Self::poison(message)
        }
    }

    /// The same failure, parked as dead at once.
    #[must_use]
    pub fn into_dead_letter(mut self) -> Self {
        self.outcome = Outcome::DeadLetter;
        self
    }

    /// The same failure, with the chain of its causes in the message.
    #[must_use]
    pub fn caused_by(mut self, error: &dyn StdError) -> Self {
        self.message = format!("{}: {}", self.message, chain(error));
        self
    }

    /// What kind of failure it is.
    pub fn class(&self) -> FailureClass {
        self.class
    }

    /// What to do about it.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// What happened.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What failures of one cause have in common: the class and the message without numbers,
    /// quoted parts and ids, so that a thousand dead letters are one line to an operator.
    pub fn cause(class: FailureClass, message: &str) -> String {
        let mut cause = format!("{class}: ");
        let mut quote = None;
        for word in message.split_inclusive(|c: char| c.is_whitespace() || c == '`') {
            let ends_quote = word.ends_with('`');
            if quote.is_some() {
                if ends_quote {
                    cause.push_str("…`");
                    quote = None;
                }
                continue;
            }
            if word.chars().any(|c| c.is_ascii_digit()) {
                cause.push('#');
                cause.extend(
                    word.chars()
                        .rev()
                        .take_while(|c| !c.is_alphanumeric())
                        .collect::<Vec<_>>()
                        .into_iter()
                        .rev(),
                );
            } else {
                cause.push_str(word);
            }
            if ends_quote {
                quote = Some(());
            }
        }
        cause.truncate(
            cause
                .char_indices()
                .nth(CAUSE_CHARS_MAX)
                .map_or(cause.len(), |(at, _)| at),
        );
        cause
    }
}

/// The longest cause, in characters: it is a label for people, not the message itself.
const CAUSE_CHARS_MAX: usize = 200;

fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Any error is transient unless it says otherwise; a port's error of class poison is poison, and so is a
/// message that can't be read.
impl<E: StdError + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let any = &error as &dyn std::any::Any;
        let poison = any.is::<WireError>()
            || any
                .downcast_ref::<Error>()
                .is_some_and(|error| error.class() == ErrorClass::Poison);
        let class = if poison {
            FailureClass::Poison
        } else {
            FailureClass::Transient
        };
        Self::new(class, chain(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_one_cause_look_alike() {
        let cause = |message| Failure::cause(FailureClass::Poison, message);
        assert_eq!(
            cause("field `a b` of order 17 is missing"),
            cause("field `c` of order 4711 is missing")
        );
        assert_eq!(
            cause("field `a` of order 17 is missing"),
            "poison: field `…` of order # is missing"
        );
        assert_ne!(cause("gateway down"), cause("gateway up"));
        assert!(cause(&"long ".repeat(1000)).chars().count() <= CAUSE_CHARS_MAX);
    }

    #[test]
    fn classes_read_back_as_written() {
        assert_eq!(FailureClass::parse("panic"), Some(FailureClass::Panic));
        assert_eq!(FailureClass::parse("odd"), None);
    }
}
