//! `factum-bench`: how fast Factum is, as figures that anyone can repeat.
//!
//! One run prints one table: ours beside the least that the same disk could do it with, a raw file and plain SQLite; or, on
//! real engines, beside what one would write by hand for speed alone.
//! Ratios are what counts; absolute figures are those of the machine in the header. Nothing here is a test: a figure
//! that misses its aim is shown as missed, and the run succeeds.

mod cli;
#[cfg(feature = "engines")]
mod engines;
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
    cli::{Cli, Embedded, Options, World},
    failure::Failure,
    machine::Machine,
    measure::Measuring,
    report::Report,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&Failure::while_("starting the runtime", error)),
    };
    match runtime.block_on(run(&cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => refuse(&failure),
    }
}

async fn run(cli: &Cli) -> Result<(), Failure> {
    match &cli.world {
        World::Embedded(embedded) => run_embedded(embedded).await,
        World::Engines(options) => run_engines(options).await,
        #[cfg(feature = "engines")]
        World::Process(process) => measure::processes::be_one(process).await,
    }
}

async fn run_embedded(embedded: &Embedded) -> Result<(), Failure> {
    let options = &embedded.options;
    let home = options.home()?;
    let machine = Machine::look(home.path())?;
    let mut measuring = Measuring::new(options, home.path());
    let world = subject::embedded();
    interruptible(measuring.embedded(&world, embedded.long)).await?;
    let report = Report {
        world: "embedded",
        machine,
        servers: Vec::new(),
        figures: measuring.into_figures(),
        left_out: Vec::new(),
    };
    tell(options, &report)
}

#[cfg(feature = "engines")]
async fn run_engines(options: &Options) -> Result<(), Failure> {
    let home = options.home()?;
    let engines = engines::Engines::find().await?;
    let machine = Machine::look(home.path())?;
    let mut measuring = Measuring::new(options, home.path());
    let measured = interruptible(measuring.engines(&engines)).await;
    // The servers are not ours: nothing is left on them, however it went.
    let cleaned = engines.clean_up(home.path()).await;
    measured.and(cleaned)?;
    let report = Report {
        world: "engines",
        machine,
        servers: engines.versions,
        figures: measuring.into_figures(),
        left_out: engines.left_out,
    };
    tell(options, &report)
}

#[cfg(not(feature = "engines"))]
async fn run_engines(_: &Options) -> Result<(), Failure> {
    Err(Failure::new(
        "this build knows no engines: `cargo run --release -p factum-bench --features engines -- engines`",
    ))
}

/// Ends what is measured when the person at the terminal asks for it.
async fn interruptible(
    measuring: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Err(Failure::new("interrupted")),
        measured = measuring => measured,
    }
}

/// Prints the table, and writes the figures where they were asked for.
fn tell(options: &Options, report: &Report) -> Result<(), Failure> {
    say(&report.to_string())?;
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(report)
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
