//! One run of the relay, as a state machine: what it may send, what an acknowledgement counts for, and up to
//! where the log is published.
//!
//! A run appends to a partition in chain order with holes at most. Its checkpoint never passes a record that was
//! not appended after its predecessors. Any failure, known or suspected, ends the run: the next one starts at the
//! checkpoint and publishes again, which consumers tell apart by the chain. Never is a failed record sent alone.

use std::collections::BTreeMap;

use crate::{At, Epoch, Link, Position, Record, RelayClaim, StoreId, Topic};

type Partition = (Topic, u32);

/// The last record published to each of some partitions.
pub type LastsOf = Vec<(Topic, u32, At)>;

/// The relay's runs under one claim, one after another: from the claim or a rewind to the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RelayRun {
    source: StoreId,
    /// The end of the unbroken prefix of records that are published or go nowhere.
    base: At,
    /// The last record offered.
    sent_to: At,
    /// The last record of each partition as of what was sent.
    lasts: BTreeMap<Partition, At>,
    /// Records behind `base`, by position.
    pending: BTreeMap<Position, Pending>,
    /// The last record of each partition as of `base`.
    base_lasts: BTreeMap<Partition, At>,
    /// What changed of them since the last checkpoint.
    unsaved: BTreeMap<Partition, At>,
    saved: At,
    /// Per partition what this run sent last, and the offset it was acknowledged at.
    tails: BTreeMap<Partition, Tail>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pending {
    at: At,
    /// Where it goes, and which record of this run goes there before it.
    to: Option<(Partition, Option<Position>)>,
    acked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Tail {
    sent: Position,
    /// The highest offset acknowledged, and of which record.
    acked: Option<(Position, u64)>,
    /// The run's first record here is the partition's first ever, and not acknowledged yet.
    first_ever: bool,
}

/// What to do with the next record of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Send it with this link; its sequence number is its position.
    Send(Link),
    /// It goes nowhere.
    Pass,
    /// Not yet: the partition's first record ever must be acknowledged before its second is sent.
    Hold,
}

/// An acknowledgement that overtakes another, or an offset that goes back: the run must end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {position} was acknowledged at offset {offset} before or below its predecessor")]
pub struct Overtaken {
    position: Position,
    offset: u64,
}

impl RelayRun {
    /// A run that starts where `claim` stands.
    pub fn new(source: StoreId, claim: &RelayClaim) -> Self {
        let lasts = claim
            .lasts
            .iter()
            .map(|(topic, partition, at)| ((topic.clone(), *partition), *at));
        let lasts: BTreeMap<_, _> = lasts.collect();
        Self {
            source,
            base: claim.checkpoint,
            sent_to: claim.checkpoint,
            base_lasts: lasts.clone(),
            lasts,
            pending: BTreeMap::new(),
            unsaved: BTreeMap::new(),
            saved: claim.checkpoint,
            tails: BTreeMap::new(),
        }
    }

    /// The record behind which the next to offer stands.
    pub fn cursor(&self) -> At {
        self.sent_to
    }

    /// How many records are sent and not yet part of the published prefix.
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// Decides about the next record of the log.
    pub fn offer(&mut self, record: &Record) -> Offer {
        debug_assert!(record.at > self.sent_to, "records are offered in order");
        let position = record.at.position;
        let Some(to) = &record.draft.destination else {
            self.pending.insert(
                position,
                Pending {
                    at: record.at,
                    to: None,
                    acked: true,
                },
            );
            self.sent_to = record.at;
            self.advance();
            return Offer::Pass;
        };
        let partition = (to.topic.clone(), to.partition);
        let previous = self.lasts.get(&partition).copied().unwrap_or(At::ZERO);
        let tail = self.tails.get(&partition);
        if tail.is_some_and(|tail| tail.first_ever && tail.acked.is_none()) {
            return Offer::Hold;
        }
        let predecessor = tail.map(|tail| tail.sent);
        let acked = tail.and_then(|tail| tail.acked);
        let first_ever = previous == At::ZERO;
        self.tails.insert(
            partition.clone(),
            Tail {
                sent: position,
                acked,
                first_ever,
            },
        );
        self.lasts.insert(partition.clone(), record.at);
        let to = Some((partition, predecessor));
        self.pending.insert(
            position,
            Pending {
                at: record.at,
                to,
                acked: false,
            },
        );
        self.sent_to = record.at;
        Offer::Send(Link {
            source: self.source,
            at: record.at,
            previous,
        })
    }

