//! Records: what a store's log holds, and what is fixed about each for ever.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    At, Error, Key, MessageId, Metadata, Part, Recorded, StreamId, Timestamp, Topic, Version,
};

/// The largest record, encoded, in bytes.
///
/// Kafka's brokers take messages of 1,048,588 bytes unless told otherwise. What we send is the data and
/// the envelope around it; the difference leaves room for both and for the headers.
pub const RECORD_BYTES_MAX: usize = 900_000;

/// The stored name and schema version of a kind of event. Never the name of a Rust type.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TypeName {
    /// The stable name, such as `OrderCreated`.
    pub name: Arc<str>,
    /// The version of its schema, from 1.
    pub version: u32,
}

impl TypeName {
    /// Version `version` of the type `name`.
    pub fn new(name: impl Into<Arc<str>>, version: u32) -> Self {
        Self {
            name: name.into(),
            version,
        }
    }
}

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} v{}", self.name, self.version)
    }
}

impl fmt::Debug for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// An event of one of this store's aggregates.
    Event,
    /// A message for a topic that is no event of this store: it has no stream.
    Message,
    /// A foreign fact, recorded here so that projections can read it.
    Import,
}

/// How the data is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// UTF-8 JSON text.
    Json,
}

/// Whether a record's content is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordState {
    /// It is.
    Live,
    /// It was moved elsewhere; the position remains as a marker.
    Archived,
    /// It was erased; the position remains as a marker.
    Erased,
}

macro_rules! stored_code {
    ($type:ident { $($variant:ident = $code:literal),* }) => {
        impl $type {
            /// The number that stores write for it. It never changes.
            pub const fn code(self) -> u8 {
                match self { $(Self::$variant => $code),* }
            }

            /// The value that [`code`](Self::code) stands for.
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

stored_code!(RecordKind { Event = 1, Message = 2, Import = 3 });
stored_code!(Codec { Json = 1 });
stored_code!(RecordState { Live = 1, Archived = 2, Erased = 3 });

/// Where the relay sends a record: fixed when it is appended, and never decided by the relay's code.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The topic.
    pub topic: Topic,
    /// The partition, by the key and the topic's pinned partition count.
    pub partition: u32,
    /// The partition key.
    pub key: Option<Key>,
}

/// A record as its writer makes it, before it has a place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// What it is for.
    pub kind: RecordKind,
    /// The stream that it belongs to; `None` for messages.
    pub stream: Option<StreamId>,
    /// Its identity.
    pub event_id: MessageId,
    /// The stored name and schema version of its data.
    pub event_type: TypeName,
    /// Where it is sent; `None` for imports and private events.
    pub destination: Option<Destination>,
    /// When it happened.
    pub timestamp: Timestamp,
    /// What all messages of one story share.
    pub correlation_id: MessageId,
    /// The message that led to this one.
    pub causation_id: Option<MessageId>,
    /// Actor, tenant, trace, unknown fields of a foreign envelope.
    pub metadata: Metadata,
    /// Labels to find it by.
    pub tags: Vec<Arc<str>>,
    /// How the data is encoded.
    pub codec: Codec,
    /// The key that its personal data is protected with, if any.
    pub protection: Option<Arc<str>>,
    /// The data.
    pub data: Bytes,
}

impl Draft {
    /// How large the record is, encoded, in bytes: the sum of all that it holds, in the format that makes most of it.
    ///
    /// Texts count with their escapes: a name of control characters takes six times its length on the wire.
    pub fn encoded_len(&self) -> usize {
        // Metadata and tags may have to stand as JSON text within a JSON text, and each member as a header.
        let metadata = |(name, value): (&String, &crate::Json)| {
            2 * quoted_len(name) + quoted_len(value.as_str()) + MEMBER_OVERHEAD_BYTES
        };
        let tag = |tag: &Arc<str>| 2 * quoted_len(tag) + MEMBER_OVERHEAD_BYTES;
        let key = self.destination.as_ref().and_then(|to| to.key.as_ref());
        self.data.len()
            + self.metadata.iter().map(metadata).sum::<usize>()
            + self.tags.iter().map(tag).sum::<usize>()
            + quoted_len(&self.event_type.name)
            + self
                .stream
                .as_ref()
                .map_or(0, |stream| quoted_len(stream.id()))
            + key.map_or(0, |key| key.as_bytes().len())
            + self.protection.as_deref().map_or(0, quoted_len)
            + RECORD_OVERHEAD_BYTES
    }

    /// Refuses what no store may take: data beyond [`RECORD_BYTES_MAX`], an event without a stream.
    ///
    /// # Errors
    ///
    /// An error of class poison that names the record.
    pub fn validate(&self) -> Result<(), Error> {
        let len = self.encoded_len();
        if len > RECORD_BYTES_MAX {
            return Err(Error::poison(format!(
                "event `{}` ({}) is {len} bytes, at most {RECORD_BYTES_MAX} fit into a record",
                self.event_id, self.event_type
            )));
        }
        if self.event_type.name.is_empty() || self.event_type.version == 0 {
            return Err(Error::poison(format!(
                "event `{}` has the type `{}`: a type has a name, and versions count from 1",
                self.event_id, self.event_type
            )));
        }
        if self.stream.is_none() != (self.kind == RecordKind::Message) {
            return Err(Error::poison(format!(
                "event `{}` ({}): events and imports belong to a stream, messages to none",
                self.event_id, self.event_type
            )));
        }
        Ok(())
    }
}

/// Ids, numbers and times of one record: three ids of up to 36 bytes, and room for the rest.
const RECORD_OVERHEAD_BYTES: usize = 200;
/// What stands around a name and a value: quotes, a colon and a comma, or a header's prefix and lengths.
const MEMBER_OVERHEAD_BYTES: usize = 16;

/// How long `text` is within a JSON text.
fn quoted_len(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum()
}

/// A committed record: a draft and its place. It never changes, but for its [`RecordState`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The epoch that it was written in, and its position.
    pub at: At,
    /// Its version within its stream; 0 without a stream.
    pub version: Version,
    /// Whether its content is still there.
    pub state: RecordState,
    /// What its writer made.
    pub draft: Arc<Draft>,
}

