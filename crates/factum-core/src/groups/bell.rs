//! A bell: how something that happened wakes the one task that waits for it, without a runtime.

use std::{
    future::poll_fn,
    sync::Mutex,
    task::{Poll, Waker},
};

use super::lock;

/// Wakes one waiting task. A ring is kept until it is heard, so none is lost.
///
/// Whoever waits calls [`clear`](Self::clear), then looks whether there is something to do, then
/// [`wait`](Self::wait)s: what happens after the look has rung the bell by then.
#[derive(Debug, Default)]
pub struct Bell(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    rung: bool,
    waiting: Option<Waker>,
}

impl Bell {
    /// A bell that has not rung.
    pub fn new() -> Self {
        Self::default()
    }

    /// Rings: wakes the task that waits, or lets the next wait end at once.
    pub fn ring(&self) {
        let waiting = {
            let mut state = lock(&self.0);
            state.rung = true;
            state.waiting.take()
        };
        // Outside of the lock: a waker may run code that rings or waits.
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    /// Forgets earlier rings. To be called before looking, never between the look and the wait.
    pub fn clear(&self) {
        lock(&self.0).rung = false;
    }

    /// Waits until it rings, or returns at once if it has rung since it was cleared. Cancel-safe.
    pub async fn wait(&self) {
        poll_fn(|context| {
            let mut state = lock(&self.0);
            if state.rung {
                return Poll::Ready(());
            }
            // One task waits at a time, so the newest waker is the only one that counts.
            match &mut state.waiting {
                Some(waker) => waker.clone_from(context.waker()),
                waiting => *waiting = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        task::{Context, Wake},
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_ring_between_the_look_and_the_wait_is_heard() {
        let bell = Bell::new();
        let mut context = Context::from_waker(Waker::noop());
        bell.clear();
        bell.ring();
        assert!(pin!(bell.wait()).poll(&mut context).is_ready());
        bell.clear();
        assert!(pin!(bell.wait()).poll(&mut context).is_pending());
    }

    #[test]
    fn a_ring_wakes_the_task_that_waits() {
        let bell = Bell::new();
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut context = Context::from_waker(&waker);
        let mut waiting = pin!(bell.wait());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        bell.ring();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(waiting.as_mut().poll(&mut context).is_ready());
    }
}
