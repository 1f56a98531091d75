//! Kafka under the broker port's suite, and what only it has to keep.

#![expect(
    clippy::unwrap_used,
    reason = "these are tests: what fails here is the adapter"
)]

mod groups;
mod mock;
mod places;
mod process;
mod producing;
#[cfg(feature = "tls")]
mod server;
mod suite;
mod support;
#[cfg(feature = "tls")]
mod tls;
mod topics;
mod zombie;
