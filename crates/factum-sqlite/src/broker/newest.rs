//! The newest messages of each partition, as they were appended.
//!
//! A consumer that keeps up gets its messages from here, and the file is for those who are further behind. A message
//! comes here when it is durable, and before anybody is told that it has arrived.

use std::collections::{BTreeMap, VecDeque};

use factum_core::{
    Message, TopicPartition, Watermarks,
    groups::{ReadLimit, Slice},
};

use super::tables::size;

/// How many messages of a partition are kept.
const MESSAGES_MAX: usize = 512;

/// How many bytes all messages of all partitions have together.
const BYTES_MAX: u64 = 8 * 1024 * 1024;

/// What a message takes besides its bytes.
const OVERHEAD_BYTES: u64 = 300;

/// The last messages of all partitions.
#[derive(Debug, Default)]
pub(super) struct Newest {
    parts: BTreeMap<TopicPartition, Part>,
    bytes: u64,
}

/// Those of one, without a gap, up to its end.
#[derive(Debug, Default)]
struct Part {
    first: u64,
    messages: VecDeque<Message>,
    bytes: u64,
}

impl Newest {
    /// Adds messages that follow each other, of a partition that now begins at `first`.
    pub(super) fn append(
        &mut self,
        partition: &TopicPartition,
        first: u64,
        messages: impl Iterator<Item = Message>,
    ) {
        let part = match self.parts.get_mut(partition) {
            Some(part) => part,
            None => self.parts.entry(partition.clone()).or_default(),
        };
        self.bytes -= part.bytes;
        part.first = part.first.max(first);
        for message in messages {
            let follows = |last: &Message| last.offset + 1 == message.offset;
            if !part.messages.back().is_none_or(follows) {
                part.messages.clear();
                part.bytes = 0;
            }
            part.bytes += weight(&message);
            part.messages.push_back(message);
        }
        part.shorten(MESSAGES_MAX, BYTES_MAX);
        self.bytes += part.bytes;
        while self.bytes > BYTES_MAX {
            // The largest gives its older half, so that the others are looked through once for many appends. What is
            // quiet keeps its messages beside what is busy.
            let Some(largest) = self.parts.values_mut().max_by_key(|part| part.bytes) else {
                break;
            };
            let before = largest.bytes;
            largest.shorten(MESSAGES_MAX, before / 2);
            self.bytes -= before - largest.bytes;
        }
    }

    /// A partition begins at `first` now.
    pub(super) fn trim(&mut self, partition: &TopicPartition, first: u64) {
        if let Some(part) = self.parts.get_mut(partition) {
            part.first = part.first.max(first);
        }
    }

    /// Messages from `offset` on; `None` when the first of them is not here.
    pub(super) fn read(
        &self,
        partition: &TopicPartition,
        offset: u64,
        limit: ReadLimit,
    ) -> Option<Slice> {
        let part = self.parts.get(partition)?;
        let oldest = part.messages.front()?.offset;
        let from = offset.max(part.first);
        let begin = usize::try_from(from.checked_sub(oldest)?).ok()?;
        if begin > part.messages.len() {
            return None;
        }
        let mut room = limit.bytes as u64;
        let mut messages = Vec::new();
        for message in part.messages.range(begin..).take(limit.messages) {
            let bytes = size(
                message.key.as_ref(),
                &message.headers,
                message.value.as_deref(),
            );
            if bytes > room && !messages.is_empty() {
                break;
            }
            room = room.saturating_sub(bytes);
            messages.push(message.clone());
        }
        let next = messages.last().map_or(from, |last| last.offset + 1);
        let end = oldest + part.messages.len() as u64;
        Some(Slice {
            messages,
            next,
            watermarks: Watermarks {
                first: part.first,
                end,
            },
        })
    }
}

impl Part {
    /// Leaves so many of the newest messages at most, with so many bytes.
    fn shorten(&mut self, messages: usize, bytes: u64) {
        while self.messages.len() > messages || self.bytes > bytes {
            let Some(oldest) = self.messages.pop_front() else {
                break;
            };
            self.bytes -= weight(&oldest);
        }
    }
}

