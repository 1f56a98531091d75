//! A member of a group, as its user sees it: turns and messages.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;

use super::{Bell, MemberId, ReadLimit, TopicLog, Turn, broker::Shared};
use crate::{Consumed, Consumer, Error, Message, Subscription, TopicPartition};

/// How many bytes of messages one [`Consumed::Messages`] has at most, besides the first message of a partition.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A consumer over a [`TopicLog`]. Dropping it is a crash: its session goes on until it ends.
pub(super) struct GroupConsumer<L: TopicLog> {
    shared: Arc<Shared<L>>,
    subscription: Subscription,
    /// `None` after it was expelled, until it joins again.
    member: Option<MemberId>,
    /// What it was assigned and not yet told to give up.
    assigned: BTreeMap<TopicPartition, Place>,
    /// The partition that was read last: reading goes on behind it, so that each gets its turn.
    served: Option<TopicPartition>,
    listener: u64,
    bell: Arc<Bell>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// What is delivered next; nothing is delivered before the first seek, nor when retention has passed it.
    next: Option<u64>,
    paused: bool,
}

impl<L: TopicLog> GroupConsumer<L> {
    pub(super) fn join(shared: Arc<Shared<L>>, subscription: Subscription) -> Self {
        let topics = subscription.topics.iter().cloned().collect();
        let (listener, bell) = shared.arrivals.listen(subscription.group.clone(), topics);
        let member = Some(shared.admit(&subscription, shared.env.now()));
        Self {
            shared,
            subscription,
            member,
            assigned: BTreeMap::new(),
            served: None,
            listener,
            bell,
        }
    }

    /// What there is to be told besides messages. Counts as a sign of life.
    fn turn(&mut self) -> Option<Consumed> {
        let now = self.shared.env.now();
        let turn = match self.member {
            None => {
                // It was expelled and was told so: it comes back as somebody new.
                let id = self.shared.admit(&self.subscription, now);
                self.member = Some(id);
                self.shared.with_group(&self.subscription.group, |group| {
                    (Some(group.turn(id)), false)
                })
            }
            Some(id) => self.shared.with_group(&self.subscription.group, |group| {
                if !group.has(id) {
                    return (None, false);
                }
                // First itself: who calls is alive, and as long as nobody else noticed its silence, nothing was
                // given away. So a machine that slept doesn't wake up to find every group empty.
                group.touch(id, now);
                let changed = group.expire(now);
                (Some(group.turn(id)), changed)
            }),
        };
        match turn {
            None => {
                self.member = None;
                let lost: Vec<_> = std::mem::take(&mut self.assigned).into_keys().collect();
                if lost.is_empty() {
                    self.turn()
                } else {
                    Some(Consumed::Lost(lost))
                }
            }
            Some(None) => None,
            Some(Some(Turn::Revoked(partitions))) => {
                self.assigned
                    .retain(|partition, _| !partitions.contains(partition));
                Some(Consumed::Revoked(partitions))
            }
            Some(Some(Turn::Assigned(partitions))) => {
                self.assigned.extend(
                    partitions
                        .iter()
                        .map(|partition| (partition.clone(), Place::default())),
                );
                Some(Consumed::Assigned(partitions))
            }
        }
    }

    /// Messages of the assigned partitions, each getting an equal share of the batch; `None` when there are none
    /// or when they would no longer be this member's. Or which partitions retention has passed: then no messages are
    /// taken, and they come with the next call.
    async fn fetch(&mut self) -> Result<Option<Consumed>, Error> {
        let wanted = self.assigned.iter().filter(|(_, place)| !place.paused);
        let wanted = wanted.filter_map(|(partition, place)| Some((partition.clone(), place.next?)));
        let mut ready = self.shared.arrivals.beyond(wanted);
        let turn = ready
            .iter()
            .position(|(partition, _)| Some(partition) > self.served.as_ref());
        ready.rotate_left(turn.unwrap_or(0));

        let batch_max = self.subscription.batch_max.max(1);
        let share = batch_max.div_ceil(ready.len().max(1));
        let (mut slices, mut messages, mut bytes) = (Vec::new(), 0, 0);
        for (partition, offset) in ready {
            if messages >= batch_max || bytes >= BATCH_BYTES_MAX {
                break;
            }
            let limit = ReadLimit {
                messages: share.min(batch_max - messages),
                bytes: BATCH_BYTES_MAX - bytes,
            };
            let slice = self.shared.log.read(&partition, offset, limit).await?;
            messages += slice.messages.len();
            bytes += slice.messages.iter().map(Message::size).sum::<usize>();
            slices.push((partition, offset, slice));
        }

        // Somebody may have noticed the end of this member's session while it was reading.
        let held = self.held();
        slices.retain(|(partition, ..)| held(partition));
        // All are looked at before any place moves: what one of them lacks must cost the others nothing.
        let passed = slices
            .iter()
            .filter(|(_, offset, slice)| *offset < slice.watermarks.first);
        let passed: Vec<_> = passed.map(|(partition, ..)| partition.clone()).collect();
        if !passed.is_empty() {
            for partition in &passed {
                if let Some(place) = self.assigned.get_mut(partition) {
                    place.next = None;
                }
            }
            return Ok(Some(Consumed::Passed(passed)));
        }
        let mut batch = Vec::with_capacity(messages);
        for (partition, _, slice) in slices {
            let Some(place) = self.assigned.get_mut(&partition) else {
                continue;
            };
            place.next = Some(slice.next);
            batch.extend(slice.messages);
            self.served = Some(partition);
        }
        Ok((!batch.is_empty()).then_some(Consumed::Messages(batch)))
    }

