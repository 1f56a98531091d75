//! The writer's queue: in the order of giving, however many wait.
//!
//! A channel does not keep that order when it is full, because a sender that waited for room is woken and may be overtaken
//! before it runs, and commits that stand on each other must not overtake. Here each caller leaves its commit in a line
//! and keeps a hold of it: one that goes away takes its commit along, and what others have to know of it stays behind.
//! So the line is no longer than there are callers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use factum_core::{Commit, CommitError, CommitId, Committed};
use tokio::sync::{Notify, oneshot};

/// How many withdrawn commits are remembered until the writer comes by: as many as it remembers of commits that failed, and
/// for the same reason.
const WITHDRAWN_MAX: usize = 16_384;

/// A commit, and who waits for it.
pub(crate) struct Order {
    pub(crate) commit: Commit,
    pub(crate) reply: oneshot::Sender<Result<Committed, CommitError>>,
}

/// Many givers and one taker.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    given: Notify,
}

#[derive(Default)]
struct State {
    line: VecDeque<Arc<Place>>,
    withdrawn: VecDeque<CommitId>,
    closed: bool,
}

type Place = Mutex<Option<Order>>;

/// The queue is closed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// A place in the line. Dropping it withdraws what was not taken yet.
struct Hold<'a> {
    queue: &'a Queue,
    place: Arc<Place>,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        // Under the queue's lock: nobody behind it may be taken between the withdrawal and the note of it.
        let mut state = lock(&self.queue.state);
        if let Some(order) = lock(&self.place).take() {
            if state.withdrawn.len() == WITHDRAWN_MAX {
                state.withdrawn.pop_front();
            }
            state.withdrawn.push_back(order.commit.id);
        }
    }
}

impl Queue {
    /// Gives `commit`, and waits for what becomes of it. Its place is that of the first poll.
    ///
    /// Cancel-safe: dropped before it was taken, nothing was given. Later it is applied or not, and nobody hears of it.
    pub(crate) async fn give(
        &self,
        commit: Commit,
    ) -> Result<Result<Committed, CommitError>, Closed> {
        let (reply, answer) = oneshot::channel();
        let place = Arc::new(Mutex::new(Some(Order { commit, reply })));
        {
            let mut state = lock(&self.state);
            if state.closed {
                return Err(Closed);
            }
            state.line.push_back(place.clone());
        }
        self.given.notify_one();
        let hold = Hold { queue: self, place };
        let answer = answer.await.map_err(|_| Closed);
        drop(hold);
        answer
    }

    /// Waits until something was given. `false`: the queue is closed and empty.
    pub(crate) async fn wait(&self) -> bool {
        loop {
            {
                let state = lock(&self.state);
                if !state.line.is_empty() {
                    return true;
                }
                if state.closed {
                    return false;
                }
            }
            self.given.notified().await;
        }
    }

    /// Takes up to `count` of what was given, and what was withdrawn before.
    pub(crate) fn take(
        &self,
        count: usize,
        orders: &mut VecDeque<Order>,
        withdrawn: &mut Vec<CommitId>,
    ) {
        let mut state = lock(&self.state);
        withdrawn.extend(state.withdrawn.drain(..));
        while orders.len() < count
            && let Some(place) = state.line.pop_front()
        {
            orders.extend(lock(&place).take());
        }
    }

    /// Takes nothing more. What was given is still there to be taken.
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.given.notify_one();
    }
}

/// Nothing here can be left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
