//! Where time, identities and chance come from, so that tests and the simulator own them.

use std::{fmt, sync::Arc};

use uuid::Uuid;

use crate::{CommitId, MessageId, Timestamp};

/// A source of time and randomness. The real one is in the runtime, others are in the test kit.
pub trait Source: Send + Sync + 'static {
    /// The present time. It may jump, back too.
    fn now(&self) -> Timestamp;
    /// Sixty-four random bits.
    fn random(&self) -> u64;
}

/// The environment of a process: its clock, its randomness and the ids made of both.
#[derive(Clone)]
pub struct Env(Arc<dyn Source>);

impl Env {
    /// The environment that `source` gives.
    pub fn new(source: impl Source) -> Self {
        Self(Arc::new(source))
    }

    /// The present time.
    pub fn now(&self) -> Timestamp {
        self.0.now()
    }

    /// Sixty-four random bits.
    pub fn random(&self) -> u64 {
        self.0.random()
    }

    /// A random fraction, at least 0 and below 1.
    pub fn fraction(&self) -> f64 {
        // 32 bits fit a double exactly, and are enough for a jitter.
        let bits = u32::try_from(self.random() >> 32).expect("32 bits are left");
        f64::from(bits) / (f64::from(u32::MAX) + 1.0)
    }

    /// A new UUID, version 7: it starts with the present millisecond, so that ids grow with time.
    pub fn uuid(&self) -> Uuid {
        let millis = u64::try_from(self.now().as_millis()).unwrap_or(0);
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.random().to_le_bytes());
        random[8..].copy_from_slice(&self.random().to_le_bytes()[..2]);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    /// A new message id.
    pub fn message_id(&self) -> MessageId {
        self.uuid().into()
    }

    /// A new commit id.
    pub fn commit_id(&self) -> CommitId {
        CommitId(self.uuid())
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env")
    }
}
