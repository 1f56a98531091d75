//! Streams: one aggregate's events, and what a writer expects to find there.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{Category, Version};

/// The longest id within a category, in bytes.
pub const STREAM_ID_BYTES_MAX: usize = 512;

/// The name of one aggregate's stream: a category and an id within it.
///
/// ```
/// use factum_core::{Category, StreamId};
/// let stream = StreamId::new(Category::of("order"), "4711").unwrap();
/// assert_eq!(stream.to_string(), "order/4711");
/// assert_eq!("order/4711".parse(), Ok(stream));
/// assert!(StreamId::new(Category::of("order"), "").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamId {
    category: Category,
    id: Arc<str>,
}

/// A text that can't name a stream, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStreamId {
    /// The id is empty, too long or has control characters.
    #[error(
        "`{0}` can't be the id of a stream: ids are 1 to {STREAM_ID_BYTES_MAX} bytes without control characters"
    )]
    Id(String),
    /// The text is not `<category>/<id>`.
    #[error("`{0}` does not name a stream: that is `<category>/<id>`")]
    Text(String),
}

impl StreamId {
    /// The stream of `id` in `category`.
    ///
    /// # Errors
    ///
    /// [`InvalidStreamId::Id`] when `id` is empty, longer than [`STREAM_ID_BYTES_MAX`] bytes or has
    /// control characters. Everything else is allowed, and kept as it is.
    pub fn new(category: Category, id: impl AsRef<str>) -> Result<Self, InvalidStreamId> {
        let id = id.as_ref();
        if id.is_empty() || id.len() > STREAM_ID_BYTES_MAX || id.chars().any(char::is_control) {
            let shown = id
                .chars()
                .take(60)
                .map(|c| if c.is_control() { '?' } else { c });
            return Err(InvalidStreamId::Id(shown.collect()));
        }
        Ok(Self {
            category,
            id: id.into(),
        })
    }

    /// What kind of aggregate it is.
    pub fn category(&self) -> &Category {
        &self.category
    }

    /// Which aggregate of its category.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.category, self.id)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for StreamId {
    type Err = InvalidStreamId;
    fn from_str(text: &str) -> Result<Self, InvalidStreamId> {
        let invalid = || InvalidStreamId::Text(text.chars().take(60).collect());
        let (category, id) = text.split_once('/').ok_or_else(invalid)?;
        Self::new(Category::new(category).map_err(|_| invalid())?, id)
    }
}

impl TryFrom<String> for StreamId {
    type Error = InvalidStreamId;
    fn try_from(text: String) -> Result<Self, InvalidStreamId> {
        text.parse()
    }
}

impl From<StreamId> for String {
    fn from(stream: StreamId) -> Self {
        stream.to_string()
    }
}

/// What names an aggregate whose ids are `Id`s: such an id, or a text that becomes one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name an aggregate whose ids are `{Id}`",
    note = "give `&{Id}`, or a text if `{Id}` is made from one (`From<&str>`)"
)]
pub trait ToId<Id> {
    /// The id as its stream is called by it.
    fn to_id(self) -> String;
}

impl<Id: fmt::Display> ToId<Id> for &Id {
    fn to_id(self) -> String {
        self.to_string()
    }
}

impl<Id: fmt::Display + for<'a> From<&'a str>> ToId<Id> for &str {
    fn to_id(self) -> String {
        Id::from(self).to_string()
    }
}

/// What a writer expects of a stream, checked when its commit is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExpectedVersion {
    /// Nothing: append behind whatever is there.
    Any,
    /// The stream has no events.
    NoStream,
    /// The stream's last event has this version; `Exact(0)` is [`ExpectedVersion::NoStream`].
    Exact(Version),
    /// The stream has at least one event.
    Exists,
}

impl ExpectedVersion {
    /// Whether a stream at version `actual` is what was expected.
    pub fn allows(self, actual: Version) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => actual == Version::ZERO,
            Self::Exact(expected) => actual == expected,
            Self::Exists => actual > Version::ZERO,
        }
    }
}

impl fmt::Display for ExpectedVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any version"),
            Self::NoStream => f.write_str("no stream"),
            Self::Exact(version) => write!(f, "version {version}"),
            Self::Exists => f.write_str("an existing stream"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_ids_are_refused_or_kept_as_they_are() {
        let order = || Category::of("order");
        for bad in ["", "a\0b", "line\nbreak", &"x".repeat(513)] {
            assert!(StreamId::new(order(), bad).is_err(), "{bad:?}");
        }
        for odd in ["../etc", "a/b", "\u{202e}abc", "주문 1"] {
            let stream = StreamId::new(order(), odd).unwrap();
            assert_eq!(stream.to_string().parse(), Ok(stream));
        }
    }

    #[test]
    fn expectations_meet_versions() {
        use ExpectedVersion::{Any, Exact, Exists, NoStream};
        let allowed = |version: u64| {
            [Any, NoStream, Exact(Version(1)), Exists].map(|e| e.allows(Version(version)))
        };
        assert_eq!(allowed(0), [true, true, false, false]);
        assert_eq!(allowed(1), [true, false, true, true]);
        assert_eq!(allowed(2), [true, false, false, true]);
    }
}
