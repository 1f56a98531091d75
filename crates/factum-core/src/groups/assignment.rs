//! Who of a group's members gets which partition: a plain function.

use std::collections::{BTreeMap, BTreeSet};

use super::MemberId;
use crate::{Topic, TopicPartition};

/// Assigns each partition to one member that subscribes to its topic.
///
/// `members` are in the order of their ids, which decides among equals. `keep` names the member that should
/// keep a partition; it does unless balance forbids it, or it no longer subscribes.
///
/// Members with the same topics end with counts that differ by one at most. Where topics differ, no single
/// move of a partition could even out more.
pub fn assign(
    members: &BTreeMap<MemberId, BTreeSet<Topic>>,
    topics: &BTreeMap<Topic, u32>,
    keep: impl Fn(&TopicPartition) -> Option<MemberId>,
) -> BTreeMap<TopicPartition, MemberId> {
    let mut loads: BTreeMap<MemberId, usize> = members.keys().map(|member| (*member, 0)).collect();
    let mut owners = BTreeMap::new();
    let mut free = Vec::new();
    let subscribes = |member: &MemberId, topic: &Topic| {
        members
            .get(member)
            .is_some_and(|topics| topics.contains(topic))
    };

    let partitions = topics.iter().flat_map(|(topic, count)| {
        (0..*count).map(|partition| TopicPartition::new(topic.clone(), partition))
    });
    for partition in partitions {
        match keep(&partition).filter(|member| subscribes(member, &partition.topic)) {
            Some(member) => {
                *loads.entry(member).or_default() += 1;
                owners.insert(partition, member);
            }
            None => free.push(partition),
        }
    }

    for partition in free {
        let candidates = loads
            .iter()
            .filter(|(member, _)| subscribes(member, &partition.topic));
        let least = candidates
            .min_by_key(|(member, load)| (**load, **member))
            .map(|(member, _)| *member);
        if let Some(member) = least {
            *loads.entry(member).or_default() += 1;
            owners.insert(partition, member);
        }
    }

    // Each move makes the sum of the squared loads smaller, so this ends.
    while let Some((partition, from, to)) = next_move(&owners, &loads, subscribes) {
        *loads.entry(from).or_default() -= 1;
        *loads.entry(to).or_default() += 1;
        owners.insert(partition, to);
    }
    owners
}

/// The move that evens out most: from the most loaded member that has something which the least loaded could
/// take. The last partitions go first, so that repeated moves take from one end.
fn next_move(
    owners: &BTreeMap<TopicPartition, MemberId>,
    loads: &BTreeMap<MemberId, usize>,
    subscribes: impl Fn(&MemberId, &Topic) -> bool,
) -> Option<(TopicPartition, MemberId, MemberId)> {
    let mut best: Option<(usize, &TopicPartition, MemberId, MemberId)> = None;
    for (partition, from) in owners.iter().rev() {
        let candidates = loads
            .iter()
            .filter(|(member, _)| subscribes(member, &partition.topic));
        let Some((to, least)) = candidates.min_by_key(|(member, load)| (**load, **member)) else {
            continue;
        };
        let gain = loads[from].saturating_sub(*least);
        if gain > 1 && best.is_none_or(|(known, ..)| gain > known) {
            best = Some((gain, partition, *from, *to));
        }
    }
    best.map(|(_, partition, from, to)| (partition.clone(), from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(counts: &[(&'static str, u32)]) -> BTreeMap<Topic, u32> {
        counts
            .iter()
            .map(|(topic, count)| (Topic::of(topic), *count))
            .collect()
    }

    fn members(subscriptions: &[&[&'static str]]) -> BTreeMap<MemberId, BTreeSet<Topic>> {
        let topics = |names: &&[&'static str]| names.iter().map(|name| Topic::of(name)).collect();
        (1..)
            .map(MemberId)
            .zip(subscriptions.iter().map(topics))
            .collect()
    }

    fn counts(owners: &BTreeMap<TopicPartition, MemberId>) -> Vec<usize> {
        let mut counts = BTreeMap::<_, usize>::new();
        for member in owners.values() {
            *counts.entry(*member).or_default() += 1;
        }
        counts.into_values().collect()
    }

    #[test]
    fn partitions_are_spread_evenly() {
        let owners = assign(
            &members(&[&["a", "b"][..]; 3]),
            &topics(&[("a", 4), ("b", 3)]),
            |_| None,
        );
        assert_eq!(counts(&owners), [3, 2, 2]);
    }

    #[test]
    fn a_newcomer_takes_its_share_and_nobody_else_moves() {
        let (two, three) = (members(&[&["a"][..]; 2]), members(&[&["a"][..]; 3]));
        let before = assign(&two, &topics(&[("a", 6)]), |_| None);
        let after = assign(&three, &topics(&[("a", 6)]), |partition| {
            before.get(partition).copied()
        });
        assert_eq!(counts(&after), [2, 2, 2]);
        for (partition, member) in &after {
            assert!(
                *member == MemberId(3) || before[partition] == *member,
                "{partition} moved for nothing"
            );
        }
    }

    #[test]
    fn only_who_subscribes_gets_a_partition() {
        let owners = assign(
            &members(&[&["a"][..], &["a", "b"]]),
            &topics(&[("a", 2), ("b", 2), ("c", 1)]),
            |_| None,
        );
        assert_eq!(counts(&owners), [2, 2]);
        assert!(
            owners.iter().all(
                |(partition, member)| *member == MemberId(2) || partition.topic.as_str() == "a"
            )
        );
        assert!(
            !owners.contains_key(&TopicPartition::new(Topic::of("c"), 0)),
            "nobody subscribes to it"
        );
    }

    #[test]
    fn more_members_than_partitions_leaves_some_without() {
        let owners = assign(&members(&[&["a"][..]; 3]), &topics(&[("a", 2)]), |_| None);
        assert_eq!(counts(&owners), [1, 1]);
    }
}
