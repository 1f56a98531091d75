//! What a store's handles, its writer and its listener share in memory.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use factum_core::{Epoch, Signal, StoreIdentity};
use tokio::sync::Notify;

use crate::{pool::Pool, schema::Schema, streams::Heads, views::Catalog};

/// The memory of one open store.
pub(crate) struct Shared {
    pub(crate) pool: Arc<Pool>,
    pub(crate) schema: Schema,
    identity: RwLock<StoreIdentity>,
    heads: Mutex<Heads>,
    views: RwLock<Arc<Catalog>>,
    /// What the writer knows of owners, topics or views may be outdated.
    outdated: AtomicBool,
    head: Signalled,
    parking: Signalled,
    timers: Signalled,
    records_read: AtomicU64,
    /// What others are to be told of.
    news: Mutex<News>,
    tell: Notify,
}

/// What has happened since others were told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) head: u64,
    pub(crate) parking: bool,
    pub(crate) timers: bool,
    /// Owners, topics, views or the epoch have changed.
    pub(crate) roles: bool,
}

/// A value that grows, and who waits for it.
#[derive(Debug, Default)]
struct Signalled {
    value: AtomicU64,
    grown: Notify,
}

impl Shared {
    pub(crate) fn new(pool: Arc<Pool>, schema: Schema, identity: StoreIdentity) -> Self {
        Self {
            pool,
            schema,
            identity: RwLock::new(identity),
            heads: Mutex::default(),
            views: RwLock::default(),
            outdated: AtomicBool::new(true),
            head: Signalled::default(),
            parking: Signalled::default(),
            timers: Signalled::default(),
            records_read: AtomicU64::new(0),
            news: Mutex::default(),
            tell: Notify::new(),
        }
    }

    pub(crate) fn identity(&self) -> StoreIdentity {
        read(&self.identity).clone()
    }

    /// Takes note of the present epoch. In a new one streams may be shorter.
    pub(crate) fn set_epoch(&self, epoch: Epoch) {
        let mut identity = self
            .identity
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if identity.epoch != epoch {
            identity.epoch = epoch;
            drop(identity);
            self.heads().clear();
        }
    }

    /// What is known of streams.
    pub(crate) fn heads(&self) -> MutexGuard<'_, Heads> {
        lock(&self.heads)
    }

    pub(crate) fn views(&self) -> Arc<Catalog> {
        read(&self.views).clone()
    }

    pub(crate) fn set_views(&self, views: Arc<Catalog>) {
        *self.views.write().unwrap_or_else(PoisonError::into_inner) = views;
    }

    /// Lets the writer look again at owners, topics and views, and others too.
    pub(crate) fn changed(&self) {
        self.outdate();
        self.tell(News {
            roles: true,
            ..News::default()
        });
    }

    /// Lets the writer look again at owners, topics and views.
    pub(crate) fn outdate(&self) {
        self.outdated.store(true, Ordering::Release);
    }

    /// Whether it should, once.
    pub(crate) fn take_outdated(&self) -> bool {
        self.outdated.swap(false, Ordering::AcqRel)
    }

    /// How many records were read since the store was opened.
    pub(crate) fn records_read(&self) -> u64 {
        self.records_read.load(Ordering::Relaxed)
    }

    /// Counts records that were read.
    pub(crate) fn count_read(&self, records: usize) {
        self.records_read
            .fetch_add(records as u64, Ordering::Relaxed);
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

    /// Lets those who wait here know, and has other processes told.
    pub(crate) fn publish(&self, news: News) {
        self.hear(news);
        self.tell(news);
    }

    /// Lets those who wait here know.
    pub(crate) fn hear(&self, news: News) {
        if news.head > 0 {
            self.signal(Signal::Head, news.head);
        }
        if news.parking {
            self.signal(Signal::Parking, 1);
        }
        if news.timers {
            self.signal(Signal::Timers, 1);
        }
    }

    fn tell(&self, news: News) {
        let mut untold = lock(&self.news);
        untold.head = untold.head.max(news.head);
        untold.parking |= news.parking;
        untold.timers |= news.timers;
        untold.roles |= news.roles;
        drop(untold);
        self.tell.notify_one();
    }

    /// Waits until there is something to tell others.
    pub(crate) async fn untold(&self) -> News {
        loop {
            let news = std::mem::take(&mut *lock(&self.news));
            if news != News::default() {
                return news;
            }
            self.tell.notified().await;
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

/// Nothing here can be left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}
