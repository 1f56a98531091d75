//! Chunks: how messages that were appended together lie in one row.
//!
//! # Layout
//!
//! A chunk starts with one byte, the layout's version: 1. Its messages follow in the order of their offsets,
//! which are dense, so that only the first one's is stored, in the row's key. Numbers are LEB128 varints of at
//! most ten bytes unless said otherwise.
//!
//! | field     | what it is                                                                                |
//! |-----------|-------------------------------------------------------------------------------------------|
//! | length    | of all that follows the checksum                                                          |
//! | checksum  | four bytes, little-endian: CRC-32 (ISO-HDLC) over the message's place (eight bytes, little-endian) and all that follows |
//! | flags     | one byte: 1 when there is a key, 2 when there is a value                                  |
//! | timestamp | microseconds since that of the message before it in the chunk, or since 1970 for the first; zigzag |
//! | key       | length, bytes; only when there is one                                                     |
//! | headers   | count; for each: length and bytes of the name, length and bytes of the value              |
//! | value     | the rest; only when there is one                                                          |
//!
//! The place has the partition's number in it, so that a chunk in another's row is found out too.

use std::sync::Arc;

use bytes::Bytes;
use factum_core::{Headers, Key, Outgoing, Timestamp};

use super::place::Place;

const LAYOUT: u8 = 1;
const HAS_KEY: u8 = 1;
const HAS_VALUE: u8 = 2;

/// A message as a chunk holds it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) offset: u64,
    pub(super) timestamp: Timestamp,
    pub(super) key: Option<Key>,
    pub(super) headers: Headers,
    pub(super) value: Option<Bytes>,
}

/// What is wrong with a chunk, and at which offset.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message at offset {offset} is damaged: {what}")]
pub(super) struct Damaged {
    offset: u64,
    what: &'static str,
}

/// Puts messages into one chunk, one after another.
#[derive(Debug)]
pub(super) struct ChunkWriter {
    data: Vec<u8>,
    next: Place,
    timestamp: i64,
    /// Kept between messages, so that each is measured before it is written without a new allocation.
    body: Vec<u8>,
}

impl ChunkWriter {
    /// An empty chunk whose first message has this place.
    pub(super) fn at(first: Place) -> Self {
        Self {
            data: vec![LAYOUT],
            next: first,
            timestamp: 0,
            body: Vec::new(),
        }
    }

    /// How many bytes it has.
    pub(super) fn len(&self) -> usize {
        self.data.len()
    }

    /// Adds a message behind the others.
    pub(super) fn push(&mut self, message: &Outgoing) {
        let body = &mut self.body;
        body.clear();
        let key = if message.key.is_some() { HAS_KEY } else { 0 };
        let value = if message.value.is_some() {
            HAS_VALUE
        } else {
            0
        };
        body.push(key | value);
        let timestamp = message.timestamp.as_micros();
        put_number(body, zigzag(timestamp.wrapping_sub(self.timestamp)));
        self.timestamp = timestamp;
        if let Some(key) = &message.key {
            put_bytes(body, key.as_bytes());
        }
        put_number(body, message.headers.len() as u64);
        for (name, value) in message.headers.iter() {
            put_bytes(body, name.as_bytes());
            put_bytes(body, value);
        }
        if let Some(value) = &message.value {
            body.extend_from_slice(value);
        }
        put_number(&mut self.data, body.len() as u64);
        self.data
            .extend_from_slice(&checksum(self.next, body).to_le_bytes());
        self.data.extend_from_slice(body);
        self.next = self.next.following();
    }

    /// The chunk's bytes.
    pub(super) fn finish(self) -> Vec<u8> {
        self.data
    }
}

/// Reads the messages of one chunk. Their keys, headers and values share its bytes.
#[derive(Debug)]
pub(super) struct ChunkReader {
    rest: Bytes,
    next: Place,
    timestamp: i64,
    started: bool,
}

impl ChunkReader {
    /// Reads `data`, whose first message has this place.
    pub(super) fn new(first: Place, data: Vec<u8>) -> Self {
        Self {
            rest: data.into(),
            next: first,
            timestamp: 0,
            started: false,
        }
    }

    fn read(&mut self) -> Result<Stored, &'static str> {
        if !self.started {
            self.started = true;
            if take(&mut self.rest, 1)?[0] != LAYOUT {
                return Err("the layout of its chunk is unknown: a newer version wrote it");
            }
        }
        let length = take_length(&mut self.rest)?;
        let sum = take(&mut self.rest, 4)?;
        let mut body = take(&mut self.rest, length)?;
        if checksum(self.next, &body).to_le_bytes() != *sum {
            return Err("its checksum does not match");
        }
        let flags = take(&mut body, 1)?[0];
        let since = unzigzag(take_number(&mut body)?);
        self.timestamp = self.timestamp.wrapping_add(since);
        let key = if flags & HAS_KEY == 0 {
            None
        } else {
            Some(take_bytes(&mut body)?.into())
        };
        let mut headers = Headers::new();
        for _ in 0..take_number(&mut body)? {
            let name = take_bytes(&mut body)?;
            let name: Arc<str> = str::from_utf8(&name)
                .map_err(|_| "a header's name is no text")?
                .into();
            headers.push(name, take_bytes(&mut body)?);
        }
        let value = (flags & HAS_VALUE != 0).then_some(body);
        let timestamp = Timestamp::from_micros(self.timestamp);
        let offset = self.next.offset();
        self.next = self.next.following();
        Ok(Stored {
            offset,
            timestamp,
            key,
            headers,
            value,
        })
    }
}

impl Iterator for ChunkReader {
    type Item = Result<Stored, Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let offset = self.next.offset();
        let stored = self.read().map_err(|what| Damaged { offset, what });
        if stored.is_err() {
            // Behind a damaged message nothing can be found.
            self.rest = Bytes::new();
        }
        Some(stored)
    }
}

fn checksum(place: Place, body: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&place.number().to_le_bytes());
    sum.update(body);
    sum.finalize()
}

fn put_number(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    to.push((number & 0x7f) as u8);
}

fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    put_number(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

fn take(from: &mut Bytes, length: usize) -> Result<Bytes, &'static str> {
    if length > from.len() {
        return Err("it ends too early");
    }
    Ok(from.split_to(length))
}

fn take_number(from: &mut Bytes) -> Result<u64, &'static str> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(from, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err("a number in it is too long")
}

fn take_length(from: &mut Bytes) -> Result<usize, &'static str> {
    usize::try_from(take_number(from)?).map_err(|_| "a length in it is too large")
}

fn take_bytes(from: &mut Bytes) -> Result<Bytes, &'static str> {
    let length = take_length(from)?;
    take(from, length)
}

/// Small numbers of either sign as small numbers without one.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

#[cfg(test)]
mod tests;
