//! The platform's HTTP API, on a real data directory and through real HTTP.

#![expect(clippy::unwrap_used, reason = "a test ends at an error")]

mod commands;
mod description;
mod failures;
mod poison;
mod queries;
mod shop;
mod sites;
