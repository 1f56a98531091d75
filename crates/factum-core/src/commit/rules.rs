//! When a commit is refused, and what it makes of the rows that it is about: the rules that every store goes by.
//!
//! A store looks up what it holds, and these functions say what follows from it. They know no store, and change nothing.

use std::fmt;

use super::{
    Commit, CommitError, Disposition, Input, MessageInput, OperatorAction, OperatorInput, VoidInput,
};
use crate::{
    Epoch, Error, Fence, InboxId, InboxRow, Key, Parked, ParkedState, ProjectionName, Room,
    StreamId,
};

/// What an owner has to own, so that its commit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owned<'a> {
    /// An inbox.
    Inbox(&'a InboxId),
    /// A generation of a projection.
    Projection(&'a ProjectionName, u32),
    /// The timers.
    Timers,
    /// The relay.
    Relay,
}

impl Input {
    /// Refuses whoever is not the owner any more. `stored` looks up the fence of what it owns, or the default one.
    ///
    /// # Errors
    ///
    /// [`CommitError::Fenced`].
    pub fn check_owner(
        &self,
        epoch: Epoch,
        stored: impl FnOnce(Owned<'_>) -> Fence,
    ) -> Result<(), CommitError> {
        let (fence, owned) = match self {
            Self::None | Self::Command(_) | Self::Operator(_) => return Ok(()),
            Self::Message(input) => (input.fence, Owned::Inbox(&input.inbox)),
            Self::Void(input) => (input.fence, Owned::Inbox(&input.inbox)),
            Self::Parked(input) => (input.fence, Owned::Inbox(&input.id.inbox)),
            Self::Log(input) => (
                input.fence,
                Owned::Projection(&input.projection, input.generation),
            ),
            Self::Timer(input) => (input.fence, Owned::Timers),
            Self::Relay(input) => (input.fence, Owned::Relay),
        };
        let stored = stored(owned);
        // A fence that was raised in an earlier epoch is nobody's any more, though it is still stored.
        if fence == stored && fence.store == epoch {
            return Ok(());
        }
        let role = match owned {
            Owned::Timers => "timers".into(),
            Owned::Relay => "relay".into(),
            Owned::Inbox(_) | Owned::Projection(..) => self.to_string(),
        };
        Err(CommitError::Fenced {
            role,
            stored: Fence {
                store: epoch,
                ..stored
            },
        })
    }
}

impl fmt::Display for MessageInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {}:{}", self.inbox, self.offset)
    }
}

impl MessageInput {
    /// The inbox row as the commit leaves it. `is_parked` says whether anything of the message's lane is, `is_taken`
    /// whether its event id is. Room is asked for only where the message is to be parked.
    ///
    /// # Errors
    ///
    /// Those of [`Disposition`]; what `room` says; class poison when what is to be parked is another message.
    pub fn applied(
        &self,
        row: &InboxRow,
        is_parked: bool,
        is_taken: bool,
        room: impl FnOnce(Room) -> Result<(), CommitError>,
    ) -> Result<InboxRow, CommitError> {
        let event_id = self.event_id.as_ref().map(|(id, _)| id);
        match (&self.disposition, event_id) {
            (Disposition::Duplicate, Some(_)) if is_taken => {}
            (Disposition::Duplicate, Some(id)) => {
                return Err(CommitError::NotDuplicate(id.clone()));
            }
            (Disposition::Duplicate, None) => {
                let what = format!("{self} has no event id to be a duplicate by");
                return Err(Error::poison(what).into());
            }
            (Disposition::Wait(..), _) if !is_parked => return Err(CommitError::LaneFree),
            (Disposition::Apply | Disposition::Skip | Disposition::Park(..), _) if is_parked => {
                return Err(CommitError::LaneParked);
            }
            // What has an effect, or keeps a place for one, does so once.
            (Disposition::Apply | Disposition::Park(..) | Disposition::Wait(..), Some(id))
                if is_taken =>
            {
                return Err(CommitError::DuplicateEvent(id.clone()));
            }
            _ => {}
        }
        if let Disposition::Park(parked, bounds) | Disposition::Wait(parked, bounds) =
            &self.disposition
        {
            room(*bounds)?;
            self.check_parked(parked)?;
        }
        let mut row = row.clone();
        row.apply(Some(self.offset), &self.advance)?;
        Ok(row)
    }

    fn check_parked(&self, parked: &Parked) -> Result<(), Error> {
        let state = match self.disposition {
            Disposition::Park(..) => parked.state.is_head(),
            _ => parked.state == ParkedState::Waiting,
        };
        if state
            && parked.id.inbox == self.inbox
            && parked.id.offset == self.offset
            && parked.lane == self.lane
        {
            return Ok(());
        }
        Err(Error::poison(format!(
            "{self} can't be parked as `{}` ({:?}) in lane {}",
            parked.id, parked.state, parked.lane
        )))
    }
}

impl VoidInput {
    /// The inbox row as the commit leaves it.
    ///
    /// # Errors
    ///
    /// When the row contradicts what the owner saw, or the loss that is to be accepted.
    pub fn applied(&self, row: &InboxRow) -> Result<InboxRow, Error> {
        let mut row = row.clone();
        row.apply(None, &self.advance)?;
        // Behind the row's own move, which removes marks of finished offsets: a parked message is finished for the
        // inbox, and may be what is tried.
        if let Some(trying) = self.trying {
            row.trying = trying;
        }
        row.clean |= self.release;
        if let Some(loss) = self.accept {
            row.accept(loss)?;
        }
        Ok(row)
    }
}

impl OperatorInput {
    /// The parked row as `commit`, whose input this is, leaves it.
    ///
    /// # Errors
    ///
    /// [`CommitError::RevisionChanged`], or class poison when the commit would have effects besides.
    pub fn applied(&self, mut row: Parked, commit: &Commit) -> Result<Parked, CommitError> {
        match &self.action {
            OperatorAction::Redrive => row.redrive(self.revision, commit.at)?,
            OperatorAction::Edit(value) => row.edit(self.revision, value.clone())?,
            OperatorAction::Discard => row.discard(self.revision, commit.at)?,
        }
        let effects = commit.drafts().next().is_some()
            || !commit.views.is_empty()
            || !commit.timers.is_empty();
        if effects {
            return Err(Error::poison(format!("{} can't have effects", commit.input)).into());
        }
        Ok(row)
    }
}

/// What decides the partition of a stream's events.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum StreamKey {
    /// No event of it went to a topic yet.
    #[default]
    Open,
    /// Its events have this key, or none.
    Fixed(Option<Key>),
}

impl StreamKey {
    /// The next event of `stream` that goes to a topic has this key, or none: the first one fixes it.
    ///
    /// # Errors
    ///
    /// [`CommitError::KeyChanged`].
    pub fn fix(&mut self, stream: &StreamId, given: Option<&Key>) -> Result<(), CommitError> {
        match self {
            Self::Open => {
                *self = Self::Fixed(given.cloned());
                Ok(())
            }
            Self::Fixed(known) if known.as_ref() == given => Ok(()),
            Self::Fixed(known) => {
                let text = |key: Option<&Key>| key.map_or_else(|| "(none)".into(), Key::to_string);
                Err(CommitError::KeyChanged {
                    stream: stream.clone(),
                    known: text(known.as_ref()),
                    given: text(given),
                })
            }
        }
    }
}
