//! The writer's queue: bounded, and in the order of giving even when it is full.
//!
//! A channel does not keep that order: a sender that waited for room is woken and may be overtaken before it runs,
//! and commits that stand on each other must not overtake. Here whoever finds the queue full leaves the order in
//! a line, and the writer itself takes it from there; a caller that goes away before that takes its order along,
//! and what others have to know of it stays behind.
//! So what the queue holds is bounded, and what the line holds lives as long as its callers.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// How many withdrawn orders are remembered until the taker comes by: as many as the writer remembers of commits
/// that failed, and for the same reason.
const WITHDRAWN_MAX: usize = 16_384;

/// What can be given to a queue.
pub(crate) trait Given: Sized {
    /// What the taker still has to hear of an order whose giver went away before it was accepted.
    fn withdrawn(self) -> Option<Self>;
}

/// A bounded queue with many givers and one taker, a thread.
#[derive(Debug)]
pub(crate) struct Queue<T: Given> {
    state: Mutex<State<T>>,
    given: Condvar,
    bound: usize,
}

#[derive(Debug)]
struct State<T> {
    accepted: VecDeque<T>,
    line: VecDeque<Arc<Waiting<T>>>,
    /// What is left of orders that were withdrawn from the line. It is taken before all else, and so before
    /// whatever was given behind them.
    withdrawn: VecDeque<T>,
    /// The taker sleeps, or is about to. Waking it when it doesn't would cost a system call for each order.
    sleeping: bool,
    closed: bool,
}

/// One in the line: what it gives, until it is accepted or withdrawn, and how it is told.
#[derive(Debug)]
struct Waiting<T>(Mutex<Option<(T, oneshot::Sender<()>)>>);

/// A place in the line. Dropping it withdraws what was not accepted yet.
struct Place<'a, T: Given> {
    queue: &'a Queue<T>,
    waiting: Arc<Waiting<T>>,
}

impl<T: Given> Drop for Place<'_, T> {
    fn drop(&mut self) {
        // Under the queue's lock: nobody behind it may be taken between the withdrawal and the note of it.
        let mut state = lock(&self.queue.state);
        let order = lock(&self.waiting.0).take();
        if let Some(left) = order.and_then(|(order, _)| order.withdrawn())
            && !state.closed
        {
            if state.withdrawn.len() == WITHDRAWN_MAX {
                state.withdrawn.pop_front();
            }
            state.withdrawn.push_back(left);
        }
    }
}

/// The queue is closed, or its taker is gone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

impl<T: Given> Queue<T> {
    /// A queue that accepts `bound` at a time.
    pub(crate) fn bounded(bound: usize) -> Self {
        let state = State {
            accepted: VecDeque::new(),
            line: VecDeque::new(),
            withdrawn: VecDeque::new(),
            sleeping: false,
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            given: Condvar::new(),
            bound,
        }
    }

    /// Gives `order`, and waits until it is accepted. Its place is that of the first poll.
    ///
    /// Cancel-safe: dropped before it returns, nothing was given, unless it was accepted at that very moment.
    pub(crate) async fn give(&self, order: T) -> Result<(), Closed> {
        let place = {
            let mut state = lock(&self.state);
            if state.closed {
                return Err(Closed);
            }
            if state.line.is_empty() && state.accepted.len() < self.bound {
                state.accepted.push_back(order);
                let wake = std::mem::take(&mut state.sleeping);
                drop(state);
                if wake {
                    self.given.notify_one();
                }
                return Ok(());
            }
            let (tell, accepted) = oneshot::channel();
            let waiting = Arc::new(Waiting(Mutex::new(Some((order, tell)))));
            state.line.push_back(waiting.clone());
            let place = Place {
                queue: self,
                waiting,
            };
            (place, accepted)
        };
        let (_place, accepted) = place;
        accepted.await.map_err(|_| Closed)
    }

