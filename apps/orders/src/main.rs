//! `orders`: the order platform as a program. See [`cli`] for what it can do.

mod cli;
mod client;
mod connect;
mod demo;
mod failure;
mod firms;
mod load;
mod screen;
mod server;
mod signals;
mod store;
mod verify;

use std::{io::IsTerminal as _, process::ExitCode};

use tracing_subscriber::EnvFilter;

use crate::{
    cli::{Cli, Command, Store},
    screen::Screen,
    signals::Signals,
};

fn main() -> ExitCode {
    let cli = Cli::read();
    // What the demo and the load break on purpose (a gateway, a message) they show themselves.
    let default = match cli.asked() {
        Command::Serve(_) | Command::Outside | Command::Store(_) => "warn",
        Command::Demo(_) | Command::Load(_) => "off",
    };
    let filter = log_filter().unwrap_or_else(|| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // In a file, colours are characters that nobody searches for.
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            Screen::error(&format!("can't start the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match cli.asked() {
            Command::Serve(how) => server::serve(&cli.options, &how).await,
            Command::Outside => firms::serve(&cli.options).await,
            Command::Demo(demo) => Signals::listen()?.or(demo::run(&cli.options, &demo)).await,
            Command::Load(load) => load::run(&cli.options, &load).await,
            Command::Store(Store::Verify(how)) => verify::run(&cli.options, &how),
            Command::Store(Store::Backup(backup)) => store::backup(&cli.options, &backup).await,
            Command::Store(Store::Restore(restore)) => store::restore(&cli.options, &restore),
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            Screen::error(&failure.to_string());
            // Who was told to end at once waits for nothing that is still under way.
            runtime.shutdown_background();
            ExitCode::from(failure.code())
        }
    }
}

/// What `RUST_LOG` asks for, if it asks for anything. It is no reason not to serve, and none to be silent.
fn log_filter() -> Option<EnvFilter> {
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).ok();
    let asked = asked.filter(|asked| !asked.is_empty())?;
    let filter = EnvFilter::builder().parse(&asked);
    let wrong = |error| {
        Screen::error(&format!(
            "RUST_LOG is `{asked}`, which says nothing ({error}): write it as `info` or `factum=debug,warn`"
        ));
    };
    filter.map_err(wrong).ok()
}
