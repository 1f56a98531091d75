//! The log behind an embedded broker: topics, messages and committed offsets, and nothing of groups.

use std::{fmt, pin::Pin, sync::Arc};

use async_trait::async_trait;

use super::{Arrivals, Keep};
use crate::{
    BrokerCapabilities, Error, Group, Message, Outgoing, Timestamp, TopicPartition, TopicSpec,
    Watermarks,
};

/// The outcome of an append that is under way: the offset of each message, in the order of the batch.
///
/// Dropping it changes nothing about the append.
pub type Appending = Pin<Box<dyn Future<Output = Result<Vec<u64>, Error>> + Send>>;

/// How much to read at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimit {
    /// So many messages.
    pub messages: usize,
    /// No further message once this many bytes are reached; the first one always comes.
    pub bytes: usize,
}

/// A stretch of a partition, with the watermarks as of the same moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The messages, in order.
    pub messages: Vec<Message>,
    /// Where to go on: behind the last message, or where the partition ended.
    pub next: u64,
    /// What the partition held when this was read.
    pub watermarks: Watermarks,
}

/// Where an embedded broker keeps its topics.
///
/// # For those who write one
///
/// * Offsets of a partition grow; the batches of one caller are appended in the order in which
///   [`append`](Self::append) was called.
/// * A batch is appended whole or not at all. Its outcome is told when it is durable.
/// * Whatever can be read is told to the [`Arrivals`] that [`listen`](Self::listen) gave, before the outcome.
/// * The broker has verified that the topics and partitions of a batch exist.
#[async_trait]
pub trait TopicLog: fmt::Debug + Send + Sync + 'static {
    /// What it can do.
    fn capabilities(&self) -> BrokerCapabilities;

    /// Where to say how far partitions reach. Called once, before anything is appended.
    fn listen(&self, arrivals: Arc<Arrivals>);

    /// All topics.
    async fn topics(&self) -> Result<Vec<TopicSpec>, Error>;

    /// Makes the topic. If it exists with as many partitions, it takes over the retention of `spec`.
    /// Returns the topic as it is now.
    async fn put_topic(&self, spec: &TopicSpec) -> Result<TopicSpec, Error>;

    /// The offsets that a partition holds.
    async fn watermarks(&self, partition: &TopicPartition) -> Result<Watermarks, Error>;

    /// Hands over a batch, waiting while the log has too much to do; the outcome comes by what is returned.
    async fn append(&self, batch: Vec<Outgoing>) -> Result<Appending, Error>;

    /// Messages from `offset` on, or from the first that is kept behind it.
    async fn read(
        &self,
        partition: &TopicPartition,
        offset: u64,
        limit: ReadLimit,
    ) -> Result<Slice, Error>;

    /// Drops messages at the start of a partition as [`Keep::expired`] says, as many as it likes at a time.
    /// Returns the watermarks after it; the broker calls again until `first` stays as it is.
    async fn trim(&self, partition: &TopicPartition, keep: &Keep) -> Result<Watermarks, Error>;

    /// Keeps the offsets that a group committed.
    async fn put_offsets(
        &self,
        group: &Group,
        offsets: &[(TopicPartition, u64)],
        now: Timestamp,
    ) -> Result<(), Error>;

    /// The offsets that a group committed, in the order of partitions.
    async fn offsets(&self, group: &Group) -> Result<Vec<(TopicPartition, u64)>, Error>;
}
