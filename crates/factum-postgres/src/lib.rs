//! Stores and views on PostgreSQL: each service's store is a schema, which any number of processes may use at a time.
//!
//! What is committed at the same moment by one process shares one transaction, and so one flush: that is where the speed
//! comes from. Positions are dense and in the order of commits, since they are given in a section that one transaction at a
//! time is in, and that ends with its commit. `docs/internals/postgres.md` draws the tables and the section.

mod answers;
mod apply;
mod call;
mod check;
mod connect;
mod connection;
mod desk;
mod error;
mod image;
mod inbox;
mod lease;
mod listener;
mod load;
mod log;
mod memo;
mod message_ids;
mod number;
mod options;
mod own_sql;
mod parked_read;
mod parking;
mod pool;
mod postgres;
mod projections;
mod query;
mod queue;
mod record;
mod relay;
mod schema;
mod server;
mod shared;
mod snapshots;
mod store;
mod streams;
mod text;
mod timers;
mod tls;
mod view_table;
mod views;
mod writer;
mod writes;

pub use options::PostgresOptions;
pub use postgres::Postgres;
pub use store::PostgresStore;

/// The guide's page, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/postgres.md")]
struct Guide;