fn weight(message: &Message) -> u64 {
    let bytes = size(
        message.key.as_ref(),
        &message.headers,
        message.value.as_deref(),
    );
    bytes + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use factum_core::{Headers, Timestamp, Topic};

    use super::*;

    fn message(offset: u64, bytes: usize) -> Message {
        Message {
            topic: Topic::of("orders"),
            partition: 0,
            offset,
            timestamp: Timestamp::UNIX_EPOCH,
            key: None,
            headers: Headers::new(),
            value: Some(vec![1; bytes].into()),
        }
    }

    fn orders() -> TopicPartition {
        TopicPartition::new(Topic::of("orders"), 0)
    }

    #[test]
    fn messages_are_read_from_where_they_are_known_without_a_gap() {
        let mut newest = Newest::default();
        newest.append(
            &orders(),
            90,
            (100..1_000).map(|offset| message(offset, 10)),
        );
        let read = |newest: &Newest, offset, messages, bytes| {
            let slice = newest.read(&orders(), offset, ReadLimit { messages, bytes })?;
            let offsets: Vec<_> = slice
                .messages
                .iter()
                .map(|message| message.offset)
                .collect();
            Some((offsets, slice.next, slice.watermarks))
        };
        let marks = Watermarks {
            first: 90,
            end: 1_000,
        };
        assert_eq!(read(&newest, 100, 9, 1_000), None, "pushed out");
        assert_eq!(
            read(&newest, 998, 9, 1_000),
            Some((vec![998, 999], 1_000, marks))
        );
        assert_eq!(
            read(&newest, 990, 2, 1_000),
            Some((vec![990, 991], 992, marks))
        );
        assert_eq!(
            read(&newest, 990, 9, 25),
            Some((vec![990, 991], 992, marks))
        );
        assert_eq!(read(&newest, 990, 9, 1), Some((vec![990], 991, marks)));
        assert_eq!(read(&newest, 1_000, 9, 25), Some((vec![], 1_000, marks)));
        assert_eq!(read(&newest, 1_001, 9, 25), None);
        newest.append(&orders(), 90, [message(1_002, 10)].into_iter());
        assert_eq!(read(&newest, 998, 9, 1_000), None, "there would be a gap");
        newest.append(
            &orders(),
            90,
            (990..1_000).map(|offset| message(offset, 10)),
        );
        newest.trim(&orders(), 995);
        let marks = Watermarks {
            first: 995,
            end: 1_000,
        };
        assert_eq!(read(&newest, 3, 1, 25), Some((vec![995], 996, marks)));
    }

    #[test]
    fn large_messages_push_others_out() {
        let mut newest = Newest::default();
        newest.append(
            &orders(),
            0,
            (0..30).map(|offset| message(offset, 1024 * 1024)),
        );
        let part = &newest.parts[&orders()];
        assert!(part.bytes <= BYTES_MAX);
        assert!((1..=8).contains(&part.messages.len()));
        assert_eq!(part.messages.back().unwrap().offset, 29);
    }

    /// Each partition's share was counted when it was appended to: those that came one after another kept theirs of then.
    #[test]
    fn all_partitions_together_have_a_bound() {
        let mut newest = Newest::default();
        let held = |newest: &Newest| -> u64 {
            let parts = newest.parts.values();
            parts.flat_map(|part| &part.messages).map(weight).sum()
        };
        let partition = |number| TopicPartition::new(Topic::of("orders"), number);
        for number in 0..100 {
            newest.append(
                &partition(number),
                0,
                (0..100).map(|offset| message(offset, 80_000)),
            );
            assert!(held(&newest) <= BYTES_MAX, "{}", held(&newest));
            assert_eq!(held(&newest), newest.bytes);
        }
        // A quiet one is not pushed out by a busy one.
        newest.append(&partition(200), 0, [message(0, 10)].into_iter());
        for offset in 0..1_000 {
            newest.append(
                &partition(3),
                0,
                [message(100 + offset, 80_000)].into_iter(),
            );
        }
        assert_eq!(newest.parts[&partition(200)].messages.len(), 1);
        let busy = &newest.parts[&partition(3)];
        assert_eq!(busy.messages.back().unwrap().offset, 1_099);
    }
}
