//! The command line.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use tempfile::TempDir;

use crate::failure::Failure;

/// What the name of a run's directory begins with.
pub(crate) const HOME: &str = "factum-bench-";

/// How fast Factum is, beside the least that the same disk could do it with.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) world: World,
}

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum World {
    /// Stores, views and topics in one SQLite file, beside a raw file and plain SQLite.
    Embedded(Embedded),
    /// Stores on PostgreSQL and topics on Kafka, beside what one would write by hand. Takes the cargo feature `engines`, and
    /// servers: where they are is said by `FACTUM_TEST_POSTGRES` and `FACTUM_TEST_KAFKA`, as `cargo xtask servers env` prints.
    Engines(Options),
    /// One process of several, for the run that has started it.
    #[cfg(feature = "engines")]
    #[command(hide = true)]
    Process(Process),
}

/// How the embedded world is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct Embedded {
    #[command(flatten)]
    pub(crate) options: Options,
    /// With a log of 1,000,000 and of 10,000,000 events: some minutes and about 8 GB of disk.
    #[arg(long, conflicts_with = "quick")]
    pub(crate) long: bool,
}

/// What one process of several does.
#[cfg(feature = "engines")]
#[derive(Clone, Debug, Args)]
pub(crate) struct Process {
    /// The directory that names the store.
    #[arg(long)]
    pub(crate) directory: PathBuf,
    /// How many clients it has.
    #[arg(long)]
    pub(crate) clients: usize,
    /// How long they are counted.
    #[arg(long)]
    pub(crate) window_ms: u64,
}

/// How it is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Shorter runs: about two minutes in all, and less steady.
    #[arg(long)]
    pub(crate) quick: bool,
    /// The same figures as JSON, into this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// The directory that is measured in; what is made in it is removed. Its disk is the one that counts.
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    pub(crate) data: PathBuf,
    /// How often each figure is taken; the median is shown.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) rounds: u32,
    /// Only the measures whose name contains one of these words, such as `64 clients` or `saga`.
    #[arg(long, value_name = "WORD")]
    pub(crate) only: Vec<String>,
}

/// Where a run keeps its files: gone when it ends.
#[derive(Debug)]
pub(crate) struct Home(TempDir);

impl Home {
    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Options {
    /// Makes the directory of this run.
    pub(crate) fn home(&self) -> Result<Home, Failure> {
        let made = tempfile::Builder::new().prefix(HOME).tempdir_in(&self.data);
        made.map(Home).map_err(|error| {
            Failure::while_(
                format!("making a directory in `{}`", self.data.display()),
                error,
            )
        })
    }

    /// Whether a measure of this name is wanted.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| name.contains(word.as_str()))
    }
}
