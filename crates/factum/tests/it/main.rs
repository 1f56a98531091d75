//! The runtime on the memory adapters, seen from outside.

#![expect(clippy::unwrap_used, reason = "a test ends at an error")]

mod anchoring;
mod anew;
mod bank;
mod clock;
mod commands;
mod consuming;
mod contending;
mod fenced;
mod guessing;
mod losses;
mod maintenance;
mod metrics;
mod operate;
mod outside;
mod panics;
mod passed;
mod posts;
mod projector;
mod projector_crash;
mod projector_rows;
mod projector_wide;
mod publishing;
mod queries;
mod rejections;
mod starting;
mod suspects;
mod timers;
mod world;
