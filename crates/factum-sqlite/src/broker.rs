//! The broker in the file: the core's groups over topics that lie beside the stores.
//!
//! Topics belong to no store: all stores of the file publish to them and read them, and a restore of one store
//! leaves them alone. What is published goes through the one thread that writes, and joins the transaction of
//! the commits that wait with it: one sync makes all of them durable. Groups and their members live in memory;
//! after a restart members join again.

mod carry;
mod check;
mod chunk;
mod newest;
mod place;
mod seen;
mod tables;
mod topics;

pub(crate) use carry::{carry, fold_unfinished, put_back};
pub(crate) use check::{check, partitions};
pub(crate) use seen::epoch_of;
pub use topics::{MESSAGE_BYTES_MAX, SqliteTopics};

use factum_core::{Env, Error, groups::GroupedBroker};

use crate::Sqlite;

/// The embedded broker: topics in the stores' file. Clones are the same broker. [`Sqlite::broker`] opens it.
pub type SqliteBroker = GroupedBroker<SqliteTopics>;

impl Sqlite {
    /// The broker of this data directory: the same one whenever it is asked for, with the environment of the
    /// first time. It lives as long as a handle of the directory.
    ///
    /// ```
    /// # use factum_core::{Env, Source, Timestamp};
    /// # struct Fixed;
    /// # impl Source for Fixed {
    /// #     fn now(&self) -> Timestamp { Timestamp::UNIX_EPOCH }
    /// #     fn random(&self) -> u64 { 4 }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), factum_core::Error> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let env = Env::new(Fixed);
    /// use factum_core::{Broker, Headers, Outgoing, Topic, TopicPartition, TopicSpec};
    /// use factum_sqlite::{Sqlite, SqliteOptions};
    ///
    /// let sqlite = Sqlite::open(&SqliteOptions::new(directory.path()))?;
    /// let broker = sqlite.broker(&env).await?;
    /// broker.ensure_topic(&TopicSpec::new(Topic::of("orders"), 3)).await?;
    /// let mut producer = broker.producer().await?;
    /// let message = Outgoing {
    ///     topic: Topic::of("orders"),
    ///     partition: 2,
    ///     key: Some("order-1".into()),
    ///     headers: Headers::new(),
    ///     value: Some("{}".into()),
    ///     timestamp: env.now(),
    /// };
    /// producer.send(vec![(1, message)]).await?;
    /// // The report comes when the message is on the disk.
    /// assert_eq!(producer.reports().await?[0].result.clone()?, 0);
    /// let read = broker.read(&TopicPartition::new(Topic::of("orders"), 2), 0, 10).await?;
    /// assert_eq!(read[0].value.as_deref(), Some(&b"{}"[..]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of reading the topics: fatal when the file is damaged.
    pub async fn broker(&self, env: &Env) -> Result<SqliteBroker, Error> {
        let open = || GroupedBroker::open(SqliteTopics::new(self.file.clone()), env.clone());
        self.broker.get_or_try_init(open).await.cloned()
    }
}
