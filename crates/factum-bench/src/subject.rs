//! What is measured: subjects that take commands, and backends on which Factum runs.
//!
//! A further world (a database server, another broker) is a further [`Backend`] and, beside it, a further plain [`Subject`]; no
//! measure knows which one it has.

mod batching;
mod ours;
mod plain;
mod raw;

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use factum::{Broker, Store};

pub(crate) use self::ours::{Embedded, Ours, Running};
use crate::{
    failure::Failure,
    load::{self, Loaded},
    workload::Step,
};

/// Something that takes commands durably.
#[async_trait]
pub(crate) trait Subject: Send + Sync {
    /// What it is called in the table.
    fn name(&self) -> &'static str;

    /// Begins anew in an empty directory.
    async fn open(&self, directory: &Path) -> Result<Box<dyn Opened>, Failure>;
}

/// A subject that was opened: it takes loads as a whole, so that no command pays for being one of several kinds.
#[async_trait]
pub(crate) trait Opened: Send + Sync {
    /// Lets `clients` clients run for `window` behind a warm-up.
    async fn for_a_while(&self, clients: usize, window: Duration) -> Result<Loaded, Failure>;

    /// Takes `orders` orders through all their steps with `clients` clients, and says how many commands a second
    /// that were.
    async fn take_orders(&self, clients: usize, orders: usize) -> Result<f64, Failure>;

    /// Ends in good order.
    async fn close(&self);
}

/// What carries commands out.
pub(crate) trait CarriesOut: Send + Sync + 'static {
    /// Carries one out: what it wrote is on the disk when this returns.
    fn carry_out(
        &self,
        order: &str,
        step: Step,
        number: u64,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Ends in good order.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

#[async_trait]
impl<T: CarriesOut> Opened for Arc<T> {
    async fn for_a_while(&self, clients: usize, window: Duration) -> Result<Loaded, Failure> {
        load::for_a_while(self, clients, window).await
    }

    async fn take_orders(&self, clients: usize, orders: usize) -> Result<f64, Failure> {
        load::orders(self, clients, orders).await
    }

    async fn close(&self) {
        CarriesOut::close(&**self).await;
    }
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
