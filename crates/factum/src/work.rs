//! Work: effects become one commit.
//!
//! Commands are decided here, each aggregate's one after another in memory, each standing on the one before, so
//! that many of them are committed together. A command that meets a conflict is decided again, alone, on what is
//! stored; whoever gave it doesn't notice. A rejection, and a decision that nothing is to be done, are answered
//! only when what they were decided on is durable and confirmed.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    fmt,
    num::NonZeroUsize,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use factum_core::{
    AggregateKind, AnyAggregate, AnyError, Append, AuditEntry, Category, Codec, Commit,
    CommitError, CommitId, Committed, Condition, Decision, Destination, Draft, Effect, Encoded,
    Env, Error, Execution, ExpectedVersion, Input, Key, MessageId, Metadata, Position, Reaction,
    RecordKind, Refusal, ServiceName, Snapshot, Store, StreamId, TimerWrite, Timestamp, Topic,
    Version,
};
use lru::LruCache;
use tokio::sync::OwnedMutexGuard;

use crate::metrics::Metrics;

/// How many aggregates are kept loaded, per service. At 1 KB of state each: 10 MB.
const AGGREGATES_MAX: usize = 10_000;

/// How often work is decided again after a conflict, before it is given back as one. Each time it stands on what
/// is stored, so that more than a few are met only under a storm of writers from other processes.
const CONFLICTS_MAX: u32 = 32;

/// How many levels of [`Execution::on_rejected`] one effect may lead to.
const REJECTIONS_DEEP_MAX: u32 = 8;

/// How many events are read at a time while an aggregate is loaded.
const LOAD_EVENTS_MAX: usize = 1_000;

/// A service's store with all that is needed to work on it.
pub(crate) struct Core {
    pub(crate) service: ServiceName,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) env: Env,
    pub(crate) kinds: BTreeMap<Category, Arc<dyn AggregateKind>>,
    /// The pinned partition counts.
    pub(crate) topics: BTreeMap<Topic, u32>,
    pub(crate) metrics: Metrics,
    slots: Mutex<LruCache<StreamId, Arc<Slot>>>,
}

/// The place of one loaded aggregate, and the queue of those who want to decide on it: the mutex is fair.
struct Slot {
    loaded: Arc<tokio::sync::Mutex<Loaded>>,
    /// A commit on this aggregate failed, or nobody waited for its outcome: what is loaded may never have
    /// happened.
    suspect: AtomicBool,
}

#[derive(Default)]
struct Loaded {
    aggregate: Option<Box<dyn AnyAggregate>>,
    /// The last commit that the state contains, while it is not known to be durable.
    standing_on: Option<CommitId>,
    /// A decision has begun and was not handed over: what is loaded may never happen.
    deciding: bool,
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
    pub(crate) versions: BTreeMap<StreamId, Version>,
    /// What was written to topics: topic, partition, position, key.
    pub(crate) published: Vec<(Topic, u32, Position, Option<Key>)>,
}

/// Why work came to nothing.
#[derive(Debug)]
pub(crate) enum WorkError {
    Rejected(StreamId, Arc<dyn AnyError>),
    Broken(Error),
    Commit(CommitError),
}

impl fmt::Display for WorkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(stream, error) => write!(f, "`{stream}` rejected the command: {error}"),
            Self::Broken(error) => write!(f, "{error:#}"),
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
    Failed(WorkError),
}

/// What was decided so far in one attempt.
struct Plan {
    now: Timestamp,
    locked: BTreeMap<StreamId, Held>,
    appends: Vec<Append>,
    outbox: Vec<Draft>,
    timers: Vec<TimerWrite>,
}

struct Held {
    guard: OwnedMutexGuard<Loaded>,
    slot: Arc<Slot>,
    /// The version before this work.
    before: Version,
    snapshot: Option<Snapshot>,
}

