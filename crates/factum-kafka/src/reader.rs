//! Reading outside of any group: clients that are kept for the next reader.

use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use factum_core::{Error, ErrorClass, Message, TopicPartition};
use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::Message as _,
    topic_partition_list::Offset,
};

use crate::{
    KafkaOptions, config,
    desk::{made, number},
    error::{self, Doing},
    log::Plain,
    message::{self, Names},
};

/// How many bytes are read at a time at most, besides the first message.
const READ_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How many clients are kept: so many readers at a time find a connection.
const IDLE_MAX: usize = 2;

/// How long the library is waited for at a time.
const POLL: Duration = Duration::from_millis(100);

/// The library asks for a group where none is needed; nobody ever joins it.
const GROUP: &str = "factum.reader";

/// Clients that nobody uses just now.
#[derive(Default)]
pub(crate) struct Readers(Mutex<Vec<BaseConsumer<Plain>>>);

impl Readers {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<BaseConsumer<Plain>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The messages of `range`, at most `limit`. There may be fewer, since not all offsets are messages.
    pub(crate) fn read(
        &self,
        options: &KafkaOptions,
        partition: &TopicPartition,
        range: Range<u64>,
        limit: usize,
    ) -> Result<Vec<Message>, Error> {
        let idle = self.idle().pop();
        let reader = match idle {
            Some(reader) => reader,
            None => made(&config::outsider(options, GROUP)).doing("read outside of a group")?,
        };
        let what = format!("read `{partition}` from offset {} on", range.start);
        let messages = read(&reader, options, partition, range, limit, &what)?;
        reader.unassign().doing(&what)?;
        // Only one that has done well is used again.
        let mut idle = self.idle();
        if idle.len() < IDLE_MAX {
            idle.push(reader);
        }
        Ok(messages)
    }
}

fn read(
    reader: &BaseConsumer<Plain>,
    options: &KafkaOptions,
    partition: &TopicPartition,
    range: Range<u64>,
    limit: usize,
    what: &str,
) -> Result<Vec<Message>, Error> {
    let mut assignment = TopicPartitionList::new();
    let first = Offset::Offset(i64::try_from(range.start).unwrap_or(i64::MAX));
    assignment
        .add_partition_offset(partition.topic.as_str(), number(partition), first)
        .doing(what)?;
    reader.assign(&assignment).doing(what)?;
    let (mut messages, mut bytes, mut silent) = (Vec::new(), 0, Duration::ZERO);
    let mut names = Names::default();
    while messages.len() < limit && bytes < READ_BYTES_MAX {
        match reader.poll(POLL) {
            Some(Ok(message)) => {
                silent = Duration::ZERO;
                let offset = u64::try_from(message.offset()).unwrap_or(0);
                if offset < range.start {
                    continue;
                }
                if offset >= range.end {
                    break;
                }
                let message = message::received(
                    &message,
                    &partition.topic,
                    partition.partition,
                    offset,
                    &mut names,
                );
                bytes += message.size();
                messages.push(message);
                if offset + 1 >= range.end {
                    break;
                }
            }
            Some(Err(KafkaError::PartitionEOF(of))) if of == number(partition) => break,
            Some(Err(error)) => {
                let class = error.rdkafka_error_code().map(error::class);
                let code = error.rdkafka_error_code();
                if class == Some(ErrorClass::Fatal)
                    || code == Some(rdkafka::types::RDKafkaErrorCode::AutoOffsetReset)
                {
                    return Err(error::sorted(what, error));
                }
            }
            None => {
                silent += POLL;
                if silent >= options.patience {
                    return Err(Error::transient(format!(
                        "failed to {what}: no answer came in time"
                    )));
                }
            }
        }
    }
    Ok(messages)
}
