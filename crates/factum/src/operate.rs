//! What an operator may do with a service: look at what is parked and let it go on, mend it or give it up; have rows
//! built anew; read who did what. Every change is one commit with its audit entry.

mod losses;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use factum_core::{
    AuditEntry, Audited, Broker, Commit, CommitError, Epoch, Error, ErrorClass, Group, InboxId,
    Input, Lane, OperatorAction, OperatorInput, Parked, ParkedCount, ParkedFilter, ParkedId,
    ParkedState, Position, ProjectionName, ViewName,
};
use serde::Serialize;

pub use self::losses::Accepted;
use crate::{
    Service,
    projector::{Progress, Request},
    work::Core,
};

/// How many dead letters are redriven between two looks at the store.
const REDRIVE_PAGE: usize = 200;

/// What an operator may do with one service. Cheap to clone.
#[derive(Clone)]
pub struct Operations {
    core: Arc<Core>,
    broker: Arc<dyn Broker>,
    progress: Progress,
    service: Arc<Service>,
}

/// Who does something, and why: for the audit record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    /// Who: a token's name, or `local` without tokens.
    pub actor: String,
    /// Why.
    pub reason: String,
}

impl By {
    /// `actor`, for this reason.
    pub fn new(actor: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            actor: actor.into(),
            reason: reason.into(),
        }
    }
}

/// Which dead letters are redriven together.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DeadLetters {
    /// Only of this group.
    pub group: Option<Group>,
    /// Only those whose last failure has this cause.
    pub cause: Option<String>,
}

/// What became of dead letters that were redriven together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
pub struct Redriven {
    /// How many are tried again.
    pub redriven: u64,
    /// How many had changed meanwhile, by another operator, and were left as they are.
    pub changed: u64,
}

/// Where a projection stands, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProjectionStatus {
    /// The projection.
    pub projection: ProjectionName,
    /// Its views.
    pub views: Vec<ViewName>,
    /// The generation that readers see; `None` before the first was ready.
    pub generation: Option<u32>,
    /// How far that one has come.
    pub reached: Position,
    /// The head of the log.
    pub head: Position,
    /// The generation that is being built, and how far it has come.
    pub rebuilding: Option<Rebuilding>,
    /// Why it has stopped, or why its last rebuild came to nothing.
    pub failed: Option<String>,
}

/// A generation that is being built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rebuilding {
    /// Which one.
    pub generation: u32,
    /// How far it has come.
    pub reached: Position,
    /// The head of the log when it was last looked at: it is ready when it gets there.
    pub head: Position,
}

/// Why an operator's action was not carried out. Nothing of it was, unless the class says `unknown`.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OperatorError {
    /// The parked message is not there (any more).
    #[error("no message is parked as `{0}`: it was handled or given up, or never was")]
    Gone(ParkedId),
    /// The parked message is not as the operator saw it, or in no state for this action. Look again, then decide.
    #[error(
        "parked message `{id}` is {state} at revision {revision}: either it has changed, or this can't be done while it is so"
    )]
    Changed {
        /// Which one.
        id: ParkedId,
        /// Its state now.
        state: ParkedState,
        /// Its revision now.
        revision: u64,
    },
    /// It could not be done: see the class. Poison: what was asked for is wrong.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl OperatorError {
    /// What to do about it.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Gone(_) => ErrorClass::Poison,
            Self::Changed { .. } => ErrorClass::Conflict,
            Self::Failed(error) => error.class(),
        }
    }
}

impl Operations {
    pub(crate) fn new(
        core: Arc<Core>,
        broker: Arc<dyn Broker>,
        progress: Progress,
        service: Arc<Service>,
    ) -> Self {
        Self {
            core,
            broker,
            progress,
            service,
        }
    }

