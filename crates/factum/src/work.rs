//! Work: effects become one commit.
//!
//! Commands are decided here, each aggregate's one after another in memory, each standing on the one before, so
//! that many of them are committed together. A command that meets a conflict is decided again, alone, on what is
//! stored; whoever gave it doesn't notice. A rejection, and a decision that nothing is to be done, are answered
//! only when what they were decided on is durable and confirmed.

mod committing;
mod deciding;
mod guessing;
mod loading;
mod writes;

use std::{
    collections::BTreeMap,
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use factum_core::{
    AggregateKind, AnyError, AuditEntry, Category, CommitError, Committed, Effect, Env, Error,
    Failure, Holder, Input, Key, MessageId, Metadata, Position, Reaction, ServiceName, Store,
    StreamId, Topic, Version,
};
use lru::LruCache;

pub(crate) use self::loading::panic_message;
use self::{deciding::Undecided, guessing::Guesses, loading::Slot, writes::Writes};
use crate::{
    consumer::{Incidents, Suspects},
    metrics::Metrics,
    post::TERM,
};

/// How many aggregates are kept loaded, per service. At 1 KB of state each: 10 MB.
const AGGREGATES_MAX: usize = 10_000;

/// How often work is decided again after a conflict, before it is given back as one. Each time it stands on what
/// is stored, so that more than a few are met only under a storm of writers from other processes.
const CONFLICTS_MAX: u32 = 32;

/// The longest pause behind a first conflict, and behind any.
const CONFLICT_PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(64));

/// How long work waits behind its conflict number `conflicts`, from 1: a part drawn from a bound that doubles, so that
/// those who met don't meet again. All pauses of one piece of work come to less than 2 seconds, and to half of that.
fn conflict_pause(conflicts: u32, fraction: f64) -> Duration {
    let (first, longest) = CONFLICT_PAUSE;
    let doubled = 2_u32.saturating_pow(conflicts.saturating_sub(1));
    first.saturating_mul(doubled).min(longest).mul_f64(fraction)
}

/// A service's store with all that is needed to work on it.
pub(crate) struct Core {
    pub(crate) service: ServiceName,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) env: Env,
    pub(crate) kinds: BTreeMap<Category, Arc<dyn AggregateKind>>,
    /// The pinned partition counts.
    pub(crate) topics: BTreeMap<Topic, u32>,
    pub(crate) metrics: Metrics,
    /// What its groups wait for a person with.
    pub(crate) incidents: Incidents,
    pub(crate) suspects: Suspects,
    /// This process, as it has leases.
    pub(crate) holder: Holder,
    /// For how long another holder is given no sign of life before its place is taken.
    pub(crate) term: Duration,
    /// After how many events a snapshot is kept, if that is not for the aggregates to say.
    pub(crate) snapshot_every: Option<u64>,
    writes: Writes,
    slots: Mutex<LruCache<StreamId, Arc<Slot>>>,
    guesses: Guesses,
}
/// Where work comes from: what its records say of their origin.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    pub(crate) correlation_id: MessageId,
    pub(crate) causation_id: Option<MessageId>,
    pub(crate) metadata: Arc<Metadata>,
}

/// Effects to be committed together with the proof that their input was handled.
pub(crate) struct Work<'a> {
    pub(crate) cause: Cause,
    /// Each effect with its handler's reaction, from which [`Execution::on_rejected`] goes on.
    pub(crate) effects: Vec<(Effect, Option<Arc<Reaction>>)>,
    /// Called right before the commit is made, so that it knows all that was seen until then.
    pub(crate) input: &'a (dyn Fn() -> Input + Sync),
    pub(crate) audit: Option<AuditEntry>,
}

/// What work became.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) committed: Committed,
    /// The version that each aggregate stands at now.
    pub(crate) versions: Vec<(StreamId, Version)>,
    /// What was written to topics: topic, partition, position, key.
    pub(crate) published: Vec<(Topic, u32, Position, Option<Key>)>,
}

impl Applied {
    /// The version that an aggregate stands at now, if the work touched it.
    pub(crate) fn version(&self, stream: &StreamId) -> Option<Version> {
        let touched = self.versions.iter().find(|(known, _)| known == stream);
        touched.map(|(_, version)| *version)
    }
}

/// Why work came to nothing.
#[derive(Debug)]
pub(crate) enum WorkError {
    Rejected(StreamId, Arc<dyn AnyError>),
    Broken(Error),
    Failure(Failure),
    Commit(CommitError),
}

