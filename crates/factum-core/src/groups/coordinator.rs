//! One consumer group: who its members are and what each holds, as a state machine without I/O or clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use super::assign;
use crate::{GroupMember, Timestamp, Topic, TopicPartition};

/// A member of a group: a number that its broker never uses twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a member is told when its turn comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// These must be given up; its next [`Coordinator::acknowledge`] does so.
    Revoked(Vec<TopicPartition>),
    /// These are its own from now on.
    Assigned(Vec<TopicPartition>),
}

/// A group's coordinator. Every method is one step; who calls it holds whatever lock there is.
///
/// A partition is *meant* for one member and *held* by one. The two differ while it moves: it is held by the
/// old member until that acknowledged the revocation or was expelled, and only then by the new one.
#[derive(Clone, Debug, Default)]
pub struct Coordinator {
    members: BTreeMap<MemberId, Member>,
    topics: BTreeMap<Topic, u32>,
    meant: BTreeMap<TopicPartition, MemberId>,
    held: BTreeMap<TopicPartition, Holding>,
    generation: u64,
    /// Grows with every change of `meant` or `held`, so that a member with no news costs nothing.
    revision: u64,
}

#[derive(Clone, Debug)]
struct Member {
    name: String,
    topics: BTreeSet<Topic>,
    session: Duration,
    /// When it last called.
    seen: Timestamp,
    /// Whether it was told of a revocation that it has not acknowledged.
    revoking: bool,
    /// The revision at which it had no news.
    settled: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Holding {
    member: MemberId,
    /// Whether the member was told that this is revoked.
    revoked: bool,
}

impl Coordinator {
    /// A group without members.
    pub fn new() -> Self {
        Self::default()
    }

    /// How often partitions were distributed anew.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Says how many partitions a topic has, as soon as it exists.
    pub fn set_topic(&mut self, topic: &Topic, partitions: u32) {
        if self.topics.insert(topic.clone(), partitions) != Some(partitions) {
            self.rebalance();
        }
    }

    /// Takes in a member, whose id is new.
    pub fn join(
        &mut self,
        id: MemberId,
        name: impl Into<String>,
        topics: BTreeSet<Topic>,
        session: Duration,
        now: Timestamp,
    ) {
        let name = name.into();
        let member = Member {
            name,
            topics,
            session,
            seen: now,
            revoking: false,
            settled: None,
        };
        self.members.insert(id, member);
        self.rebalance();
    }

    /// Whether it is a member: not if it left or was expelled.
    pub fn has(&self, id: MemberId) -> bool {
        self.members.contains_key(&id)
    }

    /// Notes that a member called.
    pub fn touch(&mut self, id: MemberId, now: Timestamp) {
        if let Some(member) = self.members.get_mut(&id) {
            member.seen = now;
        }
    }

    /// Expels members whose session has ended. Says whether there were any.
    pub fn expire(&mut self, now: Timestamp) -> bool {
        let dead = |member: &Member| now.since(member.seen) > member.session;
        let expelled: Vec<_> = self
            .members
            .iter()
            .filter(|(_, member)| dead(member))
            .map(|(id, _)| *id)
            .collect();
        self.remove(&expelled)
    }

    /// A member leaves, and what it held is free at once. Says whether it was a member.
    pub fn leave(&mut self, id: MemberId) -> bool {
        self.remove(&[id])
    }

    /// A member gives away what it was told is revoked. Says whether anything became free.
    pub fn acknowledge(&mut self, id: MemberId) -> bool {
        let Some(member) = self.members.get_mut(&id) else {
            return false;
        };
        if !std::mem::take(&mut member.revoking) {
            return false;
        }
        self.held
            .retain(|_, holding| holding.member != id || !holding.revoked);
        self.revision += 1;
        true
    }

    /// What a member is to be told now. What is returned counts as told.
    pub fn turn(&mut self, id: MemberId) -> Option<Turn> {
        let member = self.members.get_mut(&id)?;
        if member.settled == Some(self.revision) {
            return None;
        }
        let mut revoked = Vec::new();
        for (partition, holding) in &mut self.held {
            if holding.member == id && !holding.revoked && self.meant.get(partition) != Some(&id) {
                holding.revoked = true;
                revoked.push(partition.clone());
            }
        }
        if !revoked.is_empty() {
            member.revoking = true;
            return Some(Turn::Revoked(revoked));
        }
        let meant = self.meant.iter().filter(|(_, member)| **member == id);
        let free = meant.filter(|(partition, _)| !self.held.contains_key(partition));
        let assigned: Vec<_> = free.map(|(partition, _)| partition.clone()).collect();
        if assigned.is_empty() {
            member.settled = Some(self.revision);
            return None;
        }
        for partition in &assigned {
            self.held.insert(
                partition.clone(),
                Holding {
                    member: id,
                    revoked: false,
                },
            );
        }
        self.revision += 1;
        Some(Turn::Assigned(assigned))
    }

    /// Whether a member holds a partition, whether or not it was told to give it up.
    pub fn holds(&self, id: MemberId, partition: &TopicPartition) -> bool {
        self.held
            .get(partition)
            .is_some_and(|holding| holding.member == id)
    }

    /// All members with what they hold, in the order in which they joined.
    pub fn members(&self) -> Vec<GroupMember> {
        let held_by = |id: MemberId| {
            let held = self
                .held
                .iter()
                .filter(move |(_, holding)| holding.member == id);
            held.map(|(partition, _)| partition.clone()).collect()
        };
        let members = self.members.iter();
        members
            .map(|(id, member)| GroupMember {
                member: member.name.clone(),
                partitions: held_by(*id),
            })
            .collect()
    }

    /// Whether every partition that somebody subscribes to is held by the member that it is meant for.
    pub fn is_settled(&self) -> bool {
        self.held.len() == self.meant.len()
            && self
                .meant
                .iter()
                .all(|(partition, id)| self.holds(*id, partition))
    }

    fn remove(&mut self, ids: &[MemberId]) -> bool {
        let before = self.members.len();
        self.members.retain(|id, _| !ids.contains(id));
        if self.members.len() == before {
            return false;
        }
        self.held
            .retain(|_, holding| !ids.contains(&holding.member));
        self.rebalance();
        true
    }

    fn rebalance(&mut self) {
        let members = self
            .members
            .iter()
            .map(|(id, member)| (*id, member.topics.clone()))
            .collect();
        // Who holds a partition keeps it. One that is on its way stays meant for whom it was meant, unless it
        // can still be left where it is without anybody having noticed.
        self.meant = assign(&members, &self.topics, |partition| {
            let holder = self.held.get(partition).filter(|holding| !holding.revoked);
            holder
                .map(|holding| holding.member)
                .or_else(|| self.meant.get(partition).copied())
        });
        self.generation += 1;
        self.revision += 1;
    }
}

#[cfg(test)]
mod tests;
