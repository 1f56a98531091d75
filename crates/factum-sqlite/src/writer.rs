//! The one thread that writes: it takes orders from a bounded queue and carries them out in groups.
//!
//! One group is one transaction and one sync: while the disk writes one, the next collects in the queue, so that
//! groups grow with load and nobody waits for company. A group that the disk refused is undone, in the file and in
//! memory. After a failed sync nobody knows what the disk holds: the writer then refuses everything, for ever.

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use factum_core::Error;
use rusqlite::Connection;

use crate::{
    broken::Broken,
    checkpointer::Checkpointer,
    error::{Doing, of_file},
    group::{Desk, Done, Order},
    opening, own_sql,
    queue::Queue,
    reader::STATEMENTS_MAX,
    state::StoreState,
    witness::Witness,
};

/// How many orders may wait for the writer: four groups of 256 clients. Whoever comes after waits to hand over.
pub(crate) const ORDERS_WAITING_MAX: usize = 1_024;

/// How many orders share a transaction at most: at 10 microseconds each, a group is decided in 5 milliseconds.
const GROUP_ORDERS_MAX: usize = 512;

/// The writer's memory for pages of the file, in KiB. SQLite looks through all of it at some commits, so more is not
/// always better: between 4 and 32 MiB nothing was gained or lost.
const CACHE_KIB: i64 = 16 * 1024;

/// The writing thread's own.
pub(crate) struct Writer {
    connection: Connection,
    path: PathBuf,
    orders: Arc<Queue<Order>>,
    /// Orders that were taken from the queue, and are carried out next: as many as the queue holds, at most.
    taken: VecDeque<Order>,
    /// Empty between two groups, and kept for its room, which for a group is more than the allocator keeps.
    done: Vec<Done>,
    stores: BTreeMap<i64, StoreState>,
    checkpointer: Checkpointer,
    witness: Witness,
    /// The size of the write-ahead log in pages, as of the last commit.
    wal_pages: Arc<AtomicU64>,
    /// How many transactions were made durable.
    transactions: Arc<AtomicU64>,
    /// Why nothing is written any more.
    broken: Broken,
}

