//! The wire: how a record looks as a message, and how messages of any origin are read.
//!
//! Three formats are read and written: the plain JSON envelope, which a service in any language would
//! write, and CloudEvents 1.0 in the binary and the structured mode of its Kafka binding. A reader
//! doesn't choose: [`read`] recognises each message by itself. What was written reads back as it was, in
//! every format: type, ids, time, data byte for byte, metadata.
//!
//! # What is kept, and where
//!
//! Everything that an envelope or event says and that has no field in [`Incoming`] is kept in its
//! [`metadata`](Incoming::metadata), byte for byte, and goes on from there with whatever is written next:
//!
//! 1. The members of the envelope's own `metadata` keep their names.
//! 2. Every other unknown part (a field of the envelope, an attribute of an event) is put beside them under
//!    its own name. Where that is taken by a different value, it goes by `envelope.<name>`, with the
//!    prefix once more as long as that is taken too.
//! 3. `traceparent` and `tracestate` headers belong to one hop: they replace metadata of these names.
//!
//! After the first hop all of it stands in `metadata`, so it no longer changes from hop to hop.
//!
//! Relays, inboxes and topics are not known here: a message goes in or comes out as a value.

mod cloudevents;
pub mod dead_letter;
mod envelope;
mod fields;
#[cfg(test)]
mod laws;
mod nesting;
mod object;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::btree_map::Entry, fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use self::fields::{Fields, Place, json_text, text_of};
use crate::{
    Error, ErrorClass, Headers, Json, Link, Message, MessageId, Metadata, Outgoing, Record,
    RecordState, Timestamp, TypeName, Version,
};

/// The header that says what the value is.
const HEADER_CONTENT_TYPE: &str = "content-type";
/// The headers and metadata of W3C Trace Context.
const TRACE_NAMES: [&str; 2] = ["traceparent", "tracestate"];
/// The longest trace header that is taken or given: what W3C asks everybody to pass on.
const TRACE_BYTES_MAX: usize = 512;

/// A message as it was read, whatever its format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Its identity, as its producer wrote it. To tell duplicates, use [`Incoming::identity`].
    pub event_id: MessageId,
    /// The stored name of its type; the version is 1 unless it says otherwise.
    pub event_type: TypeName,
    /// When it happened; UTC when it has no offset.
    pub timestamp: Timestamp,
    /// The category of the aggregate that it is of.
    pub aggregate_type: Option<Arc<str>>,
    /// Which aggregate it is of.
    pub aggregate_id: Option<Arc<str>>,
    /// Its version in the aggregate's stream.
    pub aggregate_version: Option<Version>,
    /// What all messages of its story share.
    pub correlation_id: Option<MessageId>,
    /// The message that led to it.
    pub causation_id: Option<MessageId>,
    /// What came beside the data. See the [module](self) for what is kept, and under which names.
    pub metadata: Metadata,
    /// Labels to find it by.
    pub tags: Vec<Arc<str>>,
    /// The key that its personal data is protected with, if any.
    pub protection: Option<Arc<str>>,
    /// The data, byte for byte.
    pub data: Json,
    /// Its link in its source's chain; `None` when it is foreign.
    pub link: Option<Link>,
    /// The `source` of a foreign event of CloudEvents, without which its id identifies nothing. In the metadata too.
    pub source: Option<Arc<str>>,
}

impl Incoming {
    /// What no other message but its duplicates has in common with it.
    ///
    /// That is its event id; for a foreign event of CloudEvents it is the source and the id, since an id is unique only
    /// within its source there, unless it is a UUID.
    pub fn identity(&self) -> MessageId {
        match &self.source {
            Some(source) if self.event_id.as_uuid().is_none() => {
                format!("{source} {}", self.event_id).into()
            }
            _ => self.event_id.clone(),
        }
    }
}

/// How a record is written.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum WireFormat {
    /// The plain JSON envelope.
    #[default]
    Envelope,
    /// CloudEvents 1.0: the attributes in headers, the value is the data.
    CloudEventsBinary,
    /// CloudEvents 1.0: one JSON object with the data in it.
    CloudEventsStructured,
}

/// Why a message can't be read: what of it, and what would be right. It never can be, as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{subject} {problem}")]
pub struct WireError {
    subject: String,
    problem: String,
}

