//! What a store's handles and readers see of it in memory: what was committed, never what is under way.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use factum_core::{
    At, EpochSpan, Error, Position, ProjectionName, Signal, StoreIdentity, ViewName,
};
use tokio::sync::Notify;

use crate::{newest::Newest, tail::Tail, view_table::ViewTable};

/// The memory that the writer shares with the handles of one store.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The store's number in the file.
    pub(crate) number: i64,
    published: RwLock<Published>,
    head: Signalled,
    parking: Signalled,
    timers: Signalled,
    /// How many records were read, by whomever.
    records_read: AtomicU64,
    /// Whether anybody has read the log.
    followed: AtomicBool,
}

/// What is true as of the last commit.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) identity: StoreIdentity,
    pub(crate) epochs: Vec<EpochSpan>,
    pub(crate) head: At,
    pub(crate) tail: Tail,
    pub(crate) newest: Newest,
    pub(crate) views: Views,
}

/// The views of a store, and which generation readers see.
#[derive(Clone, Debug, Default)]
pub(crate) struct Views {
    pub(crate) tables: BTreeMap<ViewName, BTreeMap<u32, Arc<ViewTable>>>,
    pub(crate) active: BTreeMap<ProjectionName, u32>,
}

/// A value that grows, and who waits for it.
#[derive(Debug, Default)]
struct Signalled {
    value: AtomicU64,
    grown: Notify,
}

impl Shared {
    /// What is shared of a store that was just opened. `parking` and `timers` are 1 when anything of the kind
    /// ever happened.
    pub(crate) fn new(number: i64, published: Published, parking: u64, timers: u64) -> Self {
        let signalled = |value| Signalled {
            value: AtomicU64::new(value),
            grown: Notify::new(),
        };
        let head = signalled(published.head.position.0);
        Self {
            number,
            published: RwLock::new(published),
            head,
            parking: signalled(parking),
            timers: signalled(timers),
            records_read: AtomicU64::new(0),
            followed: AtomicBool::new(false),
        }
    }

    /// How many records were read since the store was opened.
    pub(crate) fn records_read(&self) -> u64 {
        self.records_read.load(Ordering::Relaxed)
    }

    /// Counts records that were read.
    pub(crate) fn count_read(&self, records: usize) {
        // A count beyond 2^64 is not reached.
        self.records_read
            .fetch_add(records as u64, Ordering::Relaxed);
    }

    /// Somebody reads the log: from now on the newest records are kept.
    pub(crate) fn follow(&self) {
        if !self.is_followed() {
            self.followed.store(true, Ordering::Relaxed);
        }
    }

    /// Whether anybody has read the log. Once it is so, it stays so.
    pub(crate) fn is_followed(&self) -> bool {
        self.followed.load(Ordering::Relaxed)
    }

    /// Looks at what was committed.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Published> {
        self.published
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it: the writer's right, after a commit.
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Published> {
        self.published
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `signal` grow by `by`, or to at least `by` when it is the head's position.
    pub(crate) fn signal(&self, signal: Signal, by: u64) {
        let signalled = self.signalled(signal);
        let before = match signal {
            Signal::Head => signalled.value.fetch_max(by, Ordering::Release),
            _ => signalled.value.fetch_add(by, Ordering::Release),
        };
        if before != signalled.value.load(Ordering::Acquire) {
            signalled.grown.notify_waiters();
        }
    }

    /// Waits until the value of `signal` is greater than `seen`.
    pub(crate) async fn wait(&self, signal: Signal, seen: u64) -> u64 {
        let signalled = self.signalled(signal);
        loop {
            let mut grown = pin!(signalled.grown.notified());
            // Register before looking: a change between the look and the wait would be slept through.
            grown.as_mut().enable();
            let value = signalled.value.load(Ordering::Acquire);
            if value > seen {
                return value;
            }
            grown.await;
        }
    }

    fn signalled(&self, signal: Signal) -> &Signalled {
        match signal {
            Signal::Head => &self.head,
            Signal::Parking => &self.parking,
            Signal::Timers => &self.timers,
        }
    }
}

impl Published {
    /// Refuses a place that does not lie on the present time line.
    pub(crate) fn check_cursor(&self, at: At) -> Result<(), Error> {
        if at == At::ZERO {
            return Ok(());
        }
        let refuse = |why: String| {
            Err(Error::conflict(format!(
                "place {at} is not on the present time line: {why}"
            )))
        };
        let Some(index) = self.epochs.iter().position(|span| span.epoch == at.epoch) else {
            return refuse(format!("there was no epoch {}", at.epoch));
        };
        let end = match self.epochs.get(index + 1) {
            Some(next) => Position(next.first.0 - 1),
            None => self.head.position,
        };
        if at.position <= end {
            return Ok(());
        }
        refuse(format!("epoch {} ends at position {end}", at.epoch))
    }
}

impl Views {
    /// One generation of a view.
    pub(crate) fn table(&self, view: &ViewName, generation: u32) -> Result<&Arc<ViewTable>, Error> {
        let table = self
            .tables
            .get(view)
            .and_then(|generations| generations.get(&generation));
        table.ok_or_else(|| missing(&format!("{view}@{generation}")))
    }

    /// A view in the given generation or the one that readers see; `Ok(None)` when they see none yet.
    pub(crate) fn seen(
        &self,
        view: &ViewName,
        generation: Option<u32>,
    ) -> Result<Option<&Arc<ViewTable>>, Error> {
        if let Some(generation) = generation {
            return self.table(view, generation).map(Some);
        }
        let generations = self
            .tables
            .get(view)
            .ok_or_else(|| missing(view.as_str()))?;
        let is_active = |(generation, table): &(&u32, &Arc<ViewTable>)| {
            self.active.get(&table.definition.projection) == Some(*generation)
        };
        Ok(generations.iter().find(is_active).map(|(_, table)| table))
    }
}

fn missing(view: &str) -> Error {
    Error::poison(format!(
        "view `{view}` does not exist: prepare it with `ensure`"
    ))
}
