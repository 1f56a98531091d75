//! A ledger: a book in which one entry stands under each key, for ever.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;

/// A book in which one entry stands under each key. What was entered first stays.
#[async_trait]
pub trait Ledger: fmt::Debug + Send + Sync + 'static {
    /// Enters `entry` under `key`, unless one stands there, and says which entry stands there now. When it answers,
    /// that one is durable. An entry is one line of text.
    ///
    /// # Errors
    ///
    /// When the book can't be written. The entry may stand in it all the same: enter it again.
    async fn enter(&self, key: &str, entry: String) -> io::Result<String>;

    /// The entry under `key`.
    fn entry(&self, key: &str) -> Option<String>;

    /// All entries with their keys, in the order of the keys.
    fn entries(&self) -> Vec<(String, String)>;
}

/// A ledger in memory. Clones are the same book.
#[derive(Clone, Debug, Default)]
pub struct MemoryLedger(Arc<Mutex<BTreeMap<String, String>>>);

impl MemoryLedger {
    /// `read` of the book. Nobody panics while they hold it, so it is whole.
    fn book<T>(&self, read: impl FnOnce(&mut BTreeMap<String, String>) -> T) -> T {
        read(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Enters `entry` under `key`, unless one stands there, and says which stands there.
    pub(super) fn enter_now(&self, key: &str, entry: String) -> String {
        self.book(|book| {
            if let Some(standing) = book.get(key) {
                return standing.clone();
            }
            book.insert(key.into(), entry.clone());
            entry
        })
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn enter(&self, key: &str, entry: String) -> io::Result<String> {
        Ok(self.enter_now(key, entry))
    }

    fn entry(&self, key: &str) -> Option<String> {
        self.book(|book| book.get(key).cloned())
    }

    fn entries(&self) -> Vec<(String, String)> {
        self.book(|book| {
            book.iter()
                .map(|(key, entry)| (key.clone(), entry.clone()))
                .collect()
        })
    }
}
