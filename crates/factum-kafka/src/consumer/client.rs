//! The library's consumer of a member: one life in the group, from joining to leaving.

use std::{
    sync::Arc,
    thread::{self, Thread},
    time::Duration,
};

use factum_core::{Error, Subscription, Topic, TopicPartition};
use rdkafka::{
    TopicPartitionList,
    config::{ClientConfig, FromClientConfigAndContext},
    consumer::{BaseConsumer, CommitMode, Consumer, base_consumer::PartitionQueue},
    error::{KafkaError, KafkaResult},
    message::{BorrowedMessage, Message as _},
    topic_partition_list::Offset,
    types::RDKafkaErrorCode,
};

use super::context::{self, Change, Context};
use crate::{
    desk::number,
    error::{self, Doing},
};

/// How many polls are made at a time at most: changes and complaints, of which there are few.
const POLLS_MAX: usize = 256;

/// How long a seek may take, which asks nobody.
const SEEK_MAX: Duration = Duration::from_secs(10);

/// A consumer that has joined. Dropping it leaves the group.
pub(super) struct Client {
    /// Queues of partitions hold it too, and must be dropped before.
    consumer: Arc<BaseConsumer<Context>>,
}

/// What polling brought besides changes of the assignment.
#[derive(Default)]
pub(super) struct Heard {
    /// The member was silent for its session and has left, or must: what it reads is not all that there is.
    pub(super) expelled: bool,
    /// No broker can be reached just now.
    pub(super) down: Option<Error>,
    /// What won't pass by itself.
    pub(super) failure: Option<Error>,
}

/// What a partition's queue has.
pub(super) enum Next<'a> {
    Message(BorrowedMessage<'a>),
    /// What is to be read next is gone, and reading has stopped.
    Gone,
    Failure(Error),
    Nothing,
}

impl Client {
    /// Joins the group. The thread that calls is woken when there is something to poll.
    pub(super) fn join(config: &ClientConfig, subscription: &Subscription) -> Result<Self, Error> {
        let what = format!("join group `{}`", subscription.group);
        let consumer = BaseConsumer::from_config_and_context(config, Context::default());
        let mut consumer = consumer.doing(&what)?;
        consumer.set_nonempty_callback(waking(thread::current()));
        let topics: Vec<_> = subscription.topics.iter().map(Topic::as_str).collect();
        consumer.subscribe(&topics).doing(&what)?;
        Ok(Self {
            consumer: Arc::new(consumer),
        })
    }

    /// Takes what the library has to tell besides messages. Counts as a sign of life.
    pub(super) fn poll(&self) -> Heard {
        let mut heard = Heard::default();
        for _ in 0..POLLS_MAX {
            let before = self.consumer.context().heard();
            match self.consumer.poll(Duration::ZERO) {
                Some(Err(error)) => self.sort(error, &mut heard),
                // Messages come by the partitions' own queues. One that comes here is read, and would never come there:
                // whoever joins anew begins where its user is.
                Some(Ok(message)) => {
                    let (topic, partition) = (message.topic(), message.partition());
                    tracing::warn!(
                        "offset {} of `{topic}/{partition}` did not come by the partition's queue: joining anew",
                        message.offset()
                    );
                    heard.expelled = true;
                }
                None if self.consumer.context().heard() == before => break,
                None => {}
            }
        }
        let changes = self.consumer.context().changes();
        heard.expelled |= changes
            .iter()
            .any(|change| matches!(change, Change::Lost(_)));
        heard
    }

    fn sort(&self, error: KafkaError, heard: &mut Heard) {
        let Some(code) = error.rdkafka_error_code() else {
            return;
        };
        match code {
            RDKafkaErrorCode::PollExceeded => heard.expelled = true,
            RDKafkaErrorCode::AllBrokersDown => {
                heard.down = Some(error::sorted("reach a broker", error));
            }
            // Topics may be made later, and brokers come back.
            RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition => {
                tracing::debug!("a topic of the subscription is not there: {error}");
            }
            _ if matches!(error, KafkaError::MessageConsumptionFatal(_))
                || error::class(code) == factum_core::ErrorClass::Fatal =>
            {
                let error = error::sorted("stay in the group", error);
                heard.failure = Some(match self.consumer.context().complaint() {
                    Some(complaint) => error.while_(complaint),
                    None => error,
                });
            }
            _ => tracing::debug!("kafka's client library copes with: {error}"),
        }
    }

    /// The oldest change of the assignment that was not taken yet.
    pub(super) fn change(&self) -> Option<Change> {
        self.consumer.context().changes().pop_front()
    }

    /// Whether there is a change that was not taken yet.
    pub(super) fn has_change(&self) -> bool {
        !self.consumer.context().changes().is_empty()
    }

    /// Whether a change that was not taken yet takes this partition away.
    pub(super) fn takes_away(&self, partition: &TopicPartition) -> bool {
        let (topic, number) = (partition.topic.as_str(), number(partition));
        let changes = self.consumer.context().changes();
        changes.iter().any(|change| match change {
            Change::Revoked(list) | Change::Lost(list) => {
                list.find_partition(topic, number).is_some()
            }
            Change::Assigned(_) => false,
        })
    }

    /// The partition's queue, from which its messages come from now on.
    pub(super) fn queue(
        &self,
        partition: &TopicPartition,
    ) -> Result<PartitionQueue<Context>, Error> {
        let queue = self
            .consumer
            .split_partition_queue(partition.topic.as_str(), number(partition));
        let mut queue = queue.ok_or_else(|| {
            Error::transient(format!("the library has no queue for `{partition}`"))
        })?;
        queue.set_nonempty_callback(waking(thread::current()));
        Ok(queue)
    }

