//! A store behind a plan of faults.

use std::{
    collections::{BTreeSet, VecDeque},
    future::{pending, poll_fn},
    panic::resume_unwind,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
};

use async_trait::async_trait;
use factum_core::{
    Answered, At, Audited, Begin, Category, Commit, CommitError, CommitId, Committed, Epoch,
    EpochSpan, Error, Fence, Holder, InboxId, InboxRow, Lane, Lease, LogFilter, LogPage, MessageId,
    Parked, ParkedCount, ParkedFilter, ParkedId, PinnedTopic, Position, ProjectionClaim,
    ProjectionName, ProjectionState, Prune, Record, RelayClaim, Role, Signal, Snapshot, Store,
    StoreCapabilities, StoreIdentity, StreamId, StreamPage, StreamSummary, Timer, Timestamp, Topic,
    Version, Views,
};
use tokio::task::unconstrained;

use super::{Call, Faults, plan::Begun, rule::Fault, views::FaultyViews};

/// How many commits that failed here are remembered. Commits stand only on those that are under way, of which a
/// process has some thousands at most.
const FAILED_MAX: usize = 16_384;

/// A store of one node, behind a plan of faults.
///
/// A commit that was begun is no longer its caller's to take back: who stops waiting for it only doesn't hear what became
/// of it, as with a store behind a network or a queue.
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    node: Arc<str>,
    faults: Faults,
    views: Option<FaultyViews>,
    way: Way,
}

impl FaultyStore {
    /// `inner`, as `node` sees it.
    pub fn new(node: &str, inner: Arc<dyn Store>, faults: &Faults) -> Self {
        let node: Arc<str> = node.into();
        let views = inner.views().is_some();
        let views = views.then(|| FaultyViews::new(node.clone(), inner.clone(), faults.clone()));
        let way = Way {
            inner: inner.clone(),
            faults: faults.clone(),
            turns: Arc::default(),
            failed: Arc::default(),
        };
        Self {
            inner,
            node,
            faults: faults.clone(),
            views,
            way,
        }
    }

    /// The store behind the faults.
    pub fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
    }

    async fn run<T>(
        &self,
        call: Call,
        subject: impl std::fmt::Display + Send,
        done: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        self.faults.run(&self.node, call, subject, done).await
    }
}

/// What a commit passes on its way. It is its own, since it goes on when its caller has gone.
#[derive(Clone, Debug)]
struct Way {
    inner: Arc<dyn Store>,
    faults: Faults,
    /// Held from the first poll of a commit until the inner store has taken it: the mutex is fair, so that commits
    /// are decided in the order in which they were first polled, whatever one of them waits for.
    turns: Arc<tokio::sync::Mutex<()>>,
    /// The commits that failed here and that the inner store doesn't know of.
    failed: Arc<Mutex<Failed>>,
}

impl Way {
    /// Gives a commit to the inner store, when nothing stands against it.
    async fn decide(self, begun: Begun, commit: Commit) -> Result<Committed, CommitError> {
        // Not subject to tokio's budget, which would let a commit wait outside of the queue.
        let turn = unconstrained(self.turns.lock()).await;
        self.faults.before(&begun).await;
        let id = commit.id;
        let refusal = match &begun.fault {
            Some(Fault::Fails(error)) => Some(CommitError::Failed(error.clone())),
            _ => self
                .failed(|failed| failed.first_of(&commit.stands_on))
                .map(CommitError::StoodOnFailed),
        };
        if let Some(refusal) = refusal {
            self.failed(|failed| failed.insert(id));
            drop(turn);
            return self.answer(&begun, Err(refusal)).await;
        }
        // From here on the inner store knows what becomes of it.
        self.failed(|failed| failed.remove(id));
        let mut inner = self.inner.commit(commit);
        let first = poll_fn(|context| Poll::Ready(inner.as_mut().poll(context))).await;
        drop(turn);
        let result = match first {
            Poll::Ready(result) => result,
            Poll::Pending => inner.await,
        };
        let result = match &begun.fault {
            // A refusal is lost as a success is.
            Some(Fault::Loses(error)) => Err(CommitError::Failed(error.clone())),
            _ => result,
        };
        self.answer(&begun, result).await
    }

    async fn answer(
        &self,
        begun: &Begun,
        result: Result<Committed, CommitError>,
    ) -> Result<Committed, CommitError> {
        let refusal = result.as_ref().err();
        let answer = refusal.map_or_else(
            || "ok".into(),
            |error| format!("{}: {error}", error.class()),
        );
        self.faults.after(begun, answer).await;
        result
    }

