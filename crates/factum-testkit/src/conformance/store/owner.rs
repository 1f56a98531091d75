//! The owner of an inbox, as the cases play it.

use bytes::Bytes;
use factum_core::{
    Advance, Begin, Commit, Disposition, FailureClass, FailureNote, Fence, Group, HandlerName,
    Headers, InboxId, InboxRow, Input, Key, Lane, Message, MessageId, MessageInput, OperatorAction,
    OperatorInput, Parked, ParkedId, ParkedInput, ParkedState, Retried, Room, Seen, Start,
    Timestamp, Topic, VoidInput,
};

use super::world::{TOPIC, World, at};

/// The inbox of `group` for a partition of the topic.
pub(crate) fn inbox(group: &'static str, partition: u32) -> InboxId {
    InboxId {
        group: Group::of(group),
        topic: Topic::of(TOPIC),
        partition,
    }
}

/// The lane of a key.
pub(crate) fn lane(key: &str) -> Lane {
    Lane::Key(Key::from(key))
}

/// When the message at an offset was published.
pub(crate) fn published(offset: u64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_001 + offset.cast_signed())
}

/// What an owner saw who found nothing but messages to deliver below `offset`, and at it.
pub(crate) fn delivered_up_to(offset: u64) -> Advance {
    (0..=offset)
        .map(|offset| Seen {
            from: offset,
            offset,
            void: false,
            link: None,
            timestamp: published(offset),
        })
        .collect()
}

/// A failure.
pub(crate) fn failure(message: &str) -> FailureNote {
    FailureNote {
        class: FailureClass::Transient,
        message: message.into(),
        cause: format!("cause of {message}"),
        handler: Some(HandlerName::of("charge")),
        at: at(1),
    }
}

/// Whoever claimed an inbox, valid or not.
#[derive(Clone)]
pub(crate) struct Owner {
    pub(crate) inbox: InboxId,
    pub(crate) fence: Fence,
}

impl Owner {
    /// Claims an inbox.
    pub(crate) async fn claim(world: &World, inbox: InboxId) -> Self {
        let row = world
            .store
            .claim_inbox(&inbox, &Begin::at(Start::Beginning, 0))
            .await
            .expect("an inbox can be claimed");
        Self {
            inbox,
            fence: row.fence,
        }
    }

    /// The owner of the first partition in the group `payment`.
    pub(crate) async fn of_payment(world: &World) -> Self {
        Self::claim(world, inbox("payment", 0)).await
    }

    /// The name of the message at an offset.
    pub(crate) fn id(&self, offset: u64) -> ParkedId {
        ParkedId {
            inbox: self.inbox.clone(),
            offset,
        }
    }

    /// The input of a message in a lane.
    pub(crate) fn input(&self, offset: u64, lane: Lane, disposition: Disposition) -> MessageInput {
        MessageInput {
            inbox: self.inbox.clone(),
            fence: self.fence,
            offset,
            lane,
            advance: delivered_up_to(offset),
            event_id: None,
            disposition,
        }
    }

    fn handled(&self, world: &World, offset: u64, key: &str, disposition: Disposition) -> Commit {
        let input = Input::Message(self.input(offset, lane(key), disposition));
        Commit {
            input,
            ..world.commit()
        }
    }

    /// The message at an offset was handled.
    pub(crate) fn apply(&self, world: &World, offset: u64, key: &str) -> Commit {
        self.handled(world, offset, key, Disposition::Apply)
    }

    /// It was left out.
    pub(crate) fn skip(&self, world: &World, offset: u64, key: &str) -> Commit {
        self.handled(world, offset, key, Disposition::Skip)
    }

    /// It failed, and is tried again 10 seconds later.
    pub(crate) fn park(&self, world: &World, offset: u64, key: &str) -> Commit {
        let parked = self.parked(offset, lane(key), ParkedState::Retrying);
        self.handled(
            world,
            offset,
            key,
            Disposition::Park(Box::new(parked), Room::default()),
        )
    }

    /// It failed for ever.
    pub(crate) fn bury(&self, world: &World, offset: u64, key: &str) -> Commit {
        let parked = self.parked(offset, lane(key), ParkedState::Dead);
        self.handled(
            world,
            offset,
            key,
            Disposition::Park(Box::new(parked), Room::default()),
        )
    }

