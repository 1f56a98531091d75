//! Messages, as a broker keeps them.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{Key, Timestamp, Topic};

/// A message's headers: names and bytes, in order; a name may come twice.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Headers(Vec<(Arc<str>, Bytes)>);

impl Headers {
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a header behind the others.
    pub fn push(&mut self, name: impl Into<Arc<str>>, value: impl Into<Bytes>) {
        self.0.push((name.into(), value.into()));
    }

    /// The value of the last header of this name, which is the one that counts in Kafka.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0
            .iter()
            .rev()
            .find(|(known, _)| &**known == name)
            .map(|(_, value)| &**value)
    }

    /// The value of the last header of this name, when it is UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| str::from_utf8(value).ok())
    }

    /// All headers, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Bytes)> + '_ {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// How many headers there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self
            .0
            .iter()
            .map(|(name, value)| (name, value.escape_ascii().to_string()));
        f.debug_map().entries(shown).finish()
    }
}

impl<N: Into<Arc<str>>, V: Into<Bytes>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        Self(
            headers
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

/// A message at its place in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: u32,
    /// Its offset in the partition.
    pub offset: u64,
    /// When it was published.
    pub timestamp: Timestamp,
    /// Its key, if it has one.
    pub key: Option<Key>,
    /// Its headers.
    pub headers: Headers,
    /// Its value; `None` is a tombstone.
    pub value: Option<Bytes>,
}

/// The unit of order and of parking within a partition: a key, or a message without one, which is a
/// lane of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// All messages of this key.
    Key(Key),
    /// The one message at this offset, which has no key.
    Alone(u64),
}

impl Message {
    /// How many bytes its key, headers and value have: what brokers bound, and what it costs to hold it.
    pub fn size(&self) -> usize {
        let headers = self.headers.iter();
        let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
        let key = self.key.as_ref().map_or(0, |key| key.as_bytes().len());
        key + self.value.as_ref().map_or(0, Bytes::len) + headers
    }

    /// The lane that it belongs to.
    pub fn lane(&self) -> Lane {
        self.key.clone().map_or(Lane::Alone(self.offset), Lane::Key)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => key.fmt(f),
            Self::Alone(offset) => write!(f, "(no key, offset {offset})"),
        }
    }
}
