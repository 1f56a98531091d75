//! The services as processes of their own would be: each with its store and its address, on one broker, and one that
//! speaks for all.
//!
//! Here they share this process, so that no engine is needed.

#![expect(clippy::unwrap_used, reason = "a test ends at an error")]

mod faults;
mod fleet;
mod lists;
mod prefix;
mod routes;
mod whole;
