//! The owner of one generation of a projection's rows: it reads the log behind its checkpoint, batch by batch, and
//! commits the rows together with the checkpoint.

use std::time::Duration;

use factum_core::{
    At, AuditEntry, Commit, CommitError, Error, ErrorClass, Failure, Fence, Input, LogFilter,
    LogInput, LogPage, Outcome, Position, ProjectionClaim, Record, RetryPolicy, RowSet, Signal,
    ViewWrite,
};
use futures_util::future;
use tokio::time::timeout;

use super::{
    End, Projector,
    batch::{self, Failed},
    progress::Rebuild,
    progress::Seen,
};
use crate::relay::pause;

/// How many records one batch takes while rows are kept up: few, so that the first of them are seen early.
const FOLLOW_RECORDS_MAX: usize = 200;

/// How many records one batch takes while rows are built: at 1 KB each, 1 MB in memory.
const BUILD_RECORDS_MAX: usize = 1_000;

/// How many void records may lie behind the stored checkpoint: what is read again after a crash.
const VOIDS_MAX: usize = 1_000;

/// How often the log may grow by void records only before the checkpoint is stored.
const VOID_TURNS_MAX: usize = 32;

/// How long nothing may happen before the checkpoint is stored behind void records. Processes that stand by answer
/// queries by the stored checkpoint, so this is how long those may wait.
const QUIET: Duration = Duration::from_millis(250);

/// A projection sees all records, and passes over those that are nothing to it.
static EVERYTHING: LogFilter = LogFilter {
    categories: Vec::new(),
    types: Vec::new(),
    sent: false,
};

/// How long it sleeps at most before it looks at the log again: a lost wake-up costs this much.
const POLL_MAX: Duration = Duration::from_secs(1);

/// What a generation is owned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Readers see it; whether to look out for requests.
    Follow { heed: bool },
    /// Readers will see it when it has caught up.
    Build,
}

/// The owner of a generation.
pub(super) struct Follower<'a> {
    projector: &'a Projector<'a>,
    generation: u32,
    purpose: Purpose,
    fence: Fence,
    /// The checkpoint as it was claimed.
    claimed: At,
    /// The checkpoint as it is stored.
    saved: At,
    /// How far it has come: behind `saved` by void records at most.
    reached: At,
    voids: usize,
    turns: usize,
    /// The record that failed last, and how often it has.
    failing: Option<(Position, u32)>,
    policy: RetryPolicy,
}

