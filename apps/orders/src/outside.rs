//! The outside world, pretended: a card gateway and a notifier, as firms with books of their own.
//!
//! Both keep a durable [`Ledger`] outside the services' stores and deduplicate by idempotency key, as real ones do. So
//! the platform's invariants can be checked against what really happened out there. Both follow from what they were
//! told and from their books alone: no clock, no chance.

mod faults;
pub use faults::Faults;
mod file;
pub use file::FileLedger;
mod gateway;
pub use gateway::{Charge, ChargeEntry, Charged, Gateway, GatewayError, Refund, RefundEntry};
mod ledger;
pub use ledger::{Ledger, MemoryLedger};
mod notifier;
pub use notifier::{Notice, Notifier, NotifierDown};

use std::{io, path::Path, sync::Arc};

/// The outside world. Clones are the same world.
#[derive(Clone, Debug)]
pub struct Outside {
    /// The card gateway.
    pub gateway: Gateway,
    /// The notifier.
    pub notifier: Notifier,
    /// What is out of order.
    pub faults: Arc<Faults>,
}

impl Outside {
    /// The world whose books are in `directory`.
    ///
    /// # Errors
    ///
    /// When a book can't be opened or read.
    pub fn open(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let book = |name: &str| FileLedger::open(&directory.join(name));
        Ok(Self::over(
            Arc::new(book("gateway.jsonl")?),
            Arc::new(book("notifier.jsonl")?),
        ))
    }

    /// The world with these books.
    pub fn over(gateway: Arc<dyn Ledger>, notifier: Arc<dyn Ledger>) -> Self {
        let faults = Arc::new(Faults::default());
        Self {
            gateway: Gateway::over(gateway, faults.clone()),
            notifier: Notifier::over(notifier, faults.clone()),
            faults,
        }
    }

    /// A new world whose books are in memory: it outlives the platforms that it is given to, and not the process.
    pub fn in_memory() -> Self {
        Self::over(
            Arc::new(MemoryLedger::default()),
            Arc::new(MemoryLedger::default()),
        )
    }
}
