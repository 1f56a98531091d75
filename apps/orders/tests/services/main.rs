//! The services as processes of their own would be: each with its store and its address, on one broker, and one that
//! speaks for all.
//!
//! Here they share this process, so that no engine is needed; `engines` has real processes on real engines, where the
//! feature of that name is on and there are servers.

#![expect(clippy::unwrap_used, reason = "a test ends at an error")]
#![cfg_attr(
    feature = "engines",
    expect(clippy::print_stderr, reason = "a run of minutes says how far it is")
)]

#[cfg(all(feature = "engines", unix))]
mod engines;
mod faults;
mod fleet;
mod lists;
mod prefix;
mod routes;
mod whole;
