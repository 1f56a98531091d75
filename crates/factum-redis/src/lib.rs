//! Views on Redis 7, without modules: documents with declared indexes, for stores of any kind.
//!
//! ```
//! # async fn connect(stores: std::sync::Arc<dyn factum_core::Stores>) -> Result<(), factum_core::Error> {
//! use std::sync::Arc;
//! use factum_core::WithViews;
//! use factum_redis::{RedisOptions, RedisViews};
//! let views = RedisViews::connect(RedisOptions::parse("redis://localhost:6379/0")?).await?;
//! // Stores as they were, but for their views.
//! let stores = WithViews::new(stores, Arc::new(views));
//! # let _ = stores;
//! # Ok(())
//! # }
//! ```
//!
//! Rows, their indexes and the checkpoint of a batch are written by one script, so that a server which lost its last
//! second stands at an earlier batch, whole, and the projection goes on from there. A server that dropped keys to make
//! room, or all of them, is found out by the next that reads or writes, and the view is built anew.
//! `docs/internals/redis.md` draws the keys.

mod apply;
mod engine;
mod error;
mod known;
mod link;
mod options;
mod plan;
mod query;
mod scripts;
mod server;
mod state;
mod sweep;
mod table;
mod tls;
mod value;
mod views;

pub use engine::RedisViews;
pub use options::{RedisOptions, RedisTls};
