//! Committing: what was decided is handed to the store, in the order of the queue for its aggregates.

use std::{
    sync::{Arc, atomic::Ordering},
    task::Poll,
};

use factum_core::{
    Commit, CommitError, CommitId, Committed, Condition, ExpectedVersion, Input, Position,
    Snapshot, StreamId,
};

use super::{Applied, Attempt, Core, Work, WorkError, deciding::Plan, loading::Slot};

impl Core {
    pub(super) async fn commit(&self, work: &Work<'_>, mut plan: Plan) -> Attempt {
        let input = (work.input)();
        let changes =
            !plan.appends.is_empty() || !plan.outbox.is_empty() || !plan.timers.is_empty();
        if !changes && matches!(input, Input::None) && work.audit.is_none() {
            return self.confirm_nothing(plan).await;
        }
        let mut commit = Commit::new(self.env.commit_id(), plan.now);
        commit.input = input;
        commit.audit.clone_from(&work.audit);
        commit.appends = std::mem::take(&mut plan.appends);
        commit.outbox = std::mem::take(&mut plan.outbox);
        commit.timers = std::mem::take(&mut plan.timers);
        for (stream, held) in &plan.locked {
            commit.stands_on.extend(held.guard.standing_on);
            // A command that led to nothing was decided on this version all the same.
            if !commit.appends.iter().any(|append| append.stream == *stream) {
                let expected = ExpectedVersion::Exact(held.before);
                commit.conditions.push(Condition::Stream {
                    stream: stream.clone(),
                    expected,
                });
            }
        }
        let mut destinations = Vec::new();
        if commit.drafts().any(|draft| draft.destination.is_some()) {
            destinations.extend(commit.drafts().map(|draft| draft.destination.clone()));
        }
        let drafts = commit.appends.iter().flat_map(|append| &append.drafts);
        let types: Vec<_> = drafts.map(|draft| draft.event_type.name.clone()).collect();
        let versions = plan.versions();
        let guessed: Vec<_> = plan.guessed().cloned().collect();
        let (result, held) = self.hand_over(commit, plan).await;
        match result {
            Err(CommitError::Conflict { stream, .. }) if guessed.contains(&stream) => {
                self.note_wrong_guesses(guessed.iter());
                Attempt::Load
            }
            Ok(committed) => {
                self.metrics.appended(&types);
                for (stream, mut slot) in held {
                    slot.settle().await;
                    if let Some(snapshot) = slot.snapshot.take() {
                        self.keep(&stream, snapshot).await;
                    }
                }
                let published = committed.first.map_or_else(Vec::new, |first| {
                    let positions = (first.0..).map(Position);
                    let placed = positions.zip(destinations);
                    placed
                        .filter_map(|(position, to)| {
                            to.map(|to| (to.topic, to.partition, position, to.key))
                        })
                        .collect()
                });
                Attempt::Done(Applied {
                    committed,
                    versions,
                    published,
                })
            }
            Err(error) if is_conflict(&error) => Attempt::Again(error),
            Err(error) => Attempt::Failed(WorkError::Commit(error)),
        }
    }

    /// Gives the commit to the store, in the order of the queue for its aggregates, lets the next in the queue
    /// decide, and waits for the outcome.
    async fn hand_over(
        &self,
        commit: Commit,
        plan: Plan,
    ) -> (Result<Committed, CommitError>, Vec<(StreamId, InFlight)>) {
        let id = commit.id;
        let appends = !commit.appends.is_empty();
        let mut future = std::pin::pin!(self.write(commit));
        // A store decides commits in the order in which they are first polled: this poll takes our place in the
        // queue, while the aggregates are still locked.
        let first = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        let held = plan.locked.into_iter().map(|(stream, mut held)| {
            if appends && held.is_changed() {
                held.guard.standing_on = Some(id);
            }
            held.guard.deciding = false;
            (
                stream,
                InFlight {
                    slot: held.slot,
                    id,
                    snapshot: held.snapshot,
                    settled: false,
                },
            )
        });
        let mut held: Vec<_> = held.collect();
        let result = match first {
            Poll::Ready(result) => result,
            Poll::Pending => future.await,
        };
        if result.is_ok() {
            for (_, in_flight) in &mut held {
                in_flight.settled = true;
            }
        }
        (result, held)
    }

    /// Nothing is to be done: says so when what that was decided on is durable and still the last word.
    async fn confirm_nothing(&self, plan: Plan) -> Attempt {
        let versions = plan.versions();
        match self.confirmed(plan).await {
            Ok(committed) => Attempt::Done(Applied {
                committed,
                versions,
                published: Vec::new(),
            }),
            Err(error) if is_conflict(&error) => Attempt::Again(error),
            Err(error) => Attempt::Failed(WorkError::Commit(error)),
        }
    }

    pub(super) async fn confirm(&self, plan: Plan, rejection: WorkError) -> Attempt {
        // What was decided before the rejection will never happen.
        for (_, held) in plan.locked.iter().filter(|(_, held)| held.is_changed()) {
            held.slot.suspect.store(true, Ordering::SeqCst);
        }
        match self.confirmed(plan).await {
            Ok(_) => Attempt::Failed(rejection),
            Err(error) if is_conflict(&error) => Attempt::Again(error),
            Err(error) => Attempt::Failed(WorkError::Commit(error)),
        }
    }

    async fn confirmed(&self, plan: Plan) -> Result<Committed, CommitError> {
        let mut commit = Commit::new(self.env.commit_id(), plan.now);
        for (stream, held) in &plan.locked {
            commit.stands_on.extend(held.guard.standing_on);
            let expected = ExpectedVersion::Exact(held.before);
            commit.conditions.push(Condition::Stream {
                stream: stream.clone(),
                expected,
            });
        }
        let (result, held) = self.hand_over(commit, plan).await;
        drop(held);
        result
    }
}

/// A commit under way on an aggregate. If nobody waits for its outcome, or it fails, what is loaded is suspect.
struct InFlight {
    slot: Arc<Slot>,
    id: CommitId,
    snapshot: Option<Snapshot>,
    settled: bool,
}

impl InFlight {
    /// The commit is durable: whoever comes later need not stand on it.
    async fn settle(&self) {
        let mut loaded = self.slot.loaded.lock().await;
        if loaded.standing_on == Some(self.id) {
            loaded.standing_on = None;
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.settled {
            self.slot.suspect.store(true, Ordering::SeqCst);
        }
    }
}
/// Whether deciding again may help.
fn is_conflict(error: &CommitError) -> bool {
    matches!(
        error,
        CommitError::Conflict { .. }
            | CommitError::RowChanged { .. }
            | CommitError::StoodOnFailed(_)
    )
}
