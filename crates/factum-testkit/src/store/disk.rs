//! The memory store's disk: what survives the store object, as a file survives a process.
//!
//! Dropping a [`MemoryStore`](super::MemoryStore) and opening another over the same disk is a restart; two of
//! them over one disk are two processes. A backup is a disk of its own.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};

use factum_core::{At, Epoch, Error, ServiceName, Signal, StoreId, Timestamp};
use tokio::sync::Notify;

use super::state::State;

/// A handle of what a memory store keeps. Clones are handles of the same disk.
#[derive(Clone)]
pub struct MemoryDisk(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// One for each [`Signal`]: whoever changed its value wakes all that wait. `Notify` and not a
    /// watch channel, which wakes its receivers in a random order.
    head: Notify,
    parking: Notify,
    timers: Notify,
}

impl MemoryDisk {
    /// An empty disk for the store `id` of `service`, created at `at` in epoch 1.
    pub fn new(id: StoreId, service: ServiceName, at: Timestamp) -> Self {
        Self::of(State::new(id, service, at))
    }

    fn of(state: State) -> Self {
        let notify = Notify::new;
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            head: notify(),
            parking: notify(),
            timers: notify(),
        }))
    }

    /// A copy of all that it holds now, which changes no more with it.
    #[must_use]
    pub fn backup(&self) -> Self {
        Self::of(self.read(State::clone))
    }

    /// Puts `backup` in place of what this disk holds, as an operator does with a lost store: in a new epoch,
    /// which is `epoch` or, if greater, the one behind the largest that either of them has used. Stores that are
    /// open over this disk stay open, as processes that nobody stopped do.
    ///
    /// # Errors
    ///
    /// Never, as the epoch is chosen to be greater; the type is that of opening one.
    pub fn restore(
        &self,
        backup: &Self,
        epoch: Epoch,
        at: Timestamp,
        reason: &str,
    ) -> Result<At, Error> {
        let backup = backup.read(State::clone);
        self.write(|state| {
            let epoch = epoch.max(state.epoch_after(&backup));
            state.restore(backup, epoch, at, reason)
        })
    }

    /// Looks at the state.
    pub(super) fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Changes the state, and wakes those who wait for what changed.
    pub(super) fn write<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let signals = [Signal::Head, Signal::Parking, Signal::Timers];
        let mut state = self.lock();
        let before = signals.map(|signal| state.signal(signal));
        let result = change(&mut state);
        let after = signals.map(|signal| state.signal(signal));
        drop(state);
        for ((signal, before), after) in signals.into_iter().zip(before).zip(after) {
            if before != after {
                self.notify(signal).notify_waiters();
            }
        }
        result
    }

    /// Waits until the value of `signal` is greater than `seen`.
    pub(super) async fn wait(&self, signal: Signal, seen: u64) -> u64 {
        loop {
            let mut woken = std::pin::pin!(self.notify(signal).notified());
            // Register before looking: a change between the look and the wait would be slept through.
            woken.as_mut().enable();
            let value = self.read(|state| state.signal(signal));
            if value > seen {
                return value;
            }
            woken.await;
        }
    }

    fn notify(&self, signal: Signal) -> &Notify {
        match signal {
            Signal::Head => &self.0.head,
            Signal::Parking => &self.0.parking,
            Signal::Timers => &self.0.timers,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0
            .state
            .lock()
            .expect("no commit panicked while it was applied")
    }
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryDisk")
    }
}
