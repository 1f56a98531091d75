//! The wire by example: what services write, what is refused and why. Its laws are in `laws`.

use bytes::Bytes;
use uuid::Uuid;

use super::*;
use crate::{At, Codec, Destination, Draft, Failure, FailureClass, RecordKind, StoreId, Topic};

pub(super) const FORMATS: [WireFormat; 3] = [
    WireFormat::Envelope,
    WireFormat::CloudEventsBinary,
    WireFormat::CloudEventsStructured,
];

pub(super) fn message(headers: &[(&str, &str)], value: &str) -> Message {
    Message {
        topic: Topic::of("orders"),
        partition: 0,
        offset: 7,
        timestamp: Timestamp::from_micros(5_000_000),
        key: Some("user-1".into()),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_string(), (*value).to_string()))
            .collect(),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
    }
}

pub(super) fn received(outgoing: Outgoing) -> Message {
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

pub(super) fn link() -> Link {
    Link {
        source: StoreId(Uuid::from_u128(7)),
        at: At::new(1, 7),
        previous: At::new(1, 3),
    }
}

/// What a service that imports a message and publishes it again would write.
pub(super) fn passed_on(incoming: &Incoming) -> Record {
    let draft = Draft {
        kind: RecordKind::Message,
        stream: None,
        event_id: incoming.event_id.clone(),
        event_type: incoming.event_type.clone(),
        destination: Some(Destination {
            topic: Topic::of("orders"),
            partition: 0,
            key: Some("user-1".into()),
        }),
        timestamp: incoming.timestamp,
        correlation_id: incoming
            .correlation_id
            .clone()
            .unwrap_or_else(|| incoming.event_id.clone()),
        causation_id: incoming.causation_id.clone(),
        metadata: incoming.metadata.clone(),
        tags: incoming.tags.clone(),
        codec: Codec::Json,
        protection: incoming.protection.clone(),
        data: Bytes::copy_from_slice(incoming.data.as_str().as_bytes()),
    };
    Record {
        at: At::new(1, 7),
        version: Version::ZERO,
        state: RecordState::Live,
        draft: draft.into(),
    }
}

const LEAST: &str = r#"{"event_type":"OrderCreated","event_id":"e-1","timestamp":"2026-03-02T10:00:00.5","data":{"n": 1.0}}"#;

#[test]
fn four_fields_are_enough() {
    let incoming = read(&message(&[], LEAST)).unwrap();
    assert_eq!(incoming.event_type, TypeName::new("OrderCreated", 1));
    assert_eq!(incoming.event_id.to_string(), "e-1");
    assert_eq!(incoming.timestamp.to_string(), "2026-03-02T10:00:00.5Z");
    assert_eq!(incoming.data.as_str(), r#"{"n": 1.0}"#);
    assert_eq!(
        (
            incoming.correlation_id,
            incoming.link,
            incoming.aggregate_id
        ),
        (None, None, None)
    );
    assert!(incoming.metadata.is_empty());
}

#[test]
fn a_name_that_is_taken_in_the_metadata_gets_a_prefix() {
    let value = LEAST.replacen(
        '{',
        r#"{"a":1,"b":2,"same":3,"envelope.a":4,"metadata":{"a":5,"same":3},"#,
        1,
    );
    let metadata = read(&message(&[], &value)).unwrap().metadata;
    let found: Vec<_> = metadata
        .iter()
        .map(|(name, json)| format!("{name}={json}"))
        .collect();
    assert_eq!(
        found,
        [
            "a=5",
            "b=2",
            "envelope.a=4",
            "envelope.envelope.a=1",
            "same=3"
        ]
    );
}

#[test]
fn what_cannot_be_read_is_poison_and_names_the_field_and_what_would_be_right() {
    let with = |member: &str| LEAST.replacen('{', &format!("{{{member},"), 1);
    let without = |name: &str| LEAST.replacen(name, "other", 1);
    let long = format!(r#"{{"event_id":"{}"}}"#, "x".repeat(513));
    let deep = format!(r#""deep":{}1{}"#, "[".repeat(200), "]".repeat(200));
    for (value, expected) in [
        (String::new(), "value is empty, expected a JSON event"),
        ("[1]".into(), "value is a list, expected an object"),
        (
            "{\"a\":1".into(),
            "value is not JSON: EOF while parsing an object at line 1 column 6",
        ),
        (
            without("event_type"),
            "field `event_type` is missing or empty, expected the event's name",
        ),
        (
            without("event_id"),
            "field `event_id` is missing or empty, expected a text of 1 to 512 bytes",
        ),
        (
            LEAST.replace("e-1", ""),
            "field `event_id` is missing or empty, expected a text of 1 to 512 bytes",
        ),
        (
            LEAST.replace("\"e-1\"", "42"),
            "field `event_id` is a number, expected a text",
        ),
        (
            long.replace('{', r#"{"event_type":"E","#),
            "field `event_id` has 513 bytes, expected a text of 1 to 512 bytes",
        ),
        (
            without("timestamp"),
            "field `timestamp` is missing, expected a time, as in `2026-03-02T10:00:00Z`",
        ),
        (
            LEAST.replace("2026-03", "2026-13"),
            "field `timestamp` can't be read: `2026-13-02T10:00:00.5` is not a time: write it as in `2026-03-02T10:00:00Z` (without an offset it is UTC)",
        ),
        (
            without("data"),
            "field `data` is missing, expected the event's data",
        ),
        (
            with(r#""version":0"#),
            "field `version` is `0`, expected a whole number from 1",
        ),
        (
            with(r#""version":"2""#),
            "field `version` is `\"2\"`, expected a whole number from 1",
        ),
        (
            with(r#""version":4294967296"#),
            "field `version` is `4294967296`, expected a whole number from 1",
        ),
        (
            with(r#""aggregate_id":{}"#),
            "field `aggregate_id` is an object, expected a text",
        ),
        (
            with(r#""metadata":"x""#),
            "field `metadata` is a text, expected an object",
        ),
        (
            with(r#""metadata":{"a":1,"a":2}"#),
            "field `a` comes twice, expected once",
        ),
        (
            with(r#""event\u005fid":"e-2""#),
            "field `event_id` comes twice, expected once",
        ),
        (with(&deep), "field `deep` is nested deeper than 127 levels"),
    ] {
        let error = read(&message(&[], &value)).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(Failure::from(error).class(), FailureClass::Poison);
    }
    let mut other = message(&[], "");
    other.value = Some(Bytes::from_static(b"{\"a\":\"\xff\"}"));
    assert_eq!(
        read(&other).unwrap_err().to_string(),
        "value is not UTF-8 from byte 6 on, expected a JSON event"
    );
    other.value = None;
    assert_eq!(
        read(&other).unwrap_err().to_string(),
        "value is absent (a tombstone), expected a JSON event"
    );
    let half = read(&message(&[("factum-at", "1-7")], LEAST)).unwrap_err();
    assert_eq!(
        half.to_string(),
        "source chain header `factum-source` is missing beside its siblings"
    );
}

#[test]
fn an_envelope_looks_as_a_service_in_any_language_would_write_it() {
    let mut incoming = read(&message(&[], LEAST)).unwrap();
    incoming.metadata.insert("actor".into(), json_text("ann"));
    let outgoing = write(&passed_on(&incoming), link(), WireFormat::Envelope, "order").unwrap();
    assert_eq!(
        str::from_utf8(outgoing.value.as_ref().unwrap()).unwrap(),
        r#"{"event_type":"OrderCreated","event_id":"e-1","timestamp":"2026-03-02T10:00:00.5Z","version":1,"correlation_id":"e-1","metadata":{"actor":"ann"},"data":{"n": 1.0}}"#
    );
    let names: Vec<_> = outgoing.headers.iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "factum-source",
            "factum-at",
            "factum-previous",
            "content-type"
        ]
    );
}

#[test]
fn a_trace_header_belongs_to_the_hop_and_is_passed_on_as_a_header() {
    let value = LEAST.replacen('{', r#"{"traceparent":"00-old-1-01","#, 1);
    let incoming = read(&message(
        &[("traceparent", "00-new-2-01"), ("tracestate", "bad\n")],
        &value,
    ))
    .unwrap();
    assert_eq!(incoming.metadata["traceparent"].as_str(), "\"00-new-2-01\"");
    assert!(!incoming.metadata.contains_key("tracestate"));
    for format in FORMATS {
        let outgoing = write(&passed_on(&incoming), link(), format, "order").unwrap();
        assert_eq!(outgoing.headers.text("traceparent"), Some("00-new-2-01"));
    }
}

#[test]
fn a_message_that_is_refused_still_shows_what_it_is() {
    let value = r#"{"event_type":"OrderCreated","event_id":"e-1","version":2,"correlation_id":"c-1","timestamp":7}"#;
    assert!(read(&message(&[], value)).is_err());
    let glimpse = glimpse(&message(&[], value));
    assert_eq!(glimpse.event_type, Some(TypeName::new("OrderCreated", 2)));
    assert_eq!(
        (glimpse.event_id, glimpse.correlation_id),
        (Some("e-1".into()), Some("c-1".into()))
    );
}

#[test]
fn a_record_that_cannot_be_published_is_refused() {
    let record = passed_on(&read(&message(&[], LEAST)).unwrap());
    let refused = |change: &dyn Fn(&mut Record, &mut Draft)| {
        let (mut record, mut draft) = (record.clone(), (*record.draft).clone());
        change(&mut record, &mut draft);
        record.draft = draft.into();
        let error = write(&record, link(), WireFormat::CloudEventsBinary, "order").unwrap_err();
        assert!(error.is_poison());
        error.to_string()
    };
    let why = "failed to write the record at 1-7 for its topic: ";
    assert_eq!(
        refused(&|_, draft| draft.destination = None),
        format!("{why}it has no destination")
    );
    assert_eq!(
        refused(&|record, _| record.state = RecordState::Erased),
        format!("{why}its content is archived or erased")
    );
    for data in ["", "1},\"event_id\":\"2\"", "\u{fe}"] {
        let data = Bytes::from(data);
        assert_eq!(
            refused(&|_, draft| draft.data = data.clone()),
            format!("{why}its data is not JSON")
        );
    }
}

#[test]
fn the_largest_record_fits_into_a_message_of_any_format() {
    let mut draft = (*passed_on(&read(&message(&[], LEAST)).unwrap()).draft).clone();
    draft.data = json_text(&"x".repeat(crate::RECORD_BYTES_MAX - 1_000))
        .to_string()
        .into();
    draft.validate().unwrap();
    let record = Record {
        at: At::new(1, 7),
        version: Version::ZERO,
        state: RecordState::Live,
        draft: draft.into(),
    };
    for format in FORMATS {
        let outgoing = write(&record, link(), format, "order").unwrap();
        let headers: usize = outgoing
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + 10)
            .sum();
        assert!(headers + outgoing.value.unwrap().len() < 1_048_588 - 100_000);
    }
}