    /// Begins what was assigned, each at its offset, or at the end while nobody has said where.
    pub(super) fn begin(&self, partitions: &[(TopicPartition, Option<u64>)]) -> KafkaResult<()> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        let mut waiting = TopicPartitionList::new();
        for (partition, offset) in partitions {
            let (topic, number) = (partition.topic.as_str(), number(partition));
            if offset.is_none() {
                waiting.add_partition(topic, number);
            }
            let offset = offset.map_or(Offset::End, at);
            list.add_partition_offset(topic, number, offset)?;
        }
        self.consumer.incremental_assign(&list)?;
        // What has no place to start is not fetched either.
        if waiting.count() > 0 {
            self.consumer.pause(&waiting)?;
        }
        Ok(())
    }

    /// Agrees to a change that is none of its user's business.
    pub(super) fn agree(&self, assigned: &TopicPartitionList) -> KafkaResult<()> {
        self.consumer.incremental_assign(assigned)
    }

    /// Gives away what was revoked.
    pub(super) fn give_away(&self, revoked: &TopicPartitionList) -> KafkaResult<()> {
        self.consumer.incremental_unassign(revoked)
    }

    /// Answers that partitions are somebody else's.
    pub(super) fn forget(&self, lost: &TopicPartitionList) {
        context::give_away(&self.consumer, lost);
    }

    /// Goes on reading at `offset`.
    pub(super) fn seek(&self, partition: &TopicPartition, offset: u64) -> KafkaResult<()> {
        self.consumer.seek(
            partition.topic.as_str(),
            number(partition),
            at(offset),
            SEEK_MAX,
        )
    }

    /// Begins anew to read what has stopped: the library seeks only in what goes on.
    pub(super) fn begin_anew(&self, partition: &TopicPartition, offset: u64) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(partition.topic.as_str(), number(partition), at(offset))?;
        self.consumer.incremental_unassign(&list)?;
        self.consumer.incremental_assign(&list)
    }

    /// Fetches nothing of it any more, and drops what was fetched ahead.
    pub(super) fn pause(&self, partition: &TopicPartition) -> KafkaResult<()> {
        self.consumer.pause(&one(partition))
    }

    /// Fetches it again.
    pub(super) fn resume(&self, partition: &TopicPartition) -> KafkaResult<()> {
        self.consumer.resume(&one(partition))
    }

    /// Tells the broker offsets, without waiting for its answer.
    pub(super) fn commit(&self, offsets: &[(TopicPartition, u64)]) -> KafkaResult<()> {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (partition, offset) in offsets {
            list.add_partition_offset(partition.topic.as_str(), number(partition), at(*offset))?;
        }
        self.consumer.commit(&list, CommitMode::Async)
    }

    /// Leaves the group. All queues of partitions must be dropped before.
    pub(super) fn leave(self) {
        self.consumer.context().close();
        // What nobody has taken yet is answered here; what comes from now on, where it comes.
        while let Some(change) = self.change() {
            match change {
                Change::Assigned(partitions) => drop(self.agree(&partitions)),
                Change::Revoked(partitions) | Change::Lost(partitions) => {
                    context::give_away(&self.consumer, &partitions);
                }
            }
        }
        debug_assert_eq!(
            Arc::strong_count(&self.consumer),
            1,
            "queues hold the consumer"
        );
    }
}

/// The next of a partition's queue.
pub(super) fn next<'a>(queue: &'a PartitionQueue<Context>, what: &TopicPartition) -> Next<'a> {
    match queue.poll(Duration::ZERO) {
        None => Next::Nothing,
        Some(Ok(message)) => Next::Message(message),
        Some(Err(error)) => match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset) => Next::Gone,
            Some(code) if error::class(code) == factum_core::ErrorClass::Fatal => {
                Next::Failure(error::sorted(&format!("read `{what}`"), error))
            }
            _ => {
                tracing::debug!("reading `{what}`: {error}");
                Next::Nothing
            }
        },
    }
}

fn waking(thread: Thread) -> impl Fn() + Send + Sync + 'static {
    move || thread.unpark()
}

fn at(offset: u64) -> Offset {
    Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX))
}

fn one(partition: &TopicPartition) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition(partition.topic.as_str(), number(partition));
    list
}

#[cfg(test)]
mod tests {
    use factum_core::Group;
    use rdkafka::{
        mocking::MockCluster,
        producer::{BaseProducer, BaseRecord, Producer as _},
    };

    use super::*;
    use crate::{KafkaOptions, config};

    /// It was dropped, and with it the event that it was.
    #[test]
    fn a_message_that_does_not_come_by_its_partitions_queue_is_no_messages_loss() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("orders", 1, 1).unwrap();
        let options = KafkaOptions::new([cluster.bootstrap_servers()]);
        let producer: BaseProducer = config::producer(&options).create().unwrap();
        let record = BaseRecord::<(), _>::to("orders").payload("1");
        producer.send(record).unwrap();
        producer.flush(SEEK_MAX).unwrap();

        let subscription = Subscription {
            group: Group::of("payments"),
            topics: vec![Topic::of("orders")],
            member: "payments-1".into(),
            session: SEEK_MAX,
            batch_max: 1,
        };
        let config = config::member(&options, &subscription, 1);
        let client = Client::join(&config, &subscription).unwrap();
        let mut expelled = false;
        for _ in 0..1_000 {
            expelled |= client.poll().expelled;
            if expelled {
                break;
            }
            // Nobody has asked for the queue.
            if let Some(Change::Assigned(mut partitions)) = client.change() {
                partitions.set_all_offsets(Offset::Beginning).unwrap();
                client.agree(&partitions).unwrap();
            }
            thread::park_timeout(Duration::from_millis(20));
        }
        assert!(expelled, "it goes on as if nothing had happened");
        client.leave();
    }
}
