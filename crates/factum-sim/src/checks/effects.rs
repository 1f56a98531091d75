//! Each message has its effects once in each group, each key's in order, by one owner at a time.

use std::collections::{BTreeMap, BTreeSet};

use factum_core::{Fence, Group, InboxId, Lane, Message, MessageId, RecordKind, TopicPartition};

use super::{
    Broken,
    fold::{Class, fold},
};
use crate::{Book, Done, History, Step, What};

/// What should become of a message in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Its effects, caused by the event of this id.
    Handled(MessageId),
    /// Nothing: the group doesn't know its type.
    Nothing,
    /// It can't be read: it is parked, and given up by an operator.
    GivenUp,
}

/// How the handling of a message came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Effect,
    Skipped,
    Duplicate,
    Discarded,
}

/// What one inbox saw.
#[derive(Default)]
struct Seat {
    fence: Fence,
    ends: BTreeMap<u64, End>,
    /// The last message of each lane that had its effect.
    lanes: BTreeMap<Lane, u64>,
}

/// What is wrong with the effects in a service: `expects` says what should become of a message in each of its
/// `groups`, which read the topics named beside them. All must be quiet.
pub fn effects(
    book: &Book,
    history: &History,
    groups: &[(Group, Vec<factum_core::Topic>)],
    expects: impl Fn(&Group, &Message) -> Expected,
) -> Vec<Broken> {
    let mut broken = Vec::new();
    let service = &book.service;
    let mut say = |law, what: String| broken.push(Broken::new(law, format!("{service}: {what}")));
    let mut seats: BTreeMap<InboxId, Seat> = BTreeMap::new();
    let classes: BTreeMap<_, _> = history
        .partitions
        .iter()
        .map(|(place, messages)| (place, fold(messages)))
        .collect();
    // Which commits had the effects of an event, in each group.
    let mut causes: BTreeMap<(Group, MessageId), u32> = BTreeMap::new();
    let mut caused = BTreeSet::new();
    for step in &book.steps {
        let Some(Touch {
            inbox,
            fence,
            ended,
        }) = Touch::of(step)
        else {
            continue;
        };
        let seat = seats.entry(inbox.clone()).or_default();
        if let Some(fence) = fence {
            if fence < seat.fence {
                let now = seat.fence;
                say(
                    "one owner",
                    format!("{inbox} was written by owner {fence} after owner {now}"),
                );
            }
            seat.fence = seat.fence.max(fence);
        }
        let Some((offset, end)) = ended else {
            continue;
        };
        let place = TopicPartition::new(inbox.topic.clone(), inbox.partition);
        let index = usize::try_from(offset).unwrap_or(usize::MAX);
        let message = history
            .partitions
            .get(&place)
            .and_then(|all| all.get(index));
        let Some(message) = message else {
            say(
                "effects of messages",
                format!("{inbox}:{offset} was handled, and doesn't exist"),
            );
            continue;
        };
        if classes[&place][index] == Class::Void {
            say(
                "effects once",
                format!("{inbox}:{offset} was handled, and is a duplicate or before its time"),
            );
        }
        if let Some(before) = seat.ends.insert(offset, end) {
            say(
                "effects once",
                format!("{inbox}:{offset} came to its end twice: {before:?}, {end:?}"),
            );
        }
        if end != End::Effect {
            continue;
        }
        let last = seat.lanes.entry(message.lane()).or_insert(offset);
        if offset < *last {
            let lane = message.lane();
            say(
                "key order of effects",
                format!("{inbox}: {offset} had its effect after {last}, both of key `{lane}`"),
            );
        }
        *last = offset;
        if let Expected::Handled(event) = expects(&inbox.group, message) {
            *causes
                .entry((inbox.group.clone(), event.clone()))
                .or_default() += 1;
            if let Some(first) = step.first {
                for place in 0..step.records.len() as u64 {
                    caused.insert((first.0 + place, event.clone()));
                }
            }
        }
    }
    for ((group, event), count) in &causes {
        if *count > 1 {
            say(
                "effects once",
                format!("event {event} had its effects in group `{group}` {count} times"),
            );
        }
    }
    for record in &book.records {
        let Some(cause) = &record.draft.causation_id else {
            continue;
        };
        let known = caused.contains(&(record.at.position.0, cause.clone()));
        if !known && record.draft.kind != RecordKind::Message {
            say(
                "effects of messages",
                format!("{} says that {cause} led to it, which it didn't", record.at),
            );
        }
    }
    for (group, topics) in groups {
        // Foreign messages may come several times, and one of them counts.
        let mut counted: BTreeMap<MessageId, bool> = BTreeMap::new();
        for (place, messages) in &history.partitions {
            if !topics.contains(&place.topic) {
                continue;
            }
            let inbox = InboxId {
                group: group.clone(),
                topic: place.topic.clone(),
                partition: place.partition,
            };
            let ends = seats.get(&inbox).map(|seat| &seat.ends);
            for (message, class) in messages.iter().zip(&classes[place]) {
                if *class == Class::Void {
                    continue;
                }
                let end = ends.and_then(|ends| ends.get(&message.offset)).copied();
                let again = *class == Class::Taken(None) && end == Some(End::Duplicate);
                let fits = match expects(group, message) {
                    Expected::Handled(event) => {
                        let counts = matches!(end, Some(End::Effect | End::Skipped));
                        *counted.entry(event).or_default() |= counts;
                        counts || again
                    }
                    Expected::Nothing => end.is_none(),
                    Expected::GivenUp => end == Some(End::Discarded) || again,
                };
                if !fits {
                    let (offset, lane) = (message.offset, message.lane());
                    let end = end.map_or("nothing became of it".into(), |end| {
                        format!("it ended as {end:?}")
                    });
                    say(
                        "nothing left out",
                        format!("{inbox}:{offset}, of key `{lane}`: {end}"),
                    );
                }
            }
        }
        for (event, _) in counted.iter().filter(|(_, counts)| !**counts) {
            say(
                "nothing left out",
                format!("group `{group}` took all of {event} for duplicates"),
            );
        }
    }
    broken
}

/// What a step had to do with an inbox.
struct Touch<'a> {
    inbox: &'a InboxId,
    /// Its owner; `None`: an operator.
    fence: Option<Fence>,
    /// The message that it ended, and how.
    ended: Option<(u64, End)>,
}

impl<'a> Touch<'a> {
    /// What a step had to do with an inbox, if it was about one.
    fn of(step: &'a Step) -> Option<Self> {
        let (inbox, fence, ended) = match &step.what {
            What::Message {
                inbox,
                fence,
                offset,
                done,
                ..
            } => {
                let end = match done {
                    Done::Applied => Some(End::Effect),
                    Done::Skipped => Some(End::Skipped),
                    Done::Duplicate => Some(End::Duplicate),
                    Done::Parked | Done::Waits => None,
                };
                (inbox, Some(*fence), end.map(|end| (*offset, end)))
            }
            What::Void { inbox, fence } => (inbox, Some(*fence), None),
            What::Retry { id, fence, settled } => {
                let ended = settled.then_some((id.offset, End::Effect));
                (&id.inbox, Some(*fence), ended)
            }
            What::Operator { id, discarded } => {
                let ended = discarded.then_some((id.offset, End::Discarded));
                (&id.inbox, None, ended)
            }
            _ => return None,
        };
        Some(Self {
            inbox,
            fence,
            ended,
        })
    }
}
