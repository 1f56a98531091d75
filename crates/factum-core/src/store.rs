//! The store port: one service's log, and all that must be committed together with it.
//!
//! # For those who write an adapter
//!
//! The conformance suite of `factum-testkit` is the contract, executable; this is it in words.
//!
//! * **Atomic.** [`Store::commit`] applies a [`Commit`] whole or not at all, and answers when it is durable.
//!   Many commits may share one transaction, each with a result of its own: one that fails leaves no trace
//!   and does not disturb its neighbours.
//! * **In order.** Commits given to one store object are decided in the order in which their futures were
//!   first polled, a full queue included. Positions are dense
//!   and in commit order: a reader that has seen position *n* has seen everything up to *n*, for ever.
//! * **Standing on.** A commit fails with [`CommitError::StoodOnFailed`] if one that it stands on failed,
//!   even when all its versions happen to fit: another process may have written them. One that was never tried,
//!   because its future was dropped while it waited for its turn, has failed. A commit that it stands on was
//!   given to this store object before it.
//! * **Conditions** are those that the documentation of each [`Input`](crate::Input) names, besides the
//!   commit's own. They are compared when the commit is applied and not when it is queued. Where several
//!   fail, the answer is the first of: fence, `stands_on`, the input's own, stream versions, rows.
//! * **Errors** are sorted by [`ErrorClass`](crate::ErrorClass). A connection that is lost during a commit
//!   MUST be `unknown` unless the adapter found out; a full disk MUST be `transient` when nothing was
//!   written, and `fatal` after a failed sync, since nobody knows what the disk holds then.
//! * **No clock.** An adapter uses the times that it is given, but for its own waiting.

mod layer;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    At, Audited, Begin, Category, Commit, CommitError, Committed, Env, Epoch, Error, Fence, Group,
    Holder, InboxId, InboxRow, Lane, Lease, MessageId, Parked, ParkedId, ParkedState, Position,
    ProjectionName, Record, Role, ServiceName, StoreId, StreamId, Timer, Timestamp, Topic, Version,
    Views,
};

pub use self::layer::{Layered, StoreLayer};

/// Who a store is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreIdentity {
    /// Its id, drawn when it was created.
    pub id: StoreId,
    /// The service that owns it.
    pub service: ServiceName,
    /// Its present epoch.
    pub epoch: Epoch,
}

/// Where the stores of services are: a directory, a database.
#[async_trait]
pub trait Stores: fmt::Debug + Send + Sync + 'static {
    /// Opens the store of `service`, which is made if it does not exist.
    ///
    /// # Errors
    ///
    /// What the engine said, classified.
    async fn open(&self, service: &ServiceName, env: &Env) -> Result<Arc<dyn Store>, Error>;

    /// Finishes what was handed over and closes all of them: what they are asked afterwards fails.
    async fn close(&self);
}

/// What a store can do beyond the contract, as facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreCapabilities {
    /// Whether what is committed outlives the process.
    pub durable: bool,
    /// Whether commits may carry own SQL ([`ViewWrite::Sql`](crate::ViewWrite::Sql)), and in which dialect.
    pub sql: Option<&'static str>,
    /// Whether several processes may use it at a time.
    pub shared: bool,
}

/// What a caller waits for: see [`Store::wait`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// The head of the log: its value is the head's position.
    Head,
    /// Parked messages: its value grows whenever one is parked, released, redriven or leaves.
    Parking,
    /// Timers: its value grows whenever one is set or cancelled.
    Timers,
}

/// Which records of the log to read.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LogFilter {
    /// Only events of these categories; empty: all.
    pub categories: Vec<Category>,
    /// Only records of these stored types, whatever their version; empty: all.
    pub types: Vec<String>,
    /// Only records that go to a topic.
    pub sent: bool,
}

impl LogFilter {
    /// Whether `record` is one of them.
    pub fn matches(&self, record: &Record) -> bool {
        let stream = record.draft.stream.as_ref();
        let category = self.categories.is_empty()
            || stream.is_some_and(|stream| self.categories.contains(stream.category()));
        let event_type = self.types.is_empty()
            || self
                .types
                .iter()
                .any(|name| **name == *record.draft.event_type.name);
        let sent = !self.sent || record.draft.destination.is_some();
        category && event_type && sent
    }
}

