//! The adapter: a cluster that was connected to.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use factum_core::{
    Broker, BrokerCapabilities, Consumer, Error, Group, GroupMember, Message, Producer,
    Subscription, TopicPartition, TopicSpec, Watermarks,
};

use crate::{KafkaOptions, consumer::KafkaConsumer, desk::Desk, producer::KafkaProducer, topics};

/// Apache Kafka as Factum's broker. Clones are the same one.
#[derive(Clone)]
pub struct Kafka(Arc<Desk>);

impl Kafka {
    /// Connects to the brokers, and asks whether they let us in. To be called within tokio's runtime.
    ///
    /// # Errors
    ///
    /// Class fatal when the options can't be right: a setting, a password, a certificate. Class transient when nobody
    /// answers.
    pub async fn connect(options: KafkaOptions) -> Result<Self, Error> {
        let opened = tokio::task::spawn_blocking(move || Desk::open(options));
        let opened = opened
            .await
            .map_err(|error| Error::fatal("the client of Kafka was not made").caused_by(error))?;
        let desk = Arc::new(opened?);
        desk.ask(Desk::greet).await?;
        Ok(Self(desk))
    }
}

#[async_trait]
impl Broker for Kafka {
    fn capabilities(&self) -> BrokerCapabilities {
        BrokerCapabilities {
            durable: true,
            message_bytes_max: self.0.options.message_bytes_max,
        }
    }

    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), Error> {
        topics::ensure(&self.0, spec).await
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>, Error> {
        topics::all(&self.0).await
    }

    async fn watermarks(&self, partition: &TopicPartition) -> Result<Watermarks, Error> {
        let partition = partition.clone();
        self.0.ask(move |desk| desk.watermarks(&partition)).await
    }

    async fn read(
        &self,
        partition: &TopicPartition,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<Message>, Error> {
        let partition = partition.clone();
        self.0
            .ask(move |desk| desk.read(&partition, offset, limit))
            .await
    }

    async fn producer(&self) -> Result<Box<dyn Producer>, Error> {
        Ok(Box::new(KafkaProducer::start(&self.0).await?))
    }

    async fn join(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, Error> {
        Ok(Box::new(KafkaConsumer::join(&self.0, subscription).await?))
    }

    async fn members(&self, group: &Group) -> Result<Vec<GroupMember>, Error> {
        let group = group.clone();
        self.0.ask(move |desk| desk.members(&group)).await
    }

    async fn committed(&self, group: &Group) -> Result<Vec<(TopicPartition, u64)>, Error> {
        let group = group.clone();
        self.0.ask(move |desk| desk.committed(&group)).await
    }
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kafka").field(&self.0.options).finish()
    }
}
