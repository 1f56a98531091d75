//! Kafka under the broker port's suite, and what only it has to keep.

#![expect(
    clippy::unwrap_used,
    reason = "these are tests: what fails here is the adapter"
)]

mod mock;
mod producing;
mod suite;
mod support;
mod topics;