impl WireError {
    /// What can't be read, such as ``field `event_id` ``.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Always [`ErrorClass::Poison`].
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Poison
    }

    fn new(subject: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self {
            subject: subject.into(),
            problem: problem.to_string(),
        }
    }

    fn missing(subject: String, right: &str) -> Self {
        Self::new(subject, format_args!("is missing, expected {right}"))
    }

    fn missing_or_empty(subject: String, right: &str) -> Self {
        Self::new(
            subject,
            format_args!("is missing or empty, expected {right}"),
        )
    }

    /// `raw` is of the wrong kind.
    fn kind(subject: impl Into<String>, raw: &RawValue, right: &str) -> Self {
        let kind = match raw.get().as_bytes().first() {
            Some(b'"') => "a text",
            Some(b'{') => "an object",
            Some(b'[') => "a list",
            Some(b't' | b'f') => "a truth value",
            Some(b'n') => "`null`",
            _ => "a number",
        };
        Self::new(subject, format_args!("is {kind}, expected {right}"))
    }

    /// The part `name` as errors call it. A name is foreign input too, and may be long.
    fn named(what: &str, name: &str) -> String {
        format!("{what} `{}`", Self::cut(name))
    }

    fn cut(text: &str) -> Cow<'_, str> {
        match text.char_indices().nth(60) {
            Some((at, _)) => Cow::Owned(format!("{}…", &text[..at])),
            None => Cow::Borrowed(text),
        }
    }
}

impl From<WireError> for Error {
    fn from(error: WireError) -> Self {
        Self::poison(error.to_string())
    }
}

/// Reads a message in whichever of the known formats it is.
///
/// A message is an event of CloudEvents when its `content-type` begins with `application/cloudevents`
/// (structured), when it has the headers that every event has (binary), or when its value has a
/// `specversion` and no `event_type` (structured, from a producer that forgot the header). All else is
/// the plain envelope, of which only `event_type`, `event_id`, `timestamp` and `data` must be there.
///
/// # Errors
///
/// [`WireError`] names what can't be read and says what would be right. The message is poison.
pub fn read(message: &Message) -> Result<Incoming, WireError> {
    let header = |name: &str| message.headers.get(name);
    let link =
        Link::from_headers(header).map_err(|problem| WireError::new("source chain", problem))?;
    let mut incoming = match Shape::of(message)? {
        Shape::Envelope(fields) => {
            envelope::read(fields).map_err(|error| cloudevents::half(message).unwrap_or(error))
        }
        Shape::Structured(fields) => cloudevents::read_structured(fields, message, link.as_ref()),
        Shape::Binary(text) => cloudevents::read_binary(text, message, link.as_ref()),
    }?;
    for name in TRACE_NAMES {
        let Some(trace) = message.headers.text(name).filter(|text| is_trace(text)) else {
            continue;
        };
        // The same trace, written in another way, stays as it was written.
        if incoming.metadata.get(name).and_then(text_of).as_deref() != Some(trace) {
            incoming.metadata.insert(name.into(), json_text(trace));
        }
    }
    incoming.link = link;
    Ok(incoming)
}

/// What can be told of a message that as a whole can't be read, to show it to people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Glimpse {
    /// Its identity.
    pub event_id: Option<MessageId>,
    /// Its type.
    pub event_type: Option<TypeName>,
    /// What all messages of its story share.
    pub correlation_id: Option<MessageId>,
}

/// Reads what can be read of a message that [`read`] refuses.
pub fn glimpse(message: &Message) -> Glimpse {
    let (mut fields, [id, name, version, correlation]) = match Shape::of(message) {
        Ok(Shape::Envelope(fields)) => (
            fields,
            ["event_id", "event_type", "version", "correlation_id"],
        ),
        Ok(Shape::Structured(fields)) => (fields, cloudevents::GLIMPSE_NAMES),
        Ok(Shape::Binary(_)) | Err(_) => (
            Fields::of_headers(&message.headers),
            cloudevents::GLIMPSE_NAMES,
        ),
    };
    let version = fields
        .number(version, 1, u32::MAX.into())
        .map(|version| version.unwrap_or(1));
    let version = version.ok().and_then(|version| u32::try_from(version).ok());
    let name = fields.shared(name).ok().flatten();
    Glimpse {
        event_id: fields.id(id).ok().flatten(),
        event_type: name
            .zip(version)
            .map(|(name, version)| TypeName { name, version }),
        correlation_id: fields.id(correlation).ok().flatten(),
    }
}