    /// Takes all orders that were accepted, waiting for the first, into `taken`, which is empty. `false` when the
    /// queue is closed and empty.
    pub(crate) fn take(&self, taken: &mut VecDeque<T>) -> bool {
        let mut state = lock(&self.state);
        loop {
            if state.pass_on(self.bound, taken) {
                return true;
            }
            if state.closed {
                return false;
            }
            state.sleeping = true;
            state = self
                .given
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes what is there, if anything is, into `taken`, which is empty.
    pub(crate) fn try_take(&self, taken: &mut VecDeque<T>) {
        lock(&self.state).pass_on(self.bound, taken);
    }

    /// How many orders are accepted and not yet taken: never more than the bound.
    pub(crate) fn len(&self) -> usize {
        lock(&self.state).accepted.len()
    }

    /// Accepts nothing more. What was given is still there to be taken.
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.given.notify_all();
    }

    /// Closes the queue and drops what is in it: the taker is gone.
    pub(crate) fn abandon(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        let (accepted, line) = (
            std::mem::take(&mut state.accepted),
            std::mem::take(&mut state.line),
        );
        state.withdrawn.clear();
        drop(state);
        drop(accepted);
        for waiting in line {
            drop(lock(&waiting.0).take());
        }
    }
}

impl<T> State<T> {
    /// Gives all accepted orders away at once, behind what is left of withdrawn ones, and accepts as many of the line
    /// in their place. Whether there was anything.
    fn pass_on(&mut self, bound: usize, taken: &mut VecDeque<T>) -> bool {
        if self.accepted.is_empty()
            && let Some(first) = self.admit()
        {
            self.accepted.push_back(first);
        }
        std::mem::swap(&mut self.accepted, taken);
        while let Some(left) = self.withdrawn.pop_back() {
            taken.push_front(left);
        }
        while self.accepted.len() < bound
            && let Some(next) = self.admit()
        {
            self.accepted.push_back(next);
        }
        !taken.is_empty()
    }

    /// The first of the line that was not withdrawn.
    fn admit(&mut self) -> Option<T> {
        while let Some(waiting) = self.line.pop_front() {
            if let Some((order, tell)) = lock(&waiting.0).take() {
                // Whoever waits for this may be going away at this moment: accepted is accepted.
                tell.send(()).unwrap_or_default();
                return Some(order);
            }
        }
        None
    }
}

/// Nothing here can be left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    /// Even numbers leave their negative behind when they are withdrawn.
    impl Given for i32 {
        fn withdrawn(self) -> Option<Self> {
            (self % 2 == 0).then_some(-self)
        }
    }

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn taken(queue: &Queue<i32>) -> Vec<i32> {
        let mut taken = VecDeque::new();
        queue.try_take(&mut taken);
        taken.into()
    }

    #[test]
    fn the_order_is_that_of_giving_when_the_queue_is_full_too() {
        let queue = Queue::bounded(2);
        let mut gifts: Vec<_> = (0..7).map(|number| Box::pin(queue.give(number))).collect();
        let accepted: Vec<_> = gifts
            .iter_mut()
            .map(|gift| poll(gift.as_mut()).is_ready())
            .collect();
        assert_eq!(accepted, [true, true, false, false, false, false, false]);
        assert_eq!(taken(&queue), [0, 1]);
        // There was room for a moment, but not for one that comes later.
        let mut late = pin!(queue.give(7));
        assert!(poll(late.as_mut()).is_pending());
        drop(gifts.remove(4));
        assert_eq!(poll(gifts[2].as_mut()), Poll::Ready(Ok(())));
        let groups = std::iter::from_fn(|| Some(taken(&queue)).filter(|group| !group.is_empty()));
        assert_eq!(
            groups.collect::<Vec<_>>(),
            [vec![-4, 2, 3], vec![5, 6], vec![7]],
            "4 has gone away with its caller, and those behind it hear of that"
        );
    }

    #[test]
    fn a_closed_queue_gives_what_it_has_and_takes_nothing() {
        let queue = Queue::bounded(1);
        let (mut first, mut second) = (pin!(queue.give(1)), pin!(queue.give(2)));
        assert!(poll(first.as_mut()).is_ready());
        assert!(poll(second.as_mut()).is_pending());
        queue.close();
        assert_eq!(poll(pin!(queue.give(3))), Poll::Ready(Err(Closed)));
        let mut orders = VecDeque::new();
        for expected in [1, 2] {
            assert!(queue.take(&mut orders));
            assert_eq!(orders.drain(..).collect::<Vec<_>>(), [expected]);
        }
        assert!(!queue.take(&mut orders));
    }

    #[test]
    fn nobody_waits_for_a_taker_that_is_gone() {
        let queue = Queue::bounded(1);
        let (mut first, mut second) = (pin!(queue.give(1)), pin!(queue.give(2)));
        assert!(poll(first.as_mut()).is_ready());
        assert!(poll(second.as_mut()).is_pending());
        queue.abandon();
        assert_eq!(poll(second.as_mut()), Poll::Ready(Err(Closed)));
        assert!(!queue.take(&mut VecDeque::new()));
    }
}
