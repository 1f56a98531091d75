//! The measures: each takes its figures in some rounds, and says what they are held against.

mod commands;
mod contention;
mod growth;
mod http;
mod lag;
mod projecting;
mod replay;
mod saga;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{cli::Options, failure::Failure, figures::Figure, progress::Progress, subject::World};

/// A run of all measures.
pub(crate) struct Measuring<'a> {
    options: &'a Options,
    home: &'a Path,
    progress: Progress,
    figures: Vec<Figure>,
    directories: u32,
}

impl<'a> Measuring<'a> {
    /// A run that keeps its files in `home`.
    pub(crate) fn new(options: &'a Options, home: &'a Path) -> Self {
        Self {
            options,
            home,
            progress: Progress::start(),
            figures: Vec::new(),
            directories: 0,
        }
    }

    /// Takes all measures that are wanted.
    pub(crate) async fn run(&mut self, world: &World) -> Result<(), Failure> {
        commands::measure(self, world).await?;
        contention::measure(self, world).await?;
        replay::measure(self, world).await?;
        projecting::measure(self, world).await?;
        lag::measure(self, world).await?;
        saga::measure(self).await?;
        if self.options.long {
            growth::measure(self, world).await?;
        }
        Ok(())
    }

    /// What was found, in the order of the table.
    pub(crate) fn into_figures(self) -> Vec<Figure> {
        self.figures
    }

    /// The rounds of a measure, as many as were asked for.
    fn rounds(&self) -> std::ops::RangeInclusive<u32> {
        1..=self.options.rounds
    }

    /// How much of what a full run does is done in this one.
    fn scaled(&self, full: usize) -> usize {
        if self.options.quick { full / 4 } else { full }
    }

    /// How long commands are counted, each time.
    fn window(&self) -> Duration {
        Duration::from_millis(if self.options.quick { 500 } else { 2_000 })
    }

    fn wants(&self, measure: &str) -> bool {
        self.options.wants(measure)
    }

    fn say(&self, what: impl Into<String>) {
        self.progress.say(what);
    }

    fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// A new directory.
    fn directory(&mut self) -> Result<PathBuf, Failure> {
        self.directories += 1;
        let path = self.home.join(self.directories.to_string());
        std::fs::create_dir(&path)
            .map_err(|error| Failure::while_(format!("making `{}`", path.display()), error))?;
        Ok(path)
    }
}

/// Removes a directory that is no longer needed, so that no figure pays for the space of another.
fn remove(directory: &Path) -> Result<(), Failure> {
    std::fs::remove_dir_all(directory)
        .map_err(|error| Failure::while_(format!("removing `{}`", directory.display()), error))
}