    /// Parked messages that match, in the order of their ids, at most `limit`, and fewer when they are large:
    /// [`ParkedFilter::behind`] says what to ask for next.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub async fn parked(&self, filter: &ParkedFilter, limit: usize) -> Result<Vec<Parked>, Error> {
        self.core.store.parked(filter, limit).await
    }

    /// One parked message.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Gone`], or what the store says.
    pub async fn parked_one(&self, id: &ParkedId) -> Result<Parked, OperatorError> {
        self.core
            .store
            .parked_one(id)
            .await?
            .ok_or_else(|| OperatorError::Gone(id.clone()))
    }

    /// How many messages are parked, by group, state and cause.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub async fn parked_counts(&self) -> Result<Vec<ParkedCount>, Error> {
        self.core.store.parked_counts().await
    }

    /// Lets a dead letter be tried again by the owner of its partition. `revision` is the one that the operator saw.
    ///
    /// # Errors
    ///
    /// See [`OperatorError`].
    pub async fn redrive(
        &self,
        id: &ParkedId,
        revision: u64,
        by: &By,
    ) -> Result<(), OperatorError> {
        let result = self
            .act(id, revision, OperatorAction::Redrive, "redrive", by)
            .await;
        self.core.metrics.redrive(match &result {
            Ok(()) => "redriven",
            Err(OperatorError::Gone(_) | OperatorError::Changed { .. }) => "changed",
            Err(OperatorError::Failed(_)) => "failed",
        });
        result
    }

    /// Lets the dead letter that a key waits behind be tried again, and all behind it in their order. Says which
    /// one that is.
    ///
    /// # Errors
    ///
    /// Class poison when the key waits behind no dead letter; else see [`OperatorError`].
    pub async fn redrive_key(
        &self,
        inbox: &InboxId,
        lane: &Lane,
        by: &By,
    ) -> Result<ParkedId, OperatorError> {
        let filter = ParkedFilter {
            inbox: Some(inbox.clone()),
            lane: Some(lane.clone()),
            state: Some(ParkedState::Dead),
            ..ParkedFilter::default()
        };
        let dead = self.core.store.parked(&filter, 1).await?.into_iter().next();
        let dead = dead.ok_or_else(|| {
            Error::poison(format!(
                "key `{lane}` has no dead letter in `{inbox}`, so there is nothing to redrive"
            ))
        })?;
        self.redrive(&dead.id, dead.revision, by).await?;
        Ok(dead.id)
    }

    /// Lets many dead letters be tried again: all, those of a group, those of one cause. Each is a commit of its
    /// own. One that fails again meanwhile is not redriven a second time.
    ///
    /// # Errors
    ///
    /// What the store says; the message tells how many were redriven before.
    pub async fn redrive_all(&self, which: &DeadLetters, by: &By) -> Result<Redriven, Error> {
        let mut filter = ParkedFilter {
            group: which.group.clone(),
            cause: which.cause.clone(),
            state: Some(ParkedState::Dead),
            ..ParkedFilter::default()
        };
        let mut done = Redriven::default();
        loop {
            let page = self.core.store.parked(&filter, REDRIVE_PAGE).await?;
            for dead in &page {
                match self.redrive(&dead.id, dead.revision, by).await {
                    Ok(()) => done.redriven += 1,
                    Err(OperatorError::Gone(_) | OperatorError::Changed { .. }) => {
                        done.changed += 1;
                    }
                    Err(OperatorError::Failed(error)) => {
                        return Err(
                            error.while_(format!("redriving, of which {} are done", done.redriven))
                        );
                    }
                }
            }
            // In the order of ids, so that it ends however fast the redriven ones come back.
            match page.into_iter().next_back() {
                Some(last) => filter.after = Some(last.id),
                None => return Ok(done),
            }
        }
    }

    /// Puts another value in place of a dead letter's, whose original is kept. It stays dead until it is redriven.
    ///
    /// # Errors
    ///
    /// See [`OperatorError`].
    pub async fn edit(
        &self,
        id: &ParkedId,
        revision: u64,
        value: Bytes,
        by: &By,
    ) -> Result<(), OperatorError> {
        self.act(id, revision, OperatorAction::Edit(value), "edit", by)
            .await
    }

    /// Gives up the message that its key waits behind; the next one goes on. It is kept for a while, and its effect
    /// will be missing: the reason should say why that is right.
    ///
    /// # Errors
    ///
    /// Class poison without a reason; else see [`OperatorError`].
    pub async fn discard(
        &self,
        id: &ParkedId,
        revision: u64,
        by: &By,
    ) -> Result<(), OperatorError> {
        if by.reason.trim().is_empty() {
            let what =
                format!("discarding `{id}` needs a reason: its effect will be missing for good");
            return Err(Error::poison(what).into());
        }
        self.act(id, revision, OperatorAction::Discard, "discard", by)
            .await
    }

    async fn act(
        &self,
        id: &ParkedId,
        revision: u64,
        action: OperatorAction,
        name: &str,
        by: &By,
    ) -> Result<(), OperatorError> {
        let core = &self.core;
        let mut commit = Commit::new(core.env.commit_id(), core.env.now());
        commit.input = Input::Operator(OperatorInput {
            id: id.clone(),
            revision,
            action,
        });
        commit.audit = Some(self.entry(name, id.to_string(), by));
        match core.write(commit).await {
            Ok(_) => {
                tracing::info!("`{}` did {name} `{id}`: {}", by.actor, by.reason);
                Ok(())
            }
            Err(CommitError::RevisionChanged { .. }) => {
                Err(match core.store.parked_one(id).await? {
                    None => OperatorError::Gone(id.clone()),
                    Some(now) => {
                        let (id, state, revision) = (now.id, now.state, now.revision);
                        OperatorError::Changed {
                            id,
                            state,
                            revision,
                        }
                    }
                })
            }
            Err(CommitError::Failed(error)) => {
                Err(error.while_(format!("{name} of `{id}`")).into())
            }
            Err(error) => Err(Error::conflict(format!("{name} of `{id}`: {error}")).into()),
        }
    }

    /// Has the rows of a projection built anew, beside the old ones, which are kept up until the new ones have
    /// caught up. Asked for while it is built already, nothing more is done.
    ///
    /// # Errors
    ///
    /// Class poison when the service has no such projection; else what the store says.
    pub async fn rebuild(&self, projection: &str, by: &By) -> Result<(), Error> {
        self.ask(projection, Request::Rebuild, "rebuild", by).await
    }

    /// Lets a projection that has stopped go on with the event that it stopped at.
    ///
    /// # Errors
    ///
    /// As [`Operations::rebuild`].
    pub async fn resume(&self, projection: &str, by: &By) -> Result<(), Error> {
        self.ask(projection, Request::Resume, "resume", by).await
    }

    async fn ask(
        &self,
        projection: &str,
        request: Request,
        name: &str,
        by: &By,
    ) -> Result<(), Error> {
        let mut known = self
            .service
            .projections
            .iter()
            .map(|projection| projection.name());
        let Some(projection) = known.clone().find(|known| known.as_str() == projection) else {
            let known: Vec<_> = known.by_ref().map(ProjectionName::as_str).collect();
            return Err(Error::poison(format!(
                "unknown projection `{projection}` (known: {})",
                known.join(", ")
            )));
        };
        self.record(name, projection.to_string(), by).await?;
        self.progress.of(projection).ask(request);
        Ok(())
    }

    /// Where the projections stand.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub async fn projections(&self) -> Result<Vec<ProjectionStatus>, Error> {
        let head = self.core.store.head().await?.position;
        let status = |projection: &Arc<dyn factum_core::AnyProjection>| {
            let standing = self.progress.of(projection.name()).standing();
            ProjectionStatus {
                projection: projection.name().clone(),
                views: projection
                    .views()
                    .iter()
                    .map(|view| view.name.clone())
                    .collect(),
                generation: standing.active.map(|seen| seen.generation),
                reached: standing
                    .active
                    .map_or(Position::ZERO, |seen| seen.reached.position),
                head,
                rebuilding: standing.rebuild.map(|rebuild| Rebuilding {
                    generation: rebuild.generation,
                    reached: rebuild.reached,
                    head: rebuild.head,
                }),
                failed: standing.failed.or(standing.rebuild_failed),
            }
        };
        Ok(self.service.projections.iter().map(status).collect())
    }

    /// The audit record, newest first, at most `limit`: all of it, or what is older than the entry with the number
    /// `before`.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<Audited>, Error> {
        self.core.store.audit(before, limit).await
    }

    /// Opens a new epoch after a restore: see [`Store::open_epoch`](factum_core::Store::open_epoch).
    ///
    /// It is no commit, so the audit record has it twice: `opening-epoch` before, so that no epoch is without, and
    /// `open-epoch` when it is open. Whoever finds the first alone looks which epoch the store is in.
    ///
    /// # Errors
    ///
    /// Class conflict when the epoch is not greater than the present one; else what the store says.
    pub async fn open_epoch(&self, epoch: Epoch, by: &By) -> Result<(), Error> {
        let store = &self.core.store;
        let present = store.identity().epoch;
        if epoch <= present {
            return Err(Error::conflict(format!(
                "epoch {epoch} can't be opened: the present one is {present}, and a new one must be greater"
            )));
        }
        self.record("opening-epoch", epoch.to_string(), by).await?;
        store
            .open_epoch(epoch, self.core.env.now(), &by.reason)
            .await?;
        let recorded = self.record("open-epoch", epoch.to_string(), by).await;
        recorded.map_err(|error| error.while_(format!("epoch {epoch} is open, and")))
    }

    /// Writes an audit entry of an action that is no commit of its own: before it is carried out, so that none is
    /// without.
    ///
    /// # Errors
    ///
    /// What the store says. Then the action must not be carried out.
    pub async fn record(&self, action: &str, subject: String, by: &By) -> Result<(), Error> {
        let core = &self.core;
        let mut commit = Commit::new(core.env.commit_id(), core.env.now());
        commit.audit = Some(self.entry(action, subject, by));
        match core.write(commit).await {
            Ok(_) => Ok(()),
            Err(CommitError::Failed(error)) => Err(error.while_(format!("recording {action}"))),
            Err(error) => Err(Error::conflict(format!("recording {action}: {error}"))),
        }
    }

    fn entry(&self, action: &str, subject: String, by: &By) -> AuditEntry {
        let By { actor, reason } = by.clone();
        AuditEntry {
            at: self.core.env.now(),
            actor,
            action: action.into(),
            subject,
            reason,
        }
    }
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operations")
            .field("service", &self.core.service)
            .finish_non_exhaustive()
    }
}
