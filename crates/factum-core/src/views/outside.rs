//! Views outside of the store: what an engine of its own (Redis, OpenSearch) does for a store's projections, and the
//! store that has its views there.
//!
//! The rows of such a view can't be in the store's commit, so its checkpoint isn't either: it lives with the rows, and so
//! do the fences of those who keep them. Nothing else changes: a projector commits rows and checkpoint through
//! [`Store::commit`], and [`WithViews`] sends that one kind of commit to the engine.
//!
//! # For those who write an engine
//!
//! * **One step.** What [`OutsideViews::apply`] was given is there whole or not at all for whoever
//!   [claims](OutsideViews::claim) next: the rows that a claim's owner reads are exactly those of the checkpoint that it
//!   was told, for it takes the log into them from there, and an event that is already in a row would be taken twice. An
//!   engine that writes rows and checkpoint in one step has that for nothing. One that can't writes down what it is
//!   going to write before it begins, on condition of fence and checkpoint, and whoever claims finishes that first.
//!   Rows are compared by version all the same, so that to finish twice, or by a former owner at the same time, changes
//!   nothing.
//! * **Fences** are compared where the rows are written. A claim's fence is greater than all before it, those of
//!   generations that were forgotten or lost included: a former owner must never be let in by a number that came up again.
//! * **An epoch of the store** has rows of its own, and nobody sees those of another: what a restore lost may be in
//!   them. The epoch is the store's at the time of the call.
//! * **Losses.** An engine may lose its last writes, all of its rows, or some. It goes on from the checkpoint that is
//!   left when that is right for the rows that are left. Where it may not be, the generation is gone: it is in
//!   [`projections`](OutsideViews::projections) no more, [`active`](Views::active) says nothing of it, reads and writes
//!   fail with class conflict, and a generation that is made anew under its number begins with nothing. The projector
//!   then builds one.
//! * **Readers** ask [`Views::shown`] before each query, and learn there what was lost.

use std::sync::Arc;

use async_trait::async_trait;

use super::{ViewWrite, Views};
use crate::{
    AuditEntry, Commit, CommitError, Committed, Env, Error, Input, Layered, LogInput,
    ProjectionClaim, ProjectionName, ProjectionState, ServiceName, Store, StoreLayer, Stores,
};

/// An engine that keeps the views of stores, outside of them.
#[async_trait]
pub trait ViewsEngine: std::fmt::Debug + Send + Sync + 'static {
    /// The views of `store`. They are apart from those of all other stores that the engine has, by the store's id.
    ///
    /// # Errors
    ///
    /// What the engine said, classified. That it can't be reached at the moment is none: views say so when they are
    /// asked, and commands go on meanwhile.
    async fn open(&self, store: Arc<dyn Store>) -> Result<Arc<dyn OutsideViews>, Error>;

    /// Finishes what was handed over and closes its connections: what it is asked afterwards fails.
    async fn close(&self);
}

/// The views of one store, outside of it. See the [module](self) for the contract.
#[async_trait]
pub trait OutsideViews: Views {
    /// Claims a generation of a projection, as [`Store::claim_projection`] does.
    ///
    /// # Errors
    ///
    /// Class poison when what an owner before has begun to write can never be finished: the generation is of no use then,
    /// and is built anew under another number. With another fingerprint it can be claimed all the same, since it starts over.
    async fn claim(
        &self,
        projection: &ProjectionName,
        generation: u32,
        fingerprint: &str,
    ) -> Result<ProjectionClaim, Error>;

    /// All generations of all projections, as [`Store::projections`].
    async fn projections(&self) -> Result<Vec<ProjectionState>, Error>;

    /// Forgets a generation of a projection, as [`Store::forget_projection`] does.
    async fn forget(&self, projection: &ProjectionName, generation: u32) -> Result<(), Error>;

