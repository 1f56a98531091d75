//! The broker over a topic log: topics, producers, groups and retention.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;

use super::{
    Arrivals, Coordinator, Keep, MemberId, ReadLimit, TopicLog, consumer::GroupConsumer, lock,
    producer::LogProducer,
};
use crate::{
    Broker, BrokerCapabilities, Consumer, Env, Error, Group, GroupMember, Message, Outgoing,
    Producer, Subscription, Timestamp, Topic, TopicPartition, TopicSpec, Watermarks,
};

/// Appends apply retention at most this often, unless [`SWEEP_BYTES`] came first.
///
/// Kafka looks every five minutes; a second costs one short query per partition that has a bound.
pub const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Appends apply retention after this many bytes: a topic bounded by bytes overshoots by no more than this and a batch.
pub const SWEEP_BYTES: u64 = 1024 * 1024;

/// How many bytes [`Broker::read`] returns at most, besides the first message.
const READ_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A broker over a [`TopicLog`]. Clones are the same broker.
///
/// See [`groups`](crate::groups) for what it promises.
pub struct GroupedBroker<L>(Arc<Shared<L>>);

/// What the broker, its producers and its consumers share.
pub(super) struct Shared<L> {
    pub(super) log: L,
    pub(super) env: Env,
    pub(super) arrivals: Arc<Arrivals>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    topics: BTreeMap<Topic, TopicSpec>,
    groups: BTreeMap<Group, Coordinator>,
    /// The member who joined last, in any group.
    member: MemberId,
    /// When retention was last applied by an append.
    swept: Option<Timestamp>,
}

impl<L: TopicLog> GroupedBroker<L> {
    /// Opens the broker over `log`, which must have no other.
    ///
    /// # Errors
    ///
    /// Those of reading the topics.
    pub async fn open(log: L, env: Env) -> Result<Self, Error> {
        let mut topics = Vec::new();
        for spec in log.topics().await? {
            let mut ends = Vec::new();
            for partition in 0..spec.partitions {
                ends.push(
                    log.watermarks(&TopicPartition::new(spec.topic.clone(), partition))
                        .await?
                        .end,
                );
            }
            topics.push((spec, ends));
        }
        Ok(Self::over(log, env, topics))
    }

    /// The broker over `log`, which has these topics with the ends of their partitions: for logs that know them
    /// without I/O.
    pub fn over(log: L, env: Env, topics: Vec<(TopicSpec, Vec<u64>)>) -> Self {
        let arrivals = Arc::new(Arrivals::default());
        log.listen(arrivals.clone());
        let mut state = State::default();
        for (spec, ends) in topics {
            for (partition, end) in (0..).zip(ends) {
                arrivals.reached(&TopicPartition::new(spec.topic.clone(), partition), end, 0);
            }
            state.topics.insert(spec.topic.clone(), spec);
        }
        Self(Arc::new(Shared {
            log,
            env,
            arrivals,
            state: Mutex::new(state),
        }))
    }

    /// The log below.
    pub fn log(&self) -> &L {
        &self.0.log
    }
}

impl<L: TopicLog> Shared<L> {
    /// Runs `step` on the group's coordinator and the topics, and wakes the group if it says that something changed.
    pub(super) fn with_group<T>(
        &self,
        group: &Group,
        step: impl FnOnce(&mut Coordinator) -> (T, bool),
    ) -> T {
        let (result, changed) = step(lock(&self.state).groups.entry(group.clone()).or_default());
        if changed {
            self.arrivals.ring(group);
        }
        result
    }

    /// Takes a new member into its group.
    pub(super) fn admit(&self, subscription: &Subscription, now: Timestamp) -> MemberId {
        let id = {
            let mut state = lock(&self.state);
            let State {
                topics,
                groups,
                member,
                ..
            } = &mut *state;
            member.0 += 1;
            let coordinator = groups.entry(subscription.group.clone()).or_default();
            for topic in &subscription.topics {
                if let Some(spec) = topics.get(topic) {
                    coordinator.set_topic(topic, spec.partitions);
                }
            }
            coordinator.expire(now);
            let topics = subscription.topics.iter().cloned().collect();
            coordinator.join(
                *member,
                &*subscription.member,
                topics,
                subscription.session,
                now,
            );
            *member
        };
        self.arrivals.ring(&subscription.group);
        id
    }

    /// The topic's description, if the partition exists.
    ///
    /// # Errors
    ///
    /// Class fatal when the topic or the partition is unknown.
    pub(super) fn known(&self, topic: &Topic, partition: u32) -> Result<(), Error> {
        match lock(&self.state).topics.get(topic) {
            None => Err(Error::fatal(format!(
                "unknown topic `{topic}`: make it with `ensure_topic` first"
            ))),
            Some(spec) if partition >= spec.partitions => Err(Error::fatal(format!(
                "topic `{topic}` has no partition {partition}: it has {}, counted from 0",
                spec.partitions
            ))),
            Some(_) => Ok(()),
        }
    }

