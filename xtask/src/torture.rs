//! `cargo xtask torture`: kills the order platform for any number of rounds.
//!
//! The torture is a test of the platform (`apps/orders/tests/torture`), which `cargo test` runs for a few rounds; here
//! it gets more of them, or the seed of a run that failed. Nothing of it is compiled into this program.

use std::{
    env, io,
    process::{Command, ExitStatus},
};

/// The test that is run.
const TEST: &str = "kills::nothing_acknowledged_is_lost_or_doubled_by_kills_at_any_moment";

/// How to torture.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many rounds: each is load, a kill, a start, and a look at everything
    #[arg(long, default_value_t = 100)]
    rounds: u32,

    /// The seed of a run; drawn and shown when it is not given
    ///
    /// Clients and kills follow from it; how threads take turns does not.
    #[arg(long, verbatim_doc_comment)]
    seed: Option<u64>,

    /// With optimisations: more happens between two kills
    #[arg(long)]
    release: bool,
}

/// Runs it, with a line for each round on standard error.
pub(crate) fn run(options: &Options) -> io::Result<ExitStatus> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--package", "orders", "--test", "torture"]);
    if options.release {
        command.arg("--release");
    }
    command
        .args(["--", "--exact", TEST, "--nocapture"])
        .env("FACTUM_TORTURE_ROUNDS", options.rounds.to_string());
    if let Some(seed) = options.seed {
        command.env("FACTUM_TORTURE_SEED", seed.to_string());
    }
    command.status()
}

#[cfg(test)]
mod tests {
    use super::TEST;

    #[test]
    fn the_test_that_is_run_exists() {
        let path = crate::tidy::repository_root().join("apps/orders/tests/torture/kills.rs");
        let text = std::fs::read_to_string(path).unwrap();
        let name = TEST.strip_prefix("kills::").unwrap();
        assert!(text.contains(&format!("fn {name}()")));
    }
}