    /// Writes rows and moves the checkpoint, if fence and checkpoint are as `input` says. Without rows, and from a place
    /// to the same one, it finds out whether the owner still is the owner and the rows are where it left them.
    ///
    /// # Errors
    ///
    /// Those of [`Store::commit`] for such an input; class conflict when the generation is gone. Class poison, and nothing
    /// is written, when a write is of another projection or generation than the input.
    async fn apply(&self, input: &LogInput, writes: Vec<ViewWrite>) -> Result<(), CommitError>;
}

/// Stores whose views are kept by an engine outside of them.
#[derive(Debug)]
pub struct WithViews {
    stores: Arc<dyn Stores>,
    engine: Arc<dyn ViewsEngine>,
}

impl WithViews {
    /// The stores of `stores`, each with its views in `engine`. Both are closed together.
    pub fn new(stores: Arc<dyn Stores>, engine: Arc<dyn ViewsEngine>) -> Self {
        Self { stores, engine }
    }

    /// One store, with its views in `engine`.
    ///
    /// # Errors
    ///
    /// As [`ViewsEngine::open`].
    pub async fn store(
        store: Arc<dyn Store>,
        engine: &dyn ViewsEngine,
    ) -> Result<Arc<dyn Store>, Error> {
        let views = engine.open(store.clone()).await?;
        Ok(Arc::new(Layered(Divided { store, views })))
    }
}

#[async_trait]
impl Stores for WithViews {
    async fn open(&self, service: &ServiceName, env: &Env) -> Result<Arc<dyn Store>, Error> {
        let store = self.stores.open(service, env).await?;
        Self::store(store, &*self.engine).await
    }

    async fn close(&self) {
        self.engine.close().await;
        self.stores.close().await;
    }
}

/// A store, and its views elsewhere.
#[derive(Debug)]
struct Divided {
    store: Arc<dyn Store>,
    views: Arc<dyn OutsideViews>,
}

impl Divided {
    /// What a projection commits: to the engine. What a person should know of it goes into the store's record before,
    /// so that nothing is left out in silence; after a death in between it stands there twice.
    async fn project(&self, commit: Commit, input: &LogInput) -> Result<Committed, CommitError> {
        let others = commit.appends.len()
            + commit.outbox.len()
            + commit.timers.len()
            + commit.conditions.len()
            + commit.stands_on.len();
        if others > 0 {
            return Err(refused(
                "what a projection commits to views outside of the store can't be one with anything else",
            ));
        }
        if let Some(entry) = commit.audit {
            self.note(&commit.id, entry).await?;
        }
        self.views.apply(input, commit.views).await?;
        Ok(Committed {
            // Nothing was added to the log.
            head: input.to,
            first: None,
            versions: Vec::new(),
            inbox: None,
        })
    }

    async fn note(&self, id: &crate::CommitId, entry: AuditEntry) -> Result<(), CommitError> {
        let mut note = Commit::new(*id, entry.at);
        note.audit = Some(entry);
        self.store.commit(note).await.map(drop)
    }
}

fn refused(what: &str) -> CommitError {
    Error::poison(what).into()
}

#[async_trait]
impl StoreLayer for Divided {
    fn below(&self) -> &Arc<dyn Store> {
        &self.store
    }

    fn views(&self) -> Option<&dyn Views> {
        Some(&*self.views)
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        if let Input::Log(input) = &commit.input {
            let input = input.clone();
            return self.project(commit, &input).await;
        }
        // Own SQL is the store's.
        let is_sql = |write: &ViewWrite| matches!(write, ViewWrite::Sql { .. });
        if !commit.views.iter().all(is_sql) {
            return Err(refused(
                "rows of views outside of the store are written by projections alone",
            ));
        }
        self.store.commit(commit).await
    }

    async fn claim_projection(
        &self,
        projection: &ProjectionName,
        generation: u32,
        fingerprint: &str,
    ) -> Result<ProjectionClaim, Error> {
        self.views.claim(projection, generation, fingerprint).await
    }

    async fn projections(&self) -> Result<Vec<ProjectionState>, Error> {
        self.views.projections().await
    }

    async fn forget_projection(
        &self,
        projection: &ProjectionName,
        generation: u32,
    ) -> Result<(), Error> {
        self.views.forget(projection, generation).await
    }
}
