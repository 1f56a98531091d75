//! Where the thread leaves what it has to tell, and a call finds it: nothing is lost when a call is cancelled.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use factum_core::{Consumed, Error, Message};
use tokio::sync::Notify;

type Told = Result<Consumed, Error>;

/// A place for one thing to tell.
#[derive(Default)]
pub(super) struct Slot {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    told: Option<Told>,
    wish: Wish,
    ended: bool,
}

/// What calls want of the thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    /// A call waits for something to be told.
    pub(super) waits: bool,
    /// A call has begun since it was last asked: a sign of life.
    pub(super) called: bool,
    /// What was told last is answered: what was revoked may be given away, and what was assigned begun.
    pub(super) settled: bool,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call: what an earlier one left behind, or a wish.
    pub(super) fn call(self: &Arc<Self>) -> Result<Told, Call> {
        let mut state = self.state();
        state.wish.called = true;
        if let Some(told) = state.told.take() {
            return Ok(told);
        }
        state.wish.waits = true;
        state.wish.settled = true;
        drop(state);
        Err(Call(self.clone()))
    }

    /// What is wished. The signs of life and of settlement are told once.
    pub(super) fn wish(&self) -> Wish {
        let mut state = self.state();
        let wish = state.wish;
        (state.wish.called, state.wish.settled) = (false, false);
        wish
    }

    /// Leaves something for the call that waits, or the next one.
    pub(super) fn fill(&self, told: Told) {
        let mut state = self.state();
        debug_assert!(state.told.is_none(), "one thing is told at a time");
        state.told = Some(told);
        // A call that came since the thread last looked has answered what was told before, and not this.
        (state.wish.waits, state.wish.settled) = (false, false);
        drop(state);
        self.changed.notify_one();
    }

    /// Takes back messages that nobody has seen yet.
    pub(super) fn take_back(&self) -> Vec<Message> {
        let mut state = self.state();
        match state.told.take() {
            Some(Ok(Consumed::Messages(messages))) => messages,
            told => {
                state.told = told;
                Vec::new()
            }
        }
    }

    /// Nothing more will be told.
    pub(super) fn end(&self) {
        self.state().ended = true;
        self.changed.notify_one();
    }
}

/// A call that waits. Dropping it takes the wish back.
pub(super) struct Call(Arc<Slot>);

impl Call {
    /// What is told; `None` when nothing will be.
    pub(super) async fn told(&self) -> Option<Told> {
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            changed.as_mut().enable();
            {
                let mut state = self.0.state();
                if let Some(told) = state.told.take() {
                    return Some(told);
                }
                if state.ended {
                    return None;
                }
            }
            changed.await;
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.state().wish.waits = false;
    }
}

#[cfg(test)]
mod tests {
    use factum_core::{Topic, TopicPartition};

    use super::*;

    fn lost() -> Consumed {
        Consumed::Lost(vec![TopicPartition::new(Topic::of("orders"), 1)])
    }

    #[tokio::test]
    async fn what_a_cancelled_call_left_behind_comes_with_the_next() {
        let slot = Arc::new(Slot::default());
        let call = slot.call().err().unwrap();
        assert!(slot.wish().waits);
        drop(call);
        assert!(!slot.wish().waits, "nobody waits any more");

        // The thread was about to tell.
        slot.fill(Ok(lost()));

        assert_eq!(slot.call().ok().unwrap().unwrap(), lost());
        assert!(!slot.wish().settled, "it was only told, and not answered");
    }

    #[tokio::test]
    async fn a_call_answers_what_was_told_before_even_if_it_is_cancelled() {
        let slot = Arc::new(Slot::default());
        slot.fill(Ok(lost()));
        drop(slot.call());
        drop(slot.call());
        let wish = slot.wish();
        assert!(wish.settled && wish.called && !wish.waits, "{wish:?}");
        assert_eq!(slot.wish(), Wish::default(), "it is told once");
    }

    #[tokio::test]
    async fn who_begins_to_wait_while_something_is_about_to_be_told_has_not_answered_it() {
        let slot = Arc::new(Slot::default());
        let first = slot.call();
        slot.wish();
        drop(first);
        let second = slot.call().err().unwrap();
        slot.fill(Ok(lost()));
        assert_eq!(second.told().await.unwrap().unwrap(), lost());
        assert!(!slot.wish().settled, "it was only told, and not answered");
    }

    #[tokio::test]
    async fn who_waits_is_told_and_hears_of_the_end() {
        let slot = Arc::new(Slot::default());
        let call = slot.call().err().unwrap();
        slot.fill(Ok(lost()));
        assert_eq!(call.told().await.unwrap().unwrap(), lost());
        slot.end();
        assert!(call.told().await.is_none());
    }
}
