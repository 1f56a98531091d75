//! The services as real processes on real engines: what they do together, and what becomes of it when some of them die.
//!
//! Each test is a platform of its own on the servers that all tests share: its names have a prefix.

mod customers;
mod deaths;
mod killer;
mod logs;
mod outage;
mod process;
mod proxy;
mod python;
mod stalls;
mod torture;
mod tour;
