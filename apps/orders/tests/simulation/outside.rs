//! Books of the firms outside whose every entry is a point where a life may end.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use factum_sim::Points;
use orders::outside::{Ledger, MemoryLedger};

/// What a panic at a book says.
pub(crate) const PANIC: &str = "a book burns";

/// How the firms outside behave.
#[derive(Debug, Default)]
pub(crate) struct Manners {
    /// After how many more entries somebody panics at a book; 0: never.
    pub(crate) panics: AtomicU64,
    /// How many milliseconds each entry takes.
    pub(crate) slow: AtomicU64,
}

/// A book that passes points. One that is forgetful enters every call anew, which no real firm does.
#[derive(Clone, Debug)]
pub(crate) struct PointedLedger {
    pub(crate) book: MemoryLedger,
    pub(crate) name: &'static str,
    pub(crate) points: Points,
    pub(crate) forgetful: bool,
    pub(crate) manners: Arc<Manners>,
}

#[async_trait]
impl Ledger for PointedLedger {
    async fn enter(&self, key: &str, entry: String) -> io::Result<String> {
        self.points
            .pass(&format!("{} before", self.name), key)
            .await;
        let slow = self.manners.slow.load(Ordering::SeqCst);
        if slow > 0 {
            tokio::time::sleep(Duration::from_millis(slow)).await;
        }
        let left = self.manners.panics.load(Ordering::SeqCst);
        self.manners
            .panics
            .store(left.saturating_sub(1), Ordering::SeqCst);
        assert!(left != 1, "{PANIC}: that of the {}", self.name);
        let key = if self.forgetful {
            format!("{key}/{}", self.book.entries().len())
        } else {
            key.to_string()
        };
        let standing = self.book.enter(&key, entry).await;
        self.points
            .pass(&format!("{} after", self.name), &key)
            .await;
        standing
    }

    fn entry(&self, key: &str) -> Option<String> {
        self.book.entry(key).filter(|_| !self.forgetful)
    }

    fn entries(&self) -> Vec<(String, String)> {
        self.book.entries()
    }
}
