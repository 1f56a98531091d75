//! The commit: a handler's whole effect, applied at once together with the proof that its input was handled.
//!
//! Everything that a service does to its store is one [`Commit`] through one method,
//! [`Store::commit`](crate::Store::commit). It is applied whole or not at all.

mod rules;

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    Advance, At, CommitId, Draft, Error, ErrorClass, ExpectedVersion, FailureNote, Fence, InboxId,
    InboxRow, Key, Lane, MessageId, Parked, ParkedId, Position, ProjectionName, Room, StoreId,
    StreamId, Timestamp, Topic, Trying, Version, ViewWrite,
};

pub use rules::{Owned, StreamKey};

/// All that one handler did, and what has to hold for it to count.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Names the commit: what others stand on, and what is sent again after an unknown outcome.
    pub id: CommitId,
    /// The time at which it was made: adapters look at no clock.
    pub at: Timestamp,
    /// What was handled, compared and set.
    pub input: Input,
    /// Commits of this process, not yet durable when this was decided, whose success was assumed.
    pub stands_on: Vec<CommitId>,
    /// What else has to hold.
    pub conditions: Vec<Condition>,
    /// Events and imports, stream by stream.
    pub appends: Vec<Append>,
    /// Messages for topics that are not this store's own events.
    pub outbox: Vec<Draft>,
    /// Rows of views. Those of views outside of the store go with [`Input::Log`] and nothing else.
    pub views: Vec<ViewWrite>,
    /// Timers set and cancelled.
    pub timers: Vec<TimerWrite>,
    /// Who did this and why, when a person did it or a message was skipped.
    pub audit: Option<AuditEntry>,
}

impl Commit {
    /// An empty commit without an input.
    pub fn new(id: CommitId, at: Timestamp) -> Self {
        Self {
            id,
            at,
            input: Input::None,
            stands_on: Vec::new(),
            conditions: Vec::new(),
            appends: Vec::new(),
            outbox: Vec::new(),
            views: Vec::new(),
            timers: Vec::new(),
            audit: None,
        }
    }

    /// The records that it appends, in the order of their positions.
    pub fn drafts(&self) -> impl Iterator<Item = &Draft> {
        self.appends
            .iter()
            .flat_map(|append| &append.drafts)
            .chain(&self.outbox)
    }

    /// Refuses drafts that no store may take, whatever it holds: an append without events or with events of another
    /// stream, an event in the outbox, a destination that is not pinned. `pinned` gives a topic's partition count.
    ///
    /// # Errors
    ///
    /// An error of class poison that names the draft.
    pub fn check_drafts(&self, pinned: impl Fn(&Topic) -> Option<u32>) -> Result<(), Error> {
        for append in &self.appends {
            if append.drafts.is_empty() {
                return Err(Error::poison(format!(
                    "an append to stream `{}` has no events",
                    append.stream
                )));
            }
            let other = |draft: &&Draft| draft.stream.as_ref() != Some(&append.stream);
            if let Some(draft) = append.drafts.iter().find(other) {
                return Err(Error::poison(format!(
                    "event `{}` ({}) is not of stream `{}`, to which it was appended",
                    draft.event_id, draft.event_type, append.stream
                )));
            }
        }
        if let Some(draft) = self.outbox.iter().find(|draft| draft.stream.is_some()) {
            return Err(Error::poison(format!(
                "event `{}` ({}) belongs to a stream, and the outbox takes messages only",
                draft.event_id, draft.event_type
            )));
        }
        for draft in self.drafts() {
            draft.validate()?;
            let Some(to) = &draft.destination else {
                continue;
            };
            let what = match pinned(&to.topic) {
                Some(partitions) if to.partition < partitions => continue,
                Some(partitions) => format!("topic `{}` has {partitions} partitions", to.topic),
                None => format!("topic `{}` is not pinned", to.topic),
            };
            return Err(Error::poison(format!(
                "event `{}` ({}) can't go to partition {} of topic `{}`: {what}",
                draft.event_id, draft.event_type, to.partition, to.topic
            )));
        }
        Ok(())
    }

    /// Whether sending it again after an unknown outcome is refused by itself, because its input,
    /// versions or conditions moved: only commits without such a guard need their id stored.
    pub fn is_guarded(&self) -> bool {
        let exact = |append: &Append| {
            matches!(
                append.expected,
                ExpectedVersion::Exact(_) | ExpectedVersion::NoStream
            )
        };
        !matches!(self.input, Input::None) || self.appends.iter().any(exact)
    }
}

/// Events for one stream.
#[derive(Clone, Debug)]
pub struct Append {
    /// The stream.
    pub stream: StreamId,
    /// What is expected there.
    pub expected: ExpectedVersion,
    /// The events, one version after another. Never empty.
    pub drafts: Vec<Draft>,
}

