//! A broker that several platforms share: all that one of them calls by name begins with its prefix there.

use async_trait::async_trait;
use factum::{
    Broker, BrokerCapabilities, Consumed, Consumer, Error, Group, GroupMember, Message, Outgoing,
    Producer, Report, Subscription, Timestamp, Topic, TopicPartition, TopicSpec, Watermarks,
};

/// `inner` as one platform sees it: its own topics and groups, without the prefix that they have there.
#[derive(Clone, Debug)]
pub struct Prefixed<B> {
    names: Names,
    inner: B,
}

/// How names are written there.
#[derive(Clone, Debug)]
struct Names {
    prefix: String,
}

impl<B: Broker> Prefixed<B> {
    /// `inner` with names that begin with `prefix`.
    pub fn new(prefix: impl Into<String>, inner: B) -> Self {
        let names = Names {
            prefix: prefix.into(),
        };
        Self { names, inner }
    }
}

impl Names {
    fn topic(&self, topic: &Topic) -> Result<Topic, Error> {
        let named = Topic::new(format!("{}{topic}", self.prefix));
        named.map_err(|error| Error::poison(error.to_string()))
    }

    fn group(&self, group: &Group) -> Result<Group, Error> {
        let named = Group::new(format!("{}{group}", self.prefix));
        named.map_err(|error| Error::poison(error.to_string()))
    }

    fn place(&self, place: &TopicPartition) -> Result<TopicPartition, Error> {
        Ok(TopicPartition::new(
            self.topic(&place.topic)?,
            place.partition,
        ))
    }

    /// A topic as the platform calls it, if it is one of its own.
    fn own(&self, topic: &Topic) -> Option<Topic> {
        let name = topic.as_str().strip_prefix(&self.prefix)?;
        Topic::new(name).ok()
    }

    fn own_places(&self, places: Vec<TopicPartition>) -> Vec<TopicPartition> {
        let own = |place: TopicPartition| {
            let topic = self.own(&place.topic)?;
            Some(TopicPartition::new(topic, place.partition))
        };
        places.into_iter().filter_map(own).collect()
    }

    fn own_messages(&self, messages: Vec<Message>) -> Vec<Message> {
        let own = |mut message: Message| {
            message.topic = self.own(&message.topic)?;
            Some(message)
        };
        messages.into_iter().filter_map(own).collect()
    }
}

#[async_trait]
impl<B: Broker> Broker for Prefixed<B> {
    fn capabilities(&self) -> BrokerCapabilities {
        self.inner.capabilities()
    }

    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), Error> {
        let topic = self.names.topic(&spec.topic)?;
        let spec = TopicSpec {
            topic,
            ..spec.clone()
        };
        self.inner.ensure_topic(&spec).await
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>, Error> {
        let own = |mut spec: TopicSpec| {
            spec.topic = self.names.own(&spec.topic)?;
            Some(spec)
        };
        let topics = self.inner.topics().await?;
        Ok(topics.into_iter().filter_map(own).collect())
    }

    async fn sweep(&self, now: Timestamp) -> Result<(), Error> {
        self.inner.sweep(now).await
    }

    async fn watermarks(&self, partition: &TopicPartition) -> Result<Watermarks, Error> {
        self.inner.watermarks(&self.names.place(partition)?).await
    }

    async fn read(
        &self,
        partition: &TopicPartition,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<Message>, Error> {
        let place = self.names.place(partition)?;
        let messages = self.inner.read(&place, offset, limit).await?;
        Ok(self.names.own_messages(messages))
    }

    async fn producer(&self) -> Result<Box<dyn Producer>, Error> {
        Ok(Box::new(PrefixedProducer {
            names: self.names.clone(),
            inner: self.inner.producer().await?,
        }))
    }

    async fn join(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, Error> {
        let topics = subscription
            .topics
            .iter()
            .map(|topic| self.names.topic(topic));
        let subscription = Subscription {
            group: self.names.group(&subscription.group)?,
            topics: topics.collect::<Result<_, _>>()?,
            ..subscription
        };
        Ok(Box::new(PrefixedConsumer {
            names: self.names.clone(),
            inner: self.inner.join(subscription).await?,
        }))
    }

    async fn members(&self, group: &Group) -> Result<Vec<GroupMember>, Error> {
        let members = self.inner.members(&self.names.group(group)?).await?;
        let own = |mut member: GroupMember| {
            member.partitions = self.names.own_places(member.partitions);
            member
        };
        Ok(members.into_iter().map(own).collect())
    }

    async fn committed(&self, group: &Group) -> Result<Vec<(TopicPartition, u64)>, Error> {
        let committed = self.inner.committed(&self.names.group(group)?).await?;
        let own = |(place, offset): (TopicPartition, u64)| {
            let topic = self.names.own(&place.topic)?;
            Some((TopicPartition::new(topic, place.partition), offset))
        };
        Ok(committed.into_iter().filter_map(own).collect())
    }
}

#[derive(Debug)]
struct PrefixedProducer {
    names: Names,
    inner: Box<dyn Producer>,
}

#[async_trait]
impl Producer for PrefixedProducer {
    async fn send(&mut self, batch: Vec<(u64, Outgoing)>) -> Result<(), Error> {
        let named = batch.into_iter().map(|(sequence, mut message)| {
            message.topic = self.names.topic(&message.topic)?;
            Ok((sequence, message))
        });
        let named = named.collect::<Result<_, Error>>()?;
        self.inner.send(named).await
    }

    async fn reports(&mut self) -> Result<Vec<Report>, Error> {
        self.inner.reports().await
    }
}

#[derive(Debug)]
struct PrefixedConsumer {
    names: Names,
    inner: Box<dyn Consumer>,
}

#[async_trait]
impl Consumer for PrefixedConsumer {
    async fn next(&mut self) -> Result<Consumed, Error> {
        let names = &self.names;
        Ok(match self.inner.next().await? {
            Consumed::Messages(messages) => Consumed::Messages(names.own_messages(messages)),
            Consumed::Assigned(places) => Consumed::Assigned(names.own_places(places)),
            Consumed::Revoked(places) => Consumed::Revoked(names.own_places(places)),
            Consumed::Lost(places) => Consumed::Lost(names.own_places(places)),
            Consumed::Passed(places) => Consumed::Passed(names.own_places(places)),
        })
    }

    async fn seek(&mut self, partition: &TopicPartition, offset: u64) -> Result<(), Error> {
        self.inner.seek(&self.names.place(partition)?, offset).await
    }

    async fn pause(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        self.inner.pause(&self.names.place(partition)?).await
    }

    async fn resume(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        self.inner.resume(&self.names.place(partition)?).await
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, u64)]) -> Result<(), Error> {
        let named = offsets
            .iter()
            .map(|(place, offset)| Ok((self.names.place(place)?, *offset)));
        let named = named.collect::<Result<Vec<_>, Error>>()?;
        self.inner.commit(&named).await
    }

    async fn leave(self: Box<Self>) -> Result<(), Error> {
        self.inner.leave().await
    }
}
