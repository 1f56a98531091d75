//! `factum-bench`: how fast the embedded world is, as figures that anyone can repeat.
//!
//! One run prints one table: ours beside the least that the same disk could do it with, a raw file and plain SQLite.
//! Ratios are what counts; absolute figures are those of the machine in the header. Nothing here is a test: a figure
//! that misses its aim is shown as missed, and the run succeeds.

mod cli;
mod failure;
mod figures;
mod load;
mod machine;
mod measure;
mod progress;
mod report;
mod subject;
mod times;
mod workload;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;

use crate::{
    cli::{Cli, World},
    failure::Failure,
    measure::Measuring,
    report::Report,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&Failure::while_("starting the runtime", error)),
    };
    let run = async {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => Err(Failure::new("interrupted")),
            run = run(&cli) => run,
        }
    };
    match runtime.block_on(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => refuse(&failure),
    }
}

async fn run(cli: &Cli) -> Result<(), Failure> {
    let World::Embedded(options) = &cli.world;
    let home = options.home()?;
    let machine = machine::Machine::look(home.path())?;
    let mut measuring = Measuring::new(options, home.path());
    measuring.run(&subject::embedded()).await?;
    let report = Report {
        machine,
        world: "embedded",
        figures: measuring.into_figures(),
    };
    say(&report.to_string())?;
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&report)
            .map_err(|error| Failure::while_("writing the figures as JSON", error))?;
        std::fs::write(path, json)
            .map_err(|error| Failure::while_(format!("writing `{}`", path.display()), error))?;
    }
    Ok(())
}

fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|error| Failure::while_("printing the table", error))
}

fn refuse(failure: &Failure) -> ExitCode {
    if writeln!(io::stderr(), "error: {failure}").is_err() {
        // Nobody reads any more.
    }
    ExitCode::FAILURE
}
