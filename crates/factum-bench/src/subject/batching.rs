//! The group commit that the plain subjects share: one thread takes what has gathered and makes it durable at once.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use tokio::sync::oneshot;

use crate::failure::Failure;

/// One thing to write, and who waits for it.
pub(super) struct Writing<T> {
    pub(super) what: T,
    done: oneshot::Sender<Result<(), String>>,
}

/// A thread that writes in groups. As large as its clients are many, since each waits for its answer.
pub(super) struct Batching<T> {
    shared: Arc<Shared<T>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared<T> {
    gathered: Mutex<Gathered<T>>,
    given: Condvar,
}

struct Gathered<T> {
    waiting: Vec<Writing<T>>,
    closed: bool,
}

impl<T: Send + 'static> Batching<T> {
    /// Starts the thread; `write` makes a group durable.
    pub(super) fn start(
        mut write: impl FnMut(&[Writing<T>]) -> Result<(), String> + Send + 'static,
    ) -> Result<Self, Failure> {
        let shared = Arc::new(Shared {
            gathered: Mutex::new(Gathered {
                waiting: Vec::new(),
                closed: false,
            }),
            given: Condvar::new(),
        });
        let taken = shared.clone();
        let run = move || {
            let mut group = Vec::new();
            while taken.take(&mut group) {
                let result = write(&group);
                for writing in group.drain(..) {
                    // Whoever waited may have gone.
                    drop(writing.done.send(result.clone()));
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("plain-write".into())
            .spawn(run)
            .map_err(|error| Failure::while_("starting a thread", error))?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Writes `what`, and returns when it is on the disk.
    pub(super) async fn write(&self, what: T) -> Result<(), Failure> {
        let (done, answer) = oneshot::channel();
        let is_first = {
            let mut gathered = lock(&self.shared.gathered);
            gathered.waiting.push(Writing { what, done });
            gathered.waiting.len() == 1
        };
        if is_first {
            self.shared.given.notify_one();
        }
        match answer.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::new(error)),
            Err(_) => Err(Failure::new("the writing thread has ended")),
        }
    }

    /// Ends the thread.
    pub(super) fn close(&self) {
        lock(&self.shared.gathered).closed = true;
        self.shared.given.notify_one();
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            // It has panicked, which was printed.
        }
    }
}

impl<T> Shared<T> {
    /// Takes all that has gathered, waiting for the first. `false` when nothing more comes.
    fn take(&self, group: &mut Vec<Writing<T>>) -> bool {
        let mut gathered = lock(&self.gathered);
        while gathered.waiting.is_empty() {
            if gathered.closed {
                return false;
            }
            gathered = self
                .given
                .wait(gathered)
                .unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut gathered.waiting, group);
        true
    }
}

/// Nothing here can be left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