/// What a commit proves to be handled.
///
/// The variants and their conditions are the transitions of the model-checked protocol
/// (`docs/internals/protocol.md`), one for one, so that a commit with the wrong conditions can't be written.
#[derive(Clone, Debug)]
pub enum Input {
    /// Nothing: imports by hand, set-up.
    None,
    /// A command, when its sender gave an idempotency key.
    Command(CommandInput),
    /// A message from a partition.
    Message(MessageInput),
    /// Void messages of a partition: only the row moves on.
    Void(VoidInput),
    /// A parked message, by the owner of its partition.
    Parked(ParkedInput),
    /// A parked message, by an operator. Such a commit has no effects.
    Operator(OperatorInput),
    /// A stretch of the own log, by a projection.
    Log(LogInput),
    /// A timer that was due.
    Timer(TimerInput),
    /// The relay's checkpoint.
    Relay(RelayInput),
}

/// A command with an idempotency key.
#[derive(Clone, Debug)]
pub struct CommandInput {
    /// Whose key it is, such as one HTTP endpoint.
    pub scope: String,
    /// The key.
    pub key: String,
    /// A hash of the request: the same key with another request is refused.
    pub request: u64,
    /// The answer, which is given again to whoever sends the command again.
    pub answer: Bytes,
    /// Until when it is remembered.
    pub expires: Timestamp,
}

/// A message from a partition, by the owner of its inbox.
#[derive(Clone, Debug)]
pub struct MessageInput {
    /// The inbox.
    pub inbox: InboxId,
    /// The owner's fence.
    pub fence: Fence,
    /// The message's offset.
    pub offset: u64,
    /// The message's lane.
    pub lane: Lane,
    /// What the owner saw of the partition, so that the row can move on.
    pub advance: Advance,
    /// The event id to remember and until when, for foreign messages.
    pub event_id: Option<(MessageId, Timestamp)>,
    /// What was done with the message.
    pub disposition: Disposition,
}

/// What was done with a message.
#[derive(Clone, Debug)]
pub enum Disposition {
    /// Its handlers ran, and their effects are in this commit. Refused when the lane is parked or the
    /// event id is taken.
    Apply,
    /// It was left out, for a recorded reason. Refused when the lane is parked.
    Skip,
    /// It failed, and is parked as retrying or dead. Refused when the lane is parked, the event id is taken,
    /// or there is no room.
    Park(Box<Parked>, Room),
    /// Its lane is parked, so it waits behind. Refused when the lane is *not* parked, the event id is taken
    /// (or a retry would repeat the effect of the message that took it), or there is no room.
    Wait(Box<Parked>, Room),
    /// Its event id is taken, so it is a foreign duplicate. Refused when the id is not taken.
    Duplicate,
}

/// Void messages of a partition, the attempt mark, or the release of the inbox.
#[derive(Clone, Debug)]
pub struct VoidInput {
    /// The inbox.
    pub inbox: InboxId,
    /// The owner's fence.
    pub fence: Fence,
    /// What the owner saw of the partition.
    pub advance: Advance,
    /// The attempt mark to set, if any. `Some(None)` removes it.
    pub trying: Option<Option<Trying>>,
    /// Whether the owner leaves in good order: it has nothing in flight and will write no more.
    pub release: bool,
    /// A loss that an operator accepts.
    pub accept: Option<Loss>,
}

/// A loss that an operator accepts, so that a group goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Messages of a source did not come, and won't.
    Missing(AcceptedLoss),
    /// The partition no longer has what the group reads next.
    Passed(PassedOffsets),
    /// A source publishes no more: nothing of it is told apart from now on, and there is room for another.
    Retired(RetiredSource),
}

impl From<AcceptedLoss> for Loss {
    fn from(loss: AcceptedLoss) -> Self {
        Self::Missing(loss)
    }
}

/// A group goes on at an offset, though it has not finished all before it: the partition no longer has that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassedOffsets {
    /// Where the row stands. Refused when it has moved meanwhile.
    pub low: u64,
    /// Where the group goes on. Never before `low`.
    pub to: u64,
}

/// A source publishes to a partition no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetiredSource {
    /// The source.
    pub source: StoreId,
    /// The last place that was taken from it. Refused when there was another meanwhile.
    pub last: At,
}

/// A source's chain goes on behind a place, whatever is missing before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedLoss {
    /// The source.
    pub source: StoreId,
    /// The last place that was taken from it before what is missing. Refused as long as the row has not come to it:
    /// the group is then still at work on messages before it, which would be taken for duplicates.
    pub last: At,
    /// Where the chain goes on. Never goes back by this.
    pub from: At,
}

