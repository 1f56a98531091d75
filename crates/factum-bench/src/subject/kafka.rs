//! Factum over Kafka: each directory of a run has topics and groups of its own on the broker, deleted when it is removed.
//!
//! A service's topics are written in its code, so those of several runs would be the same: a thin broker in front of the real
//! one puts the directory's name before each. It costs a name's copy for each message.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use factum::{
    Broker, BrokerCapabilities, Consumed, Consumer, Error, Group, GroupMember, Message, Outgoing,
    Producer, Report, Subscription, Topic, TopicPartition, TopicSpec, Watermarks,
};
use factum_kafka::{Kafka, KafkaOptions};
use rdkafka::{
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    config::ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};

use super::{Backend, Base, names};
use crate::failure::Failure;

/// How long Kafka may take to answer a question.
const PATIENCE: Duration = Duration::from_secs(15);

/// The broker, for ours and for what ours is compared with.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    address: String,
}

impl Cluster {
    /// The cluster that has a broker at `address`.
    pub(crate) fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
        }
    }

    /// The client library, and that a broker answers.
    pub(crate) async fn version(&self) -> Result<String, Failure> {
        self.topics().await?;
        let (_, version) = rdkafka::util::get_rdkafka_version();
        Ok(format!("Kafka by librdkafka {version}"))
    }

    /// What every client of it is told first.
    pub(crate) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address);
        config
    }

    /// Ours, with the topics and groups of a directory.
    pub(crate) async fn broker(&self, topics: &Path, groups: &Path) -> Result<Named, Failure> {
        let kafka = Kafka::connect(KafkaOptions::new([&self.address])).await?;
        Ok(Named {
            kafka,
            topics: prefix(topics),
            groups: prefix(groups),
        })
    }

    /// Deletes all topics of a directory, or of all directories of a run.
    pub(crate) async fn delete_all(&self, directory: &Path) -> Result<(), Failure> {
        let prefix = prefix(directory);
        let mut ours = self.topics().await?;
        ours.retain(|topic| topic.starts_with(&prefix));
        if ours.is_empty() {
            return Ok(());
        }
        let ours: Vec<_> = ours.iter().map(String::as_str).collect();
        let admin: Result<AdminClient<DefaultClientContext>, _> = self.config().create();
        let deleted = async { admin?.delete_topics(&ours, &AdminOptions::new()).await };
        deleted
            .await
            .map(drop)
            .map_err(|error: KafkaError| Failure::while_("deleting topics", error))
    }

    async fn topics(&self) -> Result<Vec<String>, Failure> {
        let config = self.config();
        let asking = tokio::task::spawn_blocking(move || {
            let client: BaseConsumer = config.create()?;
            let metadata = client.fetch_metadata(None, PATIENCE)?;
            let names = metadata
                .topics()
                .iter()
                .map(|topic| topic.name().to_owned());
            Ok(names.collect())
        });
        let asked = asking
            .await
            .map_err(|error| Failure::while_("asking Kafka for its topics", error))?;
        asked.map_err(|error: KafkaError| Failure::while_("asking Kafka for its topics", error))
    }
}

/// The name of a directory's topic at the broker.
pub(crate) fn topic_of(directory: &Path, topic: &str) -> String {
    format!("{}{topic}", prefix(directory))
}

fn prefix(directory: &Path) -> String {
    names(directory, "-")
}

/// Another backend's stores, with Kafka's topics.
pub(crate) struct OverKafka {
    pub(crate) stores: Arc<dyn Backend>,
    pub(crate) cluster: Cluster,
    /// The directory whose topics these are, where it is not the store's own.
    pub(crate) topics_of: Option<std::path::PathBuf>,
}

#[async_trait]
impl Backend for OverKafka {
    async fn open(&self, directory: &Path) -> Result<Base, Failure> {
        let topics = self.topics_of.as_deref().unwrap_or(directory);
        let broker = Arc::new(self.cluster.broker(topics, directory).await?);
        let base = self.stores.open(directory).await?;
        Ok(Base { broker, ..base })
    }

    async fn remove(&self, directory: &Path) -> Result<(), Failure> {
        self.cluster.delete_all(directory).await?;
        self.stores.remove(directory).await
    }
}

/// Kafka, with something before the names of all topics and groups.
#[derive(Debug)]
pub(crate) struct Named {
    kafka: Kafka,
    topics: String,
    groups: String,
}

impl Named {
    fn topic(&self, topic: &Topic) -> Topic {
        outside(&self.topics, topic)
    }

    fn partition(&self, partition: &TopicPartition) -> TopicPartition {
        TopicPartition::new(self.topic(&partition.topic), partition.partition)
    }
}

fn outside(prefix: &str, topic: &Topic) -> Topic {
    Topic::new(format!("{prefix}{topic}")).expect("both parts are names")
}

fn inside(prefix: &str, topic: &Topic) -> Option<Topic> {
    Topic::new(topic.as_str().strip_prefix(prefix)?).ok()
}