    /// Why a message can't be appended, if so.
    pub(super) fn refusal(&self, message: &Outgoing) -> Option<Error> {
        if let Err(error) = self.known(&message.topic, message.partition) {
            return Some(error);
        }
        let bytes = outgoing_size(message);
        let most = self.log.capabilities().message_bytes_max;
        (bytes > most).then(|| {
            Error::poison(format!(
                "message for `{}/{}` has {bytes} bytes, {most} at most",
                message.topic, message.partition
            ))
        })
    }

    /// Applies retention if it is time: after enough bytes or a while.
    pub(super) async fn sweep_if_due(&self) {
        let now = self.env.now();
        let bytes = self.arrivals.take_bytes(SWEEP_BYTES);
        {
            let mut state = lock(&self.state);
            // A clock that went back must not stop retention until it has caught up.
            let waits = state
                .swept
                .is_some_and(|swept| swept <= now && now.since(swept) < SWEEP_EVERY);
            if waits && !bytes {
                return;
            }
            state.swept = Some(now);
        }
        // The messages are appended, whatever becomes of this: it is tried again with a later append, and
        // `Broker::sweep` tells the error to whoever calls it.
        drop(self.sweep(now).await);
    }

    async fn sweep(&self, now: Timestamp) -> Result<(), Error> {
        let topics: Vec<_> = lock(&self.state).topics.values().cloned().collect();
        for spec in topics {
            let Some(keep) = Keep::of(&spec, now) else {
                continue;
            };
            for partition in 0..spec.partitions {
                let partition = TopicPartition::new(spec.topic.clone(), partition);
                let mut first = None;
                loop {
                    let trimmed = Some(self.log.trim(&partition, &keep).await?.first);
                    if std::mem::replace(&mut first, trimmed) == trimmed {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

/// [`size`] of a message that is sent.
pub(super) fn outgoing_size(message: &Outgoing) -> usize {
    let key = message.key.as_ref().map(crate::Key::as_bytes);
    size(key, &message.headers, message.value.as_deref())
}

/// The bytes of key, value and headers, which is what the bound of a message counts.
pub(super) fn size(key: Option<&[u8]>, headers: &crate::Headers, value: Option<&[u8]>) -> usize {
    let headers: usize = headers
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + headers
}

#[async_trait]
impl<L: TopicLog> Broker for GroupedBroker<L> {
    fn capabilities(&self) -> BrokerCapabilities {
        self.0.log.capabilities()
    }

    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), Error> {
        let TopicSpec {
            topic, partitions, ..
        } = spec;
        if *partitions == 0 {
            return Err(Error::fatal(format!(
                "topic `{topic}` can't have 0 partitions: give it 1 at least"
            )));
        }
        if lock(&self.0.state).topics.get(topic) == Some(spec) {
            return Ok(());
        }
        let stored = self.0.log.put_topic(spec).await?;
        if stored.partitions != *partitions {
            return Err(Error::fatal(format!(
                "topic `{topic}` has {} partitions and not {partitions}: the count can't change while messages \
                 are kept by key",
                stored.partitions
            )));
        }
        let groups: Vec<_> = {
            let mut state = lock(&self.0.state);
            state.topics.insert(topic.clone(), stored);
            for coordinator in state.groups.values_mut() {
                coordinator.set_topic(topic, *partitions);
            }
            state.groups.keys().cloned().collect()
        };
        for group in groups {
            self.0.arrivals.ring(&group);
        }
        Ok(())
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>, Error> {
        Ok(lock(&self.0.state).topics.values().cloned().collect())
    }

    async fn sweep(&self, now: Timestamp) -> Result<(), Error> {
        self.0.sweep(now).await
    }

    async fn watermarks(&self, partition: &TopicPartition) -> Result<Watermarks, Error> {
        self.0.known(&partition.topic, partition.partition)?;
        self.0.log.watermarks(partition).await
    }

    async fn read(
        &self,
        partition: &TopicPartition,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<Message>, Error> {
        self.0.known(&partition.topic, partition.partition)?;
        let limit = ReadLimit {
            messages: limit,
            bytes: READ_BYTES_MAX,
        };
        Ok(self.0.log.read(partition, offset, limit).await?.messages)
    }

    async fn producer(&self) -> Result<Box<dyn Producer>, Error> {
        Ok(Box::new(LogProducer::new(self.0.clone())))
    }

    async fn join(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, Error> {
        Ok(Box::new(GroupConsumer::join(self.0.clone(), subscription)))
    }

    async fn members(&self, group: &Group) -> Result<Vec<GroupMember>, Error> {
        let now = self.0.env.now();
        let known = lock(&self.0.state).groups.contains_key(group);
        // Asking for a group must not make it.
        if !known {
            return Ok(Vec::new());
        }
        Ok(self.0.with_group(group, |coordinator| {
            let changed = coordinator.expire(now);
            (coordinator.members(), changed)
        }))
    }

    async fn committed(&self, group: &Group) -> Result<Vec<(TopicPartition, u64)>, Error> {
        self.0.log.offsets(group).await
    }
}

impl<L> Clone for GroupedBroker<L> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<L: TopicLog> fmt::Debug for GroupedBroker<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GroupedBroker").field(&self.0).finish()
    }
}

impl<L: TopicLog> fmt::Debug for Shared<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("log", &self.log)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
