//! Parking: what becomes of a message that can't be finished soon.
//!
//! A parked message leaves the inbox's window and waits in the store with its bytes: retrying until due,
//! dead, or waiting behind one of its lane. Only the head of a lane is retrying or dead; the rest wait,
//! ordered by offset. The functions here are the rules; adapters read the rows, ask them, and write.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    CommitError, FailureClass, HandlerName, InboxId, Lane, Message, MessageId, Timestamp, TypeName,
};

/// Which parked message: its inbox and offset. Written `group:topic:partition:offset`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParkedId {
    /// The inbox that it was parked from.
    pub inbox: InboxId,
    /// Its offset there.
    pub offset: u64,
}

impl fmt::Display for ParkedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.inbox, self.offset)
    }
}

/// A text that does not name a parked message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` does not name a parked message: that is `<group>:<topic>:<partition>:<offset>`")]
pub struct InvalidParkedId(String);

impl FromStr for ParkedId {
    type Err = InvalidParkedId;

    fn from_str(text: &str) -> Result<Self, InvalidParkedId> {
        let parse = || {
            let mut parts = text.split(':');
            let inbox = InboxId {
                group: parts.next()?.parse().ok()?,
                topic: parts.next()?.parse().ok()?,
                partition: parts.next()?.parse().ok()?,
            };
            let offset = parts.next()?.parse().ok()?;
            parts.next().is_none().then_some(Self { inbox, offset })
        };
        parse().ok_or_else(|| InvalidParkedId(text.chars().take(100).collect()))
    }
}

/// The state of a parked message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParkedState {
    /// The head of its lane, tried again when due.
    Retrying,
    /// The head of its lane, until a person redrives or discards it.
    Dead,
    /// Behind the head of its lane.
    Waiting,
    /// Given up by a person, out of its lane, kept for a stated time.
    Discarded,
}

impl fmt::Display for ParkedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Retrying => "retrying",
            Self::Dead => "dead",
            Self::Waiting => "waiting",
            Self::Discarded => "discarded",
        })
    }
}

impl ParkedState {
    /// The number that stores write for it. It never changes.
    pub const fn code(self) -> u8 {
        match self {
            Self::Retrying => 1,
            Self::Dead => 2,
            Self::Waiting => 3,
            Self::Discarded => 4,
        }
    }

    /// The state that [`ParkedState::code`] stands for.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Retrying),
            2 => Some(Self::Dead),
            3 => Some(Self::Waiting),
            4 => Some(Self::Discarded),
            _ => None,
        }
    }

    /// Whether it may be the head of a lane.
    pub const fn is_head(self) -> bool {
        matches!(self, Self::Retrying | Self::Dead)
    }
}

/// The last failure of a parked message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FailureNote {
    /// What kind of failure it was.
    pub class: FailureClass,
    /// What happened.
    pub message: String,
    /// What failures of one cause have in common: [`Failure::cause`](crate::Failure::cause).
    pub cause: String,
    /// The handler that failed; `None` when the message could not be read at all.
    pub handler: Option<HandlerName>,
    /// When it failed.
    pub at: Timestamp,
}

/// A parked message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Parked {
    /// Which one it is.
    pub id: ParkedId,
    /// The lane that waits behind it, or that it waits in.
    pub lane: Lane,
    /// Its state.
    pub state: ParkedState,
    /// Grows with each change: what operators and owners compare.
    pub revision: u64,
    /// The message as it came, byte for byte.
    pub message: Message,
    /// The value that an operator put in place of the original.
    pub edited: Option<Bytes>,
    /// The message's event id, as far as it could be read.
    pub event_id: Option<MessageId>,
    /// Its type, as far as it could be read.
    pub event_type: Option<TypeName>,
    /// Its correlation id, as far as it could be read.
    pub correlation_id: Option<MessageId>,
    /// How often it was tried.
    pub tries: u32,
    /// When it is to be tried again, while retrying.
    pub due: Option<Timestamp>,
    /// Its last failure; none while it only waits.
    pub failure: Option<FailureNote>,
    /// When it was parked.
    pub parked_at: Timestamp,
    /// How often an operator redrove it.
    pub redrives: u32,
    /// When an operator discarded it, from when on it is kept for a while.
    pub discarded_at: Option<Timestamp>,
}

impl Parked {
    /// The value to handle: the edited one, if there is one.
    pub fn value(&self) -> Option<&Bytes> {
        self.edited.as_ref().or(self.message.value.as_ref())
    }

