//! A views engine in memory, outside of the stores whose views it keeps: the reference of that contract, which can lose
//! what it has taken.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use factum_core::{
    At, Commit, CommitError, CommitId, Epoch, Error, Fence, Input, LogInput, OutsideViews,
    OwnerEpoch, ProjectionClaim, ProjectionName, ProjectionState, Query, Row, Rows, Store, StoreId,
    Timestamp, ViewDefinition, ViewName, ViewRef, ViewWrite, Views, ViewsCapabilities, ViewsEngine,
};
use tokio::task::yield_now;

use super::{MemoryDisk, MemoryStore};

/// A views engine in memory. Clones are handles of the same engine.
///
/// ```
/// # use std::sync::Arc;
/// # use factum_core::{Error, ServiceName, StoreId, Timestamp, WithViews};
/// # use factum_testkit::{MemoryStore, MemoryViewsEngine};
/// # async fn store() -> Result<(), Error> {
/// # let id = StoreId(uuid::Uuid::nil());
/// let store = MemoryStore::new(id, ServiceName::of("order"), Timestamp::UNIX_EPOCH);
/// let engine = MemoryViewsEngine::default();
/// let store = WithViews::store(Arc::new(store), &engine).await?;
/// assert!(!store.views().expect("the engine has them").capabilities().atomic);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct MemoryViewsEngine(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// The views of each epoch of a store are on a disk of their own.
    kept: Mutex<BTreeMap<(StoreId, Epoch), Kept>>,
    /// How often it went back.
    lineage: AtomicU64,
    /// How often it was asked for rows.
    asked: AtomicU64,
}

#[derive(Clone)]
struct Kept {
    disk: MemoryDisk,
    /// What is added to the numbers of owners, so that none comes up again after a loss.
    owners: u64,
}

/// What an engine had at some time.
pub struct MemoryViewsBackup(BTreeMap<(StoreId, Epoch), Kept>);

impl MemoryViewsEngine {
    /// What it has now.
    pub fn backup(&self) -> MemoryViewsBackup {
        let copy = |(id, kept): (&(StoreId, Epoch), &Kept)| {
            let kept = Kept {
                disk: kept.disk.backup(),
                owners: kept.owners,
            };
            (*id, kept)
        };
        MemoryViewsBackup(self.kept().iter().map(copy).collect())
    }

    /// Loses all that it has taken since, as a server does that was killed before it had written that.
    pub fn go_back(&self, backup: &MemoryViewsBackup) {
        let lineage = self.0.lineage.fetch_add(1, Ordering::SeqCst) + 1;
        let mut kept = self.kept();
        *kept = backup.0.clone();
        for kept in kept.values_mut() {
            kept.disk = kept.disk.backup();
            kept.owners = lineage * OWNERS_MAX;
        }
    }

    /// Loses everything.
    pub fn lose_all(&self) {
        self.go_back(&MemoryViewsBackup(BTreeMap::new()));
    }

    /// How often it was asked for rows so far.
    pub fn asked(&self) -> u64 {
        self.0.asked.load(Ordering::SeqCst)
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<(StoreId, Epoch), Kept>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// More owners than a generation has in any test.
const OWNERS_MAX: u64 = 1_000_000;

impl fmt::Debug for MemoryViewsEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryViewsEngine")
    }
}

impl fmt::Debug for MemoryViewsBackup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryViewsBackup")
    }
}

#[async_trait]
impl ViewsEngine for MemoryViewsEngine {
    async fn open(&self, store: Arc<dyn Store>) -> Result<Arc<dyn OutsideViews>, Error> {
        Ok(Arc::new(Outside {
            engine: self.clone(),
            store,
            claims: Mutex::default(),
            furthest: Mutex::default(),
        }))
    }

    async fn close(&self) {}
}

/// The views of one store.
#[derive(Debug)]
struct Outside {
    engine: MemoryViewsEngine,
    store: Arc<dyn Store>,
    /// In which lineage a generation was claimed here.
    claims: Mutex<BTreeMap<(ProjectionName, u32), u64>>,
    /// The furthest checkpoint that was seen here of a generation, in each epoch.
    furthest: Mutex<BTreeMap<(Epoch, ProjectionName, u32), At>>,
}

impl Outside {
    /// What is kept of the store's present epoch.
    fn kept(&self) -> Kept {
        let identity = self.store.identity();
        let lineage = self.lineage();
        let mut all = self.engine.kept();
        let kept = all.entry((identity.id, identity.epoch));
        kept.or_insert_with(|| Kept {
            disk: MemoryDisk::new(identity.id, identity.service, Timestamp::UNIX_EPOCH),
            owners: lineage * OWNERS_MAX,
        })
        .clone()
    }

    fn inner(&self) -> MemoryStore {
        MemoryStore::open(self.kept().disk)
    }

    /// A request for rows. Others go on meanwhile, as they do while an engine elsewhere is asked.
    async fn asked(&self) -> MemoryStore {
        self.engine.0.asked.fetch_add(1, Ordering::SeqCst);
        yield_now().await;
        self.inner()
    }

    fn claims(&self) -> MutexGuard<'_, BTreeMap<(ProjectionName, u32), u64>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn furthest(&self) -> MutexGuard<'_, BTreeMap<(Epoch, ProjectionName, u32), At>> {
        self.furthest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that somebody was told that the rows have come so far.
    fn note(&self, epoch: Epoch, projection: &ProjectionName, generation: u32, checkpoint: At) {
        let mut furthest = self.furthest();
        let known = furthest.entry((epoch, projection.clone(), generation));
        let known = known.or_default();
        *known = checkpoint.max(*known);
    }
}

fn views(inner: &MemoryStore) -> &dyn Views {
    inner.views().expect("the memory store holds views")
}

#[async_trait]
impl Views for Outside {
    fn capabilities(&self) -> ViewsCapabilities {
        ViewsCapabilities {
            atomic: false,
            full_text: true,
        }
    }