/// Which format a message is in.
enum Shape<'a> {
    Envelope(Fields<'a>),
    Structured(Fields<'a>),
    Binary(&'a str),
}

impl<'a> Shape<'a> {
    fn of(message: &'a Message) -> Result<Self, WireError> {
        let value = match message.value.as_deref() {
            None => {
                return Err(WireError::new(
                    "value",
                    "is absent (a tombstone), expected a JSON event",
                ));
            }
            Some([]) => return Err(WireError::new("value", "is empty, expected a JSON event")),
            Some(value) => value,
        };
        let text = str::from_utf8(value).map_err(|error| {
            let at = error.valid_up_to();
            WireError::new(
                "value",
                format_args!("is not UTF-8 from byte {at} on, expected a JSON event"),
            )
        })?;
        let structured = cloudevents::is_structured(&message.headers)?;
        if !structured && cloudevents::is_binary(&message.headers) {
            return Ok(Self::Binary(text));
        }
        let place = if structured {
            Place::Attributes
        } else {
            Place::Members
        };
        let fields = Fields::of_object("value", text, place)?;
        Ok(if structured {
            Self::Structured(fields)
        } else if fields.has("specversion") && !fields.has("event_type") {
            Self::Structured(fields.at(Place::Attributes))
        } else {
            Self::Envelope(fields)
        })
    }
}

/// The message that tells of `record`, in `format`, with its place in the source's chain.
///
/// `source_name` is the service that publishes; CloudEvents get `/factum/<source_name>` as their source. The message has
/// the record's time until whoever sends it says when that is: the event's own time stands in the value.
///
/// # Errors
///
/// Of class poison: the record has no destination, its content is gone, or its data is not JSON.
pub fn write(
    record: &Record,
    link: Link,
    format: WireFormat,
    source_name: &str,
) -> Result<Outgoing, Error> {
    let draft = &*record.draft;
    let refused = |why: &str| {
        Error::poison(format!(
            "failed to write the record at {} for its topic: {why}",
            record.at
        ))
    };
    let to = draft
        .destination
        .as_ref()
        .ok_or_else(|| refused("it has no destination"))?;
    if record.state != RecordState::Live {
        return Err(refused("its content is archived or erased"));
    }
    // Bytes that are not JSON would break out of the envelope, so they are looked at once more here.
    let data: &RawValue = serde_json::from_slice(&draft.data)
        .map_err(|error| refused("its data is not JSON").caused_by(error))?;
    let mut headers: Headers = link.to_headers().into_iter().collect();
    for name in TRACE_NAMES {
        if let Some(trace) = draft
            .metadata
            .get(name)
            .and_then(text_of)
            .filter(|trace| is_trace(trace))
        {
            headers.push(name, trace.into_owned());
        }
    }
    let value = match format {
        WireFormat::Envelope => envelope::write(record, data, &mut headers),
        WireFormat::CloudEventsBinary => {
            cloudevents::write_binary(record, source_name, &mut headers)
        }
        WireFormat::CloudEventsStructured => {
            cloudevents::write_structured(record, data, source_name, &mut headers)
        }
    };
    Ok(Outgoing {
        topic: to.topic.clone(),
        partition: to.partition,
        key: to.key.clone(),
        headers,
        value: Some(value),
        timestamp: draft.timestamp,
    })
}

/// Whether `text` can be a trace header: what is not is left out, as W3C says.
fn is_trace(text: &str) -> bool {
    (1..=TRACE_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Adds parts that nobody asked for to the metadata, as the [module](self) says.
fn keep_unknown(metadata: &mut Metadata, unknown: Fields<'_>) -> Result<(), WireError> {
    let mut taken = Vec::new();
    for part in unknown.rest() {
        let (name, json) = part?;
        match metadata.entry(name) {
            Entry::Vacant(free) => {
                free.insert(json);
            }
            Entry::Occupied(same) if *same.get() == json => {}
            Entry::Occupied(other) => taken.push((other.key().clone(), json)),
        }
    }
    // Only now, so that these give way to all that can keep their names.
    for (mut name, json) in taken {
        while metadata.contains_key(&name) {
            name.insert_str(0, "envelope.");
        }
        metadata.insert(name, json);
    }
    Ok(())
}