/// A parked message, retried by the owner of its partition.
#[derive(Clone, Debug)]
pub struct ParkedInput {
    /// Which one.
    pub id: ParkedId,
    /// The owner's fence.
    pub fence: Fence,
    /// The revision that was tried.
    pub revision: u64,
    /// How the retry ended.
    pub outcome: Retried,
}

/// How a retry ended.
#[derive(Clone, Debug)]
pub enum Retried {
    /// Handled, or left out for a recorded reason: the row goes, the next of its lane becomes the head.
    Settled,
    /// Failed, to be tried again.
    Later {
        /// When.
        due: Timestamp,
        /// What happened.
        failure: FailureNote,
    },
    /// Failed for the last time.
    Dead(FailureNote),
}

/// What an operator does with a parked message. [`Commit::audit`] says who and why.
#[derive(Clone, Debug)]
pub struct OperatorInput {
    /// Which one.
    pub id: ParkedId,
    /// The revision that the operator saw.
    pub revision: u64,
    /// What to do.
    pub action: OperatorAction,
}

/// What an operator does with a parked message.
#[derive(Clone, Debug)]
pub enum OperatorAction {
    /// Let the owner try it again.
    Redrive,
    /// Put another value in place of the original, which is kept.
    Edit(Bytes),
    /// Give it up; the next of its lane becomes the head.
    Discard,
}

/// A stretch of the own log, by a projection.
#[derive(Clone, Debug)]
pub struct LogInput {
    /// The projection.
    pub projection: ProjectionName,
    /// Which generation of its rows.
    pub generation: u32,
    /// The owner's fence.
    pub fence: Fence,
    /// The checkpoint that the owner read from.
    pub from: At,
    /// The checkpoint that it reached.
    pub to: At,
}

/// A timer that was due.
#[derive(Clone, Debug)]
pub struct TimerInput {
    /// The fence of the owner of all timers.
    pub fence: Fence,
    /// Which timer.
    pub id: String,
    /// Which setting of it: a timer that was set again meanwhile has another.
    pub generation: u64,
}

/// The relay's checkpoint.
#[derive(Clone, Debug)]
pub struct RelayInput {
    /// The relay's fence.
    pub fence: Fence,
    /// All records up to here were published, each after its predecessors. Goes back by a rewind only.
    pub checkpoint: At,
    /// The last record published to each partition, as of the checkpoint: those that changed. Zero where there was
    /// none by then.
    pub lasts: Vec<(Topic, u32, At)>,
    /// Whether an operator sets the checkpoint back, so that what lies behind it is published again.
    pub rewind: bool,
}

/// A durable timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// Its name, unique in the store.
    pub id: String,
    /// Grows each time that it is set.
    pub generation: u64,
    /// When it is due.
    pub due: Timestamp,
    /// What its owner wants to be told.
    pub payload: Bytes,
}

/// A timer set or cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimerWrite {
    /// Set it, again if it is set.
    Set {
        /// Its name.
        id: String,
        /// When it is due.
        due: Timestamp,
        /// What its owner wants to be told.
        payload: Bytes,
    },
    /// Cancel it; nothing happens when it is not set.
    Cancel {
        /// Its name.
        id: String,
    },
}

/// Something that has to hold for a commit to count.
#[derive(Clone, Debug)]
pub enum Condition {
    /// A stream is at the expected version, without an append to it.
    Stream {
        /// The stream.
        stream: StreamId,
        /// What is expected there.
        expected: ExpectedVersion,
    },
    /// A view's row is at the version that was read; `None` when there was no row.
    Row {
        /// The view.
        view: crate::ViewRef,
        /// The row.
        id: String,
        /// The version that was read.
        version: Option<Position>,
    },
}

/// Who did what, when and why. Kept for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who: a token's name, `local` without tokens, or a group that skipped a message.
    pub actor: String,
    /// What, such as `redrive`.
    pub action: String,
    /// To what, such as a parked message's id.
    pub subject: String,
    /// Why.
    pub reason: String,
}

/// An entry as it stands in a store's audit record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audited {
    /// Its place in the record: greater than those of all entries that were committed before it.
    pub number: u64,
    /// Who did what.
    pub entry: AuditEntry,
}

/// What a commit became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The place of its last record, or of the log's head when it had none.
    pub head: At,
    /// The position of its first record; records follow each other without a gap.
    pub first: Option<Position>,
    /// For each append, the version of its last event.
    pub versions: Vec<Version>,
    /// The inbox row that it left, when its input was of an inbox.
    pub inbox: Option<InboxRow>,
}

