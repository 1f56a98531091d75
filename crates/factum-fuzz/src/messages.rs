//! Messages of any origin: the envelope, and CloudEvents in both modes.
//!
//! Whatever comes is read or refused as poison in few words. What is read says the same in every format, and goes on
//! with everything that it said. What dies is copied for people without a byte being lost.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use factum::{
    At, Codec, Destination, Draft, ErrorClass, FailureClass, FailureNote, Headers, Key, Link,
    Message, Outgoing, Parked, ParkedState, Record, RecordKind, RecordState, StoreId, Timestamp,
    Topic, Version,
    wire::{self, Incoming, WireFormat, dead_letter},
};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The longest refusal: a few names and values, cut, of up to four bytes a character.
const REFUSAL_BYTES_MAX: usize = 1_000;
/// What a broker takes.
const MESSAGE_BYTES_MAX: usize = 1_048_588;

const FORMATS: [WireFormat; 3] = [
    WireFormat::Envelope,
    WireFormat::CloudEventsBinary,
    WireFormat::CloudEventsStructured,
];

/// A message whose value is `bytes`, without headers.
pub(crate) fn envelope(bytes: &[u8]) {
    check(&message(Headers::new(), bytes));
}

/// A message with headers, one a line as `name: value`, up to an empty line; the rest is the value.
pub(crate) fn with_headers(bytes: &[u8]) {
    let mut headers = Headers::new();
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        if line.is_empty() {
            break;
        }
        let at = line
            .iter()
            .position(|byte| *byte == b':')
            .unwrap_or(line.len());
        let value = line.get(at + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let name = String::from_utf8_lossy(&line[..at]).into_owned();
        headers.push(name, Bytes::copy_from_slice(value));
    }
    check(&message(headers, rest));
}

fn message(headers: Headers, value: &[u8]) -> Message {
    Message {
        topic: Topic::of("orders"),
        partition: 0,
        offset: 7,
        timestamp: Timestamp::from_micros(5_000_000),
        key: Some("user-1".into()),
        headers,
        value: Some(Bytes::copy_from_slice(value)),
    }
}

fn check(message: &Message) {
    let glimpse = wire::glimpse(message);
    dies_whole(message);
    let incoming = match wire::read(message) {
        Ok(incoming) => incoming,
        Err(refusal) => {
            let words = refusal.to_string();
            assert_eq!(refusal.class(), ErrorClass::Poison);
            assert!(
                words.len() <= REFUSAL_BYTES_MAX,
                "a refusal of {} bytes: {words:.200}",
                words.len()
            );
            return;
        }
    };
    assert_eq!(glimpse.event_id.as_ref(), Some(&incoming.event_id));
    assert_eq!(glimpse.event_type.as_ref(), Some(&incoming.event_type));
    goes_on(&incoming);
}

/// What was read is written in every format, and reads back as it was.
fn goes_on(incoming: &Incoming) {
    let record = passed_on(incoming);
    let expected = Incoming {
        aggregate_type: None,
        aggregate_id: None,
        aggregate_version: None,
        correlation_id: Some(record.draft.correlation_id.clone()),
        link: Some(link()),
        source: None,
        ..incoming.clone()
    };
    for format in FORMATS {
        let written = wire::write(&record, link(), format, "import");
        let written = written.unwrap_or_else(|error| panic!("as {format:?}: {error:#}"));
        let read = wire::read(&arrived(written));
        let read = read.unwrap_or_else(|error| panic!("as {format:?}: {error}"));
        assert_eq!(read, expected, "as {format:?}");
    }
}

/// The copy of a dead message is JSON within its bound, and holds the value, byte for byte.
fn dies_whole(message: &Message) {
    let copy = copy_of(&parked(message));
    is_whole(&copy, message);
}

fn copy_of(parked: &Parked) -> Bytes {
    let topic = dead_letter::topic(&parked.message.topic).expect("the name leaves room");
    let copy = dead_letter::copy(parked, &topic, MESSAGE_BYTES_MAX);
    copy.value.expect("a copy has a value")
}

