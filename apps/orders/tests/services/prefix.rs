//! A broker with a prefix is a broker like any other, and two of them don't meet.

use std::{sync::Arc, time::Duration};

use factum::{Broker, Timestamp, Topic, TopicSpec};
use factum_testkit::{MemoryTopicsDisk, TestEnv, conformance::broker::BrokerHarness};
use orders::prefixed::Prefixed;

struct Named {
    disk: MemoryTopicsDisk,
    test: TestEnv,
}

impl Named {
    fn new() -> Self {
        Self {
            disk: MemoryTopicsDisk::new(),
            test: TestEnv::seeded(1),
        }
    }
}

#[async_trait::async_trait]
impl BrokerHarness for Named {
    async fn open(&self) -> Arc<dyn Broker> {
        Arc::new(Prefixed::new("a_", self.disk.open(self.test.env())))
    }

    async fn reopen(&self, broker: Arc<dyn Broker>) -> Arc<dyn Broker> {
        drop(broker);
        self.open().await
    }

    async fn pass(&self, duration: Duration) {
        self.test.advance(duration);
    }

    fn now(&self) -> Timestamp {
        self.test.clock().now()
    }

    fn sweeps(&self) -> bool {
        true
    }
}

mod suite {
    use super::*;
    factum_testkit::broker_suite!(Named::new());
}

#[tokio::test]
async fn platforms_with_other_prefixes_see_nothing_of_each_other() {
    let test = TestEnv::seeded(1);
    let broker = MemoryTopicsDisk::new().open(test.env());
    let (one, other) = (
        Prefixed::new("a_", broker.clone()),
        Prefixed::new("b_", broker.clone()),
    );
    let orders = TopicSpec::new(Topic::of("orders"), 2);
    one.ensure_topic(&orders).await.unwrap();
    assert_eq!(one.topics().await.unwrap(), [orders]);
    assert!(other.topics().await.unwrap().is_empty());
    assert_eq!(broker.topics().await.unwrap()[0].topic.as_str(), "a_orders");
}
