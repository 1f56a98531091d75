//! `cargo xtask simulate`: tells any number of stories of the order platform, from any seed on.
//!
//! The simulation is a test of the platform (`apps/orders/tests/simulation`), which `cargo test` runs for a million
//! commits; here it gets more seeds, or the one of a run that failed. Nothing of it is compiled into this program.

use std::{
    env, io,
    process::{Command, ExitStatus},
};

/// The test that is run.
const TEST: &str = "every_law_holds_whatever_crashes_and_wherever";

/// Which stories.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many seeds: each is a story with some 690 commits
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,

    /// The first of them
    #[arg(long, default_value_t = 1)]
    from: u64,

    /// How many stories are told at a time; each one is told by one thread [default: as many as there are cores]
    #[arg(long)]
    threads: Option<usize>,

    /// Tells them in a world that is wrong on purpose, to see what a failure looks like
    ///
    /// Its name in `apps/orders/tests/simulation/plant.rs`: `LostRecord`, for one.
    #[arg(long, verbatim_doc_comment)]
    plant: Option<String>,

    /// With optimisations: worth the wait for many seeds
    #[arg(long)]
    release: bool,
}

/// Tells them, with progress on standard error. The first failure ends it, with its story.
pub(crate) fn run(options: &Options) -> io::Result<ExitStatus> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--package", "orders", "--test", "simulation"]);
    if options.release {
        command.arg("--release");
    }
    command
        .args(["--", "--exact", TEST, "--nocapture"])
        // What is to be read is the story.
        .env("RUST_BACKTRACE", "0")
        .env("FACTUM_SIMULATE_SEEDS", options.seeds.to_string())
        .env("FACTUM_SIMULATE_FROM", options.from.to_string());
    if let Some(threads) = options.threads {
        command.env("FACTUM_SIMULATE_THREADS", threads.to_string());
    }
    if let Some(plant) = &options.plant {
        command.env("FACTUM_SIMULATE_PLANT", plant);
    }
    command.status()
}

#[cfg(test)]
mod tests {
    use super::TEST;

    #[test]
    fn the_test_that_is_run_exists() {
        let path = crate::tidy::repository_root().join("apps/orders/tests/simulation/main.rs");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(&format!("fn {TEST}()")));
    }
}
