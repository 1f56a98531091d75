//! Topics and consumer groups for brokers that live in the process: everything but where the messages are kept.
//!
//! [`GroupedBroker`] implements [`Broker`](crate::Broker) over a [`TopicLog`], which only appends, reads and
//! trims. So each embedded broker has the same groups, the same rebalancing and the same bounds, and differs
//! in one thing: the memory broker of the test kit keeps messages in a map, the one of `factum-sqlite` in the
//! stores' own file.
//!
//! # What it promises
//!
//! * Within a group each partition has at most one owner. It moves to another member only after the old
//!   one's call of `next` that follows its [`Consumed::Revoked`](crate::Consumed::Revoked), or after its session.
//! * Rebalancing is cooperative and sticky: members keep what they have as far as balance allows, and go on
//!   reading it while others are given their share.
//! * Nothing here starts a task or a timer. Whether a session has ended is looked at whenever a member of the
//!   group calls, against [`Env::now`](crate::Env::now): a member that waits in `next` notices when it is called
//!   again, so callers put a time limit around it.
//!
//! Members are not kept: after a restart a group has none until they join. Topics, messages and committed
//! offsets are as durable as the log is.

mod arrivals;
mod assignment;
mod bell;
mod broker;
mod consumer;
mod coordinator;
mod producer;
mod retention;
mod topic_log;

pub use arrivals::Arrivals;
pub use assignment::assign;
pub use bell::Bell;
pub use broker::{GroupedBroker, SWEEP_BYTES, SWEEP_EVERY};
pub use consumer::BATCH_BYTES_MAX;
pub use coordinator::{Coordinator, MemberId, Turn};
pub use producer::{IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MESSAGES_MAX};
pub use retention::{Age, Keep};
pub use topic_log::{Appending, ReadLimit, Slice, TopicLog};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`. What a panicking holder left is consistent here: each section changes values that a
/// panic can't tear, and asserts before it writes.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
