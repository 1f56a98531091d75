//! How the platform is run.

use std::{path::PathBuf, time::Duration};

use factum::{Accept, RetryPolicy};

/// How the platform is run.
#[derive(Clone, Debug)]
pub struct PlatformOptions {
    /// The directory of the stores, the topics, and, below it, the outside world's books.
    pub data: PathBuf,
    /// How often failed messages are tried again. Default: three times, after 1, 2 and 4 seconds.
    pub retry: RetryPolicy,
    /// How many bytes of messages each partition of a topic keeps. Default: what it was told before, else all.
    pub retention_bytes: Option<u64>,
    /// After how many events of an aggregate a snapshot of it is kept. Default: as the aggregates say.
    pub snapshot_every: Option<u64>,
    /// What a person has said about a data directory that a start would refuse. Default: nothing.
    pub accept: Accept,
    /// After how long without a sign of life another process takes over what one consumed. Default: as the groups say.
    pub session: Option<Duration>,
}

impl PlatformOptions {
    /// The platform in the directory `data`, with defaults.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            retry: RetryPolicy::default(),
            retention_bytes: None,
            snapshot_every: None,
            accept: Accept::Nothing,
            session: None,
        }
    }

    /// With other waits before failed messages are tried again.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// With a bound of what the partitions of topics keep. What a consumer has not read by then is lost to it.
    #[must_use]
    pub fn retention_bytes(mut self, bytes: Option<u64>) -> Self {
        self.retention_bytes = bytes;
        self
    }

    /// With snapshots after so many events, whatever the aggregates say; 0: never.
    #[must_use]
    pub fn snapshot_every(mut self, events: Option<u64>) -> Self {
        self.snapshot_every = events;
        self
    }

    /// With another time after which a process that is silent counts as dead.
    #[must_use]
    pub fn session(mut self, session: Duration) -> Self {
        self.session = Some(session);
        self
    }

    /// With what a person has said about a data directory that a start would refuse.
    #[must_use]
    pub fn accept(mut self, accept: Accept) -> Self {
        self.accept = accept;
        self
    }
}