/// With how many bytes of content a page of the log, or of parked messages, ends before its limit: what a reader holds does
/// not depend on how large they are. The record or message that brings it to so many is its last one, so that it always has
/// one, and less than 10 MB of records with the largest.
pub const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A stretch of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPage {
    /// The records that match, in the order of their positions.
    pub records: Vec<Record>,
    /// Up to where the log was looked through: the cursor to go on from.
    pub next: At,
    /// The head of the log.
    pub head: At,
}

/// A stretch of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPage {
    /// The events, in the order of their versions.
    pub records: Vec<Record>,
    /// The version of the stream's last event; 0 when it has none.
    pub version: Version,
}

/// One line of a list of streams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSummary {
    /// The stream.
    pub stream: StreamId,
    /// The version of its last event.
    pub version: Version,
    /// The position of its last event, as far as the index has come.
    pub last: Position,
}

/// An aggregate's state at a version, kept so that a load need not read all events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The stream's version that the state stands at.
    pub version: Version,
    /// The event of that version. The state counts only where that is still the stream's event: a restore may have
    /// gone back before it, and the stream have come to the same version by other events.
    pub event_id: MessageId,
    /// The state, as JSON.
    pub state: Bytes,
}

/// Which parked messages to read. All conditions must hold.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ParkedFilter {
    /// Only of this group.
    pub group: Option<Group>,
    /// Only of this inbox.
    pub inbox: Option<InboxId>,
    /// Only of this lane; goes with `inbox`.
    pub lane: Option<Lane>,
    /// Only in this state.
    pub state: Option<ParkedState>,
    /// Only those whose last failure has this cause.
    pub cause: Option<String>,
    /// Only those that are due at or before this time.
    pub due: Option<Timestamp>,
    /// Only those behind this one, in the order of ids: where the page before ended.
    pub after: Option<ParkedId>,
}

impl ParkedFilter {
    /// Whether `parked` is one of them.
    pub fn matches(&self, parked: &Parked) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, actual: &T) -> bool {
            wanted.is_none_or(|wanted| wanted == actual)
        }
        is(self.group.as_ref(), &parked.id.inbox.group)
            && is(self.inbox.as_ref(), &parked.id.inbox)
            && is(self.lane.as_ref(), &parked.lane)
            && is(self.state.as_ref(), &parked.state)
            && self.cause.as_ref().is_none_or(|wanted| {
                parked
                    .failure
                    .as_ref()
                    .is_some_and(|failure| failure.cause == *wanted)
            })
            && self
                .due
                .is_none_or(|until| parked.due.is_some_and(|due| due <= until))
            && self.after.as_ref().is_none_or(|after| parked.id > *after)
    }

    /// What to ask for behind `page`, which was asked for with this filter and `limit`. `None`: there is nothing behind it.
    #[must_use]
    pub fn behind(&self, page: &[Parked], limit: usize) -> Option<Self> {
        let bytes: usize = page.iter().map(Parked::size).sum();
        let full = page.len() >= limit || bytes >= PAGE_BYTES_MAX;
        page.last().filter(|_| full).map(|last| Self {
            after: Some(last.id.clone()),
            ..self.clone()
        })
    }
}

/// How many messages of one cause are parked in a group, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedCount {
    /// The group.
    pub group: Group,
    /// Their state.
    pub state: ParkedState,
    /// The cause of their last failure; none for those that only wait.
    pub cause: Option<String>,
    /// How many.
    pub count: u64,
    /// When the oldest of them was parked.
    pub oldest: Timestamp,
}

/// The relay's row, as its new owner reads it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RelayClaim {
    /// The new owner's fence.
    pub fence: Fence,
    /// All records up to here were published.
    pub checkpoint: At,
    /// The last record published to each partition, as of the checkpoint.
    pub lasts: Vec<(Topic, u32, At)>,
}

/// A generation of a projection, as its new owner reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectionClaim {
    /// The new owner's fence.
    pub fence: Fence,
    /// How far the generation has come.
    pub checkpoint: At,
}

/// One generation of a projection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectionState {
    /// The projection.
    pub projection: ProjectionName,
    /// The generation of its rows.
    pub generation: u32,
    /// The fingerprint of the code and views that it was built with.
    pub fingerprint: String,
    /// How far it has come.
    pub checkpoint: At,
}

/// A topic, and how many partitions this store's keys are spread over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedTopic {
    /// The topic.
    pub topic: Topic,
    /// Its partition count, which can't change while keyed records exist.
    pub partitions: u32,
}

/// One time line of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochSpan {
    /// The epoch.
    pub epoch: Epoch,
    /// The position of the first record that is, or would be, written in it.
    pub first: Position,
    /// When it was opened.
    pub opened: Timestamp,
    /// Why: `created`, or what was restored and what was lost.
    pub reason: String,
}

