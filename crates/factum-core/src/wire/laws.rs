//! Laws of the wire: what is written reads back in every format, and nothing foreign is lost or trusted.

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};
use uuid::Uuid;

use super::{
    tests::{FORMATS, link, message, passed_on, received},
    *,
};
use crate::{At, Category, Codec, Destination, Draft, Key, RecordKind, StreamId, Topic};

/// Texts that break what was not escaped, and names that mean something elsewhere.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => any::<String>(),
        2 => "[a-z0-9]{1,21}",
        1 => prop::sample::select(vec![
            "", "source", "data", "datacontenttype", "partitionkey", "factummetadata", "traceparent", "tracestate",
            "event_id", "metadata", "envelope.a", "a", "\"}", "\\", "\0", "\u{ffff}", "\u{feff}", "주문 1", "null", "1",
        ]).prop_map(String::from),
    ]
}

fn id() -> impl Strategy<Value = MessageId> {
    let foreign = text().prop_filter("ids have 1 to 512 bytes", |id| {
        (1..=512).contains(&id.len())
    });
    prop_oneof![
        any::<u128>().prop_map(|id| Uuid::from_u128(id).into()),
        foreign.prop_map(MessageId::from)
    ]
}

/// JSON texts as people write them: odd numbers, escapes and spaces included.
fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        text().prop_map(|text| json_text(&text).to_string()),
        prop::sample::select(vec![
            "null",
            "true",
            "-0",
            "1e400",
            "12345678901234567890.10",
            "\"\\u0041\"",
            "\"\\ud800\"",
            "[ ]",
            "{ }",
            "\"00-a-b-01\"",
        ])
        .prop_map(String::from),
    ];
    let tree = leaf.prop_recursive(4, 24, 4, |inner| {
        let members = vec((text(), inner.clone()), 0..4).prop_map(|members| {
            let members = members
                .iter()
                .map(|(name, value)| format!("{} :\t{value}", json_text(name)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(" ,"))
        });
        prop_oneof![
            vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            members
        ]
    });
    tree.prop_map(|text| Json::parse(&text).unwrap())
}

prop_compose! {
    fn record()(
        event_id in id(), name in text(), version in 1..u32::MAX, stream in option::of("\\PC{1,40}"), in_stream in 1_u64..,
        key in option::of(vec(any::<u8>(), 0..20)), micros in any::<i64>(), correlation_id in id(), causation_id in option::of(id()),
        metadata in prop::collection::btree_map(text(), json(), 0..5), tags in vec(text(), 0..3),
        protection in option::of("\\PC{1,9}"), data in json(),
    ) -> Record {
        let stream = stream.and_then(|id| StreamId::new(Category::of("order"), id).ok());
        let draft = Draft {
            kind: if stream.is_some() { RecordKind::Event } else { RecordKind::Message },
            event_id,
            event_type: TypeName::new(if name.is_empty() { "E" } else { &*name }, version),
            destination: Some(Destination { topic: Topic::of("orders"), partition: 3, key: key.map(Key::from) }),
            timestamp: Timestamp::from_micros(micros),
            correlation_id,
            causation_id,
            metadata,
            tags: tags.into_iter().map(Arc::from).collect(),
            codec: Codec::Json,
            protection: protection.map(Arc::from),
            data: Bytes::copy_from_slice(data.as_str().as_bytes()),
            stream,
        };
        let version = if draft.stream.is_some() { Version(in_stream) } else { Version::ZERO };
        Record { at: At::new(1, 7), version, state: RecordState::Live, draft: draft.into() }
    }
}

/// Room for what is the same for all records: three ids of 512 bytes that are escaped, and the names of all parts.
const ROOM_BYTES: usize = 3 * 512 * 6 + 2_000;

