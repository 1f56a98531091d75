//! Operations: what is done through a port, as a plan sees it.

use std::{fmt, sync::Arc};

/// A kind of call. Named after the method of the port, but for those that a plan sees more closely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// `Store::commit`.
    Commit,
    /// `Store::open_epoch`.
    OpenEpoch,
    /// `Store::save_snapshot`.
    SaveSnapshot,
    /// `Store::pin_topic`.
    PinTopic,
    /// `Store::claim_inbox`.
    ClaimInbox,
    /// `Store::claim_relay`.
    ClaimRelay,
    /// `Store::claim_projection`.
    ClaimProjection,
    /// `Store::forget_projection`.
    ForgetProjection,
    /// `Store::claim_timers`.
    ClaimTimers,
    /// `Store::set_lease`. No write for a plan, though it is one: signs of life come by the clock, and would be most
    /// of what a crash could hit.
    SetLease,
    /// `Store::prune`.
    Prune,
    /// `Views::ensure`.
    EnsureView,
    /// `Views::drop_generation`.
    DropGeneration,
    /// `Store::wait`.
    Wait,
    /// Everything that only reads, of a store, its views or a broker.
    Read,
    /// `Broker::ensure_topic`.
    EnsureTopic,
    /// `Broker::sweep`.
    Sweep,
    /// `Broker::producer`.
    OpenProducer,
    /// One message of `Producer::send`.
    Send,
    /// One report on its way to `Producer::reports`.
    Report,
    /// `Broker::join`.
    Join,
    /// `Consumer::next`, before it asks the broker.
    Next,
    /// The messages of one partition on their way to `Consumer::next`.
    Deliver,
    /// `Consumer::seek`, `pause` and `resume`.
    Steer,
    /// `Consumer::commit`.
    CommitOffsets,
    /// `Consumer::leave`.
    Leave,
}

impl Call {
    /// Whether it changes what others see: before and after such calls the hook is called, and they are logged.
    pub const fn is_write(self) -> bool {
        !matches!(
            self,
            Self::SetLease
                | Self::Wait
                | Self::Read
                | Self::OpenProducer
                | Self::Report
                | Self::Next
                | Self::Deliver
                | Self::Steer
        )
    }
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which write of the world it is, from 1; for what is no write, that of the last one.
    pub number: u64,
    /// The node that makes it.
    pub node: Arc<str>,
    /// Its kind.
    pub call: Call,
    /// What it is about, in words: a commit's input, a message's partition and key.
    pub subject: String,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {:?}: {}",
            self.number, self.node, self.call, self.subject
        )
    }
}

/// A moment of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Moment {
    /// Nothing of it is done.
    Before,
    /// All of it is done, and its caller doesn't know yet.
    After,
}

/// A write, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The write.
    pub operation: Operation,
    /// What was answered: `ok`, or the error. `None` as long as nothing was.
    pub answer: Option<String>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} -> {}",
            self.operation,
            self.answer.as_deref().unwrap_or("(no answer)")
        )
    }
}
