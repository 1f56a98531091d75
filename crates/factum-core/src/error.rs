//! What can go wrong behind a port, sorted by what the caller should do about it.

use std::{error::Error as StdError, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// What a caller should do about an error. Every adapter MUST sort its errors by these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// Somebody else was first. Read again and decide again.
    Conflict,
    /// The caller is no longer the owner. Drop what it held in memory; claim again if still assigned.
    Fenced,
    /// It may have happened or not. Send the very same again; never conclude "it didn't" from a look-up.
    Unknown,
    /// It did not happen, and may work later: retry with backoff.
    Transient,
    /// It did not happen, and never will as it is: the input is bad.
    Poison,
    /// Nothing more should be tried: stop, and say why.
    Fatal,
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Conflict => "conflict",
            Self::Fenced => "fenced",
            Self::Unknown => "unknown",
            Self::Transient => "transient",
            Self::Poison => "poison",
            Self::Fatal => "fatal",
        })
    }
}

/// An error of a port: its class, what was being done, and what caused it. Cheap to clone.
#[derive(Clone)]
pub struct Error {
    class: ErrorClass,
    message: Arc<str>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

macro_rules! class {
    ($(#[$doc:meta])* $new:ident, $is:ident, $class:ident) => {
        $(#[$doc])*
        pub fn $new(message: impl Into<Arc<str>>) -> Self {
            Self { class: ErrorClass::$class, message: message.into(), source: None }
        }

        #[doc = concat!("Whether the class is [`ErrorClass::", stringify!($class), "`].")]
        pub fn $is(&self) -> bool {
            self.class == ErrorClass::$class
        }
    };
}

impl Error {
    class!(
        /// An error of class [`ErrorClass::Conflict`].
        conflict, is_conflict, Conflict
    );
    class!(
        /// An error of class [`ErrorClass::Fenced`].
        fenced, is_fenced, Fenced
    );
    class!(
        /// An error of class [`ErrorClass::Unknown`].
        unknown, is_unknown, Unknown
    );
    class!(
        /// An error of class [`ErrorClass::Transient`].
        transient, is_transient, Transient
    );
    class!(
        /// An error of class [`ErrorClass::Poison`].
        poison, is_poison, Poison
    );
    class!(
        /// An error of class [`ErrorClass::Fatal`].
        fatal, is_fatal, Fatal
    );

    /// This error, caused by `source`.
    #[must_use]
    pub fn caused_by(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// This error of the same class, in the course of `what`: `<what>: <the message before>`.
    #[must_use]
    pub fn while_(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message).into();
        self
    }

    /// What to do about it.
    pub fn class(&self) -> ErrorClass {
        self.class
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        // `{:#}` prints the whole chain, as operators want it in a log line.
        if f.alternate() {
            let mut source = self.source();
            while let Some(error) = source {
                write!(f, ": {error}")?;
                source = error.source();
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self:#}", self.class)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_ref()
            .map(|source| source.as_ref() as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_was_done_and_why_it_failed() {
        let error = Error::transient("failed to open `a.db`")
            .caused_by(std::io::Error::other("disk is asleep"))
            .while_("starting service `order`");
        assert!(error.is_transient());
        assert_eq!(
            error.to_string(),
            "starting service `order`: failed to open `a.db`"
        );
        assert_eq!(
            format!("{error:#}"),
            "starting service `order`: failed to open `a.db`: disk is asleep"
        );
    }
}
