//! Bounds: what a world has in it, and what may go wrong in it how often.

use std::{fmt, sync::Arc};

use factum_core::{Group, InboxId, Key, MessageId, Room, Start, StoreId, Topic};
use uuid::Uuid;

use crate::mutation::Mutation;

/// The partition that is consumed, where one is.
pub(crate) const CONSUMED: u32 = 0;

/// What a world has in it.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// What is explored, in words.
    pub(crate) name: &'static str,
    /// The records that there will be, in order: where each goes, and its key. One without a partition goes nowhere, one
    /// without a key is a lane alone.
    pub(crate) records: &'static [(Option<u32>, &'static str)],
    /// How many partitions the topic has.
    pub(crate) partitions: u32,
    /// How the records come into the topic.
    pub(crate) publishing: Publishing,
    /// How they are consumed; without, a consumer is taken that handles each message as soon as it is there.
    pub(crate) consuming: Option<Consuming>,
    /// Where the group starts.
    pub(crate) start: Start,
    /// What may go wrong, and how often.
    pub(crate) faults: Faults,
    /// Whether a source may come to miss a message, because the broker forgets, so that a person has to mend it.
    pub(crate) incidents: bool,
    /// What is planted.
    pub(crate) mutation: Option<Mutation>,
    /// Whether only harm counts: effects, losses and standstills, and not the pictures that rows and owners have.
    pub(crate) harm_only: bool,
}

/// How records come into the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Publishing {
    /// By relays, from a log that has all of them.
    Relay,
    /// By relays, from a log that grows.
    GrowingLog,
    /// They are there, in one of these orders: each a record's index, or a place without a message.
    There(Vec<Vec<Option<u8>>>),
    /// The same, from a producer that knows nothing of chains: told apart by event ids.
    Foreign(Vec<Vec<Option<u8>>>),
}

/// How messages are consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Consuming {
    /// How many messages an owner reads ahead.
    pub(crate) ahead: u64,
    /// How many may run at a time.
    pub(crate) concurrency: usize,
    /// How many may be parked in a lane.
    pub(crate) room: u32,
    /// How often an owner may die of a message.
    pub(crate) crashes_max: u32,
    /// Of how many parked lanes an owner is told when it claims.
    pub(crate) lanes_known: usize,
    /// Whether commits are queued and their answers arrive late, so that other things happen in between.
    pub(crate) slow: bool,
}

/// What may go wrong, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Faults {
    /// Another relay claims while the one before goes on.
    pub(crate) take_overs: u8,
    /// A relay takes something for a failure that was none.
    pub(crate) suspicions: u8,
    /// A publication is lost on the way; those behind it arrive.
    pub(crate) losses: u8,
    /// The source's store can't write a checkpoint.
    pub(crate) store_failures: u8,
    /// A publication overtakes the one before it.
    pub(crate) reorderings: u8,
    /// The source's store is backed up.
    pub(crate) backups: u8,
    /// It is restored from its backup.
    pub(crate) restores: u8,
    /// The partition moves to another member while the one before goes on.
    pub(crate) moves: u8,
    /// The partition moves to another member, and the one before releases it in good order.
    pub(crate) releases: u8,
    /// A member claims that no longer has the partition.
    pub(crate) late_claims: u8,
    /// An owner dies.
    pub(crate) crashes: u8,
    /// A handler fails, for a while or for good.
    pub(crate) failures: u8,
    /// A handler asks to leave a message out.
    pub(crate) skips: u8,
    /// An operator discards the head of a lane.
    pub(crate) discards: u8,
    /// The broker drops what the group has finished.
    pub(crate) retentions: u8,
    /// The broker forgets a message that it had acknowledged, and that nobody has read yet.
    pub(crate) forgets: u8,
    /// An operator sets the relay back, though nothing is missing.
    pub(crate) rewinds: u8,
    /// An operator accepts that a source misses messages.
    pub(crate) accepts: u8,
}

/// Bounds, and the names that all worlds within them share.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) bounds: Bounds,
    pub(crate) source: StoreId,
    pub(crate) topic: Topic,
    pub(crate) inbox: InboxId,
    pub(crate) keys: Vec<Option<Key>>,
    pub(crate) event_ids: Vec<MessageId>,
    pub(crate) room: Room,
}

impl Setting {
    pub(crate) fn new(bounds: Bounds) -> Arc<Self> {
        let topic = Topic::of("t");
        let inbox = InboxId {
            group: Group::of("g"),
            topic: topic.clone(),
            partition: CONSUMED,
        };
        let keys = bounds.records.iter();
        let keys = keys.map(|(_, key)| (!key.is_empty()).then(|| Key::from(*key)));
        let room = bounds.consuming.map_or(0, |consuming| consuming.room);
        Arc::new(Self {
            source: StoreId(Uuid::nil()),
            topic,
            inbox,
            keys: keys.collect(),
            event_ids: bounds
                .records
                .iter()
                .enumerate()
                .map(|(index, _)| format!("event-{index}").as_str().into())
                .collect(),
            room: Room {
                lane_max: room,
                group_max: room * 10,
            },
            bounds,
        })
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records = self.records.len();
        write!(f, "{}; {records} records; {}", self.name, self.faults)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [
            (self.take_overs, "take-over"),
            (self.suspicions, "false failure"),
            (self.losses, "loss"),
            (self.store_failures, "checkpoint not written"),
            (self.reorderings, "reordering"),
            (self.backups, "backup"),
            (self.restores, "restore"),
            (self.moves, "move"),
            (self.releases, "release"),
            (self.late_claims, "late claim"),
            (self.crashes, "crash"),
            (self.failures, "failure"),
            (self.skips, "skip"),
            (self.discards, "discard"),
            (self.retentions, "retention"),
            (self.forgets, "forgotten message"),
            (self.rewinds, "rewind"),
            (self.accepts, "accepted loss"),
        ];
        let mut first = true;
        for (count, name) in named.into_iter().filter(|(count, _)| *count > 0) {
            if !first {
                f.write_str(", ")?;
            }
            first = false;
            write!(f, "{count} × {name}")?;
        }
        if first {
            f.write_str("nothing goes wrong")?;
        }
        Ok(())
    }
}
