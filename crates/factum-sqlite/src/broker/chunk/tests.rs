//! Chunks come back as they were written, and damage is noticed.

use factum_core::Topic;
use proptest::prelude::*;

use super::*;

fn place() -> Place {
    Place::new(3, 17).unwrap()
}

fn message(
    timestamp: i64,
    key: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
    value: Option<Vec<u8>>,
) -> Outgoing {
    Outgoing {
        topic: Topic::of("t"),
        partition: 0,
        key: key.map(Key::from),
        headers: headers.into_iter().collect(),
        value: value.map(Bytes::from),
        timestamp: Timestamp::from_micros(timestamp),
    }
}

fn any_message() -> impl Strategy<Value = Outgoing> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    let headers = prop::collection::vec((".{0,9}", bytes()), 0..4);
    (
        any::<i64>(),
        prop::option::of(bytes()),
        headers,
        prop::option::of(bytes()),
    )
        .prop_map(|(timestamp, key, headers, value)| message(timestamp, key, headers, value))
}

fn written(messages: &[Outgoing]) -> Vec<u8> {
    let mut chunk = ChunkWriter::at(place());
    for message in messages {
        chunk.push(message);
    }
    assert_eq!(chunk.len(), chunk.data.len());
    chunk.finish()
}

fn expected(messages: Vec<Outgoing>) -> Vec<Stored> {
    let stored = |(offset, message): (u64, Outgoing)| {
        let Outgoing {
            key,
            headers,
            value,
            timestamp,
            ..
        } = message;
        Stored {
            offset,
            timestamp,
            key,
            headers,
            value,
        }
    };
    (17..).zip(messages).map(stored).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_come_back_as_they_were_written(messages in prop::collection::vec(any_message(), 1..5)) {
        let read: Result<Vec<_>, _> = ChunkReader::new(place(), written(&messages)).collect();
        prop_assert_eq!(read.unwrap(), expected(messages));
    }

    #[test]
    fn a_flipped_bit_is_noticed(
        messages in prop::collection::vec(any_message(), 1..4),
        byte in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let mut data = written(&messages);
        let byte = byte.index(data.len());
        data[byte] ^= 1 << bit;
        let read: Result<Vec<_>, _> = ChunkReader::new(place(), data).collect();
        prop_assert!(read.is_err(), "bit {bit} of byte {byte} of {}", messages.len());
    }

    #[test]
    fn whatever_bytes_there_are_reading_ends(data in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ends: Vec<_> = ChunkReader::new(place(), data).collect();
    }
}

#[test]
fn a_chunk_in_the_row_of_another_is_noticed() {
    let data = written(&[message(1, None, vec![], None)]);
    let elsewhere = Place::new(4, 17).unwrap();
    let error = ChunkReader::new(elsewhere, data)
        .next()
        .unwrap()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the message at offset 17 is damaged: its checksum does not match"
    );
}

#[test]
fn the_layout_stays_what_it_is() {
    let headers = vec![("h".to_owned(), b"v".to_vec())];
    let data = written(&[message(
        300,
        Some(b"key".to_vec()),
        headers,
        Some(b"value".to_vec()),
    )]);
    let (sum, rest) = data[2..].split_at(4);
    assert_eq!(data[..2], [1, 17]);
    assert_eq!(sum, checksum(place(), rest).to_le_bytes());
    assert_eq!(rest, b"\x03\xd8\x04\x03key\x01\x01h\x01vvalue");
}
