//! A consumer behind a plan of faults: partitions that lag behind each other, and messages that come twice, or after
//! those that they came before.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    pin::pin,
    sync::Arc,
};

use async_trait::async_trait;
use factum_core::{Consumed, Consumer, Error, Group, Message, TopicPartition};
use futures_util::future::{Either, select, select_all};

use super::{Call, Faults, Gate, rule::Fault};

/// A member of a group, of one node.
#[derive(Debug)]
pub(super) struct FaultyConsumer {
    inner: Box<dyn Consumer>,
    group: Group,
    node: Arc<str>,
    faults: Faults,
    /// What comes with the next calls, before the broker is asked again.
    ready: VecDeque<Result<Consumed, Error>>,
    /// Partitions whose messages wait.
    held: BTreeMap<TopicPartition, Held>,
    /// Partitions that the user has paused.
    paused: BTreeSet<TopicPartition>,
    /// What comes behind the next messages of other partitions.
    behind: Vec<Message>,
    /// Whether the broker was asked for those, in vain so far.
    asked: bool,
}

/// Messages of a partition that wait.
#[derive(Debug)]
struct Held {
    gates: Vec<Gate>,
    messages: Vec<Message>,
    /// Whether the broker was told to deliver no more of it: bounds what is held to one batch, as a rule.
    stopped: bool,
}

impl Held {
    fn is_open(&self) -> bool {
        self.gates.iter().all(Gate::is_open)
    }
}

impl FaultyConsumer {
    pub(super) fn new(
        inner: Box<dyn Consumer>,
        group: Group,
        node: Arc<str>,
        faults: Faults,
    ) -> Self {
        Self {
            inner,
            group,
            node,
            faults,
            ready: VecDeque::new(),
            held: BTreeMap::new(),
            paused: BTreeSet::new(),
            behind: Vec::new(),
            asked: false,
        }
    }

    /// Takes over what the broker delivers, partition by partition. Nothing is awaited here, so that nothing is
    /// lost when the call is cancelled.
    fn take(&mut self, consumed: Consumed) {
        let messages = match consumed {
            Consumed::Messages(messages) => messages,
            told => {
                if let Consumed::Revoked(partitions) | Consumed::Lost(partitions) = &told {
                    // What was held of them is the next owner's.
                    self.held
                        .retain(|partition, _| !partitions.contains(partition));
                    self.paused
                        .retain(|partition| !partitions.contains(partition));
                    for partition in partitions {
                        extract(&mut self.behind, partition);
                    }
                }
                return self.ready.push_back(Ok(told));
            }
        };
        let (mut free, mut behind) = (Vec::new(), Vec::new());
        for (partition, messages) in by_partition(messages) {
            // Nothing overtakes what it follows.
            let mut all = extract(&mut self.behind, &partition);
            all.extend(messages);
            let messages = all;
            if let Some(held) = self.held.get_mut(&partition) {
                held.messages.extend(messages);
                continue;
            }
            let offsets = (messages.first(), messages.last());
            let (first, last) = (
                offsets.0.map_or(0, |m| m.offset),
                offsets.1.map_or(0, |m| m.offset),
            );
            let subject = format!("{} {partition} {first}-{last}", self.group);
            let mut begun = self.faults.begin(&self.node, Call::Deliver, subject);
            match &begun.fault {
                Some(Fault::Fails(error) | Fault::Loses(error)) => {
                    self.ready.push_back(Err(error.clone()));
                }
                Some(Fault::Twice) => self
                    .ready
                    .push_back(Ok(Consumed::Messages(messages.clone()))),
                _ => {}
            }
            let gates = begun.take_gates();
            if gates.is_empty() && matches!(begun.fault, Some(Fault::Swaps)) {
                behind.extend(messages);
            } else if gates.is_empty() {
                free.extend(messages);
            } else {
                self.held.insert(
                    partition,
                    Held {
                        gates,
                        messages,
                        stopped: false,
                    },
                );
            }
        }
        self.behind.extend(behind);
        self.asked = false;
        if !free.is_empty() {
            self.ready.push_back(Ok(Consumed::Messages(free)));
            self.let_follow();
        }
    }

    /// What was to come behind others comes.
    fn let_follow(&mut self) {
        if !self.behind.is_empty() {
            let behind = std::mem::take(&mut self.behind);
            self.ready.push_back(Ok(Consumed::Messages(behind)));
        }
    }

