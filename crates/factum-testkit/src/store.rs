//! The store in memory: the reference adapter, for tests and simulation.
//!
//! It keeps the contract of [`factum_core::store`] to the letter and nothing beside it: a commit is applied
//! under one lock, first all that has to hold is looked at and then all is written. It is deterministic:
//! it spawns nothing, looks at no clock, and everything is kept in order. It speaks no SQL and is not
//! durable; what outlives the store object is its [`MemoryDisk`].

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use factum_core::{
    Answered, At, Audited, Begin, Category, Commit, CommitError, Committed, Epoch, EpochSpan,
    Error, Fence, Holder, InboxId, InboxRow, Lane, Lease, LogFilter, LogPage, MessageId, Parked,
    ParkedCount, ParkedFilter, ParkedId, PinnedTopic, Position, ProjectionClaim, ProjectionName,
    ProjectionState, Prune, Record, RelayClaim, Role, ServiceName, Signal, Snapshot, Store,
    StoreCapabilities, StoreId, StoreIdentity, StreamId, StreamPage, StreamSummary, Timer,
    Timestamp, Topic, Version, Views,
};

mod apply;
mod check;
mod disk;
pub use disk::MemoryDisk;
mod log;
mod memo;
mod outside;
pub use outside::{MemoryViewsBackup, MemoryViewsEngine};
mod parked;
mod state;
mod tables;
mod timers;
mod value;
pub use value::StoreValue;
mod views;

/// A store over a [`MemoryDisk`].
///
/// Each store object is a process of its own: it alone knows which of the commits it was given have failed.
///
/// ```
/// use factum_core::{ServiceName, Store as _, StoreId, Timestamp};
/// use factum_testkit::{MemoryDisk, MemoryStore};
/// let disk = MemoryDisk::new(StoreId(uuid::Uuid::nil()), ServiceName::of("order"), Timestamp::UNIX_EPOCH);
/// let store = MemoryStore::open(disk.clone());
/// drop(store);
/// // The same store, after a restart.
/// assert_eq!(MemoryStore::open(disk).identity().service, ServiceName::of("order"));
/// ```
pub struct MemoryStore {
    disk: MemoryDisk,
    views: views::MemoryViews,
    failed: Mutex<memo::Failed>,
    shared: bool,
}

impl MemoryStore {
    /// Opens the store on `disk`.
    pub fn open(disk: MemoryDisk) -> Self {
        let views = views::MemoryViews(disk.clone());
        Self {
            disk,
            views,
            failed: Mutex::default(),
            shared: true,
        }
    }

