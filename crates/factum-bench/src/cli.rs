//! The command line.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use tempfile::TempDir;

use crate::failure::Failure;

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
    Embedded(Options),
}

/// How it is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Shorter runs: about two minutes in all, and less steady.
    #[arg(long, conflicts_with = "long")]
    pub(crate) quick: bool,
    /// With a log of 1,000,000 and of 10,000,000 events: some minutes and about 8 GB of disk.
    #[arg(long)]
    pub(crate) long: bool,
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
        let made = tempfile::Builder::new()
            .prefix("factum-bench-")
            .tempdir_in(&self.data);
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
