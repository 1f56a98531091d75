//! The log: records at dense positions, and the indexes over them.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use factum_core::{
    At, Category, Draft, Epoch, LogFilter, LogPage, MessageId, PAGE_BYTES_MAX, Position, Record,
    RecordState, StreamId, StreamKey, StreamPage, StreamSummary, Version, commit::key_of,
};

/// All records, in order.
#[derive(Clone, Default)]
pub(super) struct Log {
    /// The record at position `n` has index `n - 1`.
    records: Vec<Record>,
    streams: BTreeMap<StreamId, Stream>,
    correlated: BTreeMap<MessageId, Vec<Position>>,
}

/// What is known of one stream.
#[derive(Clone, Default)]
pub(super) struct Stream {
    /// The event with version `n` has index `n - 1`.
    positions: Vec<Position>,
    /// What decides the partition of its events.
    pub(super) key: StreamKey,
}

impl Stream {
    /// The version of its last event.
    pub(super) fn version(&self) -> Version {
        Version(self.positions.len() as u64)
    }
}

impl Log {
    /// The place of the last record.
    pub(super) fn head(&self) -> At {
        self.records.last().map_or(At::ZERO, |record| record.at)
    }

    /// What is known of `stream`, when it has events.
    pub(super) fn stream(&self, stream: &StreamId) -> Option<&Stream> {
        self.streams.get(stream)
    }

    /// The version of the last event of `stream`.
    pub(super) fn version(&self, stream: &StreamId) -> Version {
        self.stream(stream).map_or(Version::ZERO, Stream::version)
    }

    /// Appends a record written in `epoch`, and says which version it has in its stream.
    pub(super) fn push(&mut self, epoch: Epoch, draft: Draft) -> Version {
        let position = self.head().position.next();
        let version = match &draft.stream {
            None => Version::ZERO,
            Some(id) => {
                if !self.streams.contains_key(id) {
                    self.streams.insert(id.clone(), Stream::default());
                }
                let stream = self.streams.get_mut(id).expect("it was inserted above");
                stream.positions.push(position);
                if stream.key == StreamKey::Open && draft.destination.is_some() {
                    stream.key = StreamKey::Fixed(key_of(&draft).cloned());
                }
                stream.version()
            }
        };
        self.correlated
            .entry(draft.correlation_id.clone())
            .or_default()
            .push(position);
        self.records.push(Record {
            at: At { epoch, position },
            version,
            state: RecordState::Live,
            draft: Arc::new(draft),
        });
        version
    }

    fn at(&self, position: Position) -> &Record {
        let index = usize::try_from(position.0 - 1).expect("an index of a vector fits");
        &self.records[index]
    }

    /// Records from the first behind `position` on.
    pub(super) fn behind(&self, position: Position) -> &[Record] {
        let first = usize::try_from(position.0)
            .unwrap_or(usize::MAX)
            .min(self.records.len());
        &self.records[first..]
    }

    /// Records behind `after`, which lies on the present time line.
    pub(super) fn page(&self, after: At, filter: &LogFilter, limit: usize) -> LogPage {
        let mut page = LogPage {
            records: Vec::new(),
            next: after,
            head: self.head(),
        };
        let mut bytes = 0;
        for record in self.behind(after.position).iter().take(limit) {
            page.next = record.at;
            if filter.matches(record) {
                bytes += record.draft.encoded_len();
                page.records.push(record.clone());
            }
            if bytes >= PAGE_BYTES_MAX {
                break;
            }
        }
        page
    }

    /// Events of one stream from version `from` on.
    pub(super) fn stream_page(&self, stream: &StreamId, from: Version, limit: usize) -> StreamPage {
        let Some(stream) = self.streams.get(stream) else {
            return StreamPage {
                records: Vec::new(),
                version: Version::ZERO,
            };
        };
        let skipped = usize::try_from(from.0.saturating_sub(1)).unwrap_or(usize::MAX);
        let positions = stream.positions.iter().skip(skipped).take(limit);
        let records = positions
            .map(|position| self.at(*position).clone())
            .collect();
        StreamPage {
            records,
            version: stream.version(),
        }
    }

    /// Records with a correlation id.
    pub(super) fn correlated(&self, id: &MessageId, after: Position, limit: usize) -> Vec<Record> {
        let positions = self.correlated.get(id).map_or(&[][..], Vec::as_slice);
        let first = positions.partition_point(|position| *position <= after);
        positions[first..]
            .iter()
            .take(limit)
            .map(|position| self.at(*position).clone())
            .collect()
    }

    /// Streams behind `after`, by category and id.
    pub(super) fn streams(
        &self,
        category: Option<&Category>,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Vec<StreamSummary> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.streams
            .range((from, Bound::Unbounded))
            .filter(|(id, _)| category.is_none_or(|category| category == id.category()))
            .take(limit)
            .map(|(id, stream)| StreamSummary {
                stream: id.clone(),
                version: stream.version(),
                last: stream.positions.last().copied().unwrap_or_default(),
            })
            .collect()
    }
}