#[async_trait]
impl Broker for Named {
    fn capabilities(&self) -> BrokerCapabilities {
        self.kafka.capabilities()
    }

    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), Error> {
        let spec = TopicSpec {
            topic: self.topic(&spec.topic),
            ..spec.clone()
        };
        self.kafka.ensure_topic(&spec).await
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>, Error> {
        let mut ours = self.kafka.topics().await?;
        ours.retain_mut(|spec| match inside(&self.topics, &spec.topic) {
            Some(topic) => {
                spec.topic = topic;
                true
            }
            None => false,
        });
        Ok(ours)
    }

    async fn watermarks(&self, partition: &TopicPartition) -> Result<Watermarks, Error> {
        self.kafka.watermarks(&self.partition(partition)).await
    }

    async fn read(
        &self,
        partition: &TopicPartition,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<Message>, Error> {
        let named = self.partition(partition);
        let mut messages = self.kafka.read(&named, offset, limit).await?;
        for message in &mut messages {
            message.topic = partition.topic.clone();
        }
        Ok(messages)
    }

    async fn producer(&self) -> Result<Box<dyn Producer>, Error> {
        Ok(Box::new(NamedProducer {
            producer: self.kafka.producer().await?,
            topics: Topics::new(&self.topics),
        }))
    }

    async fn join(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, Error> {
        let group = Group::new(format!("{}{}", self.groups, subscription.group));
        let topics = subscription.topics.iter();
        let subscription = Subscription {
            group: group.expect("both parts are names"),
            topics: topics.map(|topic| self.topic(topic)).collect(),
            ..subscription
        };
        Ok(Box::new(NamedConsumer {
            consumer: self.kafka.join(subscription).await?,
            topics: Topics::new(&self.topics),
        }))
    }

    async fn members(&self, group: &Group) -> Result<Vec<GroupMember>, Error> {
        let group = Group::new(format!("{}{group}", self.groups));
        let mut members = self
            .kafka
            .members(&group.expect("both parts are names"))
            .await?;
        for partition in members.iter_mut().flat_map(|one| &mut one.partitions) {
            if let Some(topic) = inside(&self.topics, &partition.topic) {
                partition.topic = topic;
            }
        }
        Ok(members)
    }

    async fn committed(&self, group: &Group) -> Result<Vec<(TopicPartition, u64)>, Error> {
        let group = Group::new(format!("{}{group}", self.groups));
        let group = group.expect("both parts are names");
        let mut committed = self.kafka.committed(&group).await?;
        for (partition, _) in &mut committed {
            if let Some(topic) = inside(&self.topics, &partition.topic) {
                partition.topic = topic;
            }
        }
        Ok(committed)
    }
}

/// Names that were met, inside and outside: a message costs a look and a copy of a pointer.
#[derive(Debug)]
struct Topics {
    prefix: String,
    met: Vec<(Topic, Topic)>,
}

impl Topics {
    fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            met: Vec::new(),
        }
    }

    fn outside(&mut self, topic: &Topic) -> Topic {
        let met = self.met.iter().find(|(inside, _)| inside == topic);
        if let Some((_, outside)) = met {
            return outside.clone();
        }
        let found = outside(&self.prefix, topic);
        self.met.push((topic.clone(), found.clone()));
        found
    }

    fn inside(&mut self, topic: &Topic) -> Topic {
        let met = self.met.iter().find(|(_, outside)| outside == topic);
        if let Some((inside, _)) = met {
            return inside.clone();
        }
        let found = inside(&self.prefix, topic).unwrap_or_else(|| topic.clone());
        self.met.push((found.clone(), topic.clone()));
        found
    }
}

#[derive(Debug)]
struct NamedProducer {
    producer: Box<dyn Producer>,
    topics: Topics,
}

#[async_trait]
impl Producer for NamedProducer {
    async fn send(&mut self, mut batch: Vec<(u64, Outgoing)>) -> Result<(), Error> {
        for (_, message) in &mut batch {
            message.topic = self.topics.outside(&message.topic);
        }
        self.producer.send(batch).await
    }

    async fn reports(&mut self) -> Result<Vec<Report>, Error> {
        self.producer.reports().await
    }
}

#[derive(Debug)]
struct NamedConsumer {
    consumer: Box<dyn Consumer>,
    topics: Topics,
}

impl NamedConsumer {
    fn partition(&mut self, partition: &TopicPartition) -> TopicPartition {
        TopicPartition::new(self.topics.outside(&partition.topic), partition.partition)
    }
}

#[async_trait]
impl Consumer for NamedConsumer {
    async fn next(&mut self) -> Result<Consumed, Error> {
        let mut consumed = self.consumer.next().await?;
        match &mut consumed {
            Consumed::Messages(messages) => {
                for message in messages {
                    message.topic = self.topics.inside(&message.topic);
                }
            }
            Consumed::Assigned(partitions)
            | Consumed::Revoked(partitions)
            | Consumed::Lost(partitions)
            | Consumed::Passed(partitions) => {
                for partition in partitions {
                    partition.topic = self.topics.inside(&partition.topic);
                }
            }
        }
        Ok(consumed)
    }

    async fn seek(&mut self, partition: &TopicPartition, offset: u64) -> Result<(), Error> {
        let partition = self.partition(partition);
        self.consumer.seek(&partition, offset).await
    }

    async fn pause(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        let partition = self.partition(partition);
        self.consumer.pause(&partition).await
    }

    async fn resume(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        let partition = self.partition(partition);
        self.consumer.resume(&partition).await
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, u64)]) -> Result<(), Error> {
        let offsets: Vec<_> = offsets
            .iter()
            .map(|(partition, offset)| (self.partition(partition), *offset))
            .collect();
        self.consumer.commit(&offsets).await
    }

    async fn leave(self: Box<Self>) -> Result<(), Error> {
        self.consumer.leave().await
    }
}
