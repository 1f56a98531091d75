//! The broker port: topics, partitions, producers and consumer groups, with exactly Kafka's meaning.
//!
//! # For those who write an adapter
//!
//! * Offsets grow within a partition; a message keeps its offset for ever. There may be holes.
//! * [`Broker::ensure_topic`] makes a topic, or gives it the retention that is stated now. Another partition count is
//!   fatal: a key would change its partition. Retention deletes from the start of a partition, a little later than
//!   it could: where the broker doesn't do that by itself, appends and [`Broker::sweep`] do.
//! * [`Producer::send`] is asynchronous: messages of one producer and partition are appended in the order in
//!   which they were sent, or not at all. Reports come back by [`Producer::reports`]; a producer that reported
//!   a failure is dead, and its user makes a new one.
//! * A message that can't be appended (an unknown partition; more than [`BrokerCapabilities::message_bytes_max`],
//!   which is poison) fails, and with it all that were sent behind it; those before it are appended.
//! * What is on the way is bounded, and `send` waits for room, whether reports are taken or not. The embedded brokers
//!   take 4,096 messages and 16 MiB of a producer.
//! * A consumer reads only what it is assigned. [`Consumer::next`] tells of assignments and revocations between
//!   batches of messages. What was read of a revoked partition must be finished or given up before the next
//!   call of `next`: that call gives the partition away. What is *lost* is given away already.
//! * Nothing of a partition is delivered before its owner's first [`Consumer::seek`] since it was assigned: where to
//!   start is said by the store, and not by the broker.
//! * Where retention passes what is to be read next of a partition, its owner is told once ([`Consumed::Passed`]); what
//!   it reads of other partitions is neither lost nor held back by that.
//! * To seek, pause or resume what is not assigned is `fenced`, as soon as that is known: [`Consumer::next`] may tell of
//!   it a little later. A commit of what is not held any more is dropped, so that a late word of an old owner doesn't
//!   hide how far the new one is.
//! * A member that crashes is noticed after its session, and its partitions go to others. Any call is a sign of life,
//!   and a member that calls in time is never taken for dead; one that was silent for longer may keep what it has if
//!   nobody noticed. Waiting in `next` need not be a sign of life: put a limit on each call, well below the session,
//!   and call again.
//! * Offsets committed to the broker are for tools: Factum starts from the store's inbox row.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Error, Group, Headers, Key, Message, Timestamp, Topic};

/// A topic, as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSpec {
    /// Its name.
    pub topic: Topic,
    /// How many partitions it has.
    pub partitions: u32,
    /// How long messages are kept; `None`: for ever.
    pub retention: Option<Duration>,
    /// How many bytes of messages are kept per partition; `None`: all.
    pub retention_bytes: Option<u64>,
}

impl TopicSpec {
    /// A topic of `partitions` partitions that keeps all messages for ever.
    pub fn new(topic: Topic, partitions: u32) -> Self {
        Self {
            topic,
            partitions,
            retention: None,
            retention_bytes: None,
        }
    }
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: u32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: Topic, partition: u32) -> Self {
        Self { topic, partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// The offsets that a partition holds: from `first`, up to but without `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermarks {
    /// The oldest offset that is kept.
    pub first: u64,
    /// The offset that the next message gets.
    pub end: u64,
}

/// A message to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: u32,
    /// The key.
    pub key: Option<Key>,
    /// The headers.
    pub headers: Headers,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// When it was published.
    pub timestamp: Timestamp,
}

/// What became of a message that was sent.
#[derive(Clone, Debug)]
pub struct Report {
    /// The number that the sender gave to it.
    pub sequence: u64,
    /// Its offset, or why it was not appended, as far as is known.
    pub result: Result<u64, Error>,
}

/// One producer run: it keeps the order of what it sends, and dies with its first failure.
#[async_trait]
pub trait Producer: fmt::Debug + Send {
    /// Hands over messages, each with a number that comes back in its report. Waits while too many are on the way.
    ///
    /// Not cancel-safe: when it is cancelled nobody knows what was handed over, so the producer may be dead from then
    /// on. What is appended is in order all the same.
    ///
    /// # Errors
    ///
    /// When the producer is dead: of this batch, what is not reported was not appended. Otherwise what becomes of a
    /// message is in its report alone.
    async fn send(&mut self, batch: Vec<(u64, Outgoing)>) -> Result<(), Error>;

    /// The reports that are there; waits for at least one if messages are on the way, returns none if not.
    ///
    /// Cancel-safe: a report that was not returned comes with the next call.
    async fn reports(&mut self) -> Result<Vec<Report>, Error>;
}