    /// Which partitions the group still counts as this member's.
    fn held(&self) -> impl Fn(&TopicPartition) -> bool + use<L> {
        let held: std::collections::BTreeSet<_> = self.member.map_or_else(Default::default, |id| {
            self.shared.with_group(&self.subscription.group, |group| {
                let held = self
                    .assigned
                    .keys()
                    .filter(|partition| group.holds(id, partition));
                (held.cloned().collect(), false)
            })
        });
        move |partition| held.contains(partition)
    }

    fn touch(&self) {
        if let Some(id) = self.member {
            let now = self.shared.env.now();
            self.shared.with_group(&self.subscription.group, |group| {
                (group.touch(id, now), false)
            });
        }
    }

    /// The place in a partition that is this member's. What the group has given to others is not, even if its user has
    /// still to hear of it.
    fn place(&mut self, what: &str, partition: &TopicPartition) -> Result<&mut Place, Error> {
        let is_held = self.held()(partition);
        let Subscription { group, member, .. } = &self.subscription;
        let place = self.assigned.get_mut(partition).filter(|_| is_held);
        place.ok_or_else(|| {
            Error::fenced(format!(
                "failed to {what} `{partition}`: it is not assigned to member `{member}` of group `{group}`"
            ))
        })
    }
}

fn out_of_range(partition: &TopicPartition, offset: u64, kept: crate::Watermarks) -> Error {
    Error::fatal(format!(
        "offset {offset} of `{partition}` is out of range: the partition holds {} up to, without, {}",
        kept.first, kept.end
    ))
}

#[async_trait]
impl<L: TopicLog> Consumer for GroupConsumer<L> {
    async fn next(&mut self) -> Result<Consumed, Error> {
        // What was revoked is given away by this call, and not by its being polled again.
        if let Some(id) = self.member {
            self.shared.with_group(&self.subscription.group, |group| {
                ((), group.acknowledge(id))
            });
        }
        loop {
            // Before looking: what changes after the look rings, and ends the wait.
            self.bell.clear();
            if let Some(turn) = self.turn() {
                return Ok(turn);
            }
            // If this is cancelled, nothing was taken yet: places move when the batch is complete.
            if let Some(fetched) = self.fetch().await? {
                return Ok(fetched);
            }
            self.bell.wait().await;
        }
    }

    async fn seek(&mut self, partition: &TopicPartition, offset: u64) -> Result<(), Error> {
        self.touch();
        self.place("seek in", partition)?;
        let kept = self.shared.log.watermarks(partition).await?;
        if !(kept.first..=kept.end).contains(&offset) {
            return Err(out_of_range(partition, offset, kept));
        }
        self.place("seek in", partition)?.next = Some(offset);
        Ok(())
    }

    async fn pause(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        self.touch();
        self.place("pause", partition)?.paused = true;
        Ok(())
    }

    async fn resume(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        self.touch();
        self.place("resume", partition)?.paused = false;
        Ok(())
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, u64)]) -> Result<(), Error> {
        self.touch();
        let Some(id) = self.member else { return Ok(()) };
        // A late word of an old owner must not hide how far the new one is. What was revoked is still the old
        // one's until its next call, so that it can tell its last offset.
        let held: Vec<_> = self.shared.with_group(&self.subscription.group, |group| {
            let held = offsets
                .iter()
                .filter(|(partition, _)| group.holds(id, partition));
            (held.cloned().collect(), false)
        });
        if held.is_empty() {
            return Ok(());
        }
        self.shared
            .log
            .put_offsets(&self.subscription.group, &held, self.shared.env.now())
            .await
    }

    async fn leave(self: Box<Self>) -> Result<(), Error> {
        if let Some(id) = self.member {
            self.shared
                .with_group(&self.subscription.group, |group| ((), group.leave(id)));
        }
        Ok(())
    }
}

impl<L: TopicLog> Drop for GroupConsumer<L> {
    fn drop(&mut self) {
        self.shared.arrivals.forget(self.listener);
    }
}

impl<L: TopicLog> fmt::Debug for GroupConsumer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupConsumer")
            .field("group", &self.subscription.group)
            .field("member", &self.subscription.member)
            .field("assigned", &self.assigned)
            .finish_non_exhaustive()
    }
}
