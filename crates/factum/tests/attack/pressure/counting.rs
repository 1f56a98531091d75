//! A broker that knows how far it has handed out each partition.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use factum::{
    Broker, BrokerCapabilities, Consumed, Consumer, Error, Group, GroupMember, Message, Producer,
    Subscription, Timestamp, TopicPartition, TopicSpec, Watermarks,
};

/// What a group was given of a partition.
#[derive(Clone, Copy, Debug, Default)]
struct Given {
    /// The offset behind the last message.
    end: u64,
    bytes: u64,
    paused: bool,
}

/// What each group was given of each partition.
type Delivered = Arc<Mutex<BTreeMap<(Group, TopicPartition), Given>>>;

/// A broker that knows what it has delivered. Clones know the same.
#[derive(Clone, Debug)]
pub(crate) struct Counting {
    inner: Arc<dyn Broker>,
    delivered: Delivered,
    /// Whether it pauses what it is told to.
    pauses: bool,
}

impl Counting {
    pub(crate) fn over(inner: Arc<dyn Broker>) -> Self {
        Self {
            inner,
            delivered: Delivered::default(),
            pauses: true,
        }
    }

    /// The same, but that it goes on to deliver what was paused.
    pub(crate) fn without_pause(self) -> Self {
        Self {
            pauses: false,
            ..self
        }
    }

    /// The offset behind the last message of the partition that the group was given.
    pub(crate) fn delivered(&self, group: &'static str, partition: &TopicPartition) -> u64 {
        self.given(group, partition).end
    }

    /// How many bytes of the partition the group was given.
    pub(crate) fn delivered_bytes(&self, group: &'static str, partition: &TopicPartition) -> u64 {
        self.given(group, partition).bytes
    }

    /// Whether the partition is paused for the group.
    pub(crate) fn is_paused(&self, group: &'static str, partition: &TopicPartition) -> bool {
        self.given(group, partition).paused
    }

    fn given(&self, group: &'static str, partition: &TopicPartition) -> Given {
        let key = (Group::of(group), partition.clone());
        let delivered = self.delivered.lock().unwrap();
        delivered.get(&key).copied().unwrap_or_default()
    }
}

#[async_trait]
impl Broker for Counting {
    fn capabilities(&self) -> BrokerCapabilities {
        self.inner.capabilities()
    }

    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), Error> {
        self.inner.ensure_topic(spec).await
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>, Error> {
        self.inner.topics().await
    }

    async fn sweep(&self, now: Timestamp) -> Result<(), Error> {
        self.inner.sweep(now).await
    }

    async fn watermarks(&self, partition: &TopicPartition) -> Result<Watermarks, Error> {
        self.inner.watermarks(partition).await
    }

    async fn read(
        &self,
        partition: &TopicPartition,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<Message>, Error> {
        self.inner.read(partition, offset, limit).await
    }

    async fn producer(&self) -> Result<Box<dyn Producer>, Error> {
        self.inner.producer().await
    }

    async fn join(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, Error> {
        let group = subscription.group.clone();
        Ok(Box::new(Counted {
            inner: self.inner.join(subscription).await?,
            group,
            delivered: self.delivered.clone(),
            pauses: self.pauses,
        }))
    }

    async fn members(&self, group: &Group) -> Result<Vec<GroupMember>, Error> {
        self.inner.members(group).await
    }

    async fn committed(&self, group: &Group) -> Result<Vec<(TopicPartition, u64)>, Error> {
        self.inner.committed(group).await
    }
}

#[derive(Debug)]
struct Counted {
    inner: Box<dyn Consumer>,
    group: Group,
    delivered: Delivered,
    pauses: bool,
}

impl Counted {
    fn note(&self, partition: &TopicPartition, note: impl FnOnce(&mut Given)) {
        let key = (self.group.clone(), partition.clone());
        note(self.delivered.lock().unwrap().entry(key).or_default());
    }
}

#[async_trait]
impl Consumer for Counted {
    async fn next(&mut self) -> Result<Consumed, Error> {
        let consumed = self.inner.next().await?;
        if let Consumed::Messages(messages) = &consumed {
            for message in messages {
                let partition = TopicPartition::new(message.topic.clone(), message.partition);
                self.note(&partition, |given| {
                    given.end = message.offset + 1;
                    given.bytes += message.size() as u64;
                });
            }
        }
        Ok(consumed)
    }

    async fn seek(&mut self, partition: &TopicPartition, offset: u64) -> Result<(), Error> {
        self.inner.seek(partition, offset).await?;
        self.note(partition, |given| given.end = offset);
        Ok(())
    }

    async fn pause(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        if !self.pauses {
            return Ok(());
        }
        self.inner.pause(partition).await?;
        self.note(partition, |given| given.paused = true);
        Ok(())
    }

    async fn resume(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        self.inner.resume(partition).await?;
        self.note(partition, |given| given.paused = false);
        Ok(())
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, u64)]) -> Result<(), Error> {
        self.inner.commit(offsets).await
    }

    async fn leave(self: Box<Self>) -> Result<(), Error> {
        self.inner.leave().await
    }
}