proptest! {
    #[test]
    fn what_is_written_reads_back_in_every_format(record in record()) {
        let draft = &*record.draft;
        let expected = Incoming {
            event_id: draft.event_id.clone(),
            event_type: draft.event_type.clone(),
            timestamp: draft.timestamp,
            aggregate_type: draft.stream.as_ref().map(|stream| stream.category().as_str().into()),
            aggregate_id: draft.stream.as_ref().map(|stream| stream.id().into()),
            aggregate_version: draft.stream.is_some().then_some(record.version),
            correlation_id: Some(draft.correlation_id.clone()),
            causation_id: draft.causation_id.clone(),
            metadata: draft.metadata.clone(),
            tags: draft.tags.clone(),
            protection: draft.protection.clone(),
            data: Json::parse(str::from_utf8(&draft.data).unwrap()).unwrap(),
            link: Some(link()),
            source: None,
        };
        for format in FORMATS {
            let message = received(write(&record, link(), format, "order").unwrap());
            prop_assert_eq!(message.timestamp, draft.timestamp);
            prop_assert_eq!(&message.key, &draft.destination.as_ref().unwrap().key);
            prop_assert_eq!(&read(&message), &Ok(expected.clone()), "{:?}: {:?}", format, message);
            let known = glimpse(&message);
            prop_assert_eq!(known.event_id.as_ref(), Some(&draft.event_id));
            prop_assert_eq!(known.event_type.as_ref(), Some(&draft.event_type));
            prop_assert_eq!(known.correlation_id.as_ref(), Some(&draft.correlation_id));
        }
    }

    /// So that whatever a store takes is taken by a broker that takes [`RECORD_BYTES_MAX`] and some room for ids.
    #[test]
    fn a_message_is_no_larger_than_its_record(record in record(), metadata in prop::collection::btree_map("[\"\\\\\u{1}a]{1,300}", json(), 0..40)) {
        let mut draft = (*record.draft).clone();
        draft.metadata.extend(metadata);
        let record = Record { draft: draft.into(), ..record };
        for format in FORMATS {
            let message = write(&record, link(), format, "order").unwrap();
            let headers = message.headers.iter().map(|(name, value)| name.len() + value.len() + 10).sum::<usize>();
            let key = message.key.as_ref().map_or(0, |key| key.as_bytes().len());
            let bytes = key + headers + message.value.as_ref().map_or(0, Bytes::len);
            let most = record.draft.encoded_len() + ROOM_BYTES;
            prop_assert!(bytes <= most, "{:?}: {} of {}", format, bytes, most);
        }
    }

    #[test]
    fn what_a_foreign_envelope_says_beside_its_fields_goes_on_unchanged_for_ever(
        fields in prop::collection::btree_map(text(), json(), 0..6),
        metadata in prop::collection::btree_map(text(), json(), 0..6),
        formats in vec(prop::sample::select(FORMATS.to_vec()), 1..4),
    ) {
        let mut envelope: Metadata = fields.into_iter().map(|(name, json)| (format!("x{name}"), json)).collect();
        let unknown = envelope.clone();
        for (name, json) in [("event_type", "\"E\""), ("event_id", "\"1\""), ("timestamp", "\"2026-03-02T10:00:00\""), ("data", "{}")] {
            envelope.insert(name.into(), Json::parse(json).unwrap());
        }
        envelope.insert("metadata".into(), Json::of(&metadata).unwrap());
        let first = read(&message(&[], &serde_json::to_string(&envelope).unwrap())).unwrap();
        for (name, json) in &metadata {
            prop_assert_eq!(first.metadata.get(name), Some(json));
        }
        for (name, json) in &unknown {
            prop_assert!(first.metadata.iter().any(|(known, value)| known.ends_with(name.as_str()) && value == json));
        }
        let mut hop = first.clone();
        for format in formats {
            hop = read(&received(write(&passed_on(&hop), link(), format, "import").unwrap())).unwrap();
            prop_assert_eq!(&hop.metadata, &first.metadata);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_fail_otherwise(
        value in option::of(prop_oneof![vec(any::<u8>(), 0..200), json().prop_map(|json| json.as_str().into())]),
        headers in vec((prop::sample::select(vec!["ce_id", "ce_source", "ce_type", "ce_specversion", "content-type", "factum-at", "traceparent"]), prop::sample::select(vec!["1.0", "application/json", "application/cloudevents+json", "x"])), 0..6),
    ) {
        let mut message = message(&headers, "");
        message.value = value.map(Bytes::from);
        if let Err(error) = read(&message) {
            prop_assert!(Error::from(error).is_poison());
        }
        glimpse(&message);
    }
}
