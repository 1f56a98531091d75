//! What is measured: subjects that take commands, and backends on which Factum runs.
//!
//! A further world (a database server, another broker) is a further [`Backend`] and, beside it, a further plain [`Subject`]; no
//! measure knows which one it has.

mod batching;
mod ours;
mod plain;
mod raw;

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use factum::{Broker, Store};

pub(crate) use self::ours::{Embedded, Ours, Running};
use crate::{failure::Failure, workload::Step};

/// Something that takes commands durably.
#[async_trait]
pub(crate) trait Subject: Send + Sync {
    /// What it is called in the table.
    fn name(&self) -> &'static str;

    /// Begins anew in an empty directory.
    async fn open(&self, directory: &Path) -> Result<Arc<dyn Opened>, Failure>;
}

/// A subject that was opened.
#[async_trait]
pub(crate) trait Opened: Send + Sync {
    /// Carries one command out: what it wrote is on the disk when this returns.
    async fn carry_out(&self, order: &str, step: Step, number: u64) -> Result<(), Failure>;

    /// Ends in good order.
    async fn close(&self);
}

/// What Factum runs on.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    /// Opens what is in `directory`, or makes it.
    async fn open(&self, directory: &Path) -> Result<Base, Failure>;
}

/// A store and a broker, and what ends them.
pub(crate) struct Base {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) closing: Box<dyn Closing>,
}

/// Ends a backend in good order.
#[async_trait]
pub(crate) trait Closing: Send + Sync {
    /// Does it.
    async fn close(&self);
}

/// A world: what commands are compared with, and what Factum runs on.
pub(crate) struct World {
    /// The subjects in the order of the table. The first is the measure of the others.
    pub(crate) subjects: Vec<Box<dyn Subject>>,
    pub(crate) backend: Arc<dyn Backend>,
}

/// The embedded world: a raw file, plain SQLite, and ours.
pub(crate) fn embedded() -> World {
    let backend: Arc<dyn Backend> = Arc::new(Embedded);
    World {
        subjects: vec![
            Box::new(raw::RawFile),
            Box::new(plain::PlainSqlite),
            Box::new(Ours(backend.clone())),
        ],
        backend,
    }
}