enum Undecided {
    More(StreamId),
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
    ) -> Self {
        let bound = NonZeroUsize::new(AGGREGATES_MAX).expect("the bound is not zero");
        Self {
            service,
            store,
            env,
            kinds,
            topics,
            metrics,
            slots: Mutex::new(LruCache::new(bound)),
        }
    }

    /// Commits `work`, deciding its commands as often as conflicts ask for it.
    pub(crate) async fn apply(&self, work: &Work<'_>) -> Result<Applied, WorkError> {
        let mut streams: BTreeSet<StreamId> = work
            .effects
            .iter()
            .filter_map(|(effect, _)| match effect {
                Effect::Execute(execution) => Some(execution.stream.clone()),
                _ => None,
            })
            .collect();
        let mut conflicts = 0;
        loop {
            match self.attempt(work, &streams).await {
                Attempt::Done(applied) => return Ok(applied),
                Attempt::Failed(error) => return Err(error),
                Attempt::More(stream) => {
                    streams.insert(stream);
                }
                Attempt::Again(error) => {
                    conflicts += 1;
                    self.metrics.conflict();
                    if conflicts >= CONFLICTS_MAX {
                        return Err(WorkError::Commit(error));
                    }
                }
            }
        }
    }

    async fn attempt(&self, work: &Work<'_>, streams: &BTreeSet<StreamId>) -> Attempt {
        let mut plan = match self.lock(streams).await {
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
            Ok(()) => self.commit(work, plan).await,
            Err(undecided) => match undecided {
                Undecided::More(stream) => Attempt::More(stream),
                Undecided::Failed(WorkError::Rejected(stream, error)) => {
                    self.confirm(plan, WorkError::Rejected(stream, error)).await
                }
                Undecided::Failed(error) => Attempt::Failed(error),
            },
        }
    }

    /// Locks the aggregates in the order of their names, so that no two wait for each other, and loads them.
    async fn lock(&self, streams: &BTreeSet<StreamId>) -> Result<Plan, Error> {
        let mut locked = BTreeMap::new();
        for stream in streams {
            let slot = self.slot(stream);
            let mut guard = slot.loaded.clone().lock_owned().await;
            if slot.suspect.swap(false, Ordering::SeqCst) || guard.deciding {
                *guard = Loaded::default();
            }
            if guard.aggregate.is_none() {
                self.metrics.cache(false);
                guard.aggregate = Some(self.load(stream).await?);
            } else {
                self.metrics.cache(true);
            }
            let before = guard
                .aggregate
                .as_ref()
                .map_or(Version::ZERO, |loaded| loaded.version());
            locked.insert(
                stream.clone(),
                Held {
                    guard,
                    slot,
                    before,
                    snapshot: None,
                },
            );
        }
        let now = self.env.now();
        Ok(Plan {
            now,
            locked,
            appends: Vec::new(),
            outbox: Vec::new(),
            timers: Vec::new(),
        })
    }

    fn slot(&self, stream: &StreamId) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            Arc::new(Slot {
                loaded: Arc::default(),
                suspect: AtomicBool::new(false),
            })
        };
        slots.get_or_insert(stream.clone(), new).clone()
    }

    /// Reads an aggregate from its snapshot and the events behind it.
    pub(crate) async fn load(&self, stream: &StreamId) -> Result<Box<dyn AnyAggregate>, Error> {
        let kind = self.kind(stream)?;
        let mut aggregate = match self.store.snapshot(stream, kind.fingerprint()).await? {
            Some(snapshot) => kind.restore(&snapshot).unwrap_or_else(|| kind.empty()),
            None => kind.empty(),
        };
        loop {
            let page = self
                .store
                .read_stream(stream, aggregate.version().next(), LOAD_EVENTS_MAX)
                .await?;
            for record in &page.records {
                guarded("an event", || aggregate.apply(record))
                    .flatten()
                    .map_err(|error| error.while_(format!("loading `{stream}`")))?;
            }
            if page.records.len() < LOAD_EVENTS_MAX {
                return Ok(aggregate);
            }
        }
    }

    pub(crate) fn kind(&self, stream: &StreamId) -> Result<&Arc<dyn AggregateKind>, Error> {
        self.kinds.get(stream.category()).ok_or_else(|| {
            let known: Vec<_> = self.kinds.keys().map(Category::as_str).collect();
            Error::fatal(format!(
                "service `{}` has no aggregate of category `{}` (known: {})",
                self.service,
                stream.category(),
                known.join(", ")
            ))
        })
    }

    fn decide(
        &self,
        effect: &Effect,
        cx: Option<&Reaction>,
        cause: &Cause,
        plan: &mut Plan,
        depth: u32,
    ) -> Result<(), Undecided> {
        match effect {
            Effect::Execute(execution) => self.execute(execution, cx, cause, plan, depth),
            Effect::Timer(timer) => {
                plan.timers.push(timer.clone());
                Ok(())
            }
            Effect::Send { topic, key, event } => {
                let to = self
                    .destination(topic.as_str(), Some(key.clone()))
                    .map_err(broken)?;
                let draft = self.draft(
                    RecordKind::Message,
                    None,
                    event.clone(),
                    Some(to),
                    cause,
                    plan.now,
                );
                plan.outbox.push(draft);
                Ok(())
            }
            Effect::Import {
                stream,
                event,
                timestamp,
            } => {
                let stream_id = Some(stream.clone());
                let draft = self.draft(
                    RecordKind::Import,
                    stream_id,
                    event.clone(),
                    None,
                    cause,
                    *timestamp,
                );
                plan.append(stream, ExpectedVersion::Any, vec![draft]);
                Ok(())
            }
        }
    }

    fn execute(
        &self,
        execution: &Execution,
        cx: Option<&Reaction>,
        cause: &Cause,
        plan: &mut Plan,
        depth: u32,
    ) -> Result<(), Undecided> {
        let stream = &execution.stream;
        let kind = self.kind(stream).map_err(broken)?;
        let Some(held) = plan.locked.get_mut(stream) else {
            return Err(Undecided::More(stream.clone()));
        };
        held.guard.deciding = true;
        let aggregate = held
            .guard
            .aggregate
            .as_mut()
            .expect("a locked aggregate is loaded");
        let before = aggregate.version();
        let decision = Decision::new(&self.env, before, cause.metadata.clone());
        let decided = guarded(A_DECISION, || {
            aggregate.decide(&*execution.command, &decision)
        })
        .unwrap_or_else(|panic| {
            Err(Refusal::Broken(
                panic.while_(format!("deciding on `{stream}`")),
            ))
        });
        let events = match decided {
            Ok(events) => events,
            Err(Refusal::Broken(error)) => return Err(broken(error)),
            Err(Refusal::Rejected(error)) => {
                let then = execution
                    .on_rejected
                    .as_ref()
                    .filter(|_| depth < REJECTIONS_DEEP_MAX);
                let (Some(then), Some(mut reaction)) = (then, cx.map(Reaction::again)) else {
                    return Err(Undecided::Failed(WorkError::Rejected(
                        stream.clone(),
                        error,
                    )));
                };
                then(&*error, &mut reaction)
                    .map_err(|failure| broken(Error::poison(failure.message())))?;
                let effects = reaction.into_effects();
                return effects
                    .iter()
                    .try_for_each(|effect| self.decide(effect, cx, cause, plan, depth + 1));
            }
        };
        if events.is_empty() {
            return Ok(());
        }
        let every = kind.snapshot_every();
        let after = aggregate.version();
        if every > 0 && before.0 / every != after.0 / every {
            let state = aggregate.state().map_err(broken)?;
            let state = state.as_str().as_bytes().to_vec().into();
            held.snapshot = Some(Snapshot {
                version: after,
                state,
            });
        }
        let key = aggregate
            .partition_key()
            .unwrap_or_else(|| stream.id().into());
        let to = match kind.topic() {
            Some(topic) => Some(self.destination(topic, Some(key)).map_err(broken)?),
            None => None,
        };
        let drafts = events.into_iter().map(|event| {
            self.draft(
                RecordKind::Event,
                Some(stream.clone()),
                event,
                to.clone(),
                cause,
                plan.now,
            )
        });
        let drafts = drafts.collect();
        plan.append(stream, ExpectedVersion::Exact(before), drafts);
        Ok(())
    }

    pub(crate) fn destination(&self, topic: &str, key: Option<Key>) -> Result<Destination, Error> {
        let Some((topic, partitions)) = self.topics.get_key_value(topic) else {
            let known: Vec<_> = self.topics.keys().map(Topic::as_str).collect();
            return Err(Error::fatal(format!(
                "topic `{topic}` is not declared by service `{}` (declared: {})",
                self.service,
                known.join(", ")
            )));
        };
        let partition = key.as_ref().map_or(0, |key| key.partition(*partitions));
        Ok(Destination {
            topic: topic.clone(),
            partition,
            key,
        })
    }

    fn draft(
        &self,
        kind: RecordKind,
        stream: Option<StreamId>,
        event: Encoded,
        destination: Option<Destination>,
        cause: &Cause,
        timestamp: Timestamp,
    ) -> Draft {
        Draft {
            kind,
            stream,
            event_id: self.env.message_id(),
            event_type: event.event_type,
            destination,
            timestamp,
            correlation_id: cause.correlation_id.clone(),
            causation_id: cause.causation_id.clone(),
            metadata: (*cause.metadata).clone(),
            tags: Vec::new(),
            codec: Codec::Json,
            protection: None,
            data: event.data,
        }
    }

    async fn commit(&self, work: &Work<'_>, mut plan: Plan) -> Attempt {
        let input = (work.input)();
        let changes =
            !plan.appends.is_empty() || !plan.outbox.is_empty() || !plan.timers.is_empty();
        if !changes && matches!(input, Input::None | Input::Command(_)) && work.audit.is_none() {
            return self.confirm_nothing(plan).await;
        }
        let mut commit = Commit::new(self.env.commit_id(), plan.now);
        commit.input = input;
        commit.audit.clone_from(&work.audit);
        commit.appends = std::mem::take(&mut plan.appends);
        commit.outbox = std::mem::take(&mut plan.outbox);
        commit.timers = std::mem::take(&mut plan.timers);
        let appended: BTreeSet<_> = commit
            .appends
            .iter()
            .map(|append| append.stream.clone())
            .collect();
        for (stream, held) in &plan.locked {
            commit.stands_on.extend(held.guard.standing_on);
            // A command that led to nothing was decided on this version all the same.
            if !appended.contains(stream) {
                let expected = ExpectedVersion::Exact(held.before);
                commit.conditions.push(Condition::Stream {
                    stream: stream.clone(),
                    expected,
                });
            }
        }
        let destinations: Vec<_> = commit
            .drafts()
            .map(|draft| draft.destination.clone())
            .collect();
        let versions = plan.versions();
        let (result, held) = self.hand_over(commit, plan).await;
        match result {
            Ok(committed) => {
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
        let mut future = self.store.commit(commit);
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

    async fn confirm(&self, mut plan: Plan, rejection: WorkError) -> Attempt {
        // What was decided before the rejection will never happen.
        for held in plan.locked.values_mut().filter(|held| held.is_changed()) {
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

    async fn keep(&self, stream: &StreamId, snapshot: Snapshot) {
        let Ok(kind) = self.kind(stream) else { return };
        // A snapshot that can't be kept costs time at the next load, and nothing else.
        if let Err(error) = self
            .store
            .save_snapshot(stream, kind.fingerprint(), snapshot)
            .await
        {
            tracing::warn!(stream.id = %stream, "snapshot of `{stream}` could not be kept: {error:#}");
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

impl Plan {
    /// Adds events behind those of the same stream.
    fn append(&mut self, stream: &StreamId, expected: ExpectedVersion, drafts: Vec<Draft>) {
        match self
            .appends
            .iter_mut()
            .find(|append| append.stream == *stream)
        {
            Some(append) => append.drafts.extend(drafts),
            None => self.appends.push(Append {
                stream: stream.clone(),
                expected,
                drafts,
            }),
        }
    }

    fn versions(&self) -> BTreeMap<StreamId, Version> {
        let version = |held: &Held| held.guard.aggregate.as_ref().map(|loaded| loaded.version());
        self.locked
            .iter()
            .filter_map(|(stream, held)| Some((stream.clone(), version(held)?)))
            .collect()
    }
}

impl Held {
    fn is_changed(&self) -> bool {
        self.guard
            .aggregate
            .as_ref()
            .is_some_and(|loaded| loaded.version() != self.before)
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

/// What panics in an aggregate's decision are said to come from.
const A_DECISION: &str = "a decision";

/// Runs the user's code and turns a panic into an error of class poison.
fn guarded<T>(what: &str, code: impl FnOnce() -> T) -> Result<T, Error> {
    std::panic::catch_unwind(AssertUnwindSafe(code))
        .map_err(|panic| Error::poison(format!("{what} panicked: {}", panic_message(&*panic))))
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

fn broken(error: Error) -> Undecided {
    Undecided::Failed(WorkError::Broken(error))
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
