//! A record of the own log as projections get it.

use std::sync::Arc;

use bytes::Bytes;
use factum_core::{Part, Record, Recorded};

/// `record` with all that is known about it, its data still as it is stored.
pub(crate) fn recorded(record: &Record) -> Recorded<Bytes> {
    let draft = &record.draft;
    Recorded {
        data: draft.data.clone(),
        event_id: draft.event_id.clone(),
        event_type: draft.event_type.clone(),
        timestamp: draft.timestamp,
        correlation_id: draft.correlation_id.clone(),
        causation_id: draft.causation_id.clone(),
        metadata: Arc::new(draft.metadata.clone()),
        part: Part::WHOLE,
        stream: draft.stream.clone().map(|stream| (stream, record.version)),
        aggregate_id: draft.stream.as_ref().map(|stream| stream.id().into()),
        key: draft.destination.as_ref().and_then(|to| to.key.clone()),
        at: Some(record.at),
    }
}
