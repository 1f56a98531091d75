//! A store whose guards are off: an owner that was stalled, and wakes up when another has taken its place, is let
//! write. For tests that show that this is found out.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use factum_core::{Commit, ExpectedVersion, Fence, InboxId, Input};

use crate::Meddler;

/// Takes from a store what keeps late owners of inboxes out: the fence, the mark that the message is finished, and the
/// expected versions of the streams. Whose commit it is that follows another's is told by the fences of the commits.
pub fn unguarded() -> Meddler {
    let latest: Mutex<BTreeMap<InboxId, Fence>> = Mutex::default();
    Arc::new(move |commit: &mut Commit| {
        let Input::Message(input) = &commit.input else {
            return;
        };
        let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
        let fence = latest.entry(input.inbox.clone()).or_default();
        *fence = input.fence.max(*fence);
        if input.fence < *fence {
            commit.input = Input::None;
            for append in &mut commit.appends {
                append.expected = ExpectedVersion::Any;
            }
        }
    })
}
