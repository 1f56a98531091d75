//! Events in code: families of stored types, and how stored data becomes a value again.

use std::{fmt::Debug, sync::Arc};

use serde_json::Value;

use crate::{At, Failure, Key, MessageId, Metadata, StreamId, Timestamp, TypeName, Version};

/// A family of events: the Rust type whose values stand for one or several stored types.
///
/// Derived with `#[derive(Event)]`, which makes each variant of an enum (or a struct as a whole) a stored
/// type with a name and a version of its own. The Rust names are never stored.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "derive it: #[derive(Event)] with #[event(name = \"..\", version = 1)] on each variant",
    note = "an event needs a stable stored name and a version, so that it can still be read in ten years"
)]
pub trait Event: Clone + Debug + Send + Sync + 'static {
    /// The topic that these events are published to; `None`: they stay in their store.
    const TOPIC: Option<&'static str>;

    /// The stored types of this family, each with its whole shape.
    fn types() -> Vec<EventType>;

    /// How older stored types become present ones.
    fn upcasts() -> Vec<Upcast>;

    /// The stored name and version of this value.
    fn stored_type(&self) -> (&'static str, u32);

    /// This value's data as JSON.
    ///
    /// # Errors
    ///
    /// When a part of it can't be JSON, such as a map whose keys are not text.
    fn encode(&self) -> Result<Vec<u8>, serde_json::Error>;

    /// The value whose stored type is `name`, in its present version, with this data. `None` when the
    /// family has no such type.
    ///
    /// # Errors
    ///
    /// When the data doesn't have the type's shape.
    fn decode(name: &str, data: &[u8]) -> Option<Result<Self, serde_json::Error>>;
}

/// A stored type: its name, its present version, and its shape.
#[derive(Clone, Debug)]
pub struct EventType {
    /// The stable stored name.
    pub name: &'static str,
    /// The present version.
    pub version: u32,
    /// The topic that it is published to.
    pub topic: Option<&'static str>,
    /// Its whole shape as a JSON Schema, nested types and serde attributes included.
    pub shape: fn() -> schemars::Schema,
}

/// What goes wrong in an upcaster, in words.
pub type UpcastError = String;

/// Data with the stored name of its type.
pub type Named = (&'static str, Value);

/// A step from an older stored type to a newer one.
#[derive(Clone, Debug)]
pub struct Upcast {
    /// The stored name that it reads.
    pub name: &'static str,
    /// The version that it reads.
    pub version: u32,
    /// What it makes of it.
    pub step: UpcastStep,
}

/// What an upcast makes of older data.
#[derive(Clone, Debug)]
pub enum UpcastStep {
    /// One event of another version, or of another name and version.
    One {
        /// The name that it makes.
        name: &'static str,
        /// The version that it makes.
        version: u32,
        /// How.
        with: fn(Value) -> Result<Value, UpcastError>,
    },
    /// Several events, or none, of these types.
    Many {
        /// The names and versions that it may make.
        into: &'static [(&'static str, u32)],
        /// How: each with the name of one of those.
        with: fn(Value) -> Result<Vec<Named>, UpcastError>,
    },
    /// Nothing: such events no longer mean anything.
    Drop,
}

/// An event together with what is known about it: what handlers get.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded<E> {
    /// The event.
    pub data: E,
    /// Its identity. The parts of a split event share it.
    pub event_id: MessageId,
    /// The type as it is stored, before upcasting.
    pub event_type: TypeName,
    /// When it happened.
    pub timestamp: Timestamp,
    /// What all messages of one story share.
    pub correlation_id: MessageId,
    /// The message that led to it.
    pub causation_id: Option<MessageId>,
    /// Actor, tenant, trace, unknown fields of a foreign envelope.
    pub metadata: Arc<Metadata>,
    /// Which of the parts of a split event it is.
    pub part: Part,
    /// The stream it belongs to and its version there. A foreign message may have none.
    pub stream: Option<(StreamId, Version)>,
    /// The id of the aggregate that the message names, if it names one.
    pub aggregate_id: Option<Arc<str>>,
    /// Its partition key.
    pub key: Option<Key>,
    /// Its place in the own log; `None` for messages from topics.
    pub at: Option<At>,
}

impl<E> Recorded<E> {
    /// `event` as if it had just been recorded, with nothing else known: for tests.
    pub fn of(event: E, timestamp: Timestamp) -> Self {
        Self {
            data: event,
            event_id: MessageId::from("test-event"),
            event_type: TypeName::new("Test", 1),
            timestamp,
            correlation_id: MessageId::from("test-story"),
            causation_id: None,
            metadata: Arc::default(),
            part: Part::WHOLE,
            stream: None,
            aggregate_id: None,
            key: None,
            at: None,
        }
    }

    /// The id of the aggregate that it is of.
    ///
    /// # Errors
    ///
    /// A poison failure when it names none, as a foreign message may.
    pub fn aggregate_id(&self) -> Result<&str, Failure> {
        self.aggregate_id.as_deref().ok_or_else(|| {
            Failure::poison(
                "the message names no aggregate: it needs `aggregate_id` in its envelope",
            )
        })
    }

    /// The same with other data.
    pub fn with<T>(self, data: T) -> Recorded<T> {
        Recorded {
            data,
            event_id: self.event_id,
            event_type: self.event_type,
            timestamp: self.timestamp,
            correlation_id: self.correlation_id,
            causation_id: self.causation_id,
            metadata: self.metadata,
            part: self.part,
            stream: self.stream,
            aggregate_id: self.aggregate_id,
            key: self.key,
            at: self.at,
        }
    }
}

/// Which part of a split event: `index` of `of`, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    /// Which one, from 1.
    pub index: u32,
    /// How many there are.
    pub of: u32,
}

impl Part {
    /// An event that was not split.
    pub const WHOLE: Self = Self { index: 1, of: 1 };
}
