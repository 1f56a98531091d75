//! A witness at a store's door: it takes note of every commit that happened.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use factum_core::{
    Answered, At, Audited, Begin, Category, Commit, CommitError, Committed, Epoch, EpochSpan,
    Error, Fence, Holder, InboxId, InboxRow, Lane, Lease, LogFilter, LogPage, MessageId, Parked,
    ParkedCount, ParkedFilter, ParkedId, PinnedTopic, Position, ProjectionClaim, ProjectionName,
    ProjectionState, Prune, Record, RelayClaim, Role, Signal, Snapshot, Store, StoreCapabilities,
    StoreIdentity, StreamId, StreamPage, StreamSummary, Timer, Timestamp, Topic, Version, Views,
};

use crate::{Chronicle, Step};

/// What changes a commit on its way into the store, behind the witness's back.
pub type Meddler = Arc<dyn Fn(&mut Commit) + Send + Sync>;

/// A store whose commits are written down.
pub struct Witness {
    inner: Arc<dyn Store>,
    chronicle: Chronicle,
    meddler: Option<Meddler>,
}

impl Witness {
    /// `inner`, whose commits are written into `chronicle`.
    pub fn new(inner: Arc<dyn Store>, chronicle: Chronicle) -> Self {
        Self {
            inner,
            chronicle,
            meddler: None,
        }
    }

    /// A store that doesn't do what it is told: `meddler` changes commits before they are stored. For tests that show
    /// that such a store is found out.
    #[must_use]
    pub fn meddled(mut self, meddler: Option<Meddler>) -> Self {
        self.meddler = meddler;
        self
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for Witness {
    fn identity(&self) -> StoreIdentity {
        self.inner.identity()
    }

    fn capabilities(&self) -> StoreCapabilities {
        self.inner.capabilities()
    }

    fn views(&self) -> Option<&dyn Views> {
        self.inner.views()
    }

    fn records_read(&self) -> Option<u64> {
        self.inner.records_read()
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        let told = commit.clone();
        let mut commit = commit;
        if let Some(meddler) = &self.meddler {
            meddler(&mut commit);
        }
        let committed = self.inner.commit(commit).await?;
        self.chronicle.note(Step::of(&told, &committed));
        Ok(committed)
    }

    async fn wait(&self, signal: Signal, seen: u64) -> Result<u64, Error> {
        self.inner.wait(signal, seen).await
    }

    async fn head(&self) -> Result<At, Error> {
        self.inner.head().await
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        from: Version,
        limit: usize,
    ) -> Result<StreamPage, Error> {
        self.inner.read_stream(stream, from, limit).await
    }

    async fn read_log(
        &self,
        after: At,
        filter: &LogFilter,
        limit: usize,
    ) -> Result<LogPage, Error> {
        self.inner.read_log(after, filter, limit).await
    }

    async fn read_correlated(
        &self,
        id: &MessageId,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        self.inner.read_correlated(id, after, limit).await
    }

    async fn streams(
        &self,
        category: Option<&Category>,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<StreamSummary>, Error> {
        self.inner.streams(category, after, limit).await
    }

    async fn epochs(&self) -> Result<Vec<EpochSpan>, Error> {
        self.inner.epochs().await
    }

    async fn open_epoch(&self, epoch: Epoch, at: Timestamp, reason: &str) -> Result<(), Error> {
        self.inner.open_epoch(epoch, at, reason).await
    }

    async fn snapshot(
        &self,
        stream: &StreamId,
        fingerprint: &str,
    ) -> Result<Option<Snapshot>, Error> {
        self.inner.snapshot(stream, fingerprint).await
    }

    async fn save_snapshot(
        &self,
        stream: &StreamId,
        fingerprint: &str,
        snapshot: Snapshot,
    ) -> Result<(), Error> {
        self.inner
            .save_snapshot(stream, fingerprint, snapshot)
            .await
    }

    async fn pin_topic(&self, topic: &Topic, partitions: u32) -> Result<(), Error> {
        self.inner.pin_topic(topic, partitions).await
    }

    async fn pinned_topics(&self) -> Result<Vec<PinnedTopic>, Error> {
        self.inner.pinned_topics().await
    }

    async fn claim_inbox(&self, inbox: &InboxId, begin: &Begin) -> Result<InboxRow, Error> {
        self.inner.claim_inbox(inbox, begin).await
    }

    async fn inbox(&self, inbox: &InboxId) -> Result<Option<InboxRow>, Error> {
        self.inner.inbox(inbox).await
    }

    async fn inboxes(&self) -> Result<Vec<(InboxId, InboxRow)>, Error> {
        self.inner.inboxes().await
    }

    async fn claim_relay(&self) -> Result<RelayClaim, Error> {
        self.inner.claim_relay().await
    }

    async fn relay(&self) -> Result<RelayClaim, Error> {
        self.inner.relay().await
    }

    async fn claim_projection(
        &self,
        projection: &ProjectionName,
        generation: u32,
        fingerprint: &str,
    ) -> Result<ProjectionClaim, Error> {
        self.inner
            .claim_projection(projection, generation, fingerprint)
            .await
    }

    async fn projections(&self) -> Result<Vec<ProjectionState>, Error> {
        self.inner.projections().await
    }

    async fn forget_projection(
        &self,
        projection: &ProjectionName,
        generation: u32,
    ) -> Result<(), Error> {
        self.inner.forget_projection(projection, generation).await
    }

    async fn claim_timers(&self) -> Result<Fence, Error> {
        self.inner.claim_timers().await
    }

    async fn lease(&self, role: &Role) -> Result<Lease, Error> {
        self.inner.lease(role).await
    }

    async fn set_lease(
        &self,
        role: &Role,
        seen: u64,
        holder: Option<Holder>,
    ) -> Result<bool, Error> {
        self.inner.set_lease(role, seen, holder).await
    }

    async fn next_timers(&self, limit: usize) -> Result<Vec<Timer>, Error> {
        self.inner.next_timers(limit).await
    }

    async fn parked(&self, filter: &ParkedFilter, limit: usize) -> Result<Vec<Parked>, Error> {
        self.inner.parked(filter, limit).await
    }

    async fn parked_one(&self, id: &ParkedId) -> Result<Option<Parked>, Error> {
        self.inner.parked_one(id).await
    }

    async fn parked_counts(&self) -> Result<Vec<ParkedCount>, Error> {
        self.inner.parked_counts().await
    }

    async fn next_retry(&self, inbox: &InboxId) -> Result<Option<Timestamp>, Error> {
        self.inner.next_retry(inbox).await
    }

    async fn parked_lanes(&self, inbox: &InboxId, limit: usize) -> Result<Vec<Lane>, Error> {
        self.inner.parked_lanes(inbox, limit).await
    }

    async fn answered(
        &self,
        scope: &str,
        key: &str,
        at: Timestamp,
    ) -> Result<Option<(u64, Answered)>, Error> {
        self.inner.answered(scope, key, at).await
    }

    async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<Audited>, Error> {
        self.inner.audit(before, limit).await
    }

    async fn prune(&self, prune: Prune) -> Result<u64, Error> {
        self.inner.prune(prune).await
    }
}