fn is_whole(text: &[u8], message: &Message) {
    assert!(text.len() <= MESSAGE_BYTES_MAX);
    let copy: Copy<'_> = serde_json::from_slice(text).expect("a copy is JSON");
    let value = message.value.as_deref().unwrap_or_default();
    let kept = match (copy.truncated, copy.original_event, copy.original_bytes) {
        (true, None, None) => return,
        (false, Some(event), None) => event.get().as_bytes() == value.trim_ascii(),
        (false, None, Some(base64)) => {
            let bytes = BASE64_STANDARD.decode(base64);
            bytes.is_ok_and(|bytes| bytes == value)
        }
        _ => false,
    };
    assert!(kept, "bytes were lost");
}

/// What the copy of a dead message says of its value.
#[derive(Deserialize)]
struct Copy<'a> {
    #[serde(default)]
    truncated: bool,
    #[serde(borrow, default, deserialize_with = "present")]
    original_event: Option<&'a RawValue>,
    original_bytes: Option<String>,
}

/// `null` is a value, too.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

fn link() -> Link {
    Link {
        source: StoreId(uuid(7)),
        at: At::new(1, 7),
        previous: At::new(1, 3),
    }
}

fn uuid<T: std::str::FromStr>(number: u8) -> T {
    let text = format!("01920000-0000-7000-8000-0000000000{number:02x}");
    text.parse()
        .unwrap_or_else(|_| panic!("`{text}` is a UUID"))
}

fn arrived(outgoing: Outgoing) -> Message {
    let Outgoing {
        topic,
        partition,
        key,
        headers,
        value,
        timestamp,
    } = outgoing;
    Message {
        topic,
        partition,
        offset: 7,
        timestamp,
        key,
        headers,
        value,
    }
}

/// What a service that imports a message and publishes it again would write.
fn passed_on(incoming: &Incoming) -> Record {
    let Incoming {
        event_id,
        event_type,
        timestamp,
        correlation_id,
        causation_id,
        metadata,
        tags,
        protection,
        data,
        ..
    } = incoming.clone();
    let draft = Draft {
        kind: RecordKind::Message,
        stream: None,
        correlation_id: correlation_id.unwrap_or_else(|| event_id.clone()),
        event_id,
        event_type,
        destination: Some(Destination {
            topic: Topic::of("orders"),
            partition: 0,
            key: Some(Key::from("user-1")),
        }),
        timestamp,
        causation_id,
        metadata,
        tags,
        codec: Codec::Json,
        protection,
        data: Bytes::copy_from_slice(data.as_str().as_bytes()),
    };
    Record {
        at: At::new(1, 7),
        version: Version::ZERO,
        state: RecordState::Live,
        draft: draft.into(),
    }
}

fn parked(message: &Message) -> Parked {
    Parked {
        id: "payment-service:orders:0:7".parse().expect("it is one"),
        lane: message.lane(),
        state: ParkedState::Dead,
        revision: 1,
        message: message.clone(),
        edited: None,
        event_id: None,
        event_type: None,
        correlation_id: None,
        tries: 1,
        due: None,
        failure: Some(FailureNote {
            class: FailureClass::Poison,
            message: "it can't be read".into(),
            cause: "poison: it can't be read".into(),
            handler: None,
            at: message.timestamp,
        }),
        parked_at: message.timestamp,
        redrives: 0,
        discarded_at: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_that_a_lost_byte_is_noticed(value: &[u8]) {
        let whole = message(Headers::new(), value);
        is_whole(&copy_of(&parked(&whole)), &whole);
        let cut = message(Headers::new(), &value[..value.len() - 1]);
        is_whole(&copy_of(&parked(&cut)), &whole);
    }

    #[test]
    #[should_panic(expected = "bytes were lost")]
    fn a_copy_of_json_that_lacks_a_byte_is_noticed() {
        check_that_a_lost_byte_is_noticed(b"12345");
    }

    #[test]
    #[should_panic(expected = "bytes were lost")]
    fn a_copy_of_anything_that_lacks_a_byte_is_noticed() {
        check_that_a_lost_byte_is_noticed(b"\xff\xfe\0");
    }
}
