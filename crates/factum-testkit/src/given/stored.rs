//! Events on their way through what is stored: encoded, read back, compared.

use factum_core::{
    Catalog, Codec, Draft, Encoded, Event, MessageId, Metadata, Read, RecordKind, StreamId,
    Timestamp, TypeName,
};

use super::diff::diff;

/// The catalog of `E`.
#[track_caller]
pub(super) fn catalog<E: Event>() -> Catalog<E> {
    Catalog::new().unwrap_or_else(|error| panic!("{error:#}"))
}

/// `event` as it is stored, which must read back as it is.
#[track_caller]
pub(super) fn stored<E: Event + PartialEq>(event: &E) -> Encoded {
    let encoded = Encoded::of(event).unwrap_or_else(|error| panic!("{error:#}: {event:?}"));
    let read = read::<E>(&encoded).unwrap_or_else(|error| {
        panic!(
            "`{}` was written and can't be read back: {error}\n{event:#?}",
            encoded.event_type
        )
    });
    let [back] = &read[..] else {
        panic!(
            "`{}` was written as one event and reads back as {}",
            encoded.event_type,
            read.len()
        );
    };
    assert!(
        back == event,
        "`{}` reads back as another event than was written: its data, or its name, loses something\n{}",
        encoded.event_type,
        diff(event, back)
    );
    encoded
}

/// The events that stored data stands for.
pub(super) fn read<E: Event>(encoded: &Encoded) -> Result<Vec<E>, String> {
    match catalog::<E>().read(&encoded.event_type, &encoded.data) {
        Ok(Read::Events(events)) => Ok(events.into_iter().map(|(event, _)| event).collect()),
        Ok(Read::Foreign) => Err("the family doesn't know this type".into()),
        Ok(Read::UnknownVersion) => Err("the family doesn't know this version".into()),
        Err(error) => Err(format!("{error:#}")),
    }
}

/// Data as a test writes it down, as a stored event.
pub(super) fn written(name: &str, version: u32, data: &serde_json::Value) -> Encoded {
    Encoded {
        event_type: TypeName::new(name, version),
        data: data.to_string().into(),
    }
}

/// The stream that a test names.
#[track_caller]
pub(super) fn stream(text: &str) -> StreamId {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// A draft of `encoded` for `stream`.
pub(super) fn draft(
    encoded: Encoded,
    stream: StreamId,
    event_id: MessageId,
    timestamp: Timestamp,
    metadata: Metadata,
) -> Draft {
    Draft {
        kind: RecordKind::Event,
        stream: Some(stream),
        event_id,
        event_type: encoded.event_type,
        destination: None,
        timestamp,
        correlation_id: MessageId::from("test-story"),
        causation_id: None,
        metadata,
        tags: Vec::new(),
        codec: Codec::Json,
        protection: None,
        data: encoded.data,
    }
}

/// Stored data in one line.
pub(super) fn line(encoded: &Encoded) -> String {
    format!(
        "{} {}",
        encoded.event_type,
        String::from_utf8_lossy(&encoded.data)
    )
}
