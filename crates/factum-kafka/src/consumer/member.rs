//! The thread of a member: what it is assigned, where it reads, and what it tells.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    thread,
    time::Duration,
};

use factum_core::{Consumed, Error, Message, Subscription, Topic, TopicPartition, Watermarks};
use rdkafka::{TopicPartitionList, consumer::base_consumer::PartitionQueue, message::Message as _};
use tokio::{sync::mpsc, time::Instant};

use super::{
    Command,
    client::{self, Client, Heard, Next},
    context::{Change, Context},
    slot::Slot,
};
use crate::{
    config,
    desk::Desk,
    error::Doing,
    message::{self, Names},
};

/// How many bytes of messages one [`Consumed::Messages`] has at most, besides the first message.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long a partition is paused before what was fetched ahead of it is dropped as well. Until then a pause costs nothing:
/// it comes and goes all the time when messages come faster than they are handled.
const PAUSE_DEEP: Duration = Duration::from_secs(2);

/// How long the thread sleeps at most while a call waits: the library wakes it, and this is in case that it doesn't.
const NAP: Duration = Duration::from_millis(200);

/// A member in its thread.
pub(super) struct Member {
    desk: Arc<Desk>,
    subscription: Subscription,
    slot: Arc<Slot>,
    client: Option<Client>,
    /// What it was assigned and not yet told to give up.
    held: BTreeMap<TopicPartition, Held>,
    /// What its user was told and has not answered.
    turn: Option<Turn>,
    /// The partition that was read last: reading goes on behind it, so that each gets its turn.
    served: Option<TopicPartition>,
    /// Retention has passed what is to be read next of these, and nobody was told yet.
    passed: BTreeSet<TopicPartition>,
    expelled: bool,
    down: Option<Error>,
    failure: Option<Error>,
    names: Names,
}

/// A partition that is this member's.
struct Held {
    queue: PartitionQueue<Context>,
    /// What is delivered next; nothing is delivered before the first seek, nor when retention has passed it.
    next: Option<u64>,
    fetching: Fetching,
    paused: Option<Instant>,
    /// Messages that were taken from the queue and not delivered.
    ready: VecDeque<Message>,
}

/// What the library does about a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fetching {
    /// It waits for its user to answer the assignment.
    NotYet,
    /// It fetches ahead.
    Yes,
    /// It fetches nothing, and would go on from where it is.
    Paused,
    /// It has stopped, because what is to be read next is gone. It begins anew when there is a place to read from.
    Stopped,
}

enum Turn {
    Starting(Vec<TopicPartition>),
    Giving(TopicPartitionList, BTreeSet<TopicPartition>),
}

impl Member {
    /// Joins the group, on the thread that will run it.
    pub(super) fn join(
        desk: Arc<Desk>,
        subscription: Subscription,
        slot: Arc<Slot>,
    ) -> Result<Self, Error> {
        let mut member = Self {
            desk,
            subscription,
            slot,
            client: None,
            held: BTreeMap::new(),
            turn: None,
            served: None,
            passed: BTreeSet::new(),
            expelled: false,
            down: None,
            failure: None,
            names: Names::default(),
        };
        member.client = Some(member.connect()?);
        Ok(member)
    }

    fn connect(&self) -> Result<Client, Error> {
        let mut partitions = 0;
        for topic in &self.subscription.topics {
            // One that is not there yet will have some.
            let shape = self.desk.shape(topic)?;
            partitions += shape.map_or(1, |shape| shape.partitions as usize);
        }
        let config = config::member(&self.desk.options, &self.subscription, partitions);
        Client::join(&config, &self.subscription)
    }

