//! Reading all messages of a partition as a consumer would: what verification does with topics.

use factum_core::{Error, TopicPartition, groups::ReadLimit};
use rusqlite::Connection;

use super::tables;

/// How much is read at a time.
const LIMIT: ReadLimit = ReadLimit {
    messages: 1_000,
    bytes: 8 << 20,
};

/// All partitions of all topics.
pub(crate) fn partitions(db: &Connection) -> Result<Vec<TopicPartition>, Error> {
    let topics = tables::topics(db)?.into_iter();
    let partitions = topics.flat_map(|spec| {
        (0..spec.partitions)
            .map(move |partition| TopicPartition::new(spec.topic.clone(), partition))
    });
    Ok(partitions.collect())
}

/// How many messages the partition holds. Fails at the first that is missing or damaged.
pub(crate) fn check(db: &Connection, partition: &TopicPartition) -> Result<u64, Error> {
    let watermarks = tables::watermarks(db, partition)?;
    let (mut next, mut count) = (watermarks.first, 0);
    while next < watermarks.end {
        let slice = tables::read(db, partition, next, LIMIT)?;
        if slice.next <= next {
            return Err(crate::error::damaged(format!(
                "the message at offset {next} of partition `{partition}`"
            )));
        }
        count += slice.messages.len() as u64;
        next = slice.next;
    }
    Ok(count)
}
