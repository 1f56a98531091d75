//! A gate: whoever comes to it waits until it is open.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

/// A gate, which is open or closed. Clones are handles of one gate.
#[derive(Clone)]
pub struct Gate(Arc<Shared>);

struct Shared {
    open: AtomicBool,
    opened: Notify,
}

impl Gate {
    /// A gate that is closed.
    pub fn closed() -> Self {
        Self(Arc::new(Shared {
            open: AtomicBool::new(false),
            opened: Notify::new(),
        }))
    }

    /// Opens it: all who wait go on, in the order in which they came.
    pub fn open(&self) {
        self.0.open.store(true, Ordering::SeqCst);
        self.0.opened.notify_waiters();
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.0.open.load(Ordering::SeqCst)
    }

    /// Waits until it is open.
    pub async fn passed(&self) {
        loop {
            // Register before looking: an opening between the look and the wait would be slept through.
            let mut opened = pin!(self.0.opened.notified());
            opened.as_mut().enable();
            if self.is_open() {
                return;
            }
            opened.await;
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_open() {
            "Gate(open)"
        } else {
            "Gate(closed)"
        })
    }
}
