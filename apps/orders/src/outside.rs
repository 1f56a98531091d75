//! The outside world, pretended: a card gateway and a notifier, as firms with books of their own.
//!
//! Both keep a durable [`Ledger`] outside the services' stores and deduplicate by idempotency key, as real ones do. So
//! the platform's invariants can be checked against what really happened out there. Both follow from what they were
//! told and from their books alone: no clock, no chance.
//!
//! Where the services are several processes, the firms are one of their own ([`router`]), and the services speak to it
//! over HTTP ([`Outside::at`]).

mod books;
pub use books::Books;
mod distant;
mod faults;
pub use faults::{Faults, Switches};
mod file;
pub use file::FileLedger;
mod gateway;
pub use gateway::{Charge, ChargeEntry, Charged, Gateway, GatewayError, Refund, RefundEntry};
mod ledger;
pub use ledger::{Ledger, MemoryLedger};
mod notifier;
pub use notifier::{Notice, Notifier, NotifierDown};
mod server;
pub use server::router;

use std::{io, path::Path, sync::Arc};

use factum::Error;
use reqwest::Url;

use distant::{Distant, Unanswered};
use server::Nothing;

/// The outside world. Clones are the same world.
#[derive(Clone, Debug)]
pub struct Outside {
    /// The card gateway.
    pub gateway: Gateway,
    /// The notifier.
    pub notifier: Notifier,
    /// What is out of order here. Of firms in another process, [`Outside::switch`] tells more.
    pub faults: Arc<Faults>,
    /// Where the firms are, if they are in another process.
    distant: Option<Distant>,
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
            distant: None,
        }
    }

    /// The world whose firms are at `url`, as `orders outside` serves them, with the secret of a token if they want one.
    ///
    /// # Errors
    ///
    /// When HTTP can't be spoken at all. Nobody is asked yet.
    pub fn at(url: Url, secret: Option<String>) -> Result<Self, Error> {
        let distant = Distant::at(url, secret)
            .map_err(|error| Error::fatal("can't speak HTTP").caused_by(error))?;
        Ok(Self {
            gateway: Gateway::at(distant.clone()),
            notifier: Notifier::at(distant.clone()),
            faults: Arc::default(),
            distant: Some(distant),
        })
    }

    /// Sets the firms' switches, and tells how all of them are.
    ///
    /// # Errors
    ///
    /// Class transient when the firms don't answer.
    pub async fn switch(&self, to: Switches) -> Result<Switches, Error> {
        match &self.distant {
            None => Ok(self.faults.switch(to)),
            Some(distant) => asked(distant.ask("/faults", &to).await),
        }
    }

    /// What stands in the books.
    ///
    /// # Errors
    ///
    /// Class transient when the firms don't answer, fatal when a book can't be read.
    pub async fn books(&self) -> Result<Books, Error> {
        let unreadable = |error: &dyn std::fmt::Display| Error::fatal(error.to_string());
        match &self.distant {
            Some(distant) => asked(distant.ask("/books", &Nothing {}).await),
            None => Ok(Books {
                charges: self.gateway.charges().map_err(|error| unreadable(&error))?,
                refunds: self.gateway.refunds().map_err(|error| unreadable(&error))?,
                told: self.notifier.told().map_err(|error| unreadable(&error))?,
            }),
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

/// What the firms answered, or that they did not.
fn asked<A>(answer: Result<A, Unanswered<serde_json::Value>>) -> Result<A, Error> {
    answer.map_err(|unanswered| {
        let why = match unanswered {
            Unanswered::Refused(problem) => problem.to_string(),
            Unanswered::Unknown(why) => why,
        };
        Error::transient(format!("the firms outside don't answer: {why}"))
    })
}
