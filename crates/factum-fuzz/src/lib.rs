//! Hostile input: for each way into Factum, what must hold whatever bytes come.
//!
//! A [`Target`] takes bytes, gives them to the real code, and panics when that did what it may never do: panicked
//! itself, hung, answered what it can't mean, or lost a byte that it has to keep. Nothing here makes input up: fuzzers
//! do (`fuzz/`, with libFuzzer), and so do this crate's property tests, from the same corpus, where no fuzzer is at
//! hand.
//!
//! What a target costs in memory is measured by the tests, not here.

mod directory;
mod messages;
mod names;
mod snapshots;
mod web;
mod world;

/// A way into Factum, and what must hold for any bytes that come that way.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What its fuzz target and its corpus are called.
    pub name: &'static str,
    /// Gives `bytes` to the real code, and panics when that breaks a promise.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 7] = [
    Target {
        name: "envelope",
        run: messages::envelope,
    },
    Target {
        name: "cloudevents",
        run: messages::with_headers,
    },
    Target {
        name: "names",
        run: names::names,
    },
    Target {
        name: "snapshot",
        run: snapshots::snapshot,
    },
    Target {
        name: "directory",
        run: directory::directory,
    },
    Target {
        name: "requests",
        run: web::request,
    },
    Target {
        name: "connection",
        run: web::connection,
    },
];

/// The target of this name.
///
/// # Panics
///
/// When there is none: names are written in code.
#[must_use]
pub fn target(name: &str) -> Target {
    let found = TARGETS.into_iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("there is no target `{name}`"))
}
