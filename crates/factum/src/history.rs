//! What an aggregate was: its state at any version, from its events alone.

use factum_core::{Error, Json, StreamId, Version};

use crate::work::Core;

/// How many events are read at a time.
const PAGE_EVENTS_MAX: usize = 1_000;

impl Core {
    /// The aggregate in `stream` as it was at `version`, or as it is: its state as JSON, and its version. A stream
    /// without events is at version 0, in the state that all aggregates of its kind begin with.
    ///
    /// Reads the stream from its start and no snapshot: those are of one version only, and what a person is shown
    /// should be what the events say.
    ///
    /// # Errors
    ///
    /// Class poison when the stream hasn't had that version; class fatal when no aggregate of the service has its
    /// category or an event is of a type that the program doesn't know; else what the store says.
    pub(crate) async fn state_at(
        &self,
        stream: &StreamId,
        version: Option<Version>,
    ) -> Result<(Json, Version), Error> {
        let mut aggregate = self.kind(stream)?.empty();
        let wanted = version.unwrap_or(Version(u64::MAX));
        while aggregate.version() < wanted {
            let missing = usize::try_from(wanted.0 - aggregate.version().0).unwrap_or(usize::MAX);
            let limit = missing.min(PAGE_EVENTS_MAX);
            let page = self
                .store
                .read_stream(stream, aggregate.version().next(), limit)
                .await?;
            for record in &page.records {
                aggregate.apply(record).map_err(|error| {
                    error.while_(format!(
                        "replaying `{stream}` up to version {}",
                        record.version
                    ))
                })?;
            }
            if page.records.len() < limit {
                break;
            }
        }
        let reached = aggregate.version();
        match version {
            Some(version) if version > reached => Err(Error::poison(format!(
                "stream `{stream}` has no version {version}: its last is {reached}"
            ))),
            _ => Ok((aggregate.state()?, reached)),
        }
    }
}
