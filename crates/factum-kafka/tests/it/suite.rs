//! The contract of the broker port, on a broker.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use factum_core::{Broker, Timestamp, TopicPartition};
use factum_testkit::conformance::broker::BrokerHarness;

use crate::support::{Place, now};

/// A broker on which only the names are this test's own.
pub(crate) struct OnBroker(Place);

impl OnBroker {
    fn new() -> Option<Self> {
        Some(Self(Place::new()?))
    }
}

#[async_trait]
impl BrokerHarness for OnBroker {
    async fn open(&self) -> Arc<dyn Broker> {
        Arc::new(self.0.connect().await)
    }

    async fn reopen(&self, broker: Arc<dyn Broker>) -> Arc<dyn Broker> {
        drop(broker);
        self.open().await
    }

    async fn pass(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn now(&self) -> Timestamp {
        now()
    }

    async fn expire(&self, partition: &TopicPartition) -> bool {
        self.0.expire(partition).await;
        true
    }

    fn run(&self) -> String {
        self.0.prefix.clone()
    }
}

factum_testkit::broker_suite!(match super::OnBroker::new() {
    Some(broker) => broker,
    None => return,
});
