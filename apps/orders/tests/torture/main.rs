//! The platform as a process that dies: by kills from outside, and by messages that take it down.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test ends at an error")]

mod deadly;
mod http;
mod poison;
mod process;
