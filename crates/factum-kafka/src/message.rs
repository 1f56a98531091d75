//! Messages on their way in and out of Kafka's client library.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use factum_core::{Headers, Key, Message, Outgoing, Timestamp, Topic};
use rdkafka::message::{
    BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders, Timestamp as KafkaTime,
};

/// How many names of headers are remembered: a topic has a handful.
const NAMES_MAX: usize = 64;

/// Names of headers that came before: each message has the same few.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<Box<str>, Arc<str>>);

impl Names {
    fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return known.clone();
        }
        let shared: Arc<str> = name.into();
        if self.0.len() < NAMES_MAX {
            self.0.insert(name.into(), shared.clone());
        }
        shared
    }
}

/// The message, with bytes of its own: the library's are freed with a whole answer of the broker's.
pub(crate) fn received(
    message: &BorrowedMessage<'_>,
    topic: &Topic,
    partition: u32,
    offset: u64,
    names: &mut Names,
) -> Message {
    let (key, value) = (message.key(), message.payload());
    let theirs = message.headers();
    let of_headers: usize = theirs.map_or(0, |headers| {
        let values = headers.iter().filter_map(|header| header.value);
        values.map(<[u8]>::len).sum()
    });
    // One piece of memory for all of them.
    let size = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + of_headers;
    let mut bytes = Vec::with_capacity(size);
    let values = theirs.into_iter().flat_map(|headers| headers.iter());
    let parts = [key, value].into_iter().flatten();
    for part in parts.chain(values.filter_map(|header| header.value)) {
        bytes.extend_from_slice(part);
    }
    let bytes = Bytes::from(bytes);
    let mut at = 0;
    let mut next = |part: &[u8]| {
        at += part.len();
        bytes.slice(at - part.len()..at)
    };
    let key = key.map(&mut next).map(Key::from);
    let value = value.map(&mut next);
    let mut headers = Headers::new();
    for header in theirs.into_iter().flat_map(|headers| headers.iter()) {
        // A header without a value is one without bytes.
        headers.push(
            names.get(header.key),
            next(header.value.unwrap_or_default()),
        );
    }
    let timestamp = match message.timestamp() {
        KafkaTime::NotAvailable => Timestamp::UNIX_EPOCH,
        KafkaTime::CreateTime(millis) | KafkaTime::LogAppendTime(millis) => {
            Timestamp::from_millis(millis)
        }
    };
    Message {
        topic: topic.clone(),
        partition,
        offset,
        timestamp,
        key,
        headers,
        value,
    }
}

/// The headers of a message that is sent.
pub(crate) fn sent_headers(message: &Outgoing) -> Option<OwnedHeaders> {
    if message.headers.is_empty() {
        return None;
    }
    let all = OwnedHeaders::new_with_capacity(message.headers.len());
    let all = message.headers.iter().fold(all, |all, (key, value)| {
        all.insert(Header {
            key,
            value: Some(&**value),
        })
    });
    Some(all)
}

/// The bytes of key, value and headers, which is what the bound of a message counts.
pub(crate) fn size(message: &Outgoing) -> usize {
    let headers = message.headers.iter();
    let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
    let key = message.key.as_ref().map_or(0, |key| key.as_bytes().len());
    key + message.value.as_ref().map_or(0, Bytes::len) + headers
}