    /// Takes note that nothing up to `to` goes to a topic but what was offered.
    pub fn pass(&mut self, to: At) {
        if to <= self.sent_to {
            return;
        }
        self.sent_to = to;
        self.pending.insert(
            to.position,
            Pending {
                at: to,
                to: None,
                acked: true,
            },
        );
        self.advance();
    }

    /// Takes note that the record at `position`, which this run sent, was appended at `offset`.
    ///
    /// # Errors
    ///
    /// [`Overtaken`] when its predecessor in the partition was not acknowledged before, at a lower offset.
    pub fn acknowledge(&mut self, position: Position, offset: u64) -> Result<(), Overtaken> {
        let Some(Pending {
            to: Some((partition, predecessor)),
            ..
        }) = self.pending.get(&position)
        else {
            return Ok(());
        };
        let tail = self
            .tails
            .get_mut(partition)
            .expect("a sent record has a tail");
        let in_order = match (predecessor, tail.acked) {
            (None, None) => true,
            (Some(predecessor), Some((acked, below))) => acked == *predecessor && below < offset,
            _ => false,
        };
        if !in_order {
            return Err(Overtaken { position, offset });
        }
        tail.acked = Some((position, offset));
        if let Some(pending) = self.pending.get_mut(&position) {
            pending.acked = true;
        }
        self.advance();
        Ok(())
    }

    fn advance(&mut self) {
        while let Some(first) = self.pending.first_entry() {
            if !first.get().acked {
                break;
            }
            let Pending { at, to, .. } = first.remove();
            self.base = at;
            if let Some((partition, _)) = to {
                self.base_lasts.insert(partition.clone(), at);
                self.unsaved.insert(partition, at);
            }
        }
    }

    /// The checkpoint to write, with what changed since the last one; `None` when nothing did.
    pub fn checkpoint(&self) -> Option<(At, LastsOf)> {
        if self.base == self.saved {
            return None;
        }
        let lasts = self.unsaved.iter();
        let lasts = lasts
            .map(|((topic, partition), at)| (topic.clone(), *partition, *at))
            .collect();
        Some((self.base, lasts))
    }

    /// Takes note that the checkpoint `at` was written.
    pub fn saved(&mut self, at: At) {
        self.saved = at;
        self.unsaved.retain(|_, last| *last > at);
    }

    /// Begins anew behind the published prefix, after a failure: acknowledgements of what was sent before must not
    /// reach this run. What no checkpoint has saved yet is still to be saved.
    pub fn rewind(&mut self) {
        self.sent_to = self.base;
        self.lasts.clone_from(&self.base_lasts);
        self.pending.clear();
        self.tails.clear();
    }

    /// Up to where the log is published.
    pub fn base(&self) -> At {
        self.base
    }
}

