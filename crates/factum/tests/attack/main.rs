//! Attacks on the runtime over the embedded adapters, in real time and on a real file: contention, members that come
//! and go, and consumers that can't keep up.

#![expect(clippy::unwrap_used, reason = "a test ends at an error")]

mod contention;
mod data;
mod pressure;
mod rebalance;