    async fn ensure(&self, definition: &ViewDefinition, generation: u32) -> Result<(), Error> {
        views(&self.inner()).ensure(definition, generation).await
    }

    async fn active(&self, projection: &ProjectionName) -> Result<Option<u32>, Error> {
        views(&self.inner()).active(projection).await
    }

    async fn drop_generation(
        &self,
        projection: &ProjectionName,
        generation: u32,
    ) -> Result<(), Error> {
        let inner = self.inner();
        views(&inner).drop_generation(projection, generation).await
    }

    async fn get(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        id: &str,
    ) -> Result<Option<Row>, Error> {
        views(&self.asked().await).get(view, generation, id).await
    }

    async fn query(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        query: &Query,
    ) -> Result<Rows, Error> {
        views(&self.asked().await)
            .query(view, generation, query)
            .await
    }

    async fn count(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        query: &Query,
        cap: u64,
    ) -> Result<u64, Error> {
        let inner = self.asked().await;
        views(&inner).count(view, generation, query, cap).await
    }

    async fn shown(
        &self,
        projection: &ProjectionName,
        generation: u32,
        reached: At,
        wanted: Option<At>,
    ) -> Result<At, Error> {
        let of = (self.store.identity().epoch, projection.clone(), generation);
        let furthest = self.furthest().get(&of).copied().unwrap_or_default();
        let gone = || {
            Error::conflict(format!(
                "readers of projection `{projection}` don't see generation {generation} any more"
            ))
        };
        let inner = self.inner();
        if views(&inner).active(projection).await? != Some(generation) {
            return Err(gone());
        }
        let states = inner.projections().await?;
        let mut states = states.iter();
        let state =
            states.find(|state| state.projection == *projection && state.generation == generation);
        let stored = state.map(|state| state.checkpoint).ok_or_else(gone)?;
        Ok(if wanted.is_some() && stored >= furthest {
            reached.max(stored)
        } else {
            stored
        })
    }

    fn lineage(&self) -> u64 {
        self.engine.0.lineage.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl OutsideViews for Outside {
    async fn claim(
        &self,
        projection: &ProjectionName,
        generation: u32,
        fingerprint: &str,
    ) -> Result<ProjectionClaim, Error> {
        let (lineage, kept) = (self.lineage(), self.kept());
        let claim = MemoryStore::open(kept.disk)
            .claim_projection(projection, generation, fingerprint)
            .await?;
        self.claims()
            .insert((projection.clone(), generation), lineage);
        let fence = Fence {
            store: self.store.identity().epoch,
            owner: OwnerEpoch(claim.fence.owner.0 + kept.owners),
        };
        self.note(fence.store, projection, generation, claim.checkpoint);
        Ok(ProjectionClaim { fence, ..claim })
    }

    async fn projections(&self) -> Result<Vec<ProjectionState>, Error> {
        let epoch = self.store.identity().epoch;
        let states = self.inner().projections().await?;
        for state in &states {
            self.note(epoch, &state.projection, state.generation, state.checkpoint);
        }
        Ok(states)
    }

    async fn forget(&self, projection: &ProjectionName, generation: u32) -> Result<(), Error> {
        let inner = self.inner();
        inner.forget_projection(projection, generation).await
    }

    async fn apply(&self, input: &LogInput, writes: Vec<ViewWrite>) -> Result<(), CommitError> {
        let (epoch, kept) = (self.store.identity().epoch, self.kept());
        let claim = (input.projection.clone(), input.generation);
        let claimed = self.claims().get(&claim).copied();
        if input.fence.store != epoch || claimed != Some(self.lineage()) {
            let stored = Fence {
                store: epoch,
                ..Fence::default()
            };
            return Err(CommitError::Fenced {
                role: Input::Log(input.clone()).to_string(),
                stored,
            });
        }
        let ours = |view: &ViewRef| {
            view.generation == input.generation
                && kept
                    .disk
                    .read(|state| state.tables.is_kept_by(view, &input.projection))
        };
        let is_ours = |write: &ViewWrite| match write {
            ViewWrite::Put { view, .. } | ViewWrite::Delete { view, .. } => ours(view),
            ViewWrite::Activate {
                projection,
                generation,
            } => *projection == input.projection && *generation == input.generation,
            ViewWrite::Sql { .. } => false,
        };
        if !writes.iter().all(is_ours) {
            return Err(Error::poison(format!(
                "generation {} of projection `{}` writes what it doesn't keep",
                input.generation, input.projection
            ))
            .into());
        }
        let inner = MemoryStore::open(kept.disk.clone());
        let mut commit = Commit::new(CommitId(uuid::Uuid::nil()), Timestamp::UNIX_EPOCH);
        let (mut input, to) = (input.clone(), input.to);
        input.fence = Fence {
            store: inner.identity().epoch,
            owner: OwnerEpoch(input.fence.owner.0.saturating_sub(kept.owners)),
        };
        commit.input = Input::Log(input);
        commit.views = writes;
        let (projection, generation) = claim;
        inner.commit(commit).await?;
        self.note(epoch, &projection, generation, to);
        Ok(())
    }
}