/// What [`Store::prune`] may drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prune {
    /// Idempotency keys and foreign event ids that expired before this time. An event id is kept as long
    /// as its parked row.
    pub expired: Timestamp,
    /// Parked messages that were discarded before this time.
    pub discarded: Timestamp,
}

/// One service's log, and all that is committed with it. See the [module](self) for the contract.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Who it is.
    fn identity(&self) -> StoreIdentity;

    /// What it can do.
    fn capabilities(&self) -> StoreCapabilities;

    /// The views that live in this store, if it can hold views: written by commits, read here.
    fn views(&self) -> Option<&dyn Views>;

    /// How many records of its log it has read since it was opened, to open itself, to complete its indexes and to
    /// answer: a figure for operators. `None` when it doesn't count.
    fn records_read(&self) -> Option<u64> {
        None
    }

    /// How many commits wait to be taken up by whoever writes: a figure for operators. Bounded; whoever comes when
    /// as many wait as may waits outside. Stores that share a writer have one figure. `None` when it doesn't count.
    fn commits_waiting(&self) -> Option<u64> {
        None
    }

    /// How many transactions were made durable since it was opened, each of them one wait for the disk: a figure for
    /// measurements. Stores that share a writer have one figure. `None` when it doesn't count.
    fn transactions(&self) -> Option<u64> {
        None
    }

    /// Applies `commit` whole or not at all, and answers when it is durable.
    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError>;

    /// Waits until the value of `signal` is greater than `seen`, and returns it.
    ///
    /// A wake-up may be lost (a notification from another process): callers put a time limit around this
    /// and look again when it passes. None is lost within one process. Called with the value before the
    /// first (0), it returns at once if anything ever happened.
    async fn wait(&self, signal: Signal, seen: u64) -> Result<u64, Error>;

    // The log.

    /// The place of the last record; epoch and position 0 when there is none.
    async fn head(&self) -> Result<At, Error>;

    /// Events of one stream from version `from` on, at most `limit`.
    async fn read_stream(
        &self,
        stream: &StreamId,
        from: Version,
        limit: usize,
    ) -> Result<StreamPage, Error>;

    /// Records behind `after` that match `filter`. Looks through at most `limit` records, matching or not,
    /// so that a page costs the same whatever the filter; and through none behind the one with which those that match
    /// have [`PAGE_BYTES_MAX`] bytes ([`Draft::encoded_len`](crate::Draft::encoded_len)).
    ///
    /// # Errors
    ///
    /// Class conflict when `after` does not lie on the present time line: a restore went back before it.
    async fn read_log(&self, after: At, filter: &LogFilter, limit: usize)
    -> Result<LogPage, Error>;

    /// Records with this correlation id behind position `after`, at most `limit`. The index may trail the log;
    /// this reads the tail too.
    async fn read_correlated(
        &self,
        id: &MessageId,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Record>, Error>;

    /// Streams behind `after`, by the bytes of the category and then of the id, at most `limit`.
    async fn streams(
        &self,
        category: Option<&Category>,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<StreamSummary>, Error>;

    /// All epochs, oldest first.
    async fn epochs(&self) -> Result<Vec<EpochSpan>, Error>;

    /// Opens a new epoch greater than the present one, so that what a restore lost can't be taken for what
    /// comes: fences, cursors and checkpoints of the lost time line no longer hold. The relay's checkpoint and
    /// the projections' are moved back to the head if they lie beyond it.
    async fn open_epoch(&self, epoch: Epoch, at: Timestamp, reason: &str) -> Result<(), Error>;

    // Snapshots.

    /// The newest snapshot of a stream that was saved with this fingerprint.
    async fn snapshot(
        &self,
        stream: &StreamId,
        fingerprint: &str,
    ) -> Result<Option<Snapshot>, Error>;

    /// Keeps a snapshot, in place of the one before.
    async fn save_snapshot(
        &self,
        stream: &StreamId,
        fingerprint: &str,
        snapshot: Snapshot,
    ) -> Result<(), Error>;

    // Topics.

    /// Pins a topic's partition count at its first use. Records for topics that aren't pinned are refused.
    ///
    /// # Errors
    ///
    /// Class fatal when the topic is pinned with another count.
    async fn pin_topic(&self, topic: &Topic, partitions: u32) -> Result<(), Error>;

    /// All pinned topics.
    async fn pinned_topics(&self) -> Result<Vec<PinnedTopic>, Error>;

    // Ownership. Each raises the owner epoch and reads the row in one step.

    /// Claims an inbox. When it has no row, one is made that starts as `begin` says.
    ///
    /// The row is returned with the new fence and with [`clean`](InboxRow::clean) as the last owner left it;
    /// stored it is not clean from now on, until the new owner releases it.
    ///
    /// The answer's `clean` is as the owner before left it; in the store it is false until this one releases.
    async fn claim_inbox(&self, inbox: &InboxId, begin: &Begin) -> Result<InboxRow, Error>;

    /// The row of an inbox, without claiming it.
    async fn inbox(&self, inbox: &InboxId) -> Result<Option<InboxRow>, Error>;

    /// All inboxes of this store with their rows.
    async fn inboxes(&self) -> Result<Vec<(InboxId, InboxRow)>, Error>;

    /// Claims the relay.
    async fn claim_relay(&self) -> Result<RelayClaim, Error>;

    /// The relay's row, without claiming it.
    async fn relay(&self) -> Result<RelayClaim, Error>;

    /// Claims a generation of a projection, which is made at position 0 if it doesn't exist. One that is claimed with
    /// another fingerprint than its own starts over: whatever rows it has are not those.
    async fn claim_projection(
        &self,
        projection: &ProjectionName,
        generation: u32,
        fingerprint: &str,
    ) -> Result<ProjectionClaim, Error>;

    /// All generations of all projections.
    async fn projections(&self) -> Result<Vec<ProjectionState>, Error>;

    /// Forgets a generation of a projection. Its rows are dropped by [`Views::drop_generation`].
    async fn forget_projection(
        &self,
        projection: &ProjectionName,
        generation: u32,
    ) -> Result<(), Error>;

    /// Claims the timers.
    async fn claim_timers(&self) -> Result<Fence, Error>;

    // Leases: only asked of a store that is [shared](StoreCapabilities::shared); others refuse, class fatal. A lease is
    // no condition of any commit, since fences are: it says who may claim.

    /// The lease of a role; that of a role which nobody ever had has no holder and beat 0.
    async fn lease(&self, role: &Role) -> Result<Lease, Error>;

    /// Gives the lease of a role to `holder`, or to nobody, if its beat is still `seen`, and says whether it was. The
    /// beat grows by one. Durable when it answers, and kept over a new epoch.
    async fn set_lease(
        &self,
        role: &Role,
        seen: u64,
        holder: Option<Holder>,
    ) -> Result<bool, Error>;

    // Timers, parked messages, answers.

    /// The timers that come due first, at most `limit`, whether they are due yet or not.
    async fn next_timers(&self, limit: usize) -> Result<Vec<Timer>, Error>;

    /// Parked messages that match, in the order of their ids, at most `limit`, and none behind the one with which they have
    /// [`PAGE_BYTES_MAX`] bytes ([`Parked::size`]). [`ParkedFilter::behind`] says what to ask for next.
    async fn parked(&self, filter: &ParkedFilter, limit: usize) -> Result<Vec<Parked>, Error>;

    /// One parked message.
    async fn parked_one(&self, id: &ParkedId) -> Result<Option<Parked>, Error>;

    /// How many are parked, by group, state and cause.
    async fn parked_counts(&self) -> Result<Vec<ParkedCount>, Error>;

    /// When the first retry of this inbox is due.
    async fn next_retry(&self, inbox: &InboxId) -> Result<Option<Timestamp>, Error>;

    /// The lanes with a key of this inbox that are parked, at most `limit`, in no particular order. Nothing else can come
    /// in the lane of a message without a key, so that nobody asks for it.
    async fn parked_lanes(&self, inbox: &InboxId, limit: usize) -> Result<Vec<Lane>, Error>;

    /// What was answered to the command with this idempotency key, with the hash of its request, as far as a commit at
    /// `at` would still be told so: an answer that has expired by then is none, dropped or not.
    async fn answered(
        &self,
        scope: &str,
        key: &str,
        at: Timestamp,
    ) -> Result<Option<(u64, crate::Answered)>, Error>;

    /// The audit record, newest first, at most `limit`: from the newest of all, or from the newest of those whose
    /// number is less than `before`. Entries that come meanwhile have greater numbers and change no older page.
    async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<Audited>, Error>;

    /// Drops what has expired, and says how many rows that were.
    async fn prune(&self, prune: Prune) -> Result<u64, Error>;
}
