//! The admin API over a memory-backed app, through real HTTP on a port of its own.

#![expect(clippy::unwrap_used, reason = "a test ends at an error")]

mod description;
mod guarding;
mod mending;
mod reading;
mod surface;
mod world;
