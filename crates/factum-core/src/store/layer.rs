//! A store over another one that does some calls in its own way: for views that are kept outside of the store, and for
//! tests that plant a fault in an adapter and have to see it caught. What a layer doesn't say goes down as it came.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    Answered, At, Audited, Begin, Category, Commit, CommitError, Committed, Epoch, EpochSpan,
    Error, Fence, Holder, InboxId, InboxRow, Lane, Lease, LogFilter, LogPage, MessageId, Parked,
    ParkedCount, ParkedFilter, ParkedId, PinnedTopic, Position, ProjectionClaim, ProjectionName,
    ProjectionState, Prune, Record, RelayClaim, Role, Signal, Snapshot, Store, StoreCapabilities,
    StoreIdentity, StreamId, StreamPage, StreamSummary, Timer, Timestamp, Topic, Version, Views,
};

/// A store that is a [`StoreLayer`] over another one.
///
/// ```
/// # use std::sync::Arc;
/// # use factum_core::{Commit, CommitError, Committed, Layered, Store, StoreLayer};
/// /// Forgets what a commit stands on.
/// #[derive(Debug)]
/// struct Forgetful(Arc<dyn Store>);
///
/// #[async_trait::async_trait]
/// impl StoreLayer for Forgetful {
///     fn below(&self) -> &Arc<dyn Store> {
///         &self.0
///     }
///     async fn commit(&self, mut commit: Commit) -> Result<Committed, CommitError> {
///         commit.stands_on.clear();
///         self.below().commit(commit).await
///     }
/// }
///
/// fn forgetful(store: Arc<dyn Store>) -> Arc<dyn Store> {
///     Arc::new(Layered(Forgetful(store)))
/// }
/// ```
#[derive(Debug)]
pub struct Layered<L>(pub L);

macro_rules! calls {
    ($($name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        /// What a layer does in its own way. Each call that it leaves out is that of the store below.
        #[async_trait]
        pub trait StoreLayer: std::fmt::Debug + Send + Sync + 'static {
            /// The store below.
            fn below(&self) -> &Arc<dyn Store>;

            /// In place of [`Store::views`].
            fn views(&self) -> Option<&dyn Views> {
                self.below().views()
            }

            $(
                #[doc = concat!("In place of [`Store::", stringify!($name), "`].")]
                async fn $name(&self, $($arg: $type),*) -> $result {
                    self.below().$name($($arg),*).await
                }
            )*
        }

        #[async_trait]
        impl<L: StoreLayer> Store for Layered<L> {
            fn identity(&self) -> StoreIdentity {
                self.0.below().identity()
            }

            fn capabilities(&self) -> StoreCapabilities {
                self.0.below().capabilities()
            }

            fn views(&self) -> Option<&dyn Views> {
                self.0.views()
            }

            fn records_read(&self) -> Option<u64> {
                self.0.below().records_read()
            }

            fn commits_waiting(&self) -> Option<u64> {
                self.0.below().commits_waiting()
            }

            fn transactions(&self) -> Option<u64> {
                self.0.below().transactions()
            }

            $(
                async fn $name(&self, $($arg: $type),*) -> $result {
                    self.0.$name($($arg),*).await
                }
            )*
        }
    };
}

calls! {
    commit(commit: Commit) -> Result<Committed, CommitError>;
    wait(signal: Signal, seen: u64) -> Result<u64, Error>;
    head() -> Result<At, Error>;
    read_stream(stream: &StreamId, from: Version, limit: usize) -> Result<StreamPage, Error>;
    read_log(after: At, filter: &LogFilter, limit: usize) -> Result<LogPage, Error>;
    read_correlated(id: &MessageId, after: Position, limit: usize) -> Result<Vec<Record>, Error>;
    streams(category: Option<&Category>, after: Option<&StreamId>, limit: usize)
        -> Result<Vec<StreamSummary>, Error>;
    epochs() -> Result<Vec<EpochSpan>, Error>;
    open_epoch(epoch: Epoch, at: Timestamp, reason: &str) -> Result<(), Error>;
    snapshot(stream: &StreamId, fingerprint: &str) -> Result<Option<Snapshot>, Error>;
    save_snapshot(stream: &StreamId, fingerprint: &str, snapshot: Snapshot) -> Result<(), Error>;
    pin_topic(topic: &Topic, partitions: u32) -> Result<(), Error>;
    pinned_topics() -> Result<Vec<PinnedTopic>, Error>;
    claim_inbox(inbox: &InboxId, begin: &Begin) -> Result<InboxRow, Error>;
    inbox(inbox: &InboxId) -> Result<Option<InboxRow>, Error>;
    inboxes() -> Result<Vec<(InboxId, InboxRow)>, Error>;
    claim_relay() -> Result<RelayClaim, Error>;
    relay() -> Result<RelayClaim, Error>;
    claim_projection(projection: &ProjectionName, generation: u32, fingerprint: &str)
        -> Result<ProjectionClaim, Error>;
    projections() -> Result<Vec<ProjectionState>, Error>;
    forget_projection(projection: &ProjectionName, generation: u32) -> Result<(), Error>;
    claim_timers() -> Result<Fence, Error>;
    lease(role: &Role) -> Result<Lease, Error>;
    set_lease(role: &Role, seen: u64, holder: Option<Holder>) -> Result<bool, Error>;
    next_timers(limit: usize) -> Result<Vec<Timer>, Error>;
    parked(filter: &ParkedFilter, limit: usize) -> Result<Vec<Parked>, Error>;
    parked_one(id: &ParkedId) -> Result<Option<Parked>, Error>;
    parked_counts() -> Result<Vec<ParkedCount>, Error>;
    next_retry(inbox: &InboxId) -> Result<Option<Timestamp>, Error>;
    parked_lanes(inbox: &InboxId, limit: usize) -> Result<Vec<Lane>, Error>;
    answered(scope: &str, key: &str, at: Timestamp) -> Result<Option<(u64, Answered)>, Error>;
    audit(before: Option<u64>, limit: usize) -> Result<Vec<Audited>, Error>;
    prune(prune: Prune) -> Result<u64, Error>;
}
