//! Consumers: a group's messages become effects, each exactly once, each key's in order.
//!
//! A member of the group is one task that speaks to the broker. For each partition that it is assigned it claims the
//! inbox, which says where to go on, and starts an owner; the owner's rules are [`factum_core::Partition`]'s. A
//! partition that is taken away is drained first; one that was lost, or whose owner was fenced, is dropped as it
//! stands, since its inbox says all that the next owner needs. One whose next messages are gone, since retention was
//! faster than the group, is owned on for what it has: until a person says where to go on, its parked messages are
//! retried, and the other partitions flow.

mod before;
mod failed;
mod handle;
mod incident;
mod left;
mod owner;
pub(crate) mod standing;
mod suspects;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use factum_core::{
    Begin, Broker, Consumed, Consumer, Error, InboxId, Memory, Partition, Start, Subscription,
    TopicPartition, Watermarks,
};
use tokio::{sync::Notify, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

pub use self::incident::Incident;
pub(crate) use self::incident::Incidents;
pub use self::owner::HELD_BYTES_MAX;
pub(crate) use self::suspects::Suspects;
use self::{
    before::{Linked, before},
    left::Left,
    owner::{Ended, Owner},
    standing::Standing,
};
use crate::{
    GroupSpec, Health, Status,
    metrics::Counted,
    relay::{LONG_ENOUGH, backoff, pause},
    work::Core,
};

/// How long the member waits for the broker before it looks after its owners again. A session lasts longer.
const TURN_MAX: Duration = Duration::from_millis(500);

/// How often the broker is told how far the group has come.
const OFFSETS_EVERY: Duration = Duration::from_secs(1);

/// How long a partition that is taken away may finish what it has begun.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How long it may take to release what did not finish by then.
const RELEASE_MAX: Duration = Duration::from_secs(2);

/// How many lanes' parked state an owner keeps in mind from its claim on. Where there are more, the store is asked before
/// each message of another lane.
const PARKED_LANES_MAX: usize = 10_000;

/// How many messages below the place where an owner goes on are looked at for such that were left out and are still
/// missing a predecessor.
const LEFT_OUT_LOOK: u64 = 100;

/// How many messages are looked at that were published before a group which starts in the middle began, for where
/// each source's chain stood: stragglers come seconds after what they repeat.
const START_LOOK: u64 = 1_000;

/// How many messages one batch has.
const BATCH_MESSAGES_MAX: usize = 500;

/// What all owners of a group share.
pub(crate) struct Consuming {
    pub(crate) core: Arc<Core>,
    pub(crate) group: GroupSpec,
    pub(crate) health: Health,
    pub(crate) part: String,
    /// An owner has ended, or has room again.
    pub(crate) turn: Notify,
    /// What this life keeps in mind of the inboxes that it owned: one for each partition.
    memories: Mutex<BTreeMap<InboxId, Memory>>,
}

/// Runs a member of the group until `stop`, or until something fatal.
pub(crate) async fn run(
    core: Arc<Core>,
    broker: Arc<dyn Broker>,
    group: GroupSpec,
    health: Health,
    stop: CancellationToken,
) -> Result<(), Error> {
    let part = format!("{}/group/{}", core.service, group.name);
    let consuming = Arc::new(Consuming {
        core,
        group,
        health,
        part,
        turn: Notify::new(),
        memories: Mutex::default(),
    });
    let mut failures = 0;
    while !stop.is_cancelled() {
        let member = Member {
            consuming: consuming.clone(),
            broker: broker.clone(),
            owned: BTreeMap::new(),
            left: Left::default(),
            tasks: JoinSet::new(),
        };
        let began = consuming.core.env.now();
        let ended = member.run(&stop).await;
        if consuming.core.env.now().since(began) > LONG_ENOUGH {
            failures = 0;
        }
        let error = match ended {
            Ok(()) => break,
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => error,
        };
        consuming.trouble(&error);
        pause(&stop, backoff(&consuming.core.env, failures)).await;
        failures += 1;
    }
    Ok(())
}

impl Consuming {
    fn memories(&self) -> MutexGuard<'_, BTreeMap<InboxId, Memory>> {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps in mind what of this inbox is not to be counted as a death, should it be claimed again.
    fn remember(&self, inbox: &InboxId, partition: &Partition) {
        self.memories().insert(inbox.clone(), partition.memory());
    }

    pub(crate) fn trouble(&self, error: &Error) {
        self.health.set(
            &self.part,
            Status::Degraded(format!("{error:#}")),
            self.core.env.now(),
        );
    }

    pub(crate) fn well(&self) {
        self.health
            .set(&self.part, Status::Running, self.core.env.now());
    }
}

/// A member of the group.
struct Member {
    consuming: Arc<Consuming>,
    broker: Arc<dyn Broker>,
    owned: BTreeMap<TopicPartition, Owned>,
    /// Owners of what is parked from topics that the group reads no more.
    left: Left,
    /// The owners' loops.
    tasks: JoinSet<(TopicPartition, Arc<Owner>, Ended)>,
}

/// How far the loop of an owner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Running,
    Ended,
    /// It is to be claimed again, as soon as a word of the group's says that it is still this member's: what was fenced may
    /// be another's already, whom a claim would fence in turn.
    Again,
}

