//! A topic log in memory.

use std::{
    future::ready,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use factum_core::{
    BrokerCapabilities, Error, Group, Message, Outgoing, Timestamp, TopicPartition, TopicSpec,
    Watermarks,
    groups::{Age, Appending, Arrivals, Keep, ReadLimit, Slice, TopicLog},
};

use super::disk::{Content, MemoryTopicsDisk, Partition, TopicContent};

/// The largest message that the memory broker takes: as Kafka's default, so that what fits here fits there.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// The topic log of a [`MemoryBroker`](super::MemoryBroker).
#[derive(Debug)]
pub struct MemoryTopics {
    disk: MemoryTopicsDisk,
    opened: u64,
    arrivals: OnceLock<Arc<Arrivals>>,
}

impl MemoryTopics {
    /// Takes over `disk`, and says what is on it: topics, and the ends of their partitions.
    pub(super) fn mount(disk: &MemoryTopicsDisk) -> (Self, Vec<(TopicSpec, Vec<u64>)>) {
        let mut content = disk.content();
        content.opened += 1;
        let known = content.topics.values().map(|topic| {
            let ends = topic.partitions.iter().map(Partition::end).collect();
            (topic.spec.clone(), ends)
        });
        let known = known.collect();
        let opened = content.opened;
        drop(content);
        (
            Self {
                disk: disk.clone(),
                opened,
                arrivals: OnceLock::new(),
            },
            known,
        )
    }

    /// Works on the content, unless a later broker has taken over the disk.
    fn with<T>(&self, work: impl FnOnce(&mut Content) -> Result<T, Error>) -> Result<T, Error> {
        let mut content = self.disk.content();
        if content.opened == self.opened {
            work(&mut content)
        } else {
            Err(Error::transient(
                "the broker was restarted: connect to it again",
            ))
        }
    }

    fn with_partition<T>(
        &self,
        partition: &TopicPartition,
        work: impl FnOnce(&mut Partition) -> T,
    ) -> Result<T, Error> {
        self.with(|content| Ok(work(content.partition(partition)?)))
    }
}

impl Content {
    fn partition(&mut self, partition: &TopicPartition) -> Result<&mut Partition, Error> {
        let topic = self.topics.get_mut(&partition.topic);
        let found = topic.and_then(|topic| topic.partitions.get_mut(partition.partition as usize));
        found.ok_or_else(|| Error::fatal(format!("unknown partition `{partition}`")))
    }
}

impl Partition {
    fn watermarks(&self) -> Watermarks {
        Watermarks {
            first: self.first,
            end: self.end(),
        }
    }

    fn push(&mut self, message: Outgoing) -> u64 {
        let Outgoing {
            topic,
            partition,
            key,
            headers,
            value,
            timestamp,
        } = message;
        let offset = self.end();
        let message = Message {
            topic,
            partition,
            offset,
            timestamp,
            key,
            headers,
            value,
        };
        self.bytes += bytes(&message);
        self.messages.push_back(message);
        offset
    }
}

fn bytes(message: &Message) -> u64 {
    let headers: usize = message
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    let key = message.key.as_ref().map_or(0, |key| key.as_bytes().len());
    let value = message.value.as_ref().map_or(0, bytes::Bytes::len);
    (key + value + headers) as u64
}

#[async_trait]
impl TopicLog for MemoryTopics {
    fn capabilities(&self) -> BrokerCapabilities {
        BrokerCapabilities {
            durable: false,
            message_bytes_max: MESSAGE_BYTES_MAX,
        }
    }

    fn listen(&self, arrivals: Arc<Arrivals>) {
        assert!(self.arrivals.set(arrivals).is_ok(), "a log has one broker");
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>, Error> {
        self.with(|content| {
            Ok(content
                .topics
                .values()
                .map(|topic| topic.spec.clone())
                .collect())
        })
    }

    async fn put_topic(&self, spec: &TopicSpec) -> Result<TopicSpec, Error> {
        self.with(|content| {
            let topic = content
                .topics
                .entry(spec.topic.clone())
                .or_insert_with(|| TopicContent {
                    spec: spec.clone(),
                    partitions: (0..spec.partitions).map(|_| Partition::default()).collect(),
                });
            if topic.spec.partitions == spec.partitions {
                topic.spec = spec.clone();
            }
            Ok(topic.spec.clone())
        })
    }

    async fn watermarks(&self, partition: &TopicPartition) -> Result<Watermarks, Error> {
        self.with_partition(partition, |content| content.watermarks())
    }

    async fn append(&self, batch: Vec<Outgoing>) -> Result<Appending, Error> {
        let mut grown = Vec::new();
        let outcome = self.with(|content| {
            // All or nothing: look before writing.
            for message in &batch {
                content.partition(&TopicPartition::new(
                    message.topic.clone(),
                    message.partition,
                ))?;
            }
            let mut offsets = Vec::with_capacity(batch.len());
            for message in batch {
                let partition = TopicPartition::new(message.topic.clone(), message.partition);
                let content = content.partition(&partition)?;
                let before = content.bytes;
                let offset = content.push(message);
                offsets.push(offset);
                grown.push((partition, offset + 1, content.bytes - before));
            }
            Ok(offsets)
        });
        if let Some(arrivals) = self.arrivals.get() {
            for (partition, end, bytes) in grown {
                arrivals.reached(&partition, end, bytes);
            }
        }
        Ok(Box::pin(ready(outcome)))
    }

    async fn read(
        &self,
        partition: &TopicPartition,
        offset: u64,
        limit: ReadLimit,
    ) -> Result<Slice, Error> {
        self.with_partition(partition, |content| {
            let watermarks = content.watermarks();
            let offset = offset.max(watermarks.first);
            let skipped = usize::try_from(offset - watermarks.first).unwrap_or(usize::MAX);
            let mut room = limit.bytes as u64;
            let mut messages = Vec::new();
            for message in content.messages.iter().skip(skipped).take(limit.messages) {
                let bytes = bytes(message);
                if bytes > room && !messages.is_empty() {
                    break;
                }
                room = room.saturating_sub(bytes);
                messages.push(message.clone());
            }
            let next = messages.last().map_or(offset, |last| last.offset + 1);
            Slice {
                messages,
                next,
                watermarks,
            }
        })
    }

    async fn trim(&self, partition: &TopicPartition, keep: &Keep) -> Result<Watermarks, Error> {
        self.with_partition(partition, |content| {
            let ages = content.messages.iter().map(|message| Age {
                offset: message.offset,
                timestamp: message.timestamp,
                bytes: bytes(message),
            });
            let expired = keep.expired(content.bytes, ages);
            let dropped: u64 = content
                .messages
                .drain(..expired)
                .map(|message| bytes(&message))
                .sum();
            content.bytes -= dropped;
            content.first += expired as u64;
            content.watermarks()
        })
    }

    async fn put_offsets(
        &self,
        group: &Group,
        offsets: &[(TopicPartition, u64)],
        _: Timestamp,
    ) -> Result<(), Error> {
        self.with(|content| {
            content
                .offsets
                .entry(group.clone())
                .or_default()
                .extend(offsets.iter().cloned());
            Ok(())
        })
    }

    async fn offsets(&self, group: &Group) -> Result<Vec<(TopicPartition, u64)>, Error> {
        self.with(|content| {
            let offsets = content.offsets.get(group).into_iter().flatten();
            Ok(offsets
                .map(|(partition, offset)| (partition.clone(), *offset))
                .collect())
        })
    }
}
