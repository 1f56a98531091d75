//! The platform as a process that dies: by kills from outside, and by messages that take it down.
//!
//! `kills` is the torture; `cargo xtask torture` runs it for any number of rounds. What clients know is in `ledger`,
//! what the platform shows in `seen`, and `check` compares them; `planted` shows that it would notice. `migration` kills
//! the first start of a newer program. `poison` has messages that kill, and `disk` is full for a while.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test ends at an error")]
#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "seeds and rounds are for who runs the tests, and one of them is run as a program"
)]
#![expect(
    clippy::result_large_err,
    reason = "what a life has said is moved once, at its end"
)]

mod check;
mod deadly;
#[cfg(target_os = "linux")]
mod disk;
mod http;
mod kills;
mod ledger;
mod load;
mod migration;
mod planted;
mod poison;
mod process;
mod rounds;
mod seen;
