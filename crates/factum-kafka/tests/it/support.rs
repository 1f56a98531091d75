//! What the tests are made with: a broker, and topics that no other test uses.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use factum_core::{Timestamp, TopicPartition};
use factum_kafka::{Kafka, KafkaOptions};
use factum_testkit::engines;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
};

static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// How long a test waits for what must come, on a machine however busy.
pub(crate) const WAIT_MAX: Duration = Duration::from_mins(1);

/// A place on the broker of the tests that nobody else uses. Its topics are deleted with this.
pub(crate) struct Place {
    servers: String,
    pub(crate) prefix: String,
}

impl Place {
    /// One of its own; `None`, which is then said, when there is no broker.
    pub(crate) fn new() -> Option<Self> {
        let servers = engines::server("FACTUM_TEST_KAFKA")?;
        Some(Self::of(servers.trim_start_matches("kafka://")))
    }

    /// One on these servers.
    pub(crate) fn of(servers: &str) -> Self {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Self {
            servers: servers.to_owned(),
            prefix: format!("t{}-{number}", now().as_millis()),
        }
    }

    pub(crate) fn servers(&self) -> &str {
        &self.servers
    }

    pub(crate) fn options(&self) -> KafkaOptions {
        KafkaOptions::parse(&format!("kafka://{}", self.servers)).expect("the address is right")
    }

    pub(crate) async fn connect(&self) -> Kafka {
        let kafka = Kafka::connect(self.options()).await;
        kafka.expect("the broker answers")
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers);
        config
    }

    /// Somebody who may do anything to topics.
    pub(crate) fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().expect("a client can be made")
    }

    /// Deletes what a partition holds, as retention does.
    pub(crate) async fn expire(&self, partition: &TopicPartition) {
        let mut all = TopicPartitionList::new();
        let number = i32::try_from(partition.partition).expect("it is small");
        all.add_partition_offset(partition.topic.as_str(), number, Offset::End)
            .expect("it is an offset");
        let deleted = self.admin();
        let deleted = deleted.delete_records(&all, &AdminOptions::new()).await;
        deleted.expect("records can be deleted");
    }

    /// The names of the topics of this place.
    fn topics(&self) -> Vec<String> {
        let client: Result<BaseConsumer, _> = self.config().create();
        let metadata = client.map(|client| client.fetch_metadata(None, Duration::from_secs(10)));
        let Ok(Ok(metadata)) = metadata else {
            return Vec::new();
        };
        let names = metadata
            .topics()
            .iter()
            .map(|topic| topic.name().to_owned());
        names
            .filter(|name| name.starts_with(&format!("{}.", self.prefix)))
            .collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (topics, admin) = (self.topics(), self.admin());
        // On a thread of its own, since a test may be on a runtime's. A topic that stays behind harms nobody.
        let deleting = std::thread::spawn(move || {
            let topics: Vec<_> = topics.iter().map(String::as_str).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            runtime.map(|runtime| {
                let deleted = admin.delete_topics(&topics, &AdminOptions::new());
                runtime.block_on(deleted).is_ok()
            })
        });
        drop(deleting.join());
    }
}

/// The present time in whole milliseconds, as Kafka keeps it.
#[expect(
    clippy::disallowed_methods,
    reason = "the broker's clock is the machine's"
)]
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.expect("it is after 1970").as_millis();
    Timestamp::from_millis(i64::try_from(millis).expect("it is before 9999"))
}

/// Waits until `condition` gives something.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let waited = tokio::time::timeout(WAIT_MAX, async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let Ok(found) = waited.await else {
        panic!("waited in vain: {what}");
    };
    found
}
