//! Names: short, printable texts that identify a thing for ever (a category, a topic, a group).
//!
//! A name can't be empty, is at most [`NAME_BYTES_MAX`] bytes long and is made of letters, digits,
//! `.`, `_` and `-`, which is what Kafka allows for a topic. So no adapter escapes or checks again.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// The longest name, in bytes: Kafka's bound for a topic.
pub const NAME_BYTES_MAX: usize = 249;

/// A text that can't be a name, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` can't be a {kind}: {kind}s are 1 to {NAME_BYTES_MAX} letters, digits, `.`, `_` or `-`"
)]
pub struct InvalidName {
    kind: &'static str,
    text: String,
}

fn validate(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(allowed)
        && text != "."
        && text != ".."
    {
        return Ok(());
    }
    let mut text: String = text.chars().take(60).collect();
    if text.is_empty() {
        text.push_str("(empty)");
    }
    Err(InvalidName { kind, text })
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name `text`.
            ///
            /// # Errors
            ///
            /// [`InvalidName`] when `text` is empty, too long or has a character that names don't have.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidName> {
                let text = text.as_ref();
                validate($kind, text)?;
                Ok(Self(text.into()))
            }

            /// The name `text`, which is written in the program.
            ///
            /// # Panics
            ///
            /// When `text` is not a name: a mistake in the program, found at its start.
            #[must_use]
            #[track_caller]
            pub fn of(text: &'static str) -> Self {
                match Self::new(text) {
                    Ok(name) => name,
                    Err(error) => panic!("{error}"),
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().into()
            }
        }
    };
}

name!(
    /// What kind of aggregate a stream belongs to, such as `order`.
    Category,
    "category"
);
name!(
    /// A topic, with Kafka's meaning.
    Topic,
    "topic"
);
name!(
    /// A consumer group: the unit of inbox, retry and parking.
    Group,
    "group"
);
name!(
    /// A handler within a group or projection. Idempotency keys for the outside world are made of it.
    HandlerName,
    "handler name"
);
name!(
    /// A projection: the code that keeps views.
    ProjectionName,
    "projection"
);
name!(
    /// A view: the rows that a projection keeps.
    ViewName,
    "view"
);
name!(
    /// A service: the owner of one store.
    ServiceName,
    "service"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_kafka_allows_for_a_topic() {
        assert!(Topic::new("orders.v1_x-Y9").is_ok());
        for bad in ["", ".", "..", "a/b", "a b", "주문", "a\0", &"x".repeat(250)] {
            assert!(Topic::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_invalid_name_says_what_would_be_right() {
        assert_eq!(
            Group::new("a b").unwrap_err().to_string(),
            "`a b` can't be a group: groups are 1 to 249 letters, digits, `.`, `_` or `-`"
        );
    }

    #[test]
    fn serde_refuses_what_new_refuses() {
        assert!(serde_json::from_str::<Topic>("\"a b\"").is_err());
        assert_eq!(
            serde_json::to_string(&Topic::of("orders")).unwrap(),
            "\"orders\""
        );
    }
}
