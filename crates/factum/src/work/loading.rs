//! Aggregates in memory: each has its place, where those who want to decide on it queue up.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use factum_core::{
    AggregateKind, AnyAggregate, Category, CommitId, Error, Snapshot, StreamId, StreamPage, Version,
};

use super::{
    Core,
    deciding::{Held, Plan},
};

/// How many events are read at a time while an aggregate is loaded: few, so that the first are taken while the next
/// are read.
const LOAD_EVENTS_MAX: usize = 250;

/// The place of one loaded aggregate, and the queue of those who want to decide on it: the mutex is fair.
pub(super) struct Slot {
    pub(super) loaded: Arc<tokio::sync::Mutex<Loaded>>,
    /// A commit on this aggregate failed, or nobody waited for its outcome: what is loaded may never have
    /// happened.
    pub(super) suspect: AtomicBool,
}

#[derive(Default)]
pub(super) struct Loaded {
    pub(super) aggregate: Option<Box<dyn AnyAggregate>>,
    /// The last commit that the state contains, while it is not known to be durable.
    pub(super) standing_on: Option<CommitId>,
    /// A decision has begun and was not handed over: what is loaded may never happen.
    pub(super) deciding: bool,
}
impl Core {
    /// Locks the aggregates in the order of their names, so that no two wait for each other, and loads them.
    pub(super) async fn lock(&self, streams: &[StreamId], guess: bool) -> Result<Plan, Error> {
        let mut locked = Vec::with_capacity(streams.len());
        for stream in streams {
            let slot = self.slot(stream);
            let mut guard = slot.loaded.clone().lock_owned().await;
            if slot.suspect.swap(false, Ordering::SeqCst) || guard.deciding {
                *guard = Loaded::default();
            }
            let mut guessed = false;
            if guard.aggregate.is_none() {
                self.metrics.cache(false);
                guessed = guess && self.guesses.is_worth_it(stream);
                guard.aggregate = Some(if guessed {
                    // Until it is handed over, nobody else may take it for what is stored.
                    guard.deciding = true;
                    self.kind(stream)?.empty()
                } else {
                    self.load(stream).await?
                });
            } else {
                self.metrics.cache(true);
            }
            let before = guard
                .aggregate
                .as_ref()
                .map_or(Version::ZERO, |loaded| loaded.version());
            let held = Held {
                guard,
                slot,
                before,
                snapshot: None,
                guessed,
            };
            locked.push((stream.clone(), held));
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
        let read = |from| self.store.read_stream(stream, from, LOAD_EVENTS_MAX);
        let snapshot = self.store.snapshot(stream, kind.fingerprint()).await?;
        let restored = snapshot.and_then(|snapshot| {
            let restored = guarded("a snapshot", || kind.restore(&snapshot));
            Some((restored.ok().flatten()?, snapshot))
        });
        let begun = match restored {
            // The event that it stands on is read with those behind it.
            Some((aggregate, snapshot)) => {
                let mut page = read(snapshot.version).await?;
                stands_on(&snapshot, &page).then(|| {
                    page.records.remove(0);
                    (aggregate, page)
                })
            }
            None => None,
        };
        let (mut aggregate, mut page) = match begun {
            Some(begun) => begun,
            // No event of this stream led to that snapshot.
            None => (kind.empty(), read(Version::ZERO.next()).await?),
        };
        loop {
            // While these events are taken, the next are read.
            let last = page.records.last().map(|record| record.version);
            let next = async {
                match last.filter(|last| *last < page.version) {
                    Some(last) => read(last.next()).await.map(Some),
                    None => Ok(None),
                }
            };
            let take = async {
                let mut records = page.records.iter();
                records.try_for_each(|record| {
                    guarded("an event", || aggregate.apply(record))
                        .flatten()
                        .map_err(|error| error.while_(format!("loading `{stream}`")))
                })
            };
            let (next, taken) = futures_util::future::join(next, take).await;
            taken?;
            match next? {
                Some(next) => page = next,
                None => return Ok(aggregate),
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

    pub(super) async fn keep(&self, stream: &StreamId, snapshot: Snapshot) {
        let Ok(kind) = self.kind(stream) else { return };
        tracing::debug!(stream.id = %stream, "snapshot begins");
        // A snapshot that can't be kept costs time at the next load, and nothing else.
        if let Err(error) = self
            .store
            .save_snapshot(stream, kind.fingerprint(), snapshot)
            .await
        {
            tracing::warn!(stream.id = %stream, "snapshot of `{stream}` could not be kept: {error:#}");
        }
        tracing::debug!(stream.id = %stream, "snapshot ended");
    }
}

/// Whether the page, read from the snapshot's version on, begins with the event that the snapshot stands on.
fn stands_on(snapshot: &Snapshot, page: &StreamPage) -> bool {
    page.records.first().is_some_and(|record| {
        record.version == snapshot.version && record.draft.event_id == snapshot.event_id
    })
}

/// Runs the user's code and turns a panic into an error of class poison.
pub(super) fn guarded<T>(what: &str, code: impl FnOnce() -> T) -> Result<T, Error> {
    std::panic::catch_unwind(AssertUnwindSafe(code))
        .map_err(|panic| Error::poison(format!("{what} panicked: {}", panic_message(&*panic))))
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
