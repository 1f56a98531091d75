//! The broker in memory: the groups of the core over topics in a map.
//!
//! What outlives it is in a [`MemoryTopicsDisk`], so that restarts can be played: topics, messages and committed
//! offsets do, groups and their members don't. It takes its time from the given environment alone and does
//! nothing in the background, so a simulated run repeats itself.

mod disk;
mod topics;

pub use disk::MemoryTopicsDisk;
pub use topics::{MESSAGE_BYTES_MAX, MemoryTopics};

use factum_core::{Env, groups::GroupedBroker};

/// The reference adapter of the broker port. Clones are the same broker.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), factum_core::Error> {
/// use factum_core::{Broker, Headers, Outgoing, Topic, TopicPartition, TopicSpec};
/// use factum_testkit::{MemoryTopicsDisk, TestEnv};
///
/// let env = TestEnv::seeded(1).env();
/// let disk = MemoryTopicsDisk::new();
/// let broker = disk.open(env.clone());
/// broker.ensure_topic(&TopicSpec::new(Topic::of("orders"), 1)).await?;
/// let mut producer = broker.producer().await?;
/// let message = Outgoing {
///     topic: Topic::of("orders"),
///     partition: 0,
///     key: Some("order-1".into()),
///     headers: Headers::new(),
///     value: Some("{}".into()),
///     timestamp: env.now(),
/// };
/// producer.send(vec![(1, message)]).await?;
/// assert_eq!(producer.reports().await?[0].result.clone()?, 0);
///
/// // What was reported is still there after a restart.
/// let broker = disk.open(env);
/// let read = broker.read(&TopicPartition::new(Topic::of("orders"), 0), 0, 10).await?;
/// assert_eq!(read[0].value.as_deref(), Some(&b"{}"[..]));
/// # Ok(())
/// # }
/// ```
pub type MemoryBroker = GroupedBroker<MemoryTopics>;

impl MemoryTopicsDisk {
    /// A broker over what this disk holds. One that was opened before is cut off, as by a restart: its calls
    /// fail, and its members are gone.
    pub fn open(&self, env: Env) -> MemoryBroker {
        let (topics, known) = MemoryTopics::mount(self);
        GroupedBroker::over(topics, env, known)
    }
}
