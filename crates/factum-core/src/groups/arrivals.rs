//! Arrivals: how far each partition reaches, and whose bell rings when one grows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use super::{Bell, lock};
use crate::{Group, Topic, TopicPartition};

/// What a log tells its broker, and the broker its consumers: the end of each partition, and bells.
///
/// A log calls [`reached`](Self::reached) as soon as messages can be read, whether or not somebody still waits for
/// the outcome of their append: a producer that was dropped must not leave consumers asleep.
#[derive(Debug, Default)]
pub struct Arrivals(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    ends: BTreeMap<TopicPartition, u64>,
    listeners: BTreeMap<u64, Listener>,
    next: u64,
    /// Bytes that came since retention was last looked at.
    bytes: u64,
}

#[derive(Debug)]
struct Listener {
    group: Group,
    topics: BTreeSet<Topic>,
    bell: Arc<Bell>,
}

impl Arrivals {
    /// Says that `partition` can be read up to `end`, after `bytes` more came to it.
    pub fn reached(&self, partition: &TopicPartition, end: u64, bytes: u64) {
        let bells: Vec<_> = {
            let mut state = lock(&self.0);
            state.bytes = state.bytes.saturating_add(bytes);
            match state.ends.get_mut(partition) {
                Some(known) if *known >= end => return,
                Some(known) => *known = end,
                None => {
                    state.ends.insert(partition.clone(), end);
                }
            }
            let interested = state.listeners.values();
            let interested =
                interested.filter(|listener| listener.topics.contains(&partition.topic));
            interested.map(|listener| listener.bell.clone()).collect()
        };
        for bell in bells {
            bell.ring();
        }
    }

    /// The partitions of `wanted` that reach beyond the offset asked for.
    pub(super) fn beyond(
        &self,
        wanted: impl Iterator<Item = (TopicPartition, u64)>,
    ) -> Vec<(TopicPartition, u64)> {
        let state = lock(&self.0);
        wanted
            .filter(|(partition, offset)| state.ends.get(partition).is_some_and(|end| end > offset))
            .collect()
    }

    /// A bell that rings when one of `topics` grows or when something changes in `group`.
    pub(super) fn listen(&self, group: Group, topics: BTreeSet<Topic>) -> (u64, Arc<Bell>) {
        let bell = Arc::new(Bell::new());
        let mut state = lock(&self.0);
        state.next += 1;
        let id = state.next;
        state.listeners.insert(
            id,
            Listener {
                group,
                topics,
                bell: bell.clone(),
            },
        );
        (id, bell)
    }

    /// Forgets the bell with this number.
    pub(super) fn forget(&self, id: u64) {
        lock(&self.0).listeners.remove(&id);
    }

    /// Rings for all members of `group`.
    pub(super) fn ring(&self, group: &Group) {
        let bells: Vec<_> = {
            let state = lock(&self.0);
            let members = state
                .listeners
                .values()
                .filter(|listener| listener.group == *group);
            members.map(|listener| listener.bell.clone()).collect()
        };
        for bell in bells {
            bell.ring();
        }
    }

    /// How many bytes came since this was last called with a bound that they had reached.
    pub(super) fn take_bytes(&self, at_least: u64) -> bool {
        let mut state = lock(&self.0);
        let reached = state.bytes >= at_least;
        if reached {
            state.bytes = 0;
        }
        reached
    }
}
