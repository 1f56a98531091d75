//! The measures: each takes its figures in some rounds, and says what they are held against.

#[cfg(feature = "engines")]
mod bare;
mod commands;
mod contention;
#[cfg(feature = "engines")]
mod effects;
mod growth;
mod http;
mod lag;
#[cfg(feature = "engines")]
pub(crate) mod processes;
mod projecting;
#[cfg(feature = "engines")]
mod relaying;
mod replay;
mod saga;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

#[cfg(feature = "engines")]
use crate::engines::Engines;
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

    /// Takes all measures of the embedded world that are wanted, with long logs or without.
    pub(crate) async fn embedded(&mut self, world: &World, long: bool) -> Result<(), Failure> {
        commands::measure(self, world).await?;
        contention::measure(self, world).await?;
        replay::measure(self, world).await?;
        projecting::measure(self, world).await?;
        lag::measure(self, world).await?;
        saga::measure(self).await?;
        if long {
            growth::measure(self, world).await?;
        }
        Ok(())
    }

    /// Takes all measures of real engines that are wanted, as far as there are servers.
    #[cfg(feature = "engines")]
    pub(crate) async fn engines(&mut self, engines: &Engines) -> Result<(), Failure> {
        if let Some(world) = &engines.postgres {
            commands::measure(self, world).await?;
            contention::measure(self, world).await?;
            processes::measure(self, world).await?;
            projecting::measure(self, world).await?;
            replay::measure(self, world).await?;
            if let Some(cluster) = &engines.cluster {
                relaying::measure(self, &world.backend, cluster).await?;
            }
        }
        if let Some(cluster) = &engines.cluster {
            let stores = engines.postgres.as_ref().map(|world| &world.backend);
            effects::measure(self, stores, cluster).await?;
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
