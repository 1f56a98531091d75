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

/// The offset behind the last message that each group was given of each partition.
type Delivered = Arc<Mutex<BTreeMap<(Group, TopicPartition), u64>>>;

/// A broker that knows what it has delivered. Clones know the same.
#[derive(Clone, Debug)]
pub(crate) struct Counting {
    inner: Arc<dyn Broker>,
    delivered: Delivered,
}

impl Counting {
    pub(crate) fn over(inner: Arc<dyn Broker>) -> Self {
        Self {
            inner,
            delivered: Delivered::default(),
        }
    }

    /// The offset behind the last message of the partition that the group was given.
    pub(crate) fn delivered(&self, group: &'static str, partition: &TopicPartition) -> u64 {
        let key = (Group::of(group), partition.clone());
        self.delivered
            .lock()
            .unwrap()
            .get(&key)
            .copied()
            .unwrap_or(0)
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
}

#[async_trait]
impl Consumer for Counted {
    async fn next(&mut self) -> Result<Consumed, Error> {
        let consumed = self.inner.next().await?;
        if let Consumed::Messages(messages) = &consumed {
            let mut delivered = self.delivered.lock().unwrap();
            for message in messages {
                let partition = TopicPartition::new(message.topic.clone(), message.partition);
                delivered.insert((self.group.clone(), partition), message.offset + 1);
            }
        }
        Ok(consumed)
    }

    async fn seek(&mut self, partition: &TopicPartition, offset: u64) -> Result<(), Error> {
        self.inner.seek(partition, offset).await?;
        let key = (self.group.clone(), partition.clone());
        self.delivered.lock().unwrap().insert(key, offset);
        Ok(())
    }

    async fn pause(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        self.inner.pause(partition).await
    }

    async fn resume(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        self.inner.resume(partition).await
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, u64)]) -> Result<(), Error> {
        self.inner.commit(offsets).await
    }

    async fn leave(self: Box<Self>) -> Result<(), Error> {
        self.inner.leave().await
    }
}
