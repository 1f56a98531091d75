//! Factum: event-driven applications that are correct by construction.
//!
//! A handler's whole effect is one atomic commit. Command handlers, reactors and projections are functions from
//! values to values; the runtime commits what they say, all of it at once, together with the proof that the input
//! was handled. So nothing is stored but not published, nothing is done twice, nothing is skipped.

pub use factum_core::*;
#[doc(inline)]
pub use factum_macros::Event;
#[cfg(feature = "sqlite")]
#[doc(inline)]
pub use factum_sqlite::{
    Accept, Restore, Sqlite, SqliteBroker, SqliteOptions, SqliteStore, Verified, VerifiedStore,
    Verifying,
};

mod env;
pub use env::system_env;
mod service;
mod stretch;
mod topics;
pub use service::{GroupSpec, Service};
mod app;
pub use app::{App, Running, RunningService};
mod bus;
pub use bus::{CommandError, CommandOptions, Commands, Executed, Idempotency};
mod consumer;
pub use consumer::{HELD_BYTES_MAX, Incident};
mod dead_letter;
mod gauges;
mod lag;
pub use lag::Lag;
mod post;
mod projector;
mod queries;
mod relay;
mod work;
pub use queries::{Found, Fresh, Queries, QueryError, Stale};
mod maintenance;
pub mod telemetry;
mod timers;
pub use timers::TimerHandler;
mod health;
pub use health::{Health, Status};
pub mod metrics;
mod operate;
pub use operate::{
    Accepted, By, DeadLetters, Operations, OperatorError, ProjectionStatus, Rebuilding, Redriven,
};
mod history;

/// The guide and the README, compiled and run.
#[cfg(doctest)]
mod guide {
    macro_rules! page {
        ($name:ident, $path:literal) => {
            #[doc = include_str!($path)]
            struct $name;
        };
    }
    page!(Readme, "../../../README.md");
    page!(ReadmeInKorean, "../../../README.ko.md");
    page!(Guide, "../../../docs/guide/README.md");
    page!(Aggregates, "../../../docs/guide/aggregates.md");
    page!(Reactors, "../../../docs/guide/reactors.md");
    page!(Projections, "../../../docs/guide/projections.md");
    page!(Running, "../../../docs/guide/running.md");
    page!(Services, "../../../docs/guide/services.md");
    page!(Failures, "../../../docs/guide/failures.md");
    page!(Evolution, "../../../docs/guide/evolution.md");
    page!(Testing, "../../../docs/guide/testing.md");
    page!(Operating, "../../../docs/guide/operating.md");
    page!(Wire, "../../../docs/guide/wire.md");
}