    /// Stops partitions that are held, and lets those go on whose gates are open.
    async fn steer(&mut self) -> Result<(), Error> {
        for (partition, held) in &mut self.held {
            if !held.stopped && !held.is_open() {
                self.inner.pause(partition).await?;
                held.stopped = true;
            }
        }
        let is_free = |(partition, held): &(&TopicPartition, &Held)| {
            held.is_open() && !self.paused.contains(partition)
        };
        let free: Vec<_> = self
            .held
            .iter()
            .filter(is_free)
            .map(|(partition, _)| partition.clone())
            .collect();
        for partition in free {
            if self.held.get(&partition).is_some_and(|held| held.stopped) {
                self.inner.resume(&partition).await?;
            }
            if let Some(held) = self.held.remove(&partition) {
                self.ready.push_back(Ok(Consumed::Messages(held.messages)));
            }
        }
        Ok(())
    }

    /// Forgets what was to be delivered of a partition, and says what it was.
    fn withdraw(&mut self, partition: &TopicPartition) -> Vec<Message> {
        let mut withdrawn = Vec::new();
        for ready in &mut self.ready {
            if let Ok(Consumed::Messages(messages)) = ready {
                withdrawn.extend(extract(messages, partition));
            }
        }
        withdrawn.extend(extract(&mut self.behind, partition));
        self.ready.retain(
            |ready| !matches!(ready, Ok(Consumed::Messages(messages)) if messages.is_empty()),
        );
        withdrawn
    }
}

#[async_trait]
impl Consumer for FaultyConsumer {
    async fn next(&mut self) -> Result<Consumed, Error> {
        self.faults
            .run(&self.node, Call::Next, &self.group, async { Ok(()) })
            .await?;
        loop {
            if self.ready.is_empty() {
                self.steer().await?;
            }
            if self.ready.is_empty() && std::mem::replace(&mut self.asked, true) {
                self.let_follow();
            }
            if let Some(ready) = self.ready.pop_front() {
                return ready;
            }
            let gates = self
                .held
                .values()
                .flat_map(|held| &held.gates)
                .filter(|gate| !gate.is_open());
            let gates: Vec<_> = gates.cloned().collect();
            if gates.is_empty() {
                let consumed = self.inner.next().await?;
                self.take(consumed);
                continue;
            }
            let opened = pin!(select_all(gates.iter().map(|gate| Box::pin(gate.passed()))));
            // A gate that opens cancels the call, which may be made again.
            let delivered = match select(opened, self.inner.next()).await {
                Either::Left(_) => continue,
                Either::Right((delivered, _)) => delivered?,
            };
            self.take(delivered);
        }
    }

    async fn seek(&mut self, partition: &TopicPartition, offset: u64) -> Result<(), Error> {
        self.faults
            .run(
                &self.node,
                Call::Steer,
                partition,
                self.inner.seek(partition, offset),
            )
            .await?;
        self.withdraw(partition);
        let held = self.held.remove(partition);
        if held.is_some_and(|held| held.stopped) && !self.paused.contains(partition) {
            self.inner.resume(partition).await?;
        }
        Ok(())
    }

    async fn pause(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        self.faults
            .run(
                &self.node,
                Call::Steer,
                partition,
                self.inner.pause(partition),
            )
            .await?;
        self.paused.insert(partition.clone());
        let messages = self.withdraw(partition);
        if !messages.is_empty() {
            self.held.insert(
                partition.clone(),
                Held {
                    gates: Vec::new(),
                    messages,
                    stopped: false,
                },
            );
        }
        Ok(())
    }

    async fn resume(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        self.paused.remove(partition);
        if self.held.get(partition).is_some_and(|held| held.stopped) {
            // It goes on when its gates are open.
            return Ok(());
        }
        self.faults
            .run(
                &self.node,
                Call::Steer,
                partition,
                self.inner.resume(partition),
            )
            .await
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, u64)]) -> Result<(), Error> {
        self.faults
            .run(
                &self.node,
                Call::CommitOffsets,
                &self.group,
                self.inner.commit(offsets),
            )
            .await
    }

    async fn leave(self: Box<Self>) -> Result<(), Error> {
        let Self {
            inner,
            group,
            node,
            faults,
            ..
        } = *self;
        faults.run(&node, Call::Leave, group, inner.leave()).await
    }
}

/// Takes the messages of a partition out of `messages`.
fn extract(messages: &mut Vec<Message>, partition: &TopicPartition) -> Vec<Message> {
    let is_of = |message: &mut Message| {
        message.topic == partition.topic && message.partition == partition.partition
    };
    messages.extract_if(.., is_of).collect()
}

/// Messages by partition, in the order in which the partitions come first.
fn by_partition(messages: Vec<Message>) -> Vec<(TopicPartition, Vec<Message>)> {
    let mut parts: Vec<(TopicPartition, Vec<Message>)> = Vec::new();
    for message in messages {
        let partition = TopicPartition::new(message.topic.clone(), message.partition);
        match parts.iter_mut().find(|(known, _)| *known == partition) {
            Some((_, messages)) => messages.push(message),
            None => parts.push((partition, vec![message])),
        }
    }
    parts
}