/// Whether a store whose log ends at `head` may publish to topics that know `seen` of it: not when they know
/// more than the log holds, because then it was restored without a new epoch.
///
/// # Errors
///
/// What to tell the operator.
pub fn may_publish(present: Epoch, head: At, seen: At) -> Result<(), String> {
    let lost = seen.epoch == present && seen.position > head.position;
    if !lost && seen.epoch <= present {
        return Ok(());
    }
    Err(format!(
        "the topics know records up to {seen} of this store, but its log ends at {head} in epoch {present}: it was \
         restored or copied; open a new epoch greater than {} before it publishes",
        seen.epoch.max(present)
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::{
        Category, Codec, Destination, Draft, Fence, Metadata, RecordKind, RecordState, StreamId,
        Timestamp, TypeName, Version,
    };

    fn record(position: u64, partition: Option<u32>) -> Record {
        let destination = partition.map(|partition| Destination {
            topic: Topic::of("t"),
            partition,
            key: None,
        });
        Record {
            at: At::new(1, position),
            version: Version(position),
            state: RecordState::Live,
            draft: Arc::new(Draft {
                kind: RecordKind::Event,
                stream: Some(StreamId::new(Category::of("c"), "1").unwrap()),
                event_id: "e".into(),
                event_type: TypeName::new("E", 1),
                destination,
                timestamp: Timestamp::UNIX_EPOCH,
                correlation_id: "c".into(),
                causation_id: None,
                metadata: Metadata::new(),
                tags: vec![],
                codec: Codec::Json,
                protection: None,
                data: Bytes::from_static(b"{}"),
            }),
        }
    }

    fn run(lasts: &[(u32, u64)]) -> RelayRun {
        let lasts = lasts
            .iter()
            .map(|(partition, at)| (Topic::of("t"), *partition, At::new(1, *at)));
        let checkpoint = At::new(
            1,
            lasts
                .clone()
                .map(|(.., at)| at.position.0)
                .max()
                .unwrap_or(0),
        );
        let claim = RelayClaim {
            fence: Fence::default(),
            checkpoint,
            lasts: lasts.collect(),
        };
        RelayRun::new(StoreId(Uuid::nil()), &claim)
    }

    fn previous(offer: Offer) -> Option<At> {
        match offer {
            Offer::Send(link) => Some(link.previous),
            _ => None,
        }
    }

    #[test]
    fn the_checkpoint_is_the_end_of_what_is_acknowledged_without_a_hole() {
        let mut run = run(&[(0, 1), (1, 2)]);
        assert_eq!(
            previous(run.offer(&record(3, Some(0)))),
            Some(At::new(1, 1))
        );
        assert_eq!(
            previous(run.offer(&record(4, Some(1)))),
            Some(At::new(1, 2))
        );
        assert_eq!(run.offer(&record(5, None)), Offer::Pass);
        run.acknowledge(Position(4), 10).unwrap();
        assert_eq!(run.checkpoint(), None);
        run.acknowledge(Position(3), 20).unwrap();
        let (at, lasts) = run.checkpoint().unwrap();
        assert_eq!(at, At::new(1, 5));
        assert_eq!(
            lasts,
            [
                (Topic::of("t"), 0, At::new(1, 3)),
                (Topic::of("t"), 1, At::new(1, 4))
            ]
        );
        run.saved(at);
        assert_eq!(run.checkpoint(), None);
    }

    #[test]
    fn an_acknowledgement_that_overtakes_ends_the_run() {
        let mut overtaking = run(&[(0, 1)]);
        overtaking.offer(&record(2, Some(0)));
        overtaking.offer(&record(3, Some(0)));
        assert!(overtaking.acknowledge(Position(3), 5).is_err());

        let mut falling = run(&[(0, 1)]);
        falling.offer(&record(2, Some(0)));
        falling.offer(&record(3, Some(0)));
        falling.acknowledge(Position(2), 5).unwrap();
        assert!(falling.acknowledge(Position(3), 5).is_err());
    }

    #[test]
    fn the_second_record_ever_of_a_partition_waits_for_the_first() {
        let mut run = run(&[]);
        assert_eq!(previous(run.offer(&record(1, Some(0)))), Some(At::ZERO));
        assert_eq!(run.offer(&record(2, Some(0))), Offer::Hold);
        run.acknowledge(Position(1), 0).unwrap();
        assert_eq!(
            previous(run.offer(&record(2, Some(0)))),
            Some(At::new(1, 1))
        );
    }

    #[test]
    fn a_rewound_run_goes_on_from_the_published_prefix() {
        let mut run = run(&[(0, 1)]);
        for position in 2..=4 {
            run.offer(&record(position, Some(0)));
        }
        run.acknowledge(Position(2), 5).unwrap();
        // What a checkpoint has saved is known to the next run as well.
        run.saved(At::new(1, 2));
        run.rewind();
        assert_eq!((run.cursor(), run.in_flight()), (At::new(1, 2), 0));
        assert_eq!(
            previous(run.offer(&record(3, Some(0)))),
            Some(At::new(1, 2))
        );
    }

    /// It went wrong: the run that followed a checkpoint that failed took it for written. The row then lacked the
    /// last places of partitions in which nothing was published since, and the next owner linked past them.
    #[test]
    fn what_a_failed_checkpoint_did_not_save_is_saved_by_a_later_one() {
        let mut run = run(&[]);
        run.offer(&record(1, Some(0)));
        run.acknowledge(Position(1), 0).unwrap();
        let (first, _) = run.checkpoint().unwrap();
        run.rewind();
        assert_eq!(run.checkpoint().unwrap().0, first);
        run.offer(&record(2, Some(1)));
        run.acknowledge(Position(2), 0).unwrap();
        let (_, lasts) = run.checkpoint().unwrap();
        assert_eq!(
            lasts,
            [
                (Topic::of("t"), 0, At::new(1, 1)),
                (Topic::of("t"), 1, At::new(1, 2))
            ]
        );
    }

    #[test]
    fn a_log_that_is_behind_its_topics_may_not_publish() {
        assert!(may_publish(Epoch(1), At::new(1, 5), At::new(1, 5)).is_ok());
        assert!(may_publish(Epoch(1), At::new(1, 4), At::new(1, 5)).is_err());
        assert!(may_publish(Epoch(2), At::new(1, 4), At::new(1, 5)).is_ok());
        assert!(may_publish(Epoch(1), At::new(1, 9), At::new(2, 5)).is_err());
    }
}
