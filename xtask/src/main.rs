//! `cargo xtask`: the checks and chores of the repository.
//!
//! A chore is a subcommand here and a module beside this file. Whatever a chore checks is a
//! test as well, so that `cargo test` finds what `cargo xtask tidy` would; the command only
//! says it faster and in the `file:line: error:` form that editors can jump to.

mod servers;
mod simulate;
mod tidy;
mod torture;

use std::io::{self, Write as _};
use std::process::{ExitCode, ExitStatus};

use clap::{Parser, Subcommand};

/// The checks and chores of the repository.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Start and stop the real servers that tests use, on loopback, without containers
    Servers(servers::Options),
    /// Tell many stories of the order platform: crashes, clock jumps, zombies, each drawn from a seed
    Simulate(simulate::Options),
    /// Check the rules that neither the compiler, clippy nor rustfmt can see
    Tidy,
    /// Kill the order platform again and again, and see that nothing is lost or doubled
    Torture(torture::Options),
}

fn main() -> io::Result<ExitCode> {
    match Cli::parse().chore {
        Chore::Servers(options) => {
            servers::run(&tidy::repository_root(), &options)?;
            Ok(ExitCode::SUCCESS)
        }
        Chore::Simulate(options) => Ok(exit_code(simulate::run(&options)?)),
        Chore::Tidy => tidy(),
        Chore::Torture(options) => Ok(exit_code(torture::run(&options)?)),
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Findings are the data and go to stdout; the count is for the person and goes to stderr.
fn tidy() -> io::Result<ExitCode> {
    let report = tidy::check_repository(&tidy::repository_root())?;
    let mut stdout = io::stdout().lock();
    for finding in &report.findings {
        writeln!(stdout, "{finding}")?;
    }
    let (files, errors) = (report.files_checked, report.findings.len());
    writeln!(io::stderr(), "tidy: {files} files checked, {errors} errors")?;
    Ok(if errors == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
