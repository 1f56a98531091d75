//! What is measured: subjects that take commands, and backends on which Factum runs.
//!
//! A further world (a database server, another broker) is a further [`Backend`] and, beside it, a further plain [`Subject`]; no
//! measure knows which one it has.

mod batching;
#[cfg(feature = "engines")]
mod kafka;
mod ours;
mod plain;
#[cfg(feature = "engines")]
mod postgres;
mod raw;
#[cfg(feature = "engines")]
mod unnest;

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use factum::{Broker, Store};

pub(crate) use self::ours::{Embedded, Ours, Running};
#[cfg(feature = "engines")]
pub(crate) use self::{
    kafka::{Cluster, OverKafka, topic_of},
    postgres::{OnPostgres, Server},
    unnest::Unnest,
};
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

    /// Removes what it has left behind, once it is closed.
    async fn remove(&self, directory: &Path) -> Result<(), Failure> {
        remove(directory)
    }
}

/// What the names of a directory's things on servers begin with: `bench_<run>_` and, for one within the run's, its number.
#[cfg(feature = "engines")]
fn names(directory: &Path, between: &str) -> String {
    let parts = directory.iter().filter_map(std::ffi::OsStr::to_str);
    let of_run = parts.skip_while(|part| !part.starts_with(crate::cli::HOME));
    of_run.fold(format!("bench{between}"), |names, part| {
        let part = part.strip_prefix(crate::cli::HOME).unwrap_or(part);
        format!("{names}{part}{between}")
    })
}

/// Removes a directory that is no longer needed, so that no figure pays for the space of another.
pub(crate) fn remove(directory: &Path) -> Result<(), Failure> {
    std::fs::remove_dir_all(directory)
        .map_err(|error| Failure::while_(format!("removing `{}`", directory.display()), error))
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

    /// Removes it, once it is closed.
    async fn remove(&self, directory: &Path) -> Result<(), Failure> {
        remove(directory)
    }
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

/// A world: what commands are compared with, what Factum runs on, and what is expected of it there.
pub(crate) struct World {
    /// The subjects in the order of the table, ours last.
    pub(crate) subjects: Vec<Box<dyn Subject>>,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) aims: Aims,
}

/// What is expected of Factum in a world.
pub(crate) struct Aims {
    /// How many clients, and what share of each other subject's rate ours should reach, in percent.
    pub(crate) commands: &'static [(usize, &'static [Option<f64>])],
    /// Events a second of a projection that catches up.
    pub(crate) catch_up: f64,
    /// How many events an aggregate has, how many such aggregates there are, and how many events a second a cold replay
    /// should read.
    pub(crate) replay: &'static [(usize, usize, f64)],
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
        aims: Aims {
            commands: &[
                (1, &[Some(70.0), Some(90.0)]),
                (16, &[None, None]),
                (64, &[Some(55.0), None]),
                (256, &[Some(45.0), None]),
            ],
            catch_up: 150_000.0,
            replay: &[(1_000, 16, 4_000_000.0), (10_000, 4, 4_000_000.0)],
        },
    }
}

#[cfg(all(test, feature = "engines"))]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_a_run_names_what_it_has_on_servers() {
        let home = Path::new("/tmp/data").join(format!("{}x1Y2", crate::cli::HOME));

        assert_eq!(names(&home, "_"), "bench_x1Y2_");
        assert_eq!(names(&home.join("12"), "-"), "bench-x1Y2-12-");
    }
}
