//! What a failure looks like to those who come after: the note in the parked row, the log line, the audit entry.

use factum_core::{AuditEntry, Failure, FailureClass, FailureNote, HandlerName, Timestamp};

use super::owner::Owner;

/// A failure, and the handler that met it.
pub(super) struct Failed {
    pub(super) failure: Failure,
    pub(super) handler: Option<HandlerName>,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            handler: None,
        }
    }
}
pub(super) fn crashed(times: u32) -> Failure {
    let message = format!("the process died {times} times while it handled this message");
    Failure::new(FailureClass::Crash, message).into_dead_letter()
}

pub(super) fn note(handler: Option<HandlerName>, failure: &Failure, at: Timestamp) -> FailureNote {
    FailureNote {
        class: failure.class(),
        message: failure.message().to_string(),
        cause: Failure::cause(failure.class(), failure.message()),
        handler,
        at,
    }
}

pub(super) fn skipped(owner: &Owner, offset: u64, reason: &str) -> AuditEntry {
    AuditEntry {
        at: owner.consuming.core.env.now(),
        actor: owner.consuming.group.name.to_string(),
        action: "skip".into(),
        subject: format!("{}:{offset}", owner.inbox()),
        reason: reason.into(),
    }
}

pub(super) fn stop_text(handler: Option<&HandlerName>, failure: &Failure) -> String {
    let handler = handler.map_or("a handler", HandlerName::as_str);
    format!("{handler} asked to stop: {failure}")
}

pub(super) fn log_failure(
    owner: &Owner,
    offset: u64,
    tries: u32,
    handler: Option<&HandlerName>,
    failure: &Failure,
    dead: bool,
) {
    let (inbox, class) = (owner.inbox(), failure.class());
    owner
        .consuming
        .core
        .metrics
        .failure(&inbox.group, class, dead);
    let handler = handler.map_or("reading", HandlerName::as_str);
    if dead {
        tracing::error!(
            group.name = %inbox.group, message.offset = offset, attempt = tries, failure.class = %class,
            "message {inbox}:{offset} is a dead letter after {tries} tries: {handler}: {failure}"
        );
    } else {
        tracing::warn!(
            group.name = %inbox.group, message.offset = offset, attempt = tries, failure.class = %class,
            "message {inbox}:{offset} will be tried again: {handler}: {failure}"
        );
    }
}

/// What an error of a decision means for the message that asked for it.
pub(super) trait IntoFailed {
    fn into_failed(self) -> Failed;
}

impl IntoFailed for factum_core::Error {
    fn into_failed(self) -> Failed {
        let failure = if self.is_fatal() {
            Failure::stop(format!("{self:#}"))
        } else {
            Failure::from(self)
        };
        Failed {
            failure,
            handler: None,
        }
    }
}