impl fmt::Display for WorkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(stream, error) => write!(f, "`{stream}` rejected the command: {error}"),
            Self::Broken(error) => write!(f, "{error:#}"),
            Self::Failure(failure) => fmt::Display::fmt(failure, f),
            Self::Commit(error) => fmt::Display::fmt(error, f),
        }
    }
}

/// How one attempt ended.
enum Attempt {
    Done(Applied),
    /// Decide again: somebody else was first.
    Again(CommitError),
    /// Decide again with these streams locked as well.
    More(StreamId),
    /// Decide again on what is stored: that an aggregate is new was guessed, and looks wrong.
    Load,
    Failed(WorkError),
}
impl Core {
    pub(crate) fn new(
        service: ServiceName,
        store: Arc<dyn Store>,
        env: Env,
        kinds: BTreeMap<Category, Arc<dyn AggregateKind>>,
        topics: BTreeMap<Topic, u32>,
        metrics: Metrics,
        suspects: Suspects,
    ) -> Self {
        let bound = NonZeroUsize::new(AGGREGATES_MAX).expect("the bound is not zero");
        Self {
            service,
            store,
            holder: Holder(env.uuid()),
            term: TERM,
            guesses: Guesses::of(kinds.keys()),
            env,
            kinds,
            topics,
            metrics,
            incidents: Incidents::default(),
            suspects,
            snapshot_every: None,
            writes: Writes::default(),
            slots: Mutex::new(LruCache::new(bound)),
        }
    }

    /// Commits `work`, deciding its commands as often as conflicts ask for it.
    pub(crate) async fn apply(&self, work: &Work<'_>) -> Result<Applied, WorkError> {
        let executed = work.effects.iter().filter_map(|(effect, _)| match effect {
            Effect::Execute(execution) => Some(execution.stream.clone()),
            _ => None,
        });
        // In the order of their names, each once. Hardly ever more than a few.
        let mut streams: Vec<StreamId> = executed.collect();
        streams.sort_unstable();
        streams.dedup();
        let (mut conflicts, mut guess) = (0, true);
        loop {
            match self.attempt(work, &streams, guess).await {
                Attempt::Done(applied) => return Ok(applied),
                Attempt::Failed(error) => return Err(error),
                Attempt::More(stream) => {
                    if let Err(place) = streams.binary_search(&stream) {
                        streams.insert(place, stream);
                    }
                }
                Attempt::Load => guess = false,
                Attempt::Again(error) => {
                    guess = false;
                    conflicts += 1;
                    self.metrics.conflict();
                    if conflicts >= CONFLICTS_MAX {
                        return Err(WorkError::Commit(error));
                    }
                    tokio::time::sleep(conflict_pause(conflicts, self.env.fraction())).await;
                }
            }
        }
    }

    async fn attempt(&self, work: &Work<'_>, streams: &[StreamId], guess: bool) -> Attempt {
        let mut plan = match self.lock(streams, guess).await {
            Ok(plan) => plan,
            Err(error) => return Attempt::Failed(WorkError::Broken(error)),
        };
        let mut outcome = Ok(());
        for (effect, cx) in &work.effects {
            outcome = self.decide(effect, cx.as_deref(), &work.cause, &mut plan, 0);
            if outcome.is_err() {
                break;
            }
        }
        match outcome {
            // Nothing but a first event proves a guess: the store refuses it when the aggregate has others.
            Ok(()) if plan.has_unproven_guess() => self.doubt(&plan),
            Ok(()) => self.commit(work, plan).await,
            Err(undecided) => match undecided {
                Undecided::More(stream) => Attempt::More(stream),
                Undecided::Failed(_) if plan.has_guess() => self.doubt(&plan),
                Undecided::Failed(WorkError::Rejected(stream, error)) => {
                    self.confirm(plan, WorkError::Rejected(stream, error)).await
                }
                Undecided::Failed(error) => Attempt::Failed(error),
            },
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_behind_conflicts_double_up_to_a_bound_and_end_within_two_seconds() {
        let longest = |conflicts| conflict_pause(conflicts, 1.0);
        assert_eq!(longest(1), Duration::from_millis(1));
        assert_eq!(longest(4), Duration::from_millis(8));
        assert_eq!(longest(u32::MAX), Duration::from_millis(64));
        assert_eq!(conflict_pause(7, 0.5), Duration::from_millis(32));
        assert_eq!(conflict_pause(7, 0.0), Duration::ZERO);
        let all: Duration = (1..CONFLICTS_MAX).map(longest).sum();
        assert!(all < Duration::from_secs(2), "{all:?}");
    }
}
