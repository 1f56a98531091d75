//! Suspects: messages that were being tried when the process died. They are tried again one at a time.
//!
//! Each partition tries what its last owner may have died of behind a mark that counts deaths. Partitions run side by
//! side, so one message that kills takes down with it whatever the others try at that moment, and at the next start
//! the same ones begin together again. Were they not kept apart, each would be blamed for all deaths of the one.

use std::{sync::Arc, time::Duration};

use factum_core::Trying;
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::timeout,
};

/// How long a suspect waits for its turn: one whose handler hangs must not hold up all others for ever. Whoever goes
/// on without a turn is blamed for a death of another at worst once for each that hangs.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Whose turn it is in this process, among the suspects of all its consumers. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Suspects(Arc<Mutex<()>>);

/// A suspect's turn, until it is dropped.
pub(crate) struct Turn(
    #[expect(dead_code, reason = "held, and not looked at")] OwnedMutexGuard<()>,
);

impl Suspects {
    /// Waits for the turn of a message that is about to be tried behind this mark, before the mark is set. One that
    /// no life has died of yet needs none.
    pub(crate) async fn turn(&self, trying: Trying) -> Option<Turn> {
        if trying.tries <= 1 {
            return None;
        }
        let turn = timeout(WAIT_MAX, self.0.clone().lock_owned()).await;
        turn.ok().map(Turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(tries: u32) -> Trying {
        Trying { offset: 7, tries }
    }

    #[tokio::test(start_paused = true)]
    async fn suspects_take_turns_and_others_need_none() {
        let suspects = Suspects::default();
        let first = suspects.turn(mark(2)).await;
        assert!(first.is_some());
        assert!(suspects.turn(mark(1)).await.is_none());
        let waiting = tokio::spawn({
            let suspects = suspects.clone();
            async move { suspects.turn(mark(3)).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_does_not_hold_up_the_others_for_ever() {
        let suspects = Suspects::default();
        let _hangs = suspects.turn(mark(2)).await;
        assert!(suspects.turn(mark(2)).await.is_none());
    }
}