    /// It waits behind its lane.
    pub(crate) fn wait(&self, world: &World, offset: u64, key: &str) -> Commit {
        let parked = self.parked(offset, lane(key), ParkedState::Waiting);
        self.handled(
            world,
            offset,
            key,
            Disposition::Wait(Box::new(parked), Room::default()),
        )
    }

    /// It is a duplicate of an event.
    pub(crate) fn duplicate(&self, world: &World, offset: u64, key: &str, id: &str) -> Commit {
        foreign(
            self.handled(world, offset, key, Disposition::Duplicate),
            id,
            at(100),
        )
    }

    /// A message as it is parked.
    pub(crate) fn parked(&self, offset: u64, lane: Lane, state: ParkedState) -> Parked {
        let key = match &lane {
            Lane::Key(key) => Some(key.clone()),
            Lane::Alone(_) => None,
        };
        let message = Message {
            topic: self.inbox.topic.clone(),
            partition: self.inbox.partition,
            offset,
            timestamp: at(0),
            key,
            headers: Headers::new(),
            value: Some(Bytes::from(format!("value {offset}"))),
        };
        let failed = state != ParkedState::Waiting;
        Parked {
            id: self.id(offset),
            lane,
            state,
            revision: 1,
            message,
            edited: None,
            event_id: None,
            event_type: None,
            correlation_id: None,
            tries: u32::from(failed),
            due: (state == ParkedState::Retrying).then(|| at(10)),
            failure: failed.then(|| failure("gateway down")),
            parked_at: at(0),
            redrives: 0,
            discarded_at: None,
        }
    }

    /// A retry of a parked message has ended.
    pub(crate) fn retried(
        &self,
        world: &World,
        offset: u64,
        revision: u64,
        outcome: Retried,
    ) -> Commit {
        let (id, fence) = (self.id(offset), self.fence);
        Commit {
            input: Input::Parked(ParkedInput {
                id,
                fence,
                revision,
                outcome,
            }),
            ..world.commit()
        }
    }

    /// Only the row moves on.
    pub(crate) fn void(&self, world: &World, advance: Advance) -> Commit {
        Commit {
            input: Input::Void(self.void_input(advance)),
            ..world.commit()
        }
    }

    /// The input of such a commit, to be changed.
    pub(crate) fn void_input(&self, advance: Advance) -> VoidInput {
        let (inbox, fence) = (self.inbox.clone(), self.fence);
        VoidInput {
            inbox,
            fence,
            advance,
            trying: None,
            release: false,
            accept: None,
        }
    }

    /// An operator acts on a parked message of this inbox.
    pub(crate) fn operate(
        &self,
        world: &World,
        offset: u64,
        revision: u64,
        action: OperatorAction,
    ) -> Commit {
        let id = self.id(offset);
        Commit {
            input: Input::Operator(OperatorInput {
                id,
                revision,
                action,
            }),
            ..world.commit()
        }
    }

    /// The row of the inbox.
    pub(crate) async fn row(&self, world: &World) -> InboxRow {
        let row = world
            .store
            .inbox(&self.inbox)
            .await
            .expect("a row can be read");
        row.expect("the inbox was claimed")
    }

    /// The state and revision of a parked message, when it is there.
    pub(crate) async fn state(&self, world: &World, offset: u64) -> Option<(ParkedState, u64)> {
        let parked = world
            .store
            .parked_one(&self.id(offset))
            .await
            .expect("a parked message can be read");
        parked.map(|parked| (parked.state, parked.revision))
    }

    /// The parked message at an offset, which is there.
    pub(crate) async fn one(&self, world: &World, offset: u64) -> Parked {
        let parked = world
            .store
            .parked_one(&self.id(offset))
            .await
            .expect("a parked message can be read");
        parked.unwrap_or_else(|| panic!("`{}` is not parked", self.id(offset)))
    }
}

/// The same commit of a foreign message, whose event id is remembered until a time.
pub(crate) fn foreign(mut commit: Commit, id: &str, until: Timestamp) -> Commit {
    let event_id = MessageId::from(id);
    if let Input::Message(input) = &mut commit.input {
        if let Disposition::Park(parked, _) | Disposition::Wait(parked, _) = &mut input.disposition
        {
            parked.event_id = Some(event_id.clone());
        }
        input.event_id = Some((event_id, until));
    }
    commit
}
