//! What the processes' memory holds of the log: the stretch behind what is in the index.
//!
//! The index of streams is written in slices behind the log. Until a record is in it, its place is kept here, so
//! that a stream is always read whole: what the index has, and the tail.

use std::collections::BTreeMap;

use factum_core::Version;

/// The unindexed events: by stream number and version, the record's key.
///
/// Bounded by [`INDEX_SLICE`](crate::log::INDEX_SLICE) records and one group of commits.
#[derive(Debug, Default)]
pub(crate) struct Tail(BTreeMap<(i64, u64), i64>);

impl Tail {
    /// Adds an event.
    pub(crate) fn push(&mut self, stream: i64, version: Version, key: i64) {
        self.0.insert((stream, version.0), key);
    }

    /// Forgets everything: it is in the index now.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The last version of a stream, if the tail has an event of it.
    pub(crate) fn version(&self, stream: i64) -> Option<Version> {
        self.last(stream).map(|(version, _)| version)
    }

    /// The last event of a stream with its key, if the tail has one.
    pub(crate) fn last(&self, stream: i64) -> Option<(Version, i64)> {
        let last = self.0.range((stream, 0)..=(stream, u64::MAX)).next_back();
        last.map(|((_, version), key)| (Version(*version), *key))
    }

    /// The events of a stream from version `from` on.
    pub(crate) fn events(&self, stream: i64, from: Version) -> Vec<(Version, i64)> {
        let events = self.0.range((stream, from.0)..=(stream, u64::MAX));
        events
            .map(|((_, version), key)| (Version(*version), *key))
            .collect()
    }
}