/// What a consumer is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consumed {
    /// Messages of assigned partitions, each partition's in order. Never empty.
    Messages(Vec<Message>),
    /// These partitions are this consumer's from now on. Seek each before the next call.
    Assigned(Vec<TopicPartition>),
    /// These will be given away by the next call: finish or give up what is in flight.
    Revoked(Vec<TopicPartition>),
    /// These were given away already, because the consumer was too slow to answer.
    Lost(Vec<TopicPartition>),
    /// What is to be read next of these is gone: retention has passed it. They stay this consumer's, and nothing more of
    /// them is delivered until they are sought; the others go on.
    Passed(Vec<TopicPartition>),
}

/// How to join a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The group.
    pub group: Group,
    /// The topics to read.
    pub topics: Vec<Topic>,
    /// A name for the member, shown to operators.
    pub member: String,
    /// After how long without a call a member counts as dead.
    pub session: Duration,
    /// How many messages one [`Consumed::Messages`] has at most.
    pub batch_max: usize,
}

/// A member of a consumer group. Dropping it leaves the group as a crash does.
#[async_trait]
pub trait Consumer: fmt::Debug + Send {
    /// Waits for what comes next. Cancel-safe: what was not returned comes with the next call.
    ///
    /// Put a limit well below the session on it: a member that waits may not show that it is alive.
    ///
    /// # Errors
    ///
    /// What the broker said, classified. That retention has passed what is to be read next of a partition is no error
    /// but [`Consumed::Passed`]: the other partitions must not suffer from it.
    async fn next(&mut self) -> Result<Consumed, Error>;

    /// Reads this partition from `offset` on.
    ///
    /// # Errors
    ///
    /// Class fatal when the partition no longer has that offset (retention passed it) or never had it
    /// (the topic was made anew): never answered by going elsewhere. Class fenced when it is not assigned, or not any
    /// more: [`Consumer::next`] tells of that, if it hasn't yet.
    async fn seek(&mut self, partition: &TopicPartition, offset: u64) -> Result<(), Error>;

    /// Delivers nothing more of this partition until it is resumed. Goes on being its owner.
    async fn pause(&mut self, partition: &TopicPartition) -> Result<(), Error>;

    /// Delivers this partition again.
    async fn resume(&mut self, partition: &TopicPartition) -> Result<(), Error>;

    /// Tells the broker how far the group has come, for tools. May be done later, or lost; what is not held is dropped.
    async fn commit(&mut self, offsets: &[(TopicPartition, u64)]) -> Result<(), Error>;

    /// Leaves the group in good order: others take over at once.
    async fn leave(self: Box<Self>) -> Result<(), Error>;
}

/// Who owns which partitions of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMember {
    /// The name that the member gave.
    pub member: String,
    /// What it is assigned.
    pub partitions: Vec<TopicPartition>,
}

/// What a broker can do, as facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerCapabilities {
    /// Whether messages outlive the process.
    pub durable: bool,
    /// The largest message it takes, in bytes of key, value and headers: a larger one is poison. The embedded brokers
    /// take 1 MiB.
    pub message_bytes_max: usize,
}

/// Topics and groups. See the [module](self) for the contract.
#[async_trait]
pub trait Broker: fmt::Debug + Send + Sync + 'static {
    /// What it can do.
    fn capabilities(&self) -> BrokerCapabilities;

    /// Makes the topic, or verifies its partition count and gives it this retention.
    ///
    /// # Errors
    ///
    /// Class fatal when it exists with another partition count.
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), Error>;

    /// All topics.
    async fn topics(&self) -> Result<Vec<TopicSpec>, Error>;

    /// Drops what the retention of its topics no longer keeps at `now`. Whoever runs on a broker calls it from time
    /// to time, since nothing else may happen to a topic; a broker that applies retention by itself does nothing.
    ///
    /// # Errors
    ///
    /// Those of deleting. Nothing is lost by trying again later.
    async fn sweep(&self, now: Timestamp) -> Result<(), Error> {
        let _ = now;
        Ok(())
    }

    /// The offsets that a partition holds.
    async fn watermarks(&self, partition: &TopicPartition) -> Result<Watermarks, Error>;

    /// Messages of a partition from `offset` on (or the first kept behind it), at most `limit`, outside of any group.
    async fn read(
        &self,
        partition: &TopicPartition,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<Message>, Error>;

    /// A new producer run.
    async fn producer(&self) -> Result<Box<dyn Producer>, Error>;

    /// Joins a group.
    async fn join(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, Error>;

    /// The members of a group and what they are assigned.
    ///
    /// # Errors
    ///
    /// Class fatal when the broker can't say: an empty answer means that there are none.
    async fn members(&self, group: &Group) -> Result<Vec<GroupMember>, Error>;

    /// The offsets that a group told the broker.
    async fn committed(&self, group: &Group) -> Result<Vec<(TopicPartition, u64)>, Error>;
}
