//! Identities: of stores, commits and messages.

use std::{convert::Infallible, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The longest message id that is accepted from a foreign producer, in bytes.
pub const MESSAGE_ID_BYTES_MAX: usize = 512;

/// The identity of one store, drawn when the store is created and never again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreId(pub Uuid);

/// The name of one commit: what other commits stand on, and what is sent again after an unknown outcome.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommitId(pub Uuid);

macro_rules! uuid_id {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

uuid_id!(StoreId);
uuid_id!(CommitId);

/// The identity of a message: an event's id, or the correlation or causation id that points to one.
///
/// Our own are UUIDs (version 7). Those of foreign producers may be any text; each is kept as it
/// was written, so that the same id is the same id wherever it is compared.
///
/// ```
/// use factum_core::MessageId;
/// let own: MessageId = "01920000-0000-7000-8000-000000000001".parse().unwrap();
/// assert!(own.as_uuid().is_some());
/// let foreign: MessageId = "ORDER-1/created".parse().unwrap();
/// assert_eq!(foreign.to_string(), "ORDER-1/created");
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct MessageId(Repr);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Repr {
    Uuid(Uuid),
    Text(Arc<str>),
}

impl MessageId {
    /// The UUID that this id is, when it is one in its usual lower-case form.
    pub fn as_uuid(&self) -> Option<Uuid> {
        match &self.0 {
            Repr::Uuid(uuid) => Some(*uuid),
            Repr::Text(_) => None,
        }
    }
}

impl From<Uuid> for MessageId {
    fn from(uuid: Uuid) -> Self {
        Self(Repr::Uuid(uuid))
    }
}

impl From<&str> for MessageId {
    fn from(text: &str) -> Self {
        // Only the canonical form becomes a UUID: any other spelling must come out as it came in.
        if text.len() == 36
            && let Ok(uuid) = Uuid::try_parse(text)
        {
            let mut buffer = [0; 36];
            if uuid.hyphenated().encode_lower(&mut buffer) == text {
                return Self(Repr::Uuid(uuid));
            }
        }
        Self(Repr::Text(text.into()))
    }
}

impl From<String> for MessageId {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<MessageId> for String {
    fn from(id: MessageId) -> Self {
        id.to_string()
    }
}

impl FromStr for MessageId {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.into())
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Uuid(uuid) => uuid.fmt(f),
            Repr::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_out_as_it_came_in() {
        for text in [
            "01920000-0000-7000-8000-00000000000a",
            "01920000-0000-7000-8000-00000000000A",
            "0192000000007000800000000000000a",
            "",
            "주문-1",
        ] {
            assert_eq!(MessageId::from(text).to_string(), text);
        }
    }
}
