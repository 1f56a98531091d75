//! The newest records of the log, as they were committed.
//!
//! Relays, projections and whoever else follows the log read its end all the time, a few records each. They get them
//! from here, and the file, its checksums and the reading connections are for those who are further behind. A record
//! comes here when it is durable, and not before; and only in stores whose log anybody has read yet.

use std::collections::VecDeque;

use factum_core::{At, LogFilter, LogPage, Record};

/// How many records are kept for each store: more than a few groups of commits have.
const RECORDS_MAX: usize = 1_024;

/// How many bytes they have together at most.
const BYTES_MAX: usize = 2 * 1024 * 1024;

/// The last records, without a gap.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    records: VecDeque<Record>,
    bytes: usize,
}

impl Newest {
    /// Adds the next record; what has no room any more goes to `dropped`.
    pub(crate) fn push(&mut self, record: Record, dropped: &mut Vec<Record>) {
        let follows = |last: &Record| last.at.position.next() == record.at.position;
        if !self.records.back().is_none_or(follows) {
            dropped.extend(self.records.drain(..));
            self.bytes = 0;
        }
        self.bytes += record.draft.encoded_len();
        self.records.push_back(record);
        while self.records.len() > RECORDS_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.records.pop_front() else {
                break;
            };
            self.bytes -= oldest.draft.encoded_len();
            dropped.push(oldest);
        }
    }

    /// Records behind `after`, looking through at most `limit`; `None` when the first of them is not here.
    pub(crate) fn page(
        &self,
        after: At,
        head: At,
        filter: &LogFilter,
        limit: usize,
    ) -> Option<LogPage> {
        let mut page = LogPage {
            records: Vec::new(),
            next: after,
            head,
        };
        if after.position >= head.position {
            return Some(page);
        }
        let first = self.records.front()?.at.position.0;
        let begin = after.position.next().0.checked_sub(first)?;
        let begin = usize::try_from(begin).ok()?;
        for record in self.records.range(begin..).take(limit) {
            page.next = record.at;
            if filter.matches(record) {
                page.records.push(record.clone());
            }
        }
        Some(page)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use factum_core::{
        Codec, Draft, Epoch, MessageId, Metadata, Position, RecordKind, RecordState, Timestamp,
        TypeName, Version,
    };

    use super::*;

    fn at(position: u64) -> At {
        At {
            epoch: Epoch(1),
            position: Position(position),
        }
    }

    fn record(position: u64, bytes: usize) -> Record {
        let draft = Draft {
            kind: RecordKind::Message,
            stream: None,
            event_id: MessageId::from("id"),
            event_type: TypeName::new(
                if position.is_multiple_of(2) {
                    "Even"
                } else {
                    "Odd"
                },
                1,
            ),
            destination: None,
            timestamp: Timestamp::UNIX_EPOCH,
            correlation_id: MessageId::from("id"),
            causation_id: None,
            metadata: Metadata::new(),
            tags: Vec::new(),
            codec: Codec::Json,
            protection: None,
            data: vec![b'1'; bytes].into(),
        };
        Record {
            at: at(position),
            version: Version::ZERO,
            state: RecordState::Live,
            draft: Arc::new(draft),
        }
    }

    #[test]
    fn a_page_is_given_whole_or_not_at_all() {
        let mut newest = Newest::default();
        let mut dropped = Vec::new();
        assert!(
            newest
                .page(at(0), at(3), &LogFilter::default(), 10)
                .is_none()
        );
        for position in 1..=2_000 {
            newest.push(record(position, 3), &mut dropped);
        }
        let positions = |after, limit, filter: &LogFilter| {
            let page = newest.page(at(after), at(2_000), filter, limit)?;
            let records = page.records.iter().map(|record| record.at.position.0);
            Some((records.collect::<Vec<_>>(), page.next.position.0))
        };
        let all = LogFilter::default();
        let kept = RECORDS_MAX as u64;
        assert_eq!(dropped.len() as u64, 2_000 - kept);
        assert_eq!(positions(2_000 - kept - 1, 1, &all), None);
        assert_eq!(
            positions(2_000 - kept, 1, &all),
            Some((vec![2_001 - kept], 2_001 - kept))
        );
        assert_eq!(positions(1_998, 9, &all), Some((vec![1_999, 2_000], 2_000)));
        assert_eq!(positions(2_000, 9, &all), Some((vec![], 2_000)));
        let even = LogFilter {
            types: vec!["Even".into()],
            ..LogFilter::default()
        };
        assert_eq!(positions(1_990, 3, &even), Some((vec![1_992], 1_993)));
        newest.push(record(2_002, 3), &mut dropped);
        assert_eq!(newest.records.len(), 1, "there would be a gap");
    }

    #[test]
    fn large_records_push_others_out() {
        let mut newest = Newest::default();
        let mut dropped = Vec::new();
        for position in 1..=9 {
            newest.push(record(position, BYTES_MAX / 4), &mut dropped);
        }
        assert!(newest.bytes <= BYTES_MAX);
        assert_eq!(newest.records.len() + dropped.len(), 9);
        assert!((1..=3).contains(&newest.records.len()));
    }
}