impl Writer {
    /// A writer of the file at `path`, which takes `orders`.
    pub(crate) fn new(
        mut connection: Connection,
        witness: Witness,
        orders: Arc<Queue<Order>>,
        path: &Path,
        wal_bytes_max: u64,
        broken: Broken,
        pages_max: Option<u32>,
    ) -> Result<Self, Error> {
        const WHAT: &str = "prepare the writing connection";
        connection
            .pragma_update(None, "synchronous", "FULL")
            .doing(WHAT)?;
        connection
            .pragma_update(None, "cache_size", -CACHE_KIB)
            .doing(WHAT)?;
        connection
            .pragma_update(None, "wal_autocheckpoint", 0)
            .doing(WHAT)?;
        if let Some(pages) = pages_max {
            connection
                .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
                .doing(WHAT)?;
        }
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        own_sql::guard(&mut connection)?;
        let wal_pages = Arc::new(AtomicU64::new(0));
        let noted = wal_pages.clone();
        let note = move |_: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int| {
            noted.store(u64::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        };
        connection.wal_hook(Some(note)).doing(WHAT)?;
        let checkpointer = Checkpointer::start(path, wal_bytes_max, broken.clone())?;
        Ok(Self {
            connection,
            path: path.to_path_buf(),
            orders,
            taken: VecDeque::new(),
            done: Vec::new(),
            stores: BTreeMap::new(),
            checkpointer,
            witness,
            wal_pages,
            transactions: Arc::default(),
            broken,
        })
    }

    /// How many transactions it has made durable, as others see it.
    pub(crate) fn transactions(&self) -> Arc<AtomicU64> {
        self.transactions.clone()
    }

    /// Carries out orders until the queue is closed.
    pub(crate) fn run(mut self) {
        while let Some(order) = self.next() {
            match self.broken.reason() {
                Some(error) => order.refuse(&error, &mut self.stores),
                None => self.group(order),
            }
        }
        if self.broken.reason().is_none() {
            self.checkpointer.finish();
            self.witness.finish();
        }
    }

    /// The next order, waiting for one. `None` when there will be no more.
    fn next(&mut self) -> Option<Order> {
        if self.taken.is_empty() {
            self.orders.take(&mut self.taken);
        }
        self.taken.pop_front()
    }

    fn group(&mut self, first: Order) {
        let begun = self
            .connection
            .prepare_cached("BEGIN IMMEDIATE")
            .and_then(|mut begin| begin.execute([]));
        if let Err(error) = begun.doing("begin a transaction") {
            // Nothing was written, so everybody may try again, unless the error says otherwise.
            if error.is_fatal() {
                self.broken.set(&of_file(error.clone(), &self.path));
            }
            return first.refuse(&error, &mut self.stores);
        }
        let changes = self.connection.total_changes();
        let mut done = std::mem::take(&mut self.done);
        let carried_out = self.carry_out(first, &mut done);
        let committed = carried_out.and_then(|()| self.commit(changes));
        if let Ok(counted) = &committed {
            self.transactions.fetch_add(1, Ordering::Relaxed);
            // Before anybody hears of it: what was acknowledged, the witness knows.
            self.witness.testify(&mut self.stores, *counted);
            for state in self.stores.values_mut() {
                state.publish();
            }
        } else if let Err(error) = &committed {
            self.undo(error);
        }
        let group = committed.err();
        for done in done.drain(..) {
            done.settle(group.as_ref(), &mut self.stores);
        }
        self.done = done;
        self.checkpointer
            .written(self.wal_pages.load(Ordering::Relaxed));
    }

    /// Carries out `first` and what waits behind it, up to the group's bound.
    fn carry_out(&mut self, first: Order, done: &mut Vec<Done>) -> Result<(), Error> {
        let mut next = Some(first);
        while let Some(order) = next {
            let mut desk = Desk {
                connection: &self.connection,
                stores: &mut self.stores,
            };
            let (finished, group) = order.run(&mut desk);
            done.push(finished);
            group?;
            if done.len() >= GROUP_ORDERS_MAX {
                break;
            }
            if self.taken.is_empty() {
                self.orders.try_take(&mut self.taken);
            }
            next = self.taken.pop_front();
        }
        Ok(())
    }

    /// Makes the group durable that began at so many changes, and says by how much the file's sequence has grown.
    fn commit(&mut self, changes: u64) -> Result<u64, Error> {
        let mut moved = false;
        for state in self.stores.values_mut() {
            state.flush(&self.connection)?;
            moved |= state.head != state.witnessed.1;
        }
        let counted = !moved && self.connection.total_changes() > changes;
        if counted {
            opening::advance_sequence(&self.connection, 1)?;
        }
        // The checkpointing thread may have found out meanwhile. What is not synced now was not acknowledged.
        if let Some(error) = self.broken.reason() {
            return Err(error);
        }
        let mut commit = self.connection.prepare_cached("COMMIT").doing("commit")?;
        commit.execute([]).doing("commit")?;
        Ok(counted.into())
    }

    /// Undoes a group that has failed, in the file and in memory.
    fn undo(&mut self, error: &Error) {
        if error.is_fatal() {
            self.broken.set(&of_file(error.clone(), &self.path));
        }
        if !self.connection.is_autocommit() {
            let undone = self
                .connection
                .execute_batch("ROLLBACK")
                .doing("undo a transaction");
            if let Err(error) = undone {
                self.broken.set(&error);
            }
        }
        if self.broken.reason().is_some() {
            return;
        }
        // Stores that were made within the group are gone again.
        let connection = &self.connection;
        let mut failed = None;
        self.stores
            .retain(|_, state| match state.exists(connection) {
                Ok(true) => {
                    failed = failed.take().or(state.reload(connection).err());
                    true
                }
                Ok(false) => false,
                Err(error) => {
                    failed.get_or_insert(error);
                    true
                }
            });
        if let Some(error) = failed {
            let what = "the state of the stores can't be read after a group has failed";
            self.broken.set(&Error::fatal(what).caused_by(error));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.broken
                .set(&Error::fatal("the writing thread has panicked"));
        }
        // Whatever ended this thread: nobody may wait for it.
        self.orders.abandon();
    }
}
