//! The embedded world: stores, views and topics in one SQLite file.
//!
//! [`Sqlite::open`] opens a data directory, [`Sqlite::store`] a service's store in it. What is committed at the
//! same moment shares one transaction and one sync, whoever commits it: that is where the speed comes from. An
//! acknowledged commit is on the disk; `PRAGMA synchronous` is `FULL`.
//!
//! The file stays a plain SQLite database. `docs/internals/storage.md` draws its tables; the SQL view `events` shows
//! the log to people with a SQL prompt.

mod answers;
mod apply;
mod backup;
mod broken;
mod broker;
mod check;
mod checkpointer;
mod copy;
mod error;
mod file;
mod group;
mod hashing;
mod headers;
mod inbox;
mod log;
mod memo;
mod message_ids;
mod names;
mod newest;
mod number;
mod opening;
mod options;
mod own_sql;
mod parked_read;
mod parking;
mod projections;
mod query;
mod queue;
mod reader;
mod recent;
mod record;
mod relay;
mod schema;
mod set_back;
mod shared;
mod snapshots;
mod sqlite;
mod state;
mod store;
mod streams;
mod tail;
mod timers;
mod verify;
mod view_table;
mod views;
mod wal;
mod witness;
mod writer;

pub use backup::Restore;
pub use broker::{MESSAGE_BYTES_MAX, SqliteBroker, SqliteTopics};
pub use options::{Accept, SqliteOptions};
pub use sqlite::Sqlite;
pub use store::SqliteStore;
pub use verify::{Verified, VerifiedStore, Verifying};