impl Record {
    /// A checksum over all that never changes, kept beside the record and compared on each read.
    ///
    /// CRC-32 (ISO-HDLC) over the fields in the order of their declaration, each behind its length.
    pub fn checksum(&self) -> u32 {
        checksum(self.at, self.version, &self.draft)
    }

    /// The record as handlers of the own log get it, its data still as it is stored.
    pub fn recorded(&self) -> Recorded<Bytes> {
        let draft = &self.draft;
        Recorded {
            data: draft.data.clone(),
            event_id: draft.event_id.clone(),
            event_type: draft.event_type.clone(),
            timestamp: draft.timestamp,
            correlation_id: draft.correlation_id.clone(),
            causation_id: draft.causation_id.clone(),
            metadata: Arc::new(draft.metadata.clone()),
            part: Part::WHOLE,
            stream: draft.stream.clone().map(|stream| (stream, self.version)),
            aggregate_id: draft.stream.as_ref().map(|stream| stream.id().into()),
            key: draft.destination.as_ref().and_then(|to| to.key.clone()),
            at: Some(self.at),
        }
    }
}

/// [`Record::checksum`] of `draft` at a place.
pub fn checksum(at: At, version: Version, draft: &Draft) -> u32 {
    let mut sum = Sum::new();
    sum.number(at.epoch.0);
    sum.number(at.position.0);
    sum.number(version.0);
    sum.number(draft.kind.code().into());
    match &draft.stream {
        None => sum.number(0),
        Some(stream) => {
            sum.bytes(stream.category().as_str().as_bytes());
            sum.bytes(stream.id().as_bytes());
        }
    }
    sum.id(&draft.event_id);
    sum.bytes(draft.event_type.name.as_bytes());
    sum.number(draft.event_type.version.into());
    match &draft.destination {
        None => sum.number(0),
        Some(to) => {
            sum.bytes(to.topic.as_str().as_bytes());
            sum.number(to.partition.into());
            match &to.key {
                None => sum.number(0),
                Some(key) => {
                    sum.number(1);
                    sum.bytes(key.as_bytes());
                }
            }
        }
    }
    sum.number(draft.timestamp.as_micros().cast_unsigned());
    sum.id(&draft.correlation_id);
    match &draft.causation_id {
        None => sum.number(0),
        Some(id) => sum.id(id),
    }
    sum.number(draft.metadata.len() as u64);
    for (name, value) in &draft.metadata {
        sum.bytes(name.as_bytes());
        sum.bytes(value.as_str().as_bytes());
    }
    sum.number(draft.tags.len() as u64);
    for tag in &draft.tags {
        sum.bytes(tag.as_bytes());
    }
    sum.number(draft.codec.code().into());
    sum.bytes(draft.protection.as_deref().unwrap_or_default().as_bytes());
    sum.bytes(&draft.data);
    sum.finish()
}

/// A checksum of many short fields. They are gathered, since a CRC takes long stretches several times faster than
/// short ones.
struct Sum {
    crc: crc32fast::Hasher,
    gathered: [u8; SUM_BYTES_GATHERED],
    length: usize,
}

/// Room for a usual record, on the stack.
const SUM_BYTES_GATHERED: usize = 1_024;

