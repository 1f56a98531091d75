//! The order platform, end to end, in this process.
//!
//! On stores and topics in memory and on a clock that moves when all wait, so that a retry after four seconds takes
//! none. What is the business of the data directory is tested on a real one.

#![expect(
    clippy::unwrap_used,
    reason = "what can't go on has failed, and says where"
)]

mod alone;
mod business;
mod data;
mod foreign;
mod harness;