struct Owned {
    owner: Arc<Owner>,
    paused: bool,
    stage: Stage,
    /// Whether retention has passed what it reads next: it finishes what it has, and retries what is parked.
    passed: bool,
    _counted: Counted,
}

impl Member {
    async fn run(mut self, stop: &CancellationToken) -> Result<(), Error> {
        let group = &self.consuming.group;
        let subscription = Subscription {
            group: group.name.clone(),
            topics: group.topics(),
            member: format!("{}-{}", self.consuming.core.service, group.name),
            session: group.session,
            batch_max: BATCH_MESSAGES_MAX,
        };
        let mut consumer = self.broker.join(subscription).await?;
        self.consuming.well();
        let ended = self.work(&mut *consumer, stop).await;
        // Whoever fails leaves as well: dropped without a word it would hold its partitions until its session ends.
        let owners = self.owned.values().map(|owned| owned.owner.clone());
        let owners: Vec<_> = owners.chain(self.left.owners().cloned()).collect();
        self.drain(&owners).await;
        self.tell(&mut *consumer).await;
        let left = timeout(self.consuming.group.session, consumer.leave()).await;
        ended.and_then(|()| left.unwrap_or(Ok(())))
    }

    /// Works until `stop`, or until something fails.
    async fn work(
        &mut self,
        consumer: &mut dyn Consumer,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let mut told = self.consuming.core.env.now();
        while !stop.is_cancelled() {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = self.tasks.join_next() => self.ended(ended, stop).await?,
                () = self.consuming.turn.notified() => {}
                // A timeout is no error: the owners are looked after, and the broker is asked again.
                consumed = timeout(TURN_MAX, consumer.next()) => {
                    if let Ok(consumed) = consumed {
                        self.consumed(consumed?, consumer).await?;
                    }
                    // The group has had its say: what it has taken away is not owned any more.
                    self.claim_again(consumer).await?;
                }
            }
            self.balance(consumer).await?;
            let now = self.consuming.core.env.now();
            // A clock that was set back says nothing about how long ago it was.
            if now < told || now.since(told) >= OFFSETS_EVERY {
                told = now;
                self.tell(consumer).await;
                self.look_after_passed().await;
                self.look_after_what_is_left().await?;
            }
        }
        Ok(())
    }

    async fn consumed(
        &mut self,
        consumed: Consumed,
        consumer: &mut dyn Consumer,
    ) -> Result<(), Error> {
        match consumed {
            Consumed::Messages(messages) => {
                for message in messages {
                    let partition = TopicPartition::new(message.topic.clone(), message.partition);
                    if let Some(owned) = self
                        .owned
                        .get(&partition)
                        .filter(|owned| owned.stage == Stage::Running)
                    {
                        owned.owner.deliver(message);
                    }
                }
            }
            Consumed::Assigned(partitions) => {
                self.consuming
                    .core
                    .metrics
                    .rebalance(&self.consuming.group.name);
                for partition in partitions {
                    self.claim(partition, consumer).await?;
                }
            }
            Consumed::Revoked(partitions) => {
                self.consuming
                    .core
                    .metrics
                    .rebalance(&self.consuming.group.name);
                self.give_back(&partitions).await;
                self.tell(consumer).await;
                for partition in &partitions {
                    self.owned.remove(partition);
                }
            }
            Consumed::Lost(partitions) => {
                for partition in partitions {
                    if let Some(owned) = self.owned.remove(&partition) {
                        owned.owner.drop_all();
                    }
                }
            }
            Consumed::Passed(partitions) => {
                for partition in partitions {
                    if let Some(owned) = self.owned.get_mut(&partition) {
                        owned.passed = true;
                    }
                }
                self.look_after_passed().await;
            }
        }
        Ok(())
    }

    /// Claims again what was fenced, or had an unknown outcome, and is still this member's.
    async fn claim_again(&mut self, consumer: &mut dyn Consumer) -> Result<(), Error> {
        let again = self
            .owned
            .extract_if(.., |_, owned| owned.stage == Stage::Again);
        let again: Vec<_> = again.map(|(partition, _)| partition).collect();
        for partition in again {
            if is_held(consumer.pause(&partition).await)? {
                self.claim(partition, consumer).await?;
            }
        }
        Ok(())
    }

    /// Claims the inbox of a partition and starts an owner where it says. What has become another's meanwhile is left to
    /// that one: the group is about to tell of it.
    async fn claim(
        &mut self,
        partition: TopicPartition,
        consumer: &mut dyn Consumer,
    ) -> Result<(), Error> {
        let consuming = &self.consuming;
        let inbox = InboxId {
            group: consuming.group.name.clone(),
            topic: partition.topic.clone(),
            partition: partition.partition,
        };
        let marks = self.broker.watermarks(&partition).await?;
        let store = &consuming.core.store;
        let begin = match consuming.group.start {
            Start::Beginning => Begin::at(Start::Beginning, marks.first),
            Start::Anchor if store.inbox(&inbox).await?.is_some() => {
                Begin::at(Start::Anchor, marks.end)
            }
            Start::Anchor => self.anchor(&partition, marks).await?,
        };
        let row = store.claim_inbox(&inbox, &begin).await?;
        let parked = store.parked_lanes(&inbox, PARKED_LANES_MAX).await?;
        let (health, part) = (&consuming.health, format!("{}/{partition}", consuming.part));
        // Going elsewhere would leave messages out in silence. Its owner does what it can without them.
        let standing = standing::look(&*self.broker, &partition, &row).await?;
        let reason = match standing.reason(&inbox) {
            Some(reason) => Some(reason),
            None => match consumer.seek(&partition, row.low).await {
                // It went just now: it is looked at again.
                Err(error) if error.is_fatal() => Some(format!("{error:#}")),
                sought => {
                    if !is_held(sought)? {
                        return Ok(());
                    }
                    None
                }
            },
        };
        // Whatever was wrong with the partition before, its owner sees for itself.
        let passed = reason.is_some();
        if let Some(reason) = reason {
            self.show(&inbox, reason);
        } else if health.parts().contains_key(&part) {
            health.set(&part, Status::Running, consuming.core.env.now());
        }
        let first = match standing {
            // What lies before its place is not what lay there.
            Standing::Short { .. } | Standing::Strange { .. } => row.low,
            Standing::Well | Standing::Passed { .. } => marks.first,
        };
        let before = before(&*self.broker, &partition, first, row.low, LEFT_OUT_LOOK).await?;
        // The owner before may have left it paused, or at a place that it still has.
        let steered = if passed {
            consumer.pause(&partition).await
        } else {
            consumer.resume(&partition).await
        };
        if !is_held(steered)? {
            return Ok(());
        }
        tracing::debug!(owner.fence = %row.fence, inbox.low = row.low, "inbox `{inbox}` claimed");
        let owner = Owner::new(consuming.clone(), inbox, row, parked, marks.end);
        owner.look_back(&before);
        let owner = Arc::new(owner);
        self.spawn(partition.clone(), owner.clone());
        let counted = self.consuming.core.metrics.owned(&owner.inbox().group);
        self.owned.insert(
            partition,
            Owned {
                owner,
                paused: false,
                stage: Stage::Running,
                passed,
                _counted: counted,
            },
        );
        Ok(())
    }

    /// Where a group that starts in the middle begins: at the end, with the chains where they stood before. A straggler,
    /// which an older run of a relay publishes again behind the start, would else be taken for its source's start, and
    /// what follows would miss what was published before.
    async fn anchor(
        &self,
        partition: &TopicPartition,
        Watermarks { first, end }: Watermarks,
    ) -> Result<Begin, Error> {
        let mut begin = Begin::at(Start::Anchor, end);
        for Linked { link, .. } in before(&*self.broker, partition, first, end, START_LOOK).await? {
            begin.lasts.fold(begin.start, Some(&link));
        }
        Ok(begin)
    }

    fn spawn(&mut self, partition: TopicPartition, owner: Arc<Owner>) {
        self.tasks.spawn(async move {
            let ended = owner.clone().run().await;
            (partition, owner, ended)
        });
    }

    /// What is parked from topics that the group reads no more is tried again as well.
    async fn look_after_what_is_left(&mut self) -> Result<(), Error> {
        for owner in self.left.look(&self.consuming).await? {
            let inbox = owner.inbox();
            let partition = TopicPartition::new(inbox.topic.clone(), inbox.partition);
            self.spawn(partition, owner);
        }
        Ok(())
    }

    /// An owner's loop has ended by itself.
    async fn ended(
        &mut self,
        ended: Result<(TopicPartition, Arc<Owner>, Ended), tokio::task::JoinError>,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let (partition, owner, ended) = ended
            .map_err(|error| Error::fatal("an owner's task ended by itself").caused_by(error))?;
        // One that was given back or lost meanwhile says nothing about who owns the partition now.
        let owned = self
            .owned
            .get_mut(&partition)
            .filter(|owned| Arc::ptr_eq(&owned.owner, &owner));
        let Some(owned) = owned else {
            // That of what is left behind is started again when there is something to do.
            return match ended {
                Ended::Stopped(reason)
                    if self.left.owners().any(|left| Arc::ptr_eq(left, &owner)) =>
                {
                    Err(Error::fatal(reason))
                }
                _ => Ok(()),
            };
        };
        if owned.stage == Stage::Running {
            owned.stage = Stage::Ended;
        }
        match ended {
            Ended::Drained => Ok(()),
            Ended::Reclaim => {
                owned.stage = Stage::Again;
                let wait = backoff(&self.consuming.core.env, 0);
                pause(stop, wait).await;
                Ok(())
            }
            Ended::Stopped(reason) => Err(Error::fatal(reason)),
        }
    }

    /// Pauses partitions whose owners have enough to do, resumes those that have room.
    async fn balance(&mut self, consumer: &mut dyn Consumer) -> Result<(), Error> {
        for (partition, owned) in self.owned.iter_mut().filter(|(_, owned)| !owned.passed) {
            let full = owned.owner.is_full();
            // What is not held any more is steered no more: the group is about to tell of it.
            if full && !owned.paused {
                owned.paused = is_held(consumer.pause(partition).await)?;
            } else if owned.paused && owned.owner.has_room() {
                owned.paused = !is_held(consumer.resume(partition).await)?;
            }
        }
        Ok(())
    }

    /// Raises that the group can't go on in a partition: a person has to say where it does.
    fn show(&self, inbox: &InboxId, what: String) {
        let consuming = &self.consuming;
        let part = format!("{}/{}/{}", consuming.part, inbox.topic, inbox.partition);
        let now = consuming.core.env.now();
        consuming.health.set(&part, Status::Failed(what), now);
    }

    /// Looks at partitions that don't have what was to be read next. A person who says where one goes on writes what only
    /// an owner writes: the owner, who may have nothing to write, finds out here. So it does when the partition has it
    /// after all, as when a broker that has just begun to lead it didn't know its end.
    async fn look_after_passed(&mut self) {
        let passed = self.owned.iter();
        let passed = passed.filter(|(_, owned)| owned.passed && owned.stage == Stage::Running);
        let passed: Vec<_> = passed
            .map(|(partition, owned)| (partition.clone(), owned.owner.clone()))
            .collect();
        for (partition, owner) in passed {
            let inbox = owner.inbox();
            // A failure costs nothing: it is looked up again.
            let Ok(Some(row)) = self.consuming.core.store.inbox(inbox).await else {
                continue;
            };
            let is_fenced = row.fence != owner.fence();
            if !is_fenced {
                match standing::look(&*self.broker, &partition, &row).await {
                    Ok(standing) => {
                        if let Some(reason) = standing.reason(inbox) {
                            self.show(inbox, reason);
                            continue;
                        }
                    }
                    Err(error) => {
                        let what = "can't go on in the partition, which can't be looked at";
                        self.show(inbox, format!("inbox `{inbox}` {what} ({error:#})"));
                        continue;
                    }
                }
                tracing::warn!(
                    inbox.low = row.low,
                    "`{inbox}` reads on at {}: the partition didn't have what it was to read, and does",
                    row.low
                );
            }
            owner.drop_all();
            if let Some(owned) = self.owned.get_mut(&partition) {
                owned.stage = Stage::Again;
            }
        }
    }

    /// Lets owners finish what they have begun and release their inboxes.
    async fn give_back(&mut self, partitions: &[TopicPartition]) {
        let owners: Vec<_> = partitions
            .iter()
            .filter_map(|partition| self.owned.get(partition))
            .map(|owned| owned.owner.clone())
            .collect();
        self.drain(&owners).await;
    }

    async fn drain(&self, owners: &[Arc<Owner>]) {
        for owner in owners {
            owner.drain();
        }
        // The member says nothing to the broker meanwhile, and must not count as dead.
        let session = self.consuming.group.session;
        if has_drained(owners, DRAIN_MAX.min(session / 2)).await {
            return;
        }
        for owner in owners {
            owner.cut_short();
        }
        if !has_drained(owners, RELEASE_MAX.min(session / 4)).await {
            for owner in owners {
                owner.drop_all();
            }
        }
    }

    /// Tells the broker how far the group has come. Tools read it; a failure costs nothing.
    async fn tell(&mut self, consumer: &mut dyn Consumer) {
        // Whoever owns what is to be claimed again knows better.
        let offsets: Vec<_> = self
            .owned
            .iter()
            .filter(|(_, owned)| owned.stage != Stage::Again)
            .map(|(partition, owned)| (partition.clone(), owned.owner.low()))
            .collect();
        if let Err(error) = consumer.commit(&offsets).await {
            tracing::debug!(
                "offsets of `{}` were not told: {error:#}",
                self.consuming.part
            );
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let owners = self.owned.values().map(|owned| &owned.owner);
        for owner in owners.chain(self.left.owners()) {
            owner.drop_all();
        }
    }
}

/// Whether a partition that was to be sought, paused or resumed is this member's.
fn is_held(steered: Result<(), Error>) -> Result<bool, Error> {
    match steered {
        Ok(()) => Ok(true),
        Err(error) if error.is_fenced() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Waits until all of them have ended, or for so long.
async fn has_drained(owners: &[Arc<Owner>], limit: Duration) -> bool {
    let drained = futures_util::future::join_all(owners.iter().map(|owner| owner.drained()));
    timeout(limit, drained).await.is_ok()
}
