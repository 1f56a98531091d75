//! Commits of the inbox row alone: where messages are passed over, an attempt is marked, or the inbox is given back.

use factum_core::{Commit, CommitError, Input, Trying, VoidInput};

use super::{Ended, Owner};
use crate::relay::backoff;

impl Owner {
    pub(super) fn owes_void(&self) -> bool {
        self.state().partition.owes_void()
    }

    pub(super) async fn commit_void(&self) -> Option<Ended> {
        let core = &self.consuming.core;
        let mut commit = Commit::new(core.env.commit_id(), core.env.now());
        commit.input = self.void(None, false);
        match core.write(commit).await {
            Ok(committed) => {
                if let Some(row) = committed.inbox {
                    self.state().partition.written(row);
                }
                // There may be room now, and what lay beyond the window may start.
                self.work.notify_one();
                None
            }
            Err(CommitError::Failed(error)) if error.is_transient() => {
                self.consuming.trouble(&error);
                tokio::time::sleep(backoff(&core.env, 0)).await;
                None
            }
            Err(CommitError::Failed(error)) if error.is_fatal() => {
                Some(Ended::Stopped(format!("{error:#}")))
            }
            Err(_) => Some(Ended::Reclaim),
        }
    }

    /// What moves the row alone. Behind a release nothing runs, so nothing is suspected: left there, a mark would be
    /// counted at the next death, whatever that is of.
    pub(crate) fn void(&self, trying: Option<Trying>, release: bool) -> Input {
        Input::Void(VoidInput {
            inbox: self.inbox.clone(),
            fence: self.fence,
            advance: self.advance(),
            trying: if release {
                Some(None)
            } else {
                trying.map(Some)
            },
            release,
            accept: None,
        })
    }

    pub(super) async fn release(&self) -> Ended {
        let core = &self.consuming.core;
        let mut commit = Commit::new(core.env.commit_id(), core.env.now());
        commit.input = self.void(None, true);
        if let Err(error) = core.write(commit).await {
            tracing::debug!("inbox `{}` was not released: {error}", self.inbox);
        }
        Ended::Drained
    }
}