    /// How many bytes of content it has: the message's, and the value that an operator put in its place.
    pub fn size(&self) -> usize {
        self.message.size() + self.edited.as_ref().map_or(0, Bytes::len)
    }

    /// Tried once more, failed, and tried again when `due`.
    pub fn later(&mut self, due: Timestamp, failure: FailureNote) {
        self.failed(failure);
        self.due = Some(due);
    }

    /// Tried once more, failed, and not tried again.
    pub fn dead(&mut self, failure: FailureNote) {
        self.failed(failure);
        self.state = ParkedState::Dead;
        self.due = None;
    }

    fn failed(&mut self, failure: FailureNote) {
        self.revision += 1;
        self.tries += 1;
        self.failure = Some(failure);
    }

    /// The message before it has left the lane: it is the head now, and due.
    pub fn released(&mut self, now: Timestamp) {
        self.revision += 1;
        self.state = ParkedState::Retrying;
        self.due = Some(now);
    }

    /// An operator's redrive: due, with all its tries before it again.
    ///
    /// # Errors
    ///
    /// [`CommitError::RevisionChanged`] unless the message is dead and at `revision`.
    pub fn redrive(&mut self, revision: u64, now: Timestamp) -> Result<(), CommitError> {
        self.expect(revision, self.state == ParkedState::Dead)?;
        self.released(now);
        self.tries = 0;
        self.redrives += 1;
        Ok(())
    }

    /// An operator's edit: another value, beside the original.
    ///
    /// # Errors
    ///
    /// [`CommitError::RevisionChanged`] unless the message is dead and at `revision`.
    pub fn edit(&mut self, revision: u64, value: Bytes) -> Result<(), CommitError> {
        self.expect(revision, self.state == ParkedState::Dead)?;
        self.revision += 1;
        self.edited = Some(value);
        Ok(())
    }

    /// An operator's discard: out of the lane, kept for a while.
    ///
    /// # Errors
    ///
    /// [`CommitError::RevisionChanged`] unless the message is the head of its lane and at `revision`.
    pub fn discard(&mut self, revision: u64, now: Timestamp) -> Result<(), CommitError> {
        self.expect(revision, self.state.is_head())?;
        self.revision += 1;
        self.discarded_at = Some(now);
        self.state = ParkedState::Discarded;
        self.due = None;
        Ok(())
    }

    /// What the owner's commit of a retry compares: the head of its lane, retrying, at this revision.
    ///
    /// # Errors
    ///
    /// [`CommitError::RevisionChanged`] otherwise.
    pub fn expect_retrying(&self, revision: u64) -> Result<(), CommitError> {
        self.expect(revision, self.state == ParkedState::Retrying)
    }

    fn expect(&self, revision: u64, state: bool) -> Result<(), CommitError> {
        if state && self.revision == revision {
            return Ok(());
        }
        Err(CommitError::RevisionChanged {
            id: self.id.clone(),
            actual: Some(self.revision),
        })
    }
}

/// How many messages may be parked, per lane and per group: at the bound the lane stays as it is, the
/// window fills, and the poller stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// In one lane.
    pub lane_max: u32,
    /// In one group.
    pub group_max: u32,
}

impl Default for Room {
    /// 1,000 in a lane and 100,000 in a group: with messages of 1 KB, 100 MB of parked bytes.
    fn default() -> Self {
        Self {
            lane_max: 1_000,
            group_max: 100_000,
        }
    }
}

impl Room {
    /// Whether one more may be parked beside what is parked already.
    ///
    /// # Errors
    ///
    /// [`CommitError::NoRoom`] at the bound.
    pub fn check(self, in_lane: u64, in_group: u64) -> Result<(), CommitError> {
        if in_lane >= self.lane_max.into() {
            return Err(CommitError::NoRoom {
                lane: true,
                bound: self.lane_max,
            });
        }
        if in_group >= self.group_max.into() {
            return Err(CommitError::NoRoom {
                lane: false,
                bound: self.group_max,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_written() {
        let id: ParkedId = "payment-service:orders:2:918233".parse().unwrap();
        assert_eq!((id.inbox.partition, id.offset), (2, 918_233));
        assert_eq!(id.to_string(), "payment-service:orders:2:918233");
        for bad in ["", "a:b:1", "a:b:1:2:3", "a b:c:1:2", "a:b:x:2"] {
            assert!(bad.parse::<ParkedId>().is_err(), "{bad}");
        }
    }
}
