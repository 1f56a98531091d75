//! How a group stands in a partition: whether the log there is still the one in which it finished what it has finished.
//!
//! Offsets alone don't say so. A topic that was made anew has the same ones, and may have grown beyond where the group
//! stands; a log may have lost its end. Going on there would leave out messages in silence, so the finished message with
//! the largest offset is known again by its time. What can't be looked up, since retention has taken it, is taken for
//! the same.

use factum_core::{Broker, Error, InboxId, InboxRow, Mark, Timestamp, TopicPartition, Watermarks};

/// How a group stands in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may go on where it is.
    Well,
    /// Retention has passed what it reads next.
    Passed { low: u64, first: u64 },
    /// The partition ends before what it has finished.
    Short { finished: u64, end: u64 },
    /// Another message has the offset of the last one that it has finished.
    Strange { mark: Mark, found: Timestamp },
}

/// Looks how a group with this row stands.
pub(crate) async fn look(
    broker: &dyn Broker,
    partition: &TopicPartition,
    row: &InboxRow,
) -> Result<Standing, Error> {
    let marks = broker.watermarks(partition).await?;
    let kept = |mark: &Mark| (marks.first..marks.end).contains(&mark.offset);
    let found = match row.mark.filter(kept) {
        Some(mark) => {
            let messages = broker.read(partition, mark.offset, 1).await?;
            let found = messages.first();
            // There may be a hole, where retention or compaction came while it was read.
            let found = found.filter(|message| message.offset == mark.offset);
            found.map(|message| message.timestamp)
        }
        None => None,
    };
    Ok(judge(row, marks, found))
}

/// How a group with this row stands, where the message at the row's mark, if it is there, is of this time.
fn judge(row: &InboxRow, marks: Watermarks, found: Option<Timestamp>) -> Standing {
    let (low, end) = (row.low, marks.end);
    let finished = row.mark.map_or(low, |mark| low.max(mark.offset + 1));
    if finished > end {
        return Standing::Short { finished, end };
    }
    if let (Some(mark), Some(found)) = (row.mark, found)
        && found != mark.timestamp
    {
        return Standing::Strange { mark, found };
    }
    if low < marks.first {
        let first = marks.first;
        return Standing::Passed { low, first };
    }
    Standing::Well
}

impl Standing {
    /// What a person is told; `None` when there is nothing to be said.
    pub(crate) fn reason(self, inbox: &InboxId) -> Option<String> {
        let said = match self {
            Self::Well => return None,
            Self::Passed { low, first } => format!(
                "inbox `{inbox}` stands at offset {low}, and the partition begins at {first}: retention was faster than \
                 the group. Let it go on at {first}; then have what is missing published again, or accept its loss"
            ),
            Self::Short { finished, end } => format!(
                "inbox `{inbox}` has finished messages up to, without, offset {finished}, and the partition ends at \
                 {end}: the topic was made anew or has lost its end, and what was finished can't be told from what is \
                 new. Give the group another name"
            ),
            Self::Strange { mark, found } => format!(
                "inbox `{inbox}` has finished the message of {} at offset {}, and the partition has one of {found} \
                 there: the topic was made anew or has lost its end, and what was finished can't be told from what is \
                 new. Give the group another name",
                mark.timestamp, mark.offset
            ),
        };
        Some(said)
    }
}

#[cfg(test)]
mod tests {
    use factum_core::Start;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1_000)
    }

    /// A group that has finished all below 5, and the message at offset 8, which is of second 8.
    fn row() -> InboxRow {
        InboxRow {
            mark: Some(Mark {
                offset: 8,
                timestamp: at(8),
            }),
            ..InboxRow::new(Start::Beginning, 5)
        }
    }

    #[test]
    fn a_partition_is_known_again_by_the_last_message_that_was_finished() {
        let well = [
            (0, 9, Some(at(8))),
            (5, 100, Some(at(8))),
            // A hole: nothing contradicts it.
            (5, 100, None),
        ];
        for (first, end, found) in well {
            let standing = judge(&row(), Watermarks { first, end }, found);
            assert_eq!(standing, Standing::Well, "{first} to {end}");
        }
        let fresh = InboxRow::new(Start::Beginning, 0);
        let empty = Watermarks { first: 0, end: 0 };
        assert_eq!(judge(&fresh, empty, None), Standing::Well);
    }

    #[test]
    fn what_is_gone_short_or_strange_is_told_apart() {
        let cases = [
            // It went wrong: that end lies above `low`, so this was told as retention, at an offset below `low`.
            (
                (0, 7, None),
                Standing::Short {
                    finished: 9,
                    end: 7,
                },
            ),
            (
                (0, 0, None),
                Standing::Short {
                    finished: 9,
                    end: 0,
                },
            ),
            // It went wrong: another log that had grown was read on, without what is finished by its offset.
            (
                (0, 100, Some(at(80))),
                Standing::Strange {
                    mark: row().mark.unwrap(),
                    found: at(80),
                },
            ),
            (
                (6, 100, Some(at(80))),
                Standing::Strange {
                    mark: row().mark.unwrap(),
                    found: at(80),
                },
            ),
            ((6, 100, Some(at(8))), Standing::Passed { low: 5, first: 6 }),
            ((50, 100, None), Standing::Passed { low: 5, first: 50 }),
        ];
        for ((first, end, found), expected) in cases {
            let standing = judge(&row(), Watermarks { first, end }, found);
            assert_eq!(standing, expected, "{first} to {end}");
        }
    }
}