    /// Carries out calls until the last, and leaves.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            let mut called = false;
            loop {
                match commands.try_recv() {
                    Ok(Command::Leave(answer)) => {
                        self.leave();
                        drop(answer.send(Ok(())));
                        return;
                    }
                    Ok(command) => {
                        called = true;
                        self.obey(command);
                    }
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => return self.leave(),
                }
            }
            let wish = self.slot.wish();
            if wish.settled {
                self.settle();
            }
            if called || wish.called || wish.waits {
                self.poll();
            }
            if wish.waits
                && let Some(told) = self.tell()
            {
                self.slot.fill(told);
                // Told first: coming back takes a while.
                self.come_back();
            } else if wish.waits {
                thread::park_timeout(NAP);
            } else {
                thread::park();
            }
        }
    }

    fn obey(&mut self, command: Command) {
        // Before it is carried out: what a late word is about may be another's by now.
        self.poll();
        // A call that nobody waits for any more was carried out all the same.
        match command {
            Command::Seek(partition, offset, answer) => {
                drop(answer.send(self.seek(&partition, offset)));
            }
            Command::Pause(partition, answer) => drop(answer.send(self.pause(&partition))),
            Command::Resume(partition, answer) => drop(answer.send(self.resume(&partition))),
            Command::Commit(offsets, answer) => {
                self.commit(&offsets);
                drop(answer.send(Ok(())));
            }
            Command::Leave(answer) => drop::<Result<(), _>>(answer.send(Ok(()))),
        }
    }

    /// Hears the library. A sign of life.
    fn poll(&mut self) {
        let Some(client) = &self.client else { return };
        let Heard {
            expelled,
            down,
            failure,
        } = client.poll();
        self.expelled |= expelled;
        self.down = down.or(self.down.take());
        self.failure = failure.or(self.failure.take());
        let now = Instant::now();
        // Between a change and its answer the library would take another one for the answer.
        let is_quiet = self.turn.is_none() && !client.has_change();
        for (partition, held) in &mut self.held {
            let long = held.paused.is_some_and(|since| now - since >= PAUSE_DEEP);
            match (held.fetching, held.next) {
                (Fetching::Yes, _) if long && client.pause(partition).is_ok() => {
                    held.fetching = Fetching::Paused;
                }
                (Fetching::Stopped, Some(next)) if is_quiet => {
                    held.fetching = Fetching::Yes;
                    self.expelled |= client.begin_anew(partition, next).is_err();
                }
                _ => {}
            }
        }
    }

    /// Gives away what was revoked, and begins what was assigned.
    fn settle(&mut self) {
        let Some(client) = &self.client else { return };
        let settled = match self.turn.take() {
            None => return,
            Some(Turn::Giving(list, _)) => client.give_away(&list),
            Some(Turn::Starting(partitions)) => {
                let places = partitions.iter().filter_map(|partition| {
                    Some((partition.clone(), self.held.get(partition)?.next))
                });
                let places: Vec<_> = places.collect();
                let begun = client.begin(&places);
                for (partition, place) in places {
                    if let Some(held) = self.held.get_mut(&partition) {
                        held.fetching = match place {
                            Some(_) => Fetching::Yes,
                            None => Fetching::Paused,
                        };
                    }
                }
                begun
            }
        };
        if let Err(error) = settled {
            // The library is not where it was thought to be: nothing is sure but a new beginning.
            tracing::debug!(
                "a change of the assignment of `{}`: {error}",
                self.subscription.group
            );
            self.expelled = true;
        }
    }

    /// What there is to be told.
    fn tell(&mut self) -> Option<Result<Consumed, Error>> {
        if let Some(failure) = self.failure.take() {
            return Some(Err(failure));
        }
        while !self.expelled && self.turn.is_none() {
            let Some(change) = self.client.as_ref()?.change() else {
                break;
            };
            self.down = None;
            match self.change(change) {
                Ok(None) => {}
                Ok(Some(told)) => return Some(Ok(told)),
                Err(error) => return Some(Err(error)),
            }
        }
        if self.expelled {
            self.turn = None;
            self.passed.clear();
            let lost: Vec<_> = std::mem::take(&mut self.held).into_keys().collect();
            if !lost.is_empty() {
                return Some(Ok(Consumed::Lost(lost)));
            }
            self.come_back();
        }
        if self.held.is_empty()
            && let Some(down) = self.down.take()
        {
            return Some(Err(down));
        }
        if let Some(messages) = self.fetch() {
            return Some(Ok(Consumed::Messages(messages)));
        }
        if !self.passed.is_empty() {
            let passed = std::mem::take(&mut self.passed);
            return Some(Ok(Consumed::Passed(passed.into_iter().collect())));
        }
        self.failure.take().map(Err)
    }

    /// Takes a change of the assignment, and says what its user hears of it.
    fn change(&mut self, change: Change) -> Result<Option<Consumed>, Error> {
        let Some(client) = &self.client else {
            return Ok(None);
        };
        match change {
            Change::Lost(list) => {
                client.forget(&list);
                self.expelled = true;
                Ok(None)
            }
            Change::Assigned(list) => {
                let mut partitions = read(&list);
                partitions.retain(|partition| !self.held.contains_key(partition));
                if partitions.is_empty() {
                    self.expelled |= client.agree(&list).is_err();
                    return Ok(None);
                }
                for partition in &partitions {
                    let held = Held {
                        queue: client.queue(partition)?,
                        next: None,
                        fetching: Fetching::NotYet,
                        paused: None,
                        ready: VecDeque::new(),
                    };
                    self.held.insert(partition.clone(), held);
                }
                self.turn = Some(Turn::Starting(partitions.clone()));
                Ok(Some(Consumed::Assigned(partitions)))
            }
            Change::Revoked(list) => {
                let mut partitions = read(&list);
                partitions.retain(|partition| self.held.remove(partition).is_some());
                if partitions.is_empty() {
                    self.expelled |= client.give_away(&list).is_err();
                    return Ok(None);
                }
                for partition in &partitions {
                    self.passed.remove(partition);
                }
                let giving = partitions.iter().cloned().collect();
                self.turn = Some(Turn::Giving(list, giving));
                Ok(Some(Consumed::Revoked(partitions)))
            }
        }
    }

    /// Messages of what is held, each partition getting its share; `None` when there are none.
    fn fetch(&mut self) -> Option<Vec<Message>> {
        let batch_max = self.subscription.batch_max.max(1);
        let mut order: Vec<_> = self.held.keys().cloned().collect();
        let turn = order
            .iter()
            .position(|partition| Some(partition) > self.served.as_ref());
        order.rotate_left(turn.unwrap_or(0));
        let share = batch_max.div_ceil(order.len().max(1));
        let (mut batch, mut bytes) = (Vec::new(), 0);
        // First everybody's share, then whatever there is.
        for share in [share, batch_max] {
            for partition in &order {
                let mut room = share.min(batch_max - batch.len());
                while room > 0 && bytes < BATCH_BYTES_MAX {
                    let Some(message) = self.take(partition) else {
                        break;
                    };
                    room -= 1;
                    bytes += message.size();
                    batch.push(message);
                    self.served = Some(partition.clone());
                }
            }
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// The next message of a partition.
    fn take(&mut self, partition: &TopicPartition) -> Option<Message> {
        let held = self.held.get_mut(partition)?;
        let next = held.next?;
        if held.paused.is_some() || held.fetching == Fetching::NotYet {
            return None;
        }
        if let Some(message) = held.ready.pop_front() {
            return Some(message);
        }
        loop {
            match client::next(&held.queue, partition) {
                Next::Nothing => return None,
                Next::Message(message) => {
                    let offset = u64::try_from(message.offset()).unwrap_or(0);
                    if offset < next {
                        continue;
                    }
                    self.down = None;
                    held.next = Some(offset + 1);
                    let (topic, number): (&Topic, _) = (&partition.topic, partition.partition);
                    let names = &mut self.names;
                    return Some(message::received(&message, topic, number, offset, names));
                }
                Next::Gone => {
                    held.next = None;
                    held.fetching = Fetching::Stopped;
                    self.passed.insert(partition.clone());
                    return None;
                }
                Next::Failure(error) => {
                    self.failure = Some(error);
                    return None;
                }
            }
        }
    }

    /// Takes back what nobody has seen yet, to be delivered later, or not at all.
    fn take_back(&mut self) {
        for message in self.slot.take_back().into_iter().rev() {
            let partition = TopicPartition::new(message.topic.clone(), message.partition);
            if let Some(held) = self.held.get_mut(&partition) {
                held.ready.push_front(message);
            }
        }
    }

    /// The partition, if it is this member's. What the group has taken away is not, even if its user has still to hear
    /// of it.
    fn place(&mut self, what: &str, partition: &TopicPartition) -> Result<&mut Held, Error> {
        let Subscription { group, member, .. } = &self.subscription;
        let is_gone = self.expelled
            || (self.client.as_ref()).is_some_and(|client| client.takes_away(partition));
        let held = self.held.get_mut(partition).filter(|_| !is_gone);
        held.ok_or_else(|| {
            Error::fenced(format!(
                "failed to {what} `{partition}`: it is not assigned to member `{member}` of group `{group}`"
            ))
        })
    }

    fn seek(&mut self, partition: &TopicPartition, offset: u64) -> Result<(), Error> {
        self.take_back();
        self.place("seek in", partition)?;
        let kept = self.desk.watermarks(partition)?;
        if !(kept.first..=kept.end).contains(&offset) {
            return Err(out_of_range(partition, offset, kept));
        }
        let (Some(held), Some(client)) = (self.held.get_mut(partition), &self.client) else {
            return Ok(());
        };
        if matches!(held.fetching, Fetching::Yes | Fetching::Paused)
            && client.seek(partition, offset).is_err()
        {
            // It has not begun yet, or has stopped: then it begins there with a later poll.
            held.fetching = Fetching::Stopped;
        }
        held.ready.clear();
        held.next = Some(offset);
        self.passed.remove(partition);
        if held.fetching == Fetching::Paused && held.paused.is_none() {
            held.fetching = Fetching::Yes;
            client
                .resume(partition)
                .doing(&format!("resume `{partition}`"))?;
        }
        Ok(())
    }

    fn pause(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        self.take_back();
        let held = self.place("pause", partition)?;
        held.paused.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn resume(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        let held = self.place("resume", partition)?;
        held.paused = None;
        // Without a place to go on from it stays as it is, until there is one.
        if held.fetching == Fetching::Paused && held.next.is_some() {
            held.fetching = Fetching::Yes;
            if let Some(client) = &self.client {
                client
                    .resume(partition)
                    .doing(&format!("resume `{partition}`"))?;
            }
        }
        Ok(())
    }

    /// Tells the broker how far the group is in what is held, or is about to be given away.
    fn commit(&self, offsets: &[(TopicPartition, u64)]) {
        let giving = match &self.turn {
            Some(Turn::Giving(_, giving)) => Some(giving),
            _ => None,
        };
        let is_held = |partition: &TopicPartition| {
            self.held.contains_key(partition)
                || giving.is_some_and(|giving| giving.contains(partition))
        };
        let held: Vec<_> = offsets
            .iter()
            .filter(|(partition, _)| !self.expelled && is_held(partition))
            .cloned()
            .collect();
        let Some(client) = self.client.as_ref().filter(|_| !held.is_empty()) else {
            return;
        };
        if let Err(error) = client.commit(&held) {
            tracing::debug!(
                "offsets of `{}` were not told: {error}",
                self.subscription.group
            );
        }
    }

    /// Joins anew after it was expelled and told so: it comes back as somebody new.
    fn come_back(&mut self) {
        if !self.expelled {
            return;
        }
        self.leave();
        match self.connect() {
            Ok(client) => {
                self.client = Some(client);
                self.expelled = false;
            }
            Err(error) => self.failure = Some(error),
        }
    }

    fn leave(&mut self) {
        self.settle();
        self.held.clear();
        if let Some(client) = self.client.take() {
            client.leave();
        }
    }
}

/// The partitions of a list, in order.
fn read(list: &TopicPartitionList) -> Vec<TopicPartition> {
    let elements = list.elements();
    let partitions = elements.iter().filter_map(|element| {
        let partition = u32::try_from(element.partition()).ok()?;
        Some(TopicPartition::new(
            Topic::new(element.topic()).ok()?,
            partition,
        ))
    });
    let mut partitions: Vec<_> = partitions.collect();
    partitions.sort_unstable();
    partitions
}

fn out_of_range(partition: &TopicPartition, offset: u64, kept: Watermarks) -> Error {
    Error::fatal(format!(
        "offset {offset} of `{partition}` is out of range: the partition holds {} up to, without, {}",
        kept.first, kept.end
    ))
}