/// Why a commit was not applied. Nothing of it was.
///
/// All but [`CommitError::Failed`] are answers: the store looked, and the commit may not count.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// A stream was not at the expected version. Load and decide again.
    #[error("stream `{stream}` is at version {actual}, expected {expected}")]
    Conflict {
        /// The stream.
        stream: StreamId,
        /// What was expected.
        expected: ExpectedVersion,
        /// The version that it is at.
        actual: Version,
    },
    /// An event of a stream has another partition key than the events before it.
    #[error("stream `{stream}` has partition key {known}, which can't change to {given}")]
    KeyChanged {
        /// The stream.
        stream: StreamId,
        /// The key of its first event, as text.
        known: String,
        /// The other one.
        given: String,
    },
    /// A row that was read has changed meanwhile. Read and decide again.
    #[error("row `{id}` of view `{view}` has changed")]
    RowChanged {
        /// The view.
        view: crate::ViewRef,
        /// The row.
        id: String,
    },
    /// The fence is not the stored one. Drop all memory of the role.
    #[error("fenced: {role} has another owner (fence {stored})")]
    Fenced {
        /// The role, in words.
        role: String,
        /// The fence that is stored.
        stored: Fence,
    },
    /// A commit that this one stands on was not applied. Load and decide again.
    #[error("commit {0}, which this one stands on, was not applied")]
    StoodOnFailed(CommitId),
    /// The idempotency key was used before for the same request: here is the answer.
    #[error("the command was handled before")]
    Answered(Box<Answered>),
    /// The idempotency key was used before for another request.
    #[error("idempotency key `{key}` was used for another request")]
    KeyReused {
        /// The key.
        key: String,
    },
    /// The lane is parked: let the message wait behind.
    #[error("the lane is parked")]
    LaneParked,
    /// The lane is not parked (any more): run the message live.
    #[error("the lane is not parked")]
    LaneFree,
    /// No more may be parked. The lane stays as it is until there is room.
    #[error("{bound} messages are parked {}, and no more may be", if *.lane { "in this lane" } else { "in this group" })]
    NoRoom {
        /// Whether it is the lane's bound, and not the group's.
        lane: bool,
        /// The bound.
        bound: u32,
    },
    /// The event id is taken: the message is a duplicate.
    #[error("event `{0}` was handled before")]
    DuplicateEvent(MessageId),
    /// The event id is not taken: the message is no duplicate.
    #[error("event `{0}` was not handled before")]
    NotDuplicate(MessageId),
    /// The parked message has changed since it was read, or is gone.
    #[error("parked message `{id}` has changed{}", .actual.map_or_else(|| " (it is gone)".to_string(), |revision| format!(" (revision {revision})")))]
    RevisionChanged {
        /// Which one.
        id: ParkedId,
        /// Its revision now; `None` when it is gone.
        actual: Option<u64>,
    },
    /// The timer was cancelled, set again, or has fired.
    #[error("timer `{0}` has changed")]
    TimerChanged(String),
    /// The projection's checkpoint is not where its owner read from.
    #[error("projection `{projection}` stands at {actual}")]
    CheckpointMoved {
        /// The projection.
        projection: ProjectionName,
        /// Where it stands.
        actual: At,
    },
    /// The store could not do it, or nobody knows whether it did: see the class.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl CommitError {
    /// What to do about it.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Fenced { .. } => ErrorClass::Fenced,
            Self::KeyChanged { .. } | Self::KeyReused { .. } => ErrorClass::Poison,
            Self::Failed(error) => error.class(),
            _ => ErrorClass::Conflict,
        }
    }
}

/// What an idempotency key remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The answer that was given.
    pub answer: Bytes,
    /// The head that the commit left, for the token.
    pub head: At,
    /// The position of its first record, if it had any.
    pub first: Option<Position>,
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("nothing"),
            Self::Command(input) => write!(f, "command {}/{}", input.scope, input.key),
            Self::Message(input) => input.fmt(f),
            Self::Void(input) => write!(f, "void messages of {}", input.inbox),
            Self::Parked(input) => write!(f, "parked message {}", input.id),
            Self::Operator(input) => write!(f, "operator on {}", input.id),
            Self::Log(input) => write!(
                f,
                "projection {} from {} to {}",
                input.projection, input.from, input.to
            ),
            Self::Timer(input) => write!(f, "timer {}", input.id),
            Self::Relay(input) => write!(f, "relay up to {}", input.checkpoint),
        }
    }
}

/// The partition key of a draft, as it is compared and shown.
pub fn key_of(draft: &Draft) -> Option<&Key> {
    draft.destination.as_ref().and_then(|to| to.key.as_ref())
}
