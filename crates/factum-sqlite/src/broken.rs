//! Why nothing is written any more: set once, by whoever finds out, and told to everybody.

use std::sync::Arc;

use factum_core::Error;
use tokio::sync::watch;

/// Whether the file can still be written to. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Broken(Arc<watch::Sender<Option<Error>>>);

impl Broken {
    /// It can.
    pub(crate) fn not_yet() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// It can't any more. The first reason is the one that counts: the others follow from it.
    pub(crate) fn set(&self, error: &Error) {
        self.0.send_if_modified(|reason| {
            let is_first = reason.is_none();
            if is_first {
                tracing::error!("nothing is written any more: {error:#}");
                *reason = Some(error.clone());
            }
            is_first
        });
    }

    /// Why it can't, if it can't.
    pub(crate) fn reason(&self) -> Option<Error> {
        self.0.borrow().clone()
    }

    /// Waits until it can't.
    pub(crate) async fn wait(&self) -> Error {
        let mut watched = self.0.subscribe();
        loop {
            if let Some(error) = watched.borrow_and_update().clone() {
                return error;
            }
            if watched.changed().await.is_err() {
                // The sender lives as long as `self`.
                std::future::pending::<()>().await;
            }
        }
    }
}
