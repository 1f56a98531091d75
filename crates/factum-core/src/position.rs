//! Where a record stands: its epoch and position in the store's log, its version in a stream.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Timestamp;

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Before the first.
            pub const ZERO: Self = Self(0);

            /// The one after this. The greatest, to which nothing counts but what strangers write, is its own.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<u64> for $name {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }
    };
}

counter!(
    /// A place in a store's whole log: 1, 2, 3, … without a gap, in the order of commits. 0 is before the first.
    Position
);
counter!(
    /// A place within one stream: its first event has version 1, a stream without events is at 0.
    Version
);
counter!(
    /// One time line of a store. A restore opens a new one, greater than any that was ever used.
    Epoch
);
impl Epoch {
    /// The epoch to open at `at` in a store of which `greatest` is the greatest epoch that is known.
    ///
    /// Its number is the time in milliseconds, and greater than `greatest` in any case. For what is known need not be all:
    /// a restored log has forgotten the epochs that were opened in its lost part. Those were numbered by an earlier time, so
    /// that none of them is used again.
    ///
    /// ```
    /// # use factum_core::{Epoch, Timestamp};
    /// let at = Timestamp::from_millis(1_790_000_000_000);
    /// assert_eq!(Epoch::opened_at(at, Epoch(1)), Epoch(1_790_000_000_000));
    /// // The clock was put back, or somebody named the last epoch by hand.
    /// let greatest = Epoch(1_800_000_000_000);
    /// assert_eq!(Epoch::opened_at(at, greatest), greatest.next());
    /// ```
    #[must_use]
    pub fn opened_at(at: Timestamp, greatest: Self) -> Self {
        let now = u64::try_from(at.as_millis()).unwrap_or(0);
        Self(now).max(greatest.next())
    }
}

counter!(
    /// The number of times that a role (a partition, a relay, a projection) changed its owner.
    OwnerEpoch
);

/// A record's place for ever: the epoch that it was written in, and its position.
///
/// Ordered by epoch, then position. The zero stands before every record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct At {
    /// The epoch that the record was written in.
    pub epoch: Epoch,
    /// Its position in the log.
    pub position: Position,
}

impl At {
    /// Before every record.
    pub const ZERO: Self = Self {
        epoch: Epoch(0),
        position: Position(0),
    };

    /// The place `position` written in `epoch`.
    #[must_use]
    pub const fn new(epoch: u64, position: u64) -> Self {
        Self {
            epoch: Epoch(epoch),
            position: Position(position),
        }
    }
}

/// As in the header `factum-at`: `<epoch>-<position>`, and `0` for [`At::ZERO`].
impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ZERO {
            f.write_str("0")
        } else {
            write!(f, "{}-{}", self.epoch, self.position)
        }
    }
}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not `<epoch>-<position>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a place in a log: that is `<epoch>-<position>`, or `0` for none")]
pub struct InvalidAt(String);

impl FromStr for At {
    type Err = InvalidAt;

    fn from_str(text: &str) -> Result<Self, InvalidAt> {
        if text == "0" {
            return Ok(Self::ZERO);
        }
        let invalid = || InvalidAt(text.chars().take(60).collect());
        let (epoch, position) = text.split_once('-').ok_or_else(invalid)?;
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain
                .then(|| digits.parse().ok())
                .flatten()
                .ok_or_else(invalid)
        };
        Ok(Self::new(number(epoch)?, number(position)?))
    }
}

/// The right to act for a role: compared for equality in every commit of the role's owner.
///
/// It holds the store's epoch too, so that no fence of a lost time line ever equals a new one.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Fence {
    /// The epoch of the store that holds the row.
    pub store: Epoch,
    /// How many owners the role has had.
    pub owner: OwnerEpoch,
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.store, self.owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_as_written() {
        for at in [
            At::ZERO,
            At::new(1, 1),
            At::new(7, 918_233),
            At::new(u64::MAX, u64::MAX),
        ] {
            assert_eq!(at.to_string().parse(), Ok(at));
        }
    }

    #[test]
    fn an_epoch_weighs_more_than_a_position() {
        assert!(At::new(1, 100) < At::new(2, 1));
        assert!(At::ZERO < At::new(1, 1));
    }

    #[test]
    fn an_opened_epoch_is_beyond_all_that_are_known_whatever_the_clock_says() {
        let opened =
            |millis, greatest| Epoch::opened_at(Timestamp::from_millis(millis), Epoch(greatest)).0;
        assert_eq!(opened(5_000, 1), 5_000);
        assert_eq!(opened(5_000, 4_999), 5_000);
        assert_eq!(opened(5_000, 5_000), 5_001);
        assert_eq!(opened(5_000, 9_000), 9_001);
        assert_eq!(opened(-1, 0), 1);
    }

    #[test]
    fn what_is_not_a_place_is_refused() {
        for bad in [
            "",
            "1",
            "1-",
            "-1",
            "+1-2",
            "1-2-3",
            "a-b",
            "99999999999999999999-1",
        ] {
            assert!(bad.parse::<At>().is_err(), "{bad}");
        }
    }
}