    fn failed<T>(&self, look: impl FnOnce(&mut Failed) -> T) -> T {
        look(&mut self.failed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Commits that failed before the inner store saw them.
#[derive(Debug, Default)]
struct Failed {
    ids: BTreeSet<CommitId>,
    /// In the order in which they failed, those that came back included.
    order: VecDeque<CommitId>,
}

impl Failed {
    fn insert(&mut self, id: CommitId) {
        if self.ids.insert(id) {
            self.order.push_back(id);
        }
        if self.order.len() > FAILED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    fn remove(&mut self, id: CommitId) {
        if self.ids.remove(&id) {
            self.order.retain(|known| *known != id);
        }
    }

    fn first_of(&self, ids: &[CommitId]) -> Option<CommitId> {
        ids.iter().copied().find(|id| self.ids.contains(id))
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn identity(&self) -> StoreIdentity {
        self.inner.identity()
    }

    fn capabilities(&self) -> StoreCapabilities {
        self.inner.capabilities()
    }

    fn records_read(&self) -> Option<u64> {
        self.inner.records_read()
    }

    fn commits_waiting(&self) -> Option<u64> {
        self.inner.commits_waiting()
    }

    fn transactions(&self) -> Option<u64> {
        self.inner.transactions()
    }

    fn views(&self) -> Option<&dyn Views> {
        self.views.as_ref().map(|views| views as &dyn Views)
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        let begun = self
            .faults
            .begin(&self.node, Call::Commit, commit.input.to_string());
        let mut deciding = Box::pin(self.way.clone().decide(begun, commit));
        // In place at first: that is its place in the queue.
        let first = poll_fn(|context| Poll::Ready(deciding.as_mut().poll(context))).await;
        if let Poll::Ready(result) = first {
            return result;
        }
        // What is on its way arrives, though its caller may have gone: that is how late owners write.
        match tokio::spawn(deciding).await {
            Ok(result) => result,
            Err(ended) if ended.is_panic() => resume_unwind(ended.into_panic()),
            // The executor ends, and with it all that could hear an answer.
            Err(_) => pending().await,
        }
    }

    async fn wait(&self, signal: Signal, seen: u64) -> Result<u64, Error> {
        self.run(
            Call::Wait,
            format!("{signal:?}"),
            self.inner.wait(signal, seen),
        )
        .await
    }

    async fn head(&self) -> Result<At, Error> {
        self.run(Call::Read, "head", self.inner.head()).await
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        from: Version,
        limit: usize,
    ) -> Result<StreamPage, Error> {
        self.run(
            Call::Read,
            format!("stream {stream}"),
            self.inner.read_stream(stream, from, limit),
        )
        .await
    }

    async fn read_log(
        &self,
        after: At,
        filter: &LogFilter,
        limit: usize,
    ) -> Result<LogPage, Error> {
        self.run(
            Call::Read,
            format!("log behind {after}"),
            self.inner.read_log(after, filter, limit),
        )
        .await
    }

    async fn read_correlated(
        &self,
        id: &MessageId,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        self.run(
            Call::Read,
            format!("story {id}"),
            self.inner.read_correlated(id, after, limit),
        )
        .await
    }

    async fn streams(
        &self,
        category: Option<&Category>,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<StreamSummary>, Error> {
        self.run(
            Call::Read,
            "streams",
            self.inner.streams(category, after, limit),
        )
        .await
    }

    async fn epochs(&self) -> Result<Vec<EpochSpan>, Error> {
        self.run(Call::Read, "epochs", self.inner.epochs()).await
    }

    async fn open_epoch(&self, epoch: Epoch, at: Timestamp, reason: &str) -> Result<(), Error> {
        self.run(
            Call::OpenEpoch,
            epoch,
            self.inner.open_epoch(epoch, at, reason),
        )
        .await
    }

    async fn snapshot(
        &self,
        stream: &StreamId,
        fingerprint: &str,
    ) -> Result<Option<Snapshot>, Error> {
        self.run(
            Call::Read,
            format!("snapshot of {stream}"),
            self.inner.snapshot(stream, fingerprint),
        )
        .await
    }

    async fn save_snapshot(
        &self,
        stream: &StreamId,
        fingerprint: &str,
        snapshot: Snapshot,
    ) -> Result<(), Error> {
        self.run(
            Call::SaveSnapshot,
            stream,
            self.inner.save_snapshot(stream, fingerprint, snapshot),
        )
        .await
    }

    async fn pin_topic(&self, topic: &Topic, partitions: u32) -> Result<(), Error> {
        self.run(
            Call::PinTopic,
            topic,
            self.inner.pin_topic(topic, partitions),
        )
        .await
    }

    async fn pinned_topics(&self) -> Result<Vec<PinnedTopic>, Error> {
        self.run(Call::Read, "pinned topics", self.inner.pinned_topics())
            .await
    }

    async fn claim_inbox(&self, inbox: &InboxId, begin: &Begin) -> Result<InboxRow, Error> {
        self.run(
            Call::ClaimInbox,
            inbox,
            self.inner.claim_inbox(inbox, begin),
        )
        .await
    }

    async fn inbox(&self, inbox: &InboxId) -> Result<Option<InboxRow>, Error> {
        self.run(
            Call::Read,
            format!("inbox {inbox}"),
            self.inner.inbox(inbox),
        )
        .await
    }

    async fn inboxes(&self) -> Result<Vec<(InboxId, InboxRow)>, Error> {
        self.run(Call::Read, "inboxes", self.inner.inboxes()).await
    }

    async fn claim_relay(&self) -> Result<RelayClaim, Error> {
        self.run(Call::ClaimRelay, "relay", self.inner.claim_relay())
            .await
    }

    async fn relay(&self) -> Result<RelayClaim, Error> {
        self.run(Call::Read, "relay", self.inner.relay()).await
    }

    async fn claim_projection(
        &self,
        projection: &ProjectionName,
        generation: u32,
        fingerprint: &str,
    ) -> Result<ProjectionClaim, Error> {
        let claimed = self
            .inner
            .claim_projection(projection, generation, fingerprint);
        self.run(
            Call::ClaimProjection,
            format!("{projection}@{generation}"),
            claimed,
        )
        .await
    }

    async fn projections(&self) -> Result<Vec<ProjectionState>, Error> {
        self.run(Call::Read, "projections", self.inner.projections())
            .await
    }

    async fn forget_projection(
        &self,
        projection: &ProjectionName,
        generation: u32,
    ) -> Result<(), Error> {
        let forgotten = self.inner.forget_projection(projection, generation);
        self.run(
            Call::ForgetProjection,
            format!("{projection}@{generation}"),
            forgotten,
        )
        .await
    }

    async fn claim_timers(&self) -> Result<Fence, Error> {
        self.run(Call::ClaimTimers, "timers", self.inner.claim_timers())
            .await
    }

    async fn lease(&self, role: &Role) -> Result<Lease, Error> {
        self.run(
            Call::Read,
            format!("lease of {role}"),
            self.inner.lease(role),
        )
        .await
    }

    async fn set_lease(
        &self,
        role: &Role,
        seen: u64,
        holder: Option<Holder>,
    ) -> Result<bool, Error> {
        let set = self.inner.set_lease(role, seen, holder);
        self.run(Call::SetLease, role, set).await
    }

    async fn next_timers(&self, limit: usize) -> Result<Vec<Timer>, Error> {
        self.run(Call::Read, "timers", self.inner.next_timers(limit))
            .await
    }

    async fn parked(&self, filter: &ParkedFilter, limit: usize) -> Result<Vec<Parked>, Error> {
        self.run(
            Call::Read,
            "parked messages",
            self.inner.parked(filter, limit),
        )
        .await
    }

    async fn parked_one(&self, id: &ParkedId) -> Result<Option<Parked>, Error> {
        self.run(
            Call::Read,
            format!("parked message {id}"),
            self.inner.parked_one(id),
        )
        .await
    }

    async fn parked_counts(&self) -> Result<Vec<ParkedCount>, Error> {
        self.run(Call::Read, "parked counts", self.inner.parked_counts())
            .await
    }

    async fn next_retry(&self, inbox: &InboxId) -> Result<Option<Timestamp>, Error> {
        self.run(
            Call::Read,
            format!("next retry of {inbox}"),
            self.inner.next_retry(inbox),
        )
        .await
    }

    async fn parked_lanes(&self, inbox: &InboxId, limit: usize) -> Result<Vec<Lane>, Error> {
        self.run(
            Call::Read,
            format!("parked lanes of {inbox}"),
            self.inner.parked_lanes(inbox, limit),
        )
        .await
    }

    async fn answered(
        &self,
        scope: &str,
        key: &str,
        at: Timestamp,
    ) -> Result<Option<(u64, Answered)>, Error> {
        self.run(
            Call::Read,
            format!("answer to {scope}/{key}"),
            self.inner.answered(scope, key, at),
        )
        .await
    }

    async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<Audited>, Error> {
        self.run(Call::Read, "audit", self.inner.audit(before, limit))
            .await
    }

    async fn prune(&self, prune: Prune) -> Result<u64, Error> {
        self.run(Call::Prune, prune.expired, self.inner.prune(prune))
            .await
    }
}