impl<'a> Follower<'a> {
    pub(super) fn new(
        projector: &'a Projector<'a>,
        generation: u32,
        purpose: Purpose,
        claim: &ProjectionClaim,
    ) -> Self {
        Self {
            projector,
            generation,
            purpose,
            fence: claim.fence,
            claimed: claim.checkpoint,
            saved: claim.checkpoint,
            reached: claim.checkpoint,
            voids: 0,
            turns: 0,
            failing: None,
            policy: RetryPolicy::default(),
        }
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    fn builds(&self) -> bool {
        self.purpose == Purpose::Build
    }

    /// Goes on until an end; a generation that is built ends well when readers see it.
    pub(super) async fn run(&mut self) -> Result<(), End> {
        let core = self.projector.core;
        let limit = if self.builds() {
            BUILD_RECORDS_MAX
        } else {
            FOLLOW_RECORDS_MAX
        };
        // What was read ahead, while the records before it were taken.
        let mut ahead = None;
        loop {
            if self.projector.stop.is_cancelled() {
                self.save().await?;
                return Err(End::Stopped);
            }
            if self.purpose == (Purpose::Follow { heed: true })
                && self.projector.progress.is_asked()
            {
                return Err(End::Asked);
            }
            let started = core.env.now();
            let read = |after| core.store.read_log(after, &EVERYTHING, limit);
            let page = match ahead.take() {
                Some((after, page)) if after == self.reached => page,
                _ => read(self.reached).await,
            };
            let page = match page {
                // What is stored may still lie on the time line, when what was read since does not.
                Err(error) if error.is_conflict() && self.reached != self.claimed => {
                    return Err(error.into());
                }
                Err(error) if error.is_conflict() => return Err(End::Astray(self.generation)),
                page => page?,
            };
            let caught_up = page.next.position >= page.head.position;
            let taken = if caught_up {
                self.take(&page, caught_up).await?
            } else {
                let take = self.take(&page, caught_up);
                let (taken, next) = future::join(take, read(page.next)).await;
                ahead = Some((page.next, next));
                taken?
            };
            if !taken {
                continue;
            }
            self.report(&page, core.env.now().since(started));
            if !caught_up {
                continue;
            }
            if self.builds() {
                tracing::info!(
                    "generation {} of projection `{}` has caught up and is seen from now on",
                    self.generation,
                    self.projector.projection.name()
                );
                return Ok(());
            }
            self.rest().await?;
        }
    }

    /// Takes the page's records, and commits what came of them. `false`: not all of them. One failed, and has waited for
    /// its next try; or those before it made so many rows that they were committed alone. What is left is read again.
    async fn take(&mut self, page: &LogPage, caught_up: bool) -> Result<bool, End> {
        let (records, projection) = (&page.records[..], self.projector.projection);
        let mut count = records.len();
        let mut views = loop {
            let mut rows = RowSet::new(self.projector.views, projection.views(), self.generation);
            match batch::project(self.projector, &records[..count], &mut rows).await {
                Ok(taken) => {
                    count = taken;
                    break rows.into_writes();
                }
                Err(Failed { index: 0, failure }) => {
                    self.failed(&records[0], &failure).await?;
                    return Ok(false);
                }
                // Half of what the failed record wrote may be in the rows, and what came of records behind it: they
                // are made again without.
                Err(Failed { index, .. }) => count = index,
            }
        };
        let whole = count == records.len();
        let to = if whole {
            page.next
        } else {
            records[count - 1].at
        };
        if self.builds() && whole && caught_up {
            let (projection, generation) = (projection.name().clone(), self.generation);
            views.push(ViewWrite::Activate {
                projection,
                generation,
            });
        }
        if !views.is_empty() || self.builds() {
            self.commit(to, views, None).await?;
        } else {
            self.reached = to;
            self.voids += count;
            if self.voids >= VOIDS_MAX {
                self.save().await?;
            }
        }
        if count > 0 {
            self.failing = None;
        }
        self.show();
        Ok(whole)
    }

    /// What is done about a failed record: it is left out for a recorded reason, tried again after a while, or it
    /// ends the projection.
    async fn failed(&mut self, record: &Record, failure: &Failure) -> Result<(), End> {
        let core = self.projector.core;
        let position = record.at.position;
        // Not the projection's own failure when the store doesn't answer, or when a new owner has dropped these
        // rows: a commit of the checkpoint finds out, since the fence is raised before the rows go.
        self.commit(self.reached, Vec::new(), None).await?;
        let name = self.projector.projection.name();
        let what = || {
            format!(
                "projection `{name}` at {} (`{}`): {failure}",
                record.at, record.draft.event_type
            )
        };
        let wait = match failure.outcome() {
            Outcome::Skip(reason) => {
                let entry = AuditEntry {
                    at: core.env.now(),
                    actor: name.to_string(),
                    action: "skip".into(),
                    subject: format!("{name}@{}:{}", self.generation, record.at),
                    reason: reason.clone(),
                };
                self.commit(record.at, Vec::new(), Some(entry)).await?;
                tracing::warn!("{}: left out", what());
                self.failing = None;
                self.show();
                return Ok(());
            }
            Outcome::Stop | Outcome::DeadLetter => None,
            Outcome::Retry => {
                let before = self
                    .failing
                    .filter(|(failing, _)| *failing == position)
                    .map_or(0, |(_, tries)| tries);
                self.failing = Some((position, before + 1));
                self.policy
                    .delay_for(failure.class(), before + 1, core.env.fraction())
            }
        };
        let Some(wait) = wait else {
            return Err(End::Failed(what()));
        };
        self.projector.degraded(what());
        pause(self.projector.stop, wait).await;
        Ok(())
    }

    /// Waits until the log has grown; meanwhile stores the checkpoint behind void records.
    async fn rest(&mut self) -> Result<(), End> {
        let projector = self.projector;
        let unsaved = self.reached != self.saved;
        let wait = if unsaved { QUIET } else { POLL_MAX };
        let grown = projector
            .core
            .store
            .wait(Signal::Head, self.reached.position.0);
        let woken = tokio::select! {
            biased;
            () = projector.stop.cancelled() => return Ok(()),
            () = projector.progress.asked(), if self.purpose == (Purpose::Follow { heed: true }) => return Ok(()),
            woken = timeout(wait, grown) => woken,
        };
        let quiet = woken.is_err();
        if let Ok(woken) = woken {
            woken?;
            self.turns += 1;
        }
        if unsaved && (quiet || self.turns >= VOID_TURNS_MAX) {
            self.save().await?;
        } else if quiet && !projector.views.capabilities().atomic {
            // An engine outside of the store may have lost what it had taken, or all. While the log doesn't grow, nobody
            // but a commit that changes nothing would notice.
            self.commit(self.reached, Vec::new(), None).await?;
        }
        Ok(())
    }

    /// Stores the checkpoint, if it is not.
    async fn save(&mut self) -> Result<(), End> {
        if self.reached == self.saved {
            return Ok(());
        }
        self.commit(self.reached, Vec::new(), None).await
    }

    async fn commit(
        &mut self,
        to: At,
        views: Vec<ViewWrite>,
        audit: Option<AuditEntry>,
    ) -> Result<(), End> {
        let core = self.projector.core;
        let projection = self.projector.projection.name().clone();
        let mut commit = Commit::new(core.env.commit_id(), core.env.now());
        let (generation, fence, from) = (self.generation, self.fence, self.saved);
        commit.input = Input::Log(LogInput {
            projection,
            generation,
            fence,
            from,
            to,
        });
        commit.views = views;
        commit.audit = audit;
        let written = if self.projector.views.capabilities().atomic {
            core.write(commit).await
        } else {
            // What another engine takes or refuses says nothing of whether the store can be written to.
            core.store.commit(commit).await
        };
        match written {
            Ok(_) => {
                (self.saved, self.reached) = (to, to);
                (self.voids, self.turns) = (0, 0);
                Ok(())
            }
            Err(error) => Err(self.refused(to, error)),
        }
    }

    fn refused(&self, to: At, error: CommitError) -> End {
        let name = self.projector.projection.name();
        match error.class() {
            ErrorClass::Fenced => End::Fenced,
            ErrorClass::Poison => End::Failed(format!("projection `{name}` up to {to}: {error:#}")),
            // Nobody knows whether it happened, or somebody else was there: claim again, and see.
            _ => End::Troubled(match error {
                CommitError::Failed(error) => error,
                error => Error::conflict(error.to_string()),
            }),
        }
    }

    /// Shows readers and operators how far the rows have come.
    fn show(&self) {
        let (generation, reached) = (self.generation, self.reached);
        if !self.builds() {
            self.projector.progress.change(|standing| {
                standing.active = Some(Seen {
                    generation,
                    reached,
                });
                standing.followed = true;
            });
        }
    }

    fn report(&self, page: &LogPage, took: Duration) {
        let projector = self.projector;
        let (reached, head) = (self.reached.position, page.head.position);
        let name = projector.projection.name().as_str();
        projector.core.metrics.projected(name, took);
        if !self.builds() {
            projector.well();
            return;
        }
        let caught_up = page.next.position >= head;
        projector.progress.change(|standing| {
            if caught_up {
                let reached = self.reached;
                standing.active = Some(Seen {
                    generation: self.generation,
                    reached,
                });
                standing.followed = true;
                standing.rebuild = None;
            } else {
                standing.rebuild = Some(Rebuild {
                    generation: self.generation,
                    reached,
                    head,
                });
            }
        });
        if !projector.progress.standing().followed {
            projector.degraded(format!(
                "builds its views as generation {}",
                self.generation
            ));
        } else if caught_up {
            projector.well();
        }
    }
}
