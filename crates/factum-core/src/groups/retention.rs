//! Retention: which messages at the start of a partition are no longer kept, as arithmetic.

use crate::{Timestamp, TopicSpec};

/// What retention needs to know of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// Its offset.
    pub offset: u64,
    /// When it was published.
    pub timestamp: Timestamp,
    /// How many bytes it has: key, headers and value.
    pub bytes: u64,
}

/// What a partition keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Messages that were published before this time may go.
    pub since: Option<Timestamp>,
    /// The oldest may go while this many bytes remain without it.
    pub bytes: Option<u64>,
}

impl Keep {
    /// What the partitions of `spec` keep at `now`; `None` when they keep all.
    pub fn of(spec: &TopicSpec, now: Timestamp) -> Option<Self> {
        let keep = Self {
            since: spec.retention.map(|retention| now - retention),
            bytes: spec.retention_bytes,
        };
        (keep.since.is_some() || keep.bytes.is_some()).then_some(keep)
    }

    /// How many of the `oldest` messages, which are given from the oldest on, may go from a partition that
    /// holds `total` bytes.
    ///
    /// It ends at the first that must stay: a partition loses its start, never its middle.
    ///
    /// ```
    /// use factum_core::{Timestamp, groups::{Age, Keep}};
    /// let message = |offset| Age { offset, timestamp: Timestamp::from_millis(offset as i64), bytes: 10 };
    /// let keep = Keep { since: None, bytes: Some(25) };
    /// assert_eq!(keep.expired(50, (0..5).map(message)), 2);
    /// let keep = Keep { since: Some(Timestamp::from_millis(4)), bytes: Some(25) };
    /// assert_eq!(keep.expired(50, (0..5).map(message)), 4);
    /// ```
    pub fn expired(&self, total: u64, oldest: impl IntoIterator<Item = Age>) -> usize {
        let mut left = total;
        let mut expired = 0;
        for message in oldest {
            let without = left.saturating_sub(message.bytes);
            let too_old = self.since.is_some_and(|since| message.timestamp < since);
            let too_many = self.bytes.is_some_and(|bytes| without >= bytes);
            if !too_old && !too_many {
                break;
            }
            left = without;
            expired += 1;
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Topic;

    fn message(offset: u64, millis: i64) -> Age {
        Age {
            offset,
            timestamp: Timestamp::from_millis(millis),
            bytes: 10,
        }
    }

    #[test]
    fn a_topic_without_bounds_keeps_all() {
        let spec = TopicSpec::new(Topic::of("orders"), 1);
        assert_eq!(Keep::of(&spec, Timestamp::from_millis(1)), None);
    }

    #[test]
    fn a_young_message_protects_the_older_ones_behind_it() {
        let spec = TopicSpec {
            retention: Some(Duration::from_millis(10)),
            ..TopicSpec::new(Topic::of("orders"), 1)
        };
        let keep = Keep::of(&spec, Timestamp::from_millis(110)).unwrap();
        assert_eq!(
            keep.expired(40, [message(0, 99), message(1, 100), message(2, 50)]),
            1
        );
        assert_eq!(keep.expired(40, [message(0, 99), message(1, 98)]), 2);
    }

    #[test]
    fn at_least_the_stated_bytes_remain() {
        let keep = Keep {
            since: None,
            bytes: Some(10),
        };
        assert_eq!(keep.expired(10, [message(0, 1)]), 0);
        assert_eq!(keep.expired(20, [message(0, 1), message(1, 1)]), 1);
        let nothing = Keep {
            since: None,
            bytes: Some(0),
        };
        assert_eq!(nothing.expired(20, [message(0, 1), message(1, 1)]), 2);
    }
}
