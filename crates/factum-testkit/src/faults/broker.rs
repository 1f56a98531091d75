//! A broker behind a plan of faults.

use std::sync::Arc;

use async_trait::async_trait;
use factum_core::{
    Broker, BrokerCapabilities, Consumer, Error, Group, GroupMember, Message, Producer,
    Subscription, Timestamp, TopicPartition, TopicSpec, Watermarks,
};

use super::{Call, Faults, consumer::FaultyConsumer, producer::FaultyProducer};

/// A broker as one node reaches it, behind a plan of faults.
#[derive(Debug)]
pub struct FaultyBroker {
    inner: Arc<dyn Broker>,
    node: Arc<str>,
    faults: Faults,
}

impl FaultyBroker {
    /// `inner`, as `node` reaches it.
    pub fn new(node: &str, inner: Arc<dyn Broker>, faults: &Faults) -> Self {
        Self {
            inner,
            node: node.into(),
            faults: faults.clone(),
        }
    }

    /// The broker behind the faults.
    pub fn inner(&self) -> &Arc<dyn Broker> {
        &self.inner
    }

    async fn run<T>(
        &self,
        call: Call,
        subject: impl std::fmt::Display + Send,
        done: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        self.faults.run(&self.node, call, subject, done).await
    }
}

#[async_trait]
impl Broker for FaultyBroker {
    fn capabilities(&self) -> BrokerCapabilities {
        self.inner.capabilities()
    }

    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), Error> {
        self.run(
            Call::EnsureTopic,
            &spec.topic,
            self.inner.ensure_topic(spec),
        )
        .await
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>, Error> {
        self.run(Call::Read, "topics", self.inner.topics()).await
    }

    async fn sweep(&self, now: Timestamp) -> Result<(), Error> {
        self.run(Call::Sweep, "topics", self.inner.sweep(now)).await
    }

    async fn watermarks(&self, partition: &TopicPartition) -> Result<Watermarks, Error> {
        self.run(
            Call::Read,
            format!("watermarks of {partition}"),
            self.inner.watermarks(partition),
        )
        .await
    }

    async fn read(
        &self,
        partition: &TopicPartition,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<Message>, Error> {
        let subject = format!("{partition} from {offset}");
        self.run(
            Call::Read,
            subject,
            self.inner.read(partition, offset, limit),
        )
        .await
    }

    async fn producer(&self) -> Result<Box<dyn Producer>, Error> {
        let inner = self
            .run(Call::OpenProducer, "producer", self.inner.producer())
            .await?;
        Ok(Box::new(FaultyProducer::new(
            inner,
            self.node.clone(),
            self.faults.clone(),
        )))
    }

    async fn join(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, Error> {
        let group = subscription.group.clone();
        let inner = self
            .run(Call::Join, &group, self.inner.join(subscription))
            .await?;
        Ok(Box::new(FaultyConsumer::new(
            inner,
            group,
            self.node.clone(),
            self.faults.clone(),
        )))
    }

    async fn members(&self, group: &Group) -> Result<Vec<GroupMember>, Error> {
        self.run(
            Call::Read,
            format!("members of {group}"),
            self.inner.members(group),
        )
        .await
    }

    async fn committed(&self, group: &Group) -> Result<Vec<(TopicPartition, u64)>, Error> {
        self.run(
            Call::Read,
            format!("offsets of {group}"),
            self.inner.committed(group),
        )
        .await
    }
}
