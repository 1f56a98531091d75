//! Whether the store takes commits: noted at each that comes, and looked after when the last one failed.
//!
//! A process that can read but not write looks well in every other way. When the disk is full, say, nobody may be
//! giving commands any more, so that nothing would tell when there is room again: whoever asks finds it out with a
//! commit of no meaning.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use factum_core::{CommandInput, Commit, CommitError, Committed, Error, Input, Timestamp};
use tokio::{sync::Mutex, time::timeout};

use super::Core;

/// How long a look may take: who asks whether a process is ready wants to know it soon.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// For how long what a look has found is told again, however many ask.
const LOOK_KEPT: Duration = Duration::from_secs(1);

/// Whose idempotency key a commit of no meaning has. It expires as it is written.
const SCOPE: &str = "factum/ready";

/// What is known of the store's taking commits.
#[derive(Default)]
pub(crate) struct Writes {
    /// The last commit may have failed for want of a disk or a server.
    doubted: AtomicBool,
    /// What the last look found.
    looked: Mutex<Option<(Timestamp, Option<Error>)>>,
}

impl Writes {
    fn note(&self, result: &Result<Committed, CommitError>) {
        match result {
            Ok(_) if !self.doubted.load(Ordering::Relaxed) => {}
            Ok(_) => self.doubted.store(false, Ordering::Relaxed),
            Err(CommitError::Failed(error)) if error.is_transient() || error.is_unknown() => {
                self.doubted.store(true, Ordering::Relaxed);
            }
            // It was refused, by a store that does its work; or it says itself that it has ended.
            Err(_) => {}
        }
    }
}

impl fmt::Debug for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writes")
            .field("doubted", &self.doubted)
            .finish_non_exhaustive()
    }
}

impl Core {
    /// Gives a commit to the store, and notes what became of it. Polled first, it takes its place in the store's order.
    pub(crate) async fn write(&self, commit: Commit) -> Result<Committed, CommitError> {
        let result = self.store.commit(commit).await;
        self.writes.note(&result);
        result
    }

    /// Why nothing can be written at present; `None` when the last commit went well, or one does now.
    pub(crate) async fn unwritable(&self) -> Option<Error> {
        let is_doubted = || self.writes.doubted.load(Ordering::Relaxed);
        if !is_doubted() {
            return None;
        }
        // Who comes meanwhile waits for the same look.
        let mut looked = self.writes.looked.lock().await;
        let now = self.env.now();
        match &*looked {
            _ if !is_doubted() => return None,
            // A clock that was set back says nothing about how long ago it was.
            Some((at, found)) if *at <= now && now.since(*at) < LOOK_KEPT => return found.clone(),
            _ => {}
        }
        let id = self.env.commit_id();
        let mut commit = Commit::new(id, now);
        commit.input = Input::Command(CommandInput {
            scope: SCOPE.into(),
            key: id.to_string(),
            request: 0,
            answer: Bytes::new(),
            expires: now,
        });
        let found = match timeout(LOOK_MAX, self.write(commit)).await {
            Ok(Ok(_)) => None,
            Ok(Err(CommitError::Failed(error))) => Some(error),
            Ok(Err(error)) => Some(Error::transient(error.to_string())),
            Err(_) => Some(Error::transient(format!(
                "the store has not taken a commit within {} s",
                LOOK_MAX.as_secs()
            ))),
        };
        *looked = Some((now, found.clone()));
        found
    }
}
