//! What Kafka's client library says by itself, as our log lines, and its last complaint for our own errors.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use rdkafka::{ClientContext, config::RDKafkaLogLevel, error::KafkaError};

/// The last complaint of a client: the library's answers are codes, and what is wrong stands in its log alone.
#[derive(Debug, Default)]
pub(crate) struct Complaint(Mutex<Option<String>>);

impl Complaint {
    fn note(&self, what: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(what.to_owned());
    }

    /// The last complaint, once.
    pub(crate) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The context of a client of which nothing else is to be heard.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    pub(crate) complaint: Complaint,
    /// How many lines came: a poll that brings only one looks like an empty one.
    lines: AtomicU64,
}

impl Plain {
    pub(crate) fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }
}

impl ClientContext for Plain {
    fn log(&self, level: RDKafkaLogLevel, _: &str, message: &str) {
        // Nothing else is read by it, so that no order is needed.
        self.lines.fetch_add(1, Ordering::Relaxed);
        note(&self.complaint, level, message);
    }

    fn error(&self, _: KafkaError, reason: &str) {
        self.complaint.note(reason);
    }
}

impl rdkafka::consumer::ConsumerContext for Plain {}

/// Logs what the library said, and keeps it if it is a complaint. Whatever it is called there, it copes with it itself.
pub(crate) fn note(complaint: &Complaint, level: RDKafkaLogLevel, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => {
            complaint.note(message);
            tracing::warn!("kafka's client library: {message}");
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            tracing::debug!("kafka's client library: {message}");
        }
    }
}