    /// The same as a store that one process uses at a time, as embedded ones are: a process that starts knows that
    /// there is no other, and waits for none.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.shared = false;
        self
    }

    /// A new store of `service` on a disk of its own.
    pub fn new(id: StoreId, service: ServiceName, at: Timestamp) -> Self {
        Self::open(MemoryDisk::new(id, service, at))
    }

    /// Its disk.
    pub fn disk(&self) -> &MemoryDisk {
        &self.disk
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("identity", &self.identity())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn identity(&self) -> StoreIdentity {
        self.disk.read(|state| state.identity.clone())
    }

    fn capabilities(&self) -> StoreCapabilities {
        StoreCapabilities {
            durable: false,
            sql: None,
            shared: self.shared,
        }
    }

    fn views(&self) -> Option<&dyn Views> {
        Some(&self.views)
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        self.disk.write(|state| {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            state.commit(commit, &mut failed)
        })
    }

    async fn wait(&self, signal: Signal, seen: u64) -> Result<u64, Error> {
        Ok(self.disk.wait(signal, seen).await)
    }

    async fn head(&self) -> Result<At, Error> {
        Ok(self.disk.read(state::State::head))
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        from: Version,
        limit: usize,
    ) -> Result<StreamPage, Error> {
        Ok(self
            .disk
            .read(|state| state.log.stream_page(stream, from, limit)))
    }

    async fn read_log(
        &self,
        after: At,
        filter: &LogFilter,
        limit: usize,
    ) -> Result<LogPage, Error> {
        self.disk.read(|state| {
            state.check_cursor(after)?;
            Ok(state.log.page(after, filter, limit))
        })
    }

    async fn read_correlated(
        &self,
        id: &MessageId,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        Ok(self
            .disk
            .read(|state| state.log.correlated(id, after, limit)))
    }

    async fn streams(
        &self,
        category: Option<&Category>,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<StreamSummary>, Error> {
        Ok(self
            .disk
            .read(|state| state.log.streams(category, after, limit)))
    }

    async fn epochs(&self) -> Result<Vec<EpochSpan>, Error> {
        Ok(self.disk.read(|state| state.epochs.clone()))
    }

    async fn open_epoch(&self, epoch: Epoch, at: Timestamp, reason: &str) -> Result<(), Error> {
        self.disk.write(|state| state.open_epoch(epoch, at, reason))
    }

    async fn snapshot(
        &self,
        stream: &StreamId,
        fingerprint: &str,
    ) -> Result<Option<Snapshot>, Error> {
        Ok(self
            .disk
            .read(|state| state.snapshots.get(stream)?.get(fingerprint).cloned()))
    }

    async fn save_snapshot(
        &self,
        stream: &StreamId,
        fingerprint: &str,
        snapshot: Snapshot,
    ) -> Result<(), Error> {
        self.disk.write(|state| {
            state
                .snapshots
                .entry(stream.clone())
                .or_default()
                .insert(fingerprint.into(), snapshot);
        });
        Ok(())
    }

    async fn pin_topic(&self, topic: &Topic, partitions: u32) -> Result<(), Error> {
        self.disk.write(|state| state.pin_topic(topic, partitions))
    }

    async fn pinned_topics(&self) -> Result<Vec<PinnedTopic>, Error> {
        let pinned = |(topic, partitions): (&Topic, &u32)| PinnedTopic {
            topic: topic.clone(),
            partitions: *partitions,
        };
        Ok(self
            .disk
            .read(|state| state.topics.iter().map(pinned).collect()))
    }

    async fn claim_inbox(&self, inbox: &InboxId, begin: &Begin) -> Result<InboxRow, Error> {
        Ok(self.disk.write(|state| state.claim_inbox(inbox, begin)))
    }

    async fn inbox(&self, inbox: &InboxId) -> Result<Option<InboxRow>, Error> {
        Ok(self.disk.read(|state| state.inboxes.get(inbox).cloned()))
    }

    async fn inboxes(&self) -> Result<Vec<(InboxId, InboxRow)>, Error> {
        let rows = |state: &state::State| {
            state
                .inboxes
                .iter()
                .map(|(inbox, row)| (inbox.clone(), row.clone()))
                .collect()
        };
        Ok(self.disk.read(rows))
    }

    async fn claim_relay(&self) -> Result<RelayClaim, Error> {
        Ok(self.disk.write(state::State::claim_relay))
    }

    async fn relay(&self) -> Result<RelayClaim, Error> {
        Ok(self.disk.read(state::State::relay_claim))
    }

    async fn claim_projection(
        &self,
        projection: &ProjectionName,
        generation: u32,
        fingerprint: &str,
    ) -> Result<ProjectionClaim, Error> {
        Ok(self
            .disk
            .write(|state| state.claim_projection(projection, generation, fingerprint)))
    }

    async fn projections(&self) -> Result<Vec<ProjectionState>, Error> {
        Ok(self.disk.read(state::State::projections))
    }

    async fn forget_projection(
        &self,
        projection: &ProjectionName,
        generation: u32,
    ) -> Result<(), Error> {
        self.disk
            .write(|state| state.forget_projection(projection, generation));
        Ok(())
    }

    async fn claim_timers(&self) -> Result<Fence, Error> {
        Ok(self.disk.write(state::State::claim_timers))
    }

    async fn lease(&self, role: &Role) -> Result<Lease, Error> {
        Ok(self.disk.read(|state| state.lease(role)))
    }

    async fn set_lease(
        &self,
        role: &Role,
        seen: u64,
        holder: Option<Holder>,
    ) -> Result<bool, Error> {
        Ok(self.disk.write(|state| state.set_lease(role, seen, holder)))
    }

    async fn next_timers(&self, limit: usize) -> Result<Vec<Timer>, Error> {
        Ok(self.disk.read(|state| state.timers.next(limit)))
    }

    async fn parked(&self, filter: &ParkedFilter, limit: usize) -> Result<Vec<Parked>, Error> {
        Ok(self.disk.read(|state| state.parked.find(filter, limit)))
    }

    async fn parked_one(&self, id: &ParkedId) -> Result<Option<Parked>, Error> {
        Ok(self.disk.read(|state| state.parked.get(id).cloned()))
    }

    async fn parked_counts(&self) -> Result<Vec<ParkedCount>, Error> {
        Ok(self.disk.read(|state| state.parked.counts()))
    }

    async fn next_retry(&self, inbox: &InboxId) -> Result<Option<Timestamp>, Error> {
        Ok(self.disk.read(|state| state.parked.next_retry(inbox)))
    }

    async fn parked_lanes(&self, inbox: &InboxId, limit: usize) -> Result<Vec<Lane>, Error> {
        Ok(self.disk.read(|state| state.parked.lanes(inbox, limit)))
    }

    async fn answered(
        &self,
        scope: &str,
        key: &str,
        at: Timestamp,
    ) -> Result<Option<(u64, Answered)>, Error> {
        Ok(self.disk.read(|state| state.answers.get(scope, key, at)))
    }

    async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<Audited>, Error> {
        Ok(self.disk.read(|state| {
            let numbered = (1..).zip(&state.audit);
            let older: Vec<_> = numbered
                .take_while(|(number, _)| before.is_none_or(|before| *number < before))
                .collect();
            let newest_first = older.into_iter().rev().take(limit);
            newest_first
                .map(|(number, entry)| Audited {
                    number,
                    entry: entry.clone(),
                })
                .collect()
        }))
    }

    async fn prune(&self, prune: Prune) -> Result<u64, Error> {
        Ok(self.disk.write(|state| state.prune(prune)))
    }
}
