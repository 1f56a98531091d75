//! The topic log in the file.

use std::{
    fmt,
    sync::{Arc, OnceLock, PoisonError, RwLock, RwLockWriteGuard},
};

use async_trait::async_trait;
use factum_core::{
    BrokerCapabilities, Error, Group, Outgoing, Timestamp, TopicPartition, TopicSpec, Watermarks,
    groups::{Appending, Arrivals, Keep, ReadLimit, Slice, TopicLog},
};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{
    newest::Newest,
    tables::{self, Appended},
};
use crate::{
    file::{File, closed},
    group::{Order, Task},
    reader::Reading,
};

/// The largest message that the embedded broker takes: about Kafka's default, so that what fits here fits there.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// How many messages at the end of a partition are read where they are asked for, and not on a reading thread.
const MESSAGES_BRIEF: u64 = 32;

/// The topics of a file.
pub struct SqliteTopics {
    file: Arc<File>,
    arrivals: OnceLock<Arc<Arrivals>>,
    newest: Arc<RwLock<Newest>>,
}

impl SqliteTopics {
    pub(crate) fn new(file: Arc<File>) -> Self {
        Self {
            file,
            arrivals: OnceLock::new(),
            newest: Arc::default(),
        }
    }

    fn newest(&self, partition: &TopicPartition, offset: u64, limit: ReadLimit) -> Option<Slice> {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        newest.read(partition, offset, limit)
    }

    /// Reads in one transaction, so that watermarks and messages are of the same moment.
    async fn read_at_once<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.file.read(move |reading| reading.at_once(read)).await
    }
}

#[async_trait]
impl TopicLog for SqliteTopics {
    fn capabilities(&self) -> BrokerCapabilities {
        BrokerCapabilities {
            durable: true,
            message_bytes_max: MESSAGE_BYTES_MAX,
        }
    }

    fn listen(&self, arrivals: Arc<Arrivals>) {
        assert!(self.arrivals.set(arrivals).is_ok(), "a log has one broker");
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>, Error> {
        self.read_at_once(tables::topics).await
    }

    async fn put_topic(&self, spec: &TopicSpec) -> Result<TopicSpec, Error> {
        let spec = spec.clone();
        self.file
            .write(move |db| tables::put_topic(db, &spec))
            .await
    }

    async fn watermarks(&self, partition: &TopicPartition) -> Result<Watermarks, Error> {
        let partition = partition.clone();
        self.read_at_once(move |db| tables::watermarks(db, &partition))
            .await
    }

    async fn append(&self, batch: Vec<Outgoing>) -> Result<Appending, Error> {
        let (arrivals, newest) = (self.arrivals.get().cloned(), self.newest.clone());
        let after = move |appended: &Result<Appended, Error>| {
            // Said by the writing thread and not by who waits: a producer that is gone leaves nobody asleep.
            if let (Ok(appended), Some(arrivals)) = (appended, arrivals) {
                let mut newest = write(&newest);
                for growth in &appended.growth {
                    let messages = growth.messages.take().into_iter();
                    newest.append(&growth.partition, growth.first, messages);
                }
                drop(newest);
                for growth in &appended.growth {
                    arrivals.reached(&growth.partition, growth.end, growth.bytes);
                }
            }
        };
        let (reply, answer) = oneshot::channel();
        let task = Task {
            looks_first: true,
            work: Some(move |desk: &mut crate::group::Desk<'_>| {
                tables::append(desk.connection, batch)
            }),
            after: Some(after),
            result: None,
            reply,
        };
        self.file.order(Order::Job(Box::new(task))).await?;
        Ok(Box::pin(async move {
            // A writer that ended with the order in its hands may have written it.
            let appended = answer
                .await
                .map_err(|_| Error::unknown("failed to append").caused_by(closed()))?;
            appended.map(|appended| appended.offsets)
        }))
    }

    async fn read(
        &self,
        partition: &TopicPartition,
        offset: u64,
        limit: ReadLimit,
    ) -> Result<Slice, Error> {
        if let Some(slice) = self.newest(partition, offset, limit) {
            return Ok(slice);
        }
        let wanted = partition.clone();
        let brief = move |reading: &Reading| {
            reading.at_once(|db| tables::read_end(db, &wanted, offset, limit, MESSAGES_BRIEF))
        };
        if let Some(slice) = self.file.read_brief(brief).await? {
            return Ok(slice);
        }
        let partition = partition.clone();
        self.read_at_once(move |db| tables::read(db, &partition, offset, limit))
            .await
    }

    async fn trim(&self, partition: &TopicPartition, keep: &Keep) -> Result<Watermarks, Error> {
        let (wanted, keep) = (partition.clone(), *keep);
        // Mostly there is nothing to trim, and a reader finds that out without holding up commits.
        let looked = self.read_at_once(move |db| tables::expired(db, &wanted, &keep, 1));
        let looked = looked.await?;
        if looked.count == 0 {
            return Ok(looked.watermarks);
        }
        let wanted = partition.clone();
        tracing::debug!("retention of `{partition}` begins");
        let (newest, trimming) = (self.newest.clone(), partition.clone());
        let after = move |trimmed: &Result<Watermarks, Error>| {
            if let Ok(kept) = trimmed {
                write(&newest).trim(&trimming, kept.first);
            }
        };
        let trimmed = self
            .file
            .write_then(move |db| tables::trim(db, &wanted, &keep), after)
            .await;
        tracing::debug!("retention of `{partition}` ended");
        trimmed
    }

    async fn put_offsets(
        &self,
        group: &Group,
        offsets: &[(TopicPartition, u64)],
        now: Timestamp,
    ) -> Result<(), Error> {
        let (group, offsets) = (group.clone(), offsets.to_vec());
        self.file
            .write(move |db| tables::put_offsets(db, &group, &offsets, now))
            .await
    }

    async fn offsets(&self, group: &Group) -> Result<Vec<(TopicPartition, u64)>, Error> {
        let group = group.clone();
        self.read_at_once(move |db| tables::offsets(db, &group))
            .await
    }
}

/// Nothing here can be left half done by a panic.
fn write(newest: &RwLock<Newest>) -> RwLockWriteGuard<'_, Newest> {
    newest.write().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for SqliteTopics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteTopics")
            .field("path", &self.file.path)
            .finish_non_exhaustive()
    }
}
