//! `cargo xtask torture`: kills the order platform for any number of rounds.
//!
//! The torture is a test of the platform (`apps/orders/tests/torture`), which `cargo test` runs for a few rounds; here
//! it gets more of them, or the seed of a run that failed. With `--engines` it is that of services on real servers
//! (`apps/orders/tests/services/engines/torture.rs`): these are killed too, so that it gets some of its own. Nothing of
//! either is compiled into this program.

use std::{
    env, io,
    path::Path,
    process::{Command, ExitStatus},
};

use crate::{servers::Set, tidy::repository_root};

/// The test that is run.
const TEST: &str = "kills::nothing_acknowledged_is_lost_or_doubled_by_kills_at_any_moment";

/// The one that is run on real servers.
const ENGINES_TEST: &str = "engines::torture::what_is_acknowledged_outlives_servers_and_services_that_are_killed_under_load";

/// Where its servers live: beside those that everybody uses.
const DIRECTORY: &str = ".servers/torture";

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

    /// Services as processes on real servers, which are killed too: PostgreSQL, Kafka, Redis and OpenSearch
    ///
    /// It starts servers of its own for that, and takes them down at the end. A round kills
    /// each of them once, and a service with each.
    #[arg(long, verbatim_doc_comment)]
    engines: bool,

    /// With optimisations: more happens between two kills
    #[arg(long)]
    release: bool,
}

/// Runs it, with a line for each round on standard error.
pub(crate) fn run(options: &Options) -> io::Result<ExitStatus> {
    if options.engines {
        return on_engines(options, &repository_root());
    }
    test(options, &["--test", "torture"], TEST).status()
}

/// Runs one of the platform's tests.
fn test(options: &Options, which: &[&str], name: &str) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // What cargo says of this program would be news to the build scripts of others, which would then run again.
    for (variable, _) in env::vars_os() {
        let name = variable.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&variable);
        }
    }
    command.args(["test", "--package", "orders"]).args(which);
    if options.release {
        command.arg("--release");
    }
    command
        .args(["--", "--exact", name, "--nocapture"])
        .env("FACTUM_TORTURE_ROUNDS", options.rounds.to_string());
    if let Some(seed) = options.seed {
        command.env("FACTUM_TORTURE_SEED", seed.to_string());
    }
    command
}

/// Runs the one on servers that are started for it, and taken down behind it.
fn on_engines(options: &Options, root: &Path) -> io::Result<ExitStatus> {
    let servers = Set::of(root).at(&root.join(DIRECTORY))?;
    if servers.is_used()? {
        return Err(io::Error::other(format!(
            "the servers in `{DIRECTORY}` run: another torture uses them, or one was broken off, and `cargo xtask servers \
             --directory {DIRECTORY} down` ends them"
        )));
    }
    let tortured = || {
        servers.up(&[])?;
        let which = ["--features", "engines", "--test", "services"];
        test(options, &which, ENGINES_TEST)
            .envs(servers.addresses()?)
            .env("FACTUM_REQUIRE_ENGINES", "1")
            .env("FACTUM_TORTURE_SERVERS", env::current_exe()?)
            .env("FACTUM_TORTURE_DIRECTORY", servers.directory())
            .status()
    };
    let tortured = tortured();
    // What they hold is of no use to the next, and to a person only if something went wrong.
    let is_well = tortured.as_ref().is_ok_and(ExitStatus::success);
    servers.down(is_well)?;
    tortured
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_that_are_run_exist() {
        for (tests, test) in [
            ("apps/orders/tests/torture", TEST),
            ("apps/orders/tests/services/engines", ENGINES_TEST),
        ] {
            let mut path = test.trim_start_matches("engines::").split("::");
            let (file, name) = (path.next().unwrap(), path.next().unwrap());
            let file = repository_root().join(tests).join(format!("{file}.rs"));
            let text = std::fs::read_to_string(file).unwrap();
            assert!(text.contains(&format!("fn {name}()")));
        }
    }
}
