//! What the library tells a member: changes of its assignment, to be answered later.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    types::RDKafkaRespErr,
};

use crate::log::{self, Complaint};

/// A change of the assignment. The library waits until it is told that it was carried out.
pub(super) enum Change {
    Assigned(TopicPartitionList),
    Revoked(TopicPartitionList),
    /// Given away already, because the group took the member for dead.
    Lost(TopicPartitionList),
}

/// Keeps changes until the member has answered them.
#[derive(Default)]
pub(super) struct Context {
    changes: Mutex<VecDeque<Change>>,
    /// Whether changes are carried out at once, since the member is about to leave.
    closing: AtomicBool,
    /// How much was told that a poll does not return: a poll that tells only such things looks like an empty one.
    heard: AtomicU64,
    complaint: Complaint,
}

impl Context {
    pub(super) fn changes(&self) -> MutexGuard<'_, VecDeque<Change>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// From now on every change is carried out as it comes.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// The library's last complaint, once.
    pub(super) fn complaint(&self) -> Option<String> {
        self.complaint.take()
    }

    fn hear(&self) {
        // Only the thread that polls looks at it, and it is that thread that is called here.
        self.heard.fetch_add(1, Ordering::Relaxed);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, _: &str, message: &str) {
        self.hear();
        log::note(&self.complaint, level, message);
    }

    fn error(&self, _: KafkaError, reason: &str) {
        log::note(&self.complaint, RDKafkaLogLevel::Info, reason);
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        self.hear();
        let is_assigned = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Relaxed) {
            if is_assigned {
                // One that is refused is answered like one that is accepted.
                drop(consumer.incremental_assign(partitions));
            } else {
                give_away(consumer, partitions);
            }
            return;
        }
        let change = if is_assigned {
            Change::Assigned(partitions.clone())
        } else if consumer.assignment_lost() {
            Change::Lost(partitions.clone())
        } else {
            Change::Revoked(partitions.clone())
        };
        self.changes().push_back(change);
    }
}

/// Answers that partitions were taken away, whatever the library thinks that there are: it waits for the answer for ever,
/// and refuses one about what was never begun.
pub(super) fn give_away(consumer: &BaseConsumer<Context>, partitions: &TopicPartitionList) {
    let all = || consumer.incremental_unassign(&consumer.assignment()?);
    let given = consumer.incremental_unassign(partitions).or_else(|_| all());
    if let Err(error) = given.or_else(|_| consumer.unassign()) {
        tracing::debug!("giving partitions away: {error}");
    }
}
