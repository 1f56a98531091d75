//! Real servers for tests: where they are, and what is said where there is none.
//!
//! `cargo xtask servers up` starts them, `eval "$(cargo xtask servers env)"` tells tests where. A test without its
//! server passes, and says so where everybody sees it: the test harness swallows what is printed, so the notice is
//! written straight to standard error. `FACTUM_REQUIRE_ENGINES=1` turns each notice into a failure.

use std::{env, io::Write as _, thread};

/// When it is `1`, a test that would be skipped fails.
pub const REQUIRED: &str = "FACTUM_REQUIRE_ENGINES";

/// The address that `variable` tells, or none, with a notice that the running test was skipped.
///
/// ```
/// let Some(address) = factum_testkit::engines::server("FACTUM_TEST_POSTGRES") else {
///     return;
/// };
/// assert!(address.starts_with("postgres://"));
/// ```
///
/// # Panics
///
/// When there is no address, and [`REQUIRED`] says that there has to be one.
pub fn server(variable: &str) -> Option<String> {
    let address = env::var(variable)
        .ok()
        .filter(|address| !address.is_empty());
    if address.is_none() {
        skipped(&format!(
            "`{variable}` tells of no server (`cargo xtask servers up` starts all)"
        ));
    }
    address
}

/// Says that the running test was skipped, and why.
///
/// # Panics
///
/// When [`REQUIRED`] says that none may be.
pub fn skipped(reason: &str) {
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    let required = env::var(REQUIRED).is_ok_and(|required| required == "1");
    assert!(!required, "{test} can't be skipped: {reason}");
    // A notice that can't be written changes nothing about the test.
    drop(writeln!(
        std::io::stderr().lock(),
        "SKIPPED {test}: {reason}"
    ));
}
