//! Checkpoints: moving the write-ahead log into the file, beside the commits and not among them.
//!
//! A thread of its own does passive checkpoints, which hold up nobody. SQLite starts the log over only when all of
//! it was moved at the moment when a writer begins; a steady writer beside passive checkpoints would let it grow
//! without end. So past a stated size the writer pauses between two groups until the log was moved whole.

use std::{
    path::Path,
    sync::mpsc::{self, Receiver, SyncSender, TrySendError},
    thread::JoinHandle,
};

use factum_core::Error;
use rusqlite::{Connection, wal::CheckpointMode};
use tracing::{debug, warn};

use crate::{broken::Broken, error::Doing};

/// The bytes of a page.
const PAGE_BYTES: u64 = 4_096;

/// After how many pages of log a passive checkpoint is worth its two syncs: 4 MB.
const PASSIVE_PAGES: u64 = 1_000;

/// How long a checkpoint of the whole log waits for readers, in milliseconds. Reads are short; one that is not,
/// such as a backup, may keep the log longer than this holds up the writer.
const READERS_WAIT_MS: u64 = 500;

/// What the thread is asked for.
enum Wanted {
    /// What can be moved without waiting.
    Passive,
    /// Everything, and to be told when it is done.
    Whole(SyncSender<()>, CheckpointMode),
}

/// The writer's handle of the checkpointing thread.
pub(crate) struct Checkpointer {
    wanted: Option<SyncSender<Wanted>>,
    thread: Option<JoinHandle<()>>,
    pages_max: u64,
    /// The size at which a passive checkpoint comes next.
    passive_at: u64,
    /// The size at which the writer pauses next.
    pause_at: u64,
}

impl Checkpointer {
    /// Starts the thread over the file at `path`. When a sync of it fails, the file is `broken`.
    pub(crate) fn start(path: &Path, wal_bytes_max: u64, broken: Broken) -> Result<Self, Error> {
        let connection = crate::file::connect(path)?;
        connection
            .busy_timeout(std::time::Duration::from_millis(READERS_WAIT_MS))
            .doing("prepare the checkpointing connection")?;
        // A connection that has read nothing yet does not know that there is a log, and moves none.
        connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
            .doing("prepare the checkpointing connection")?;
        // One that waits is enough: a second would find nothing left to do.
        let (wanted, wants) = mpsc::sync_channel(1);
        let run = move || run(&connection, &wants, &broken);
        let thread = std::thread::Builder::new()
            .name("factum-checkpoint".into())
            .spawn(run);
        let thread = thread.map_err(|error| {
            Error::fatal("failed to start the checkpointing thread").caused_by(error)
        })?;
        let pages_max = (wal_bytes_max / PAGE_BYTES).max(PASSIVE_PAGES);
        Ok(Self {
            wanted: Some(wanted),
            thread: Some(thread),
            pages_max,
            passive_at: PASSIVE_PAGES,
            pause_at: pages_max,
        })
    }

    /// Takes note of the log's size after a group, and pauses the writer when it is too large.
    pub(crate) fn written(&mut self, pages: u64) {
        if pages < PASSIVE_PAGES {
            // The log has started over.
            self.passive_at = PASSIVE_PAGES;
            self.pause_at = self.pages_max;
        }
        if pages >= self.pause_at {
            // The log starts over in the space that it has, which costs less than new space at its end.
            self.whole(CheckpointMode::RESTART);
            // If readers kept it from being whole, it may grow by as much again before the next pause.
            self.pause_at = pages + self.pages_max;
            self.passive_at = pages + PASSIVE_PAGES;
        } else if pages >= self.passive_at {
            let wanted = self
                .wanted
                .as_ref()
                .map(|wanted| wanted.try_send(Wanted::Passive));
            if !matches!(wanted, Some(Err(TrySendError::Full(_)))) {
                self.passive_at = pages + PASSIVE_PAGES;
            }
        }
    }

    /// Moves everything, and leaves no log behind: the last thing that is done with a file.
    pub(crate) fn finish(&mut self) {
        self.whole(CheckpointMode::TRUNCATE);
    }

    fn whole(&mut self, mode: CheckpointMode) {
        let (done, wait) = mpsc::sync_channel(1);
        if let Some(wanted) = &self.wanted
            && wanted.send(Wanted::Whole(done, mode)).is_ok()
            && wait.recv().is_err()
        {
            warn!("the checkpointing thread has ended");
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wanted = None;
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the checkpointing thread has panicked");
        }
    }
}

fn run(connection: &Connection, wants: &Receiver<Wanted>, broken: &Broken) {
    while let Ok(wanted) = wants.recv() {
        // After a failed sync there is never another one.
        if broken.reason().is_none() {
            let mode = match &wanted {
                Wanted::Passive => CheckpointMode::PASSIVE,
                Wanted::Whole(_, mode) => *mode,
            };
            debug!("checkpoint begins");
            match connection
                .wal_checkpoint_v2(rusqlite::MAIN_DB.into(), mode)
                .doing("move the log into the file")
            {
                Ok((pages, moved)) => {
                    debug!(wal.pages = pages, wal.moved = moved, "checkpoint ended");
                }
                // Readers were in the way: what could be moved was.
                Err(error) if error.is_transient() => debug!("checkpoint ended early: {error:#}"),
                Err(error) => broken.set(&error),
            }
        }
        if let Wanted::Whole(done, _) = wanted {
            // Only a writer that has ended does not wait for this.
            done.send(()).unwrap_or_default();
        }
    }
}