impl Sum {
    fn new() -> Self {
        Self {
            crc: crc32fast::Hasher::new(),
            gathered: [0; SUM_BYTES_GATHERED],
            length: 0,
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        if bytes.len() > SUM_BYTES_GATHERED - self.length {
            self.flush();
        }
        match self
            .gathered
            .get_mut(self.length..self.length + bytes.len())
        {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.length += bytes.len();
            }
            None => self.crc.update(bytes),
        }
    }

    fn flush(&mut self) {
        self.crc.update(&self.gathered[..self.length]);
        self.length = 0;
    }

    fn finish(mut self) -> u32 {
        self.flush();
        self.crc.finalize()
    }

    fn number(&mut self, number: u64) {
        self.put(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.put(bytes);
    }

    fn id(&mut self, id: &MessageId) {
        match id.as_uuid() {
            Some(uuid) => self.bytes(uuid.as_bytes()),
            None => self.bytes(id.to_string().as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Category;

    fn draft() -> Draft {
        Draft {
            kind: RecordKind::Event,
            stream: Some(StreamId::new(Category::of("order"), "1").unwrap()),
            event_id: "e-1".into(),
            event_type: TypeName::new("OrderCreated", 2),
            destination: Some(Destination {
                topic: Topic::of("orders"),
                partition: 3,
                key: Some("user-1".into()),
            }),
            timestamp: Timestamp::from_micros(1),
            correlation_id: "e-0".into(),
            causation_id: None,
            metadata: Metadata::new(),
            tags: Vec::new(),
            codec: Codec::Json,
            protection: None,
            data: Bytes::from_static(b"{}"),
        }
    }

    #[test]
    fn a_checksum_sees_every_field() {
        let sum = |at, version, change: fn(&mut Draft)| {
            let mut draft = draft();
            change(&mut draft);
            checksum(at, version, &draft)
        };
        let (at, version) = (At::new(1, 7), Version(3));
        let sums = [
            sum(at, version, |_| {}),
            sum(At::new(2, 7), version, |_| {}),
            sum(At::new(1, 8), version, |_| {}),
            sum(at, Version(4), |_| {}),
            sum(at, version, |draft| draft.kind = RecordKind::Import),
            sum(at, version, |draft| draft.stream = None),
            sum(at, version, |draft| draft.event_id = "e-2".into()),
            sum(at, version, |draft| draft.event_type.version = 1),
            sum(at, version, |draft| draft.destination = None),
            sum(at, version, |draft| {
                draft.destination.as_mut().unwrap().partition = 4;
            }),
            sum(at, version, |draft| {
                draft.destination.as_mut().unwrap().key = None;
            }),
            sum(at, version, |draft| {
                draft.timestamp = Timestamp::from_micros(2);
            }),
            sum(at, version, |draft| draft.correlation_id = "e-9".into()),
            sum(at, version, |draft| draft.causation_id = Some("e-9".into())),
            sum(at, version, |draft| {
                draft.metadata.insert("a".into(), crate::Json::null());
            }),
            sum(at, version, |draft| draft.tags.push("a".into())),
            sum(at, version, |draft| draft.protection = Some("a".into())),
            sum(at, version, |draft| draft.data = Bytes::from_static(b"[]")),
        ];
        let distinct: std::collections::BTreeSet<_> = sums.iter().collect();
        assert_eq!(distinct.len(), sums.len());
    }

    /// Stored beside each record: a change of its bytes would make every log unreadable.
    #[test]
    fn a_checksum_never_changes_whatever_the_length_of_the_fields() {
        let sum = |bytes: usize| {
            let mut draft = draft();
            draft.data = vec![b'7'; bytes].into();
            checksum(At::new(1, 7), Version(3), &draft)
        };
        let sums = [0, 700, 1_023, 1_024, 5_000].map(sum);
        assert_eq!(
            sums,
            [
                3_562_078_932,
                358_160_535,
                434_524_331,
                2_650_534_349,
                3_392_728_707
            ]
        );
    }

    #[test]
    fn what_the_broker_would_never_take_is_refused_before_it_is_stored() {
        let mut draft = draft();
        draft.data = vec![b' '; RECORD_BYTES_MAX].into();
        let error = draft.validate().unwrap_err();
        assert!(error.is_poison());
        assert!(
            error.to_string().contains("`e-1` (OrderCreated v2) is 900"),
            "{error}"
        );
    }

    #[test]
    fn stored_codes_read_back() {
        for code in 0..=u8::MAX {
            assert!(RecordKind::from_code(code).is_none_or(|kind| kind.code() == code));
            assert!(RecordState::from_code(code).is_none_or(|state| state.code() == code));
            assert!(Codec::from_code(code).is_none_or(|codec| codec.code() == code));
        }
    }
}
