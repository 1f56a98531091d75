//! What has to wait costs memory: how much at most, stated in bytes and measured.
//!
//! A test binary of its own: its allocator counts for the whole process, so that its tests take turns.

#![expect(clippy::unwrap_used, reason = "a test ends at an error")]

use std::sync::{Mutex, PoisonError};

use peak_alloc::PeakAlloc;

mod commands;
#[path = "../attack/data.rs"]
mod data;
mod pages;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const KIBIBYTE: usize = 1024;
const MEBIBYTE: usize = 1024 * KIBIBYTE;

/// Runs a test on an executor of its own, while no other of this binary runs. SQLite's memory is not Rust's, and not
/// counted: `docs/internals/storage.md` states it.
fn alone<T>(test: impl Future<Output = T>) -> T {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed has nothing to leave behind.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build();
    runtime.unwrap().block_on(test)
}

/// What is on the heap beyond what was there at the beginning.
struct Heap(usize);

impl Heap {
    fn now() -> Self {
        Self(ALLOCATOR.current_usage())
    }

    fn grown(&self) -> usize {
        ALLOCATOR.current_usage().saturating_sub(self.0)
    }
}
