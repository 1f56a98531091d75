//! The world: stores, a topic, relays and owners, and what is true of it all.
//!
//! Everything that decides is the code that runs: the runs of relays, the fold, the inbox row, the owner's picture, the
//! parked rows and the store's commits. What stands here is what surrounds them: the order in which things happen, the
//! way of messages, and a memory of what is true, which no machine sees.

use std::{
    any::Any,
    hash::{Hash, Hasher},
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;
use factum_core::{
    At, Class, Codec, Commit, CommitId, Destination, Draft, InboxRow, Link, Metadata, RecordKind,
    ServiceName, Start, StoreId, Timestamp, TypeName,
};
use factum_sim::explore::{Digest, Kind, Next, Part, Pool, Violation};
use factum_testkit::StoreValue;
use uuid::Uuid;

use crate::{
    bounds::{Bounds, Faults, Publishing, Setting},
    mutation::Mutation,
    owner::Owner,
    relay::{Relay, Stray},
    story::{Fact, Step, What},
    topic::{Entry, Shelf},
};

/// No record's effect twice in a group, nor after it was given up.
pub(crate) const ONCE: &str = "1 once";
/// An effect of a lane comes after those of all earlier messages of that lane, and its handler saw them.
pub(crate) const ORDER: &str = "2 in order";
/// Each offset below `low`, and each done one, is applied, parked, void or given up.
pub(crate) const FINISHED: &str = "3 finished";
/// Rows and pictures agree with each other and with the fold.
pub(crate) const PICTURE: &str = "4 picture";
/// No effect by an owner whose fence is not the stored one.
pub(crate) const FENCE: &str = "5 fence";
/// Each record up to the relay's checkpoint was delivered by the fold of its partition.
pub(crate) const PUBLISHED: &str = "6 published";
/// A fact of a lost time line is never applied after one of the new.
pub(crate) const TIME_LINE: &str = "7 time line";
/// No machine panics, and none asks for what a store refuses as bad.
pub(crate) const SOUND: &str = "0 sound";

const FACTS: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// What is true of a record.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Truth {
    /// Its place, as it was written.
    pub(crate) at: At,
    /// Which of the bounds' records it is.
    pub(crate) record: usize,
    /// How often the source had been restored when it was written.
    era: u8,
    /// The records before it in its lane.
    ancestors: u32,
}

/// What is true of all records: nothing that decides sees this.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Truths {
    pub(crate) all: Vec<Truth>,
    /// Those that are on the present time line.
    pub(crate) present: u32,
    era: u8,
}

/// A backup of the source, and which records it holds.
#[derive(Clone, Hash)]
struct Backup {
    store: Part<StoreValue>,
    present: u32,
}

/// The names that all worlds within some bounds share. It is the same for all of them, so it is not hashed.
#[derive(Clone)]
pub(crate) struct Fixed(Arc<Setting>);

impl Hash for Fixed {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Deref for Fixed {
    type Target = Setting;

    fn deref(&self) -> &Setting {
        &self.0
    }
}

/// The world at one moment.
#[derive(Clone, Hash)]
pub(crate) struct World {
    pub(crate) setting: Fixed,
    /// What may still go wrong.
    pub(crate) left: Faults,
    pub(crate) truths: Part<Truths>,
    /// The effects that were made.
    pub(crate) applied: u32,
    /// What was discarded or left out.
    pub(crate) given_up: u32,
    pub(crate) source: Part<StoreValue>,
    backup: Option<Backup>,
    pub(crate) relays: Vec<Part<Relay>>,
    pub(crate) strays: Part<Vec<Stray>>,
    pub(crate) topic: Vec<Part<Shelf>>,
    pub(crate) group: Part<StoreValue>,
    pub(crate) owners: Vec<Part<Owner>>,
    /// The owner at the member that has the partition; none when it has to claim.
    pub(crate) assigned: Option<usize>,
    /// A row that was read and not claimed yet (M16).
    pub(crate) read: Option<InboxRow>,
    /// The parked message that an operator wants to discard, and its revision.
    pub(crate) operator: Option<(u64, u64)>,
}

/// How a step went.
pub(crate) struct Happened {
    kind: Kind,
    note: &'static str,
}

impl Happened {
    /// The same as a fault, if it was one.
    pub(crate) fn of_kind(self, kind: Kind) -> Self {
        match kind {
            Kind::Fault => Self { kind, ..self },
            _ => self,
        }
    }
}

/// Things went their way.
pub(crate) const COURSE: Happened = noted(Kind::Course, "");
/// Something went wrong.
pub(crate) const FAULT: Happened = noted(Kind::Fault, "");

/// A step that went like this.
pub(crate) const fn noted(kind: Kind, note: &'static str) -> Happened {
    Happened { kind, note }
}

/// Why there is no world behind a step.
pub(crate) enum Halt {
    /// It is not possible now.
    Never,
    /// It breaks a rule.
    Broken(Violation),
}

impl Halt {
    pub(crate) fn broken(rule: &'static str, what: impl Into<String>) -> Self {
        Self::Broken(Violation::new(rule, what))
    }
}

pub(crate) type Act = Result<Happened, Halt>;

/// The steps of a world, as they are shown to the explorer.
pub(crate) struct Steps<'a, F> {
    pub(crate) world: &'a World,
    pub(crate) visit: &'a mut F,
}

impl<F: FnMut(Next<World>)> Steps<'_, F> {
    /// Shows what `act` does, if it is possible.
    pub(crate) fn show(&mut self, what: What, act: impl FnOnce(&mut World) -> Act) {
        let mut world = self.world.clone();
        let acted = catch_unwind(AssertUnwindSafe(|| act(&mut world)));
        let acted = acted.unwrap_or_else(|panic| {
            let what = format!("a machine panicked: {}", text_of(&*panic));
            Err(Halt::broken(SOUND, what))
        });
        let (step, kind, world) = match acted {
            Err(Halt::Never) => return,
            Ok(Happened { kind, note }) => (Step { what, note }, kind, Ok(world)),
            Err(Halt::Broken(violation)) => (Step { what, note: "" }, Kind::Course, Err(violation)),
        };
        (self.visit)(Next { step, kind, world });
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

impl World {
    /// The worlds that can be at the beginning.
    pub(crate) fn beginnings(bounds: Bounds) -> Vec<Self> {
        let setting = Setting::new(bounds);
        match &setting.bounds.publishing {
            Publishing::Relay | Publishing::GrowingLog => vec![Self::new(&setting, None)],
            Publishing::There(contents) | Publishing::Foreign(contents) => contents
                .iter()
                .map(|content| Self::new(&setting, Some(content)))
                .collect(),
        }
    }

    fn new(setting: &Arc<Setting>, content: Option<&Vec<Option<u8>>>) -> Self {
        let bounds = &setting.bounds;
        let store = |id, service| {
            let id = StoreId(Uuid::from_u128(id));
            StoreValue::new(id, ServiceName::of(service), Timestamp::UNIX_EPOCH)
        };
        let mut source = store(0, "source");
        source
            .pin_topic(&setting.topic, bounds.partitions)
            .expect("a topic is pinned once");
        let mut world = Self {
            setting: Fixed(setting.clone()),
            left: bounds.faults,
            truths: Part::new(Truths::default()),
            applied: 0,
            given_up: 0,
            source: Part::new(source),
            backup: None,
            relays: Vec::new(),
            strays: Part::new(Vec::new()),
            topic: (0..bounds.partitions)
                .map(|_| Part::new(Shelf::new(bounds.start)))
                .collect(),
            group: Part::new(store(1, "group")),
            owners: Vec::new(),
            assigned: None,
            read: None,
            operator: None,
        };
        if bounds.publishing != Publishing::GrowingLog {
            for _ in bounds.records {
                world.append_record();
            }
        }
        for fact in content.into_iter().flatten() {
            let entry = fact.map(|fact| world.entry_there(fact));
            if let Err(Halt::Broken(violation)) = world.publish(0, entry) {
                panic!("what lies in the topic at the beginning is sound: {violation:?}");
            }
        }
        world
    }

    /// Whether this mutation is planted.
    pub(crate) fn plants(&self, mutation: Mutation) -> bool {
        self.setting.bounds.mutation == Some(mutation)
    }

    /// Whether a fact is in a set of facts.
    pub(crate) fn has(set: u32, fact: u8) -> bool {
        set >> fact & 1 == 1
    }

    /// The partition that a fact goes to.
    pub(crate) fn partition_of(&self, fact: u8) -> Option<u32> {
        let truth = &self.truths.all[usize::from(fact)];
        self.setting.bounds.records[truth.record].0
    }

    /// The facts, each with what is true of it.
    pub(crate) fn facts(&self) -> impl Iterator<Item = (u8, &Truth)> + Clone {
        (0..).zip(&self.truths.all)
    }

    /// The fact that a record of the source's log is.
    pub(crate) fn fact_of(data: &Bytes) -> u8 {
        data[0]
    }

    pub(crate) fn data_of(fact: u8) -> Bytes {
        let fact = usize::from(fact);
        Bytes::from_static(&FACTS[fact..=fact])
    }

    /// Appends the next record to the source's log.
    pub(crate) fn append_record(&mut self) {
        let position = self.source.head().position.0;
        let record = usize::try_from(position).expect("a small log's position fits");
        let fact = u8::try_from(self.truths.all.len()).expect("a small world has few facts");
        let setting = self.setting.0.clone();
        let (partition, key) = &setting.bounds.records[record];
        let draft = Draft {
            kind: RecordKind::Message,
            stream: None,
            event_id: setting.event_ids[record].clone(),
            event_type: TypeName::new("E", 1),
            destination: partition.map(|partition| Destination {
                topic: setting.topic.clone(),
                partition,
                key: setting.keys[record].clone(),
            }),
            timestamp: Timestamp::UNIX_EPOCH,
            correlation_id: setting.event_ids[0].clone(),
            causation_id: None,
            metadata: Metadata::new(),
            tags: Vec::new(),
            codec: Codec::Json,
            protection: None,
            data: Self::data_of(fact),
        };
        let mut commit = Commit::new(
            CommitId(Uuid::from_u128(fact.into())),
            Timestamp::UNIX_EPOCH,
        );
        commit.outbox.push(draft);
        let committed = self.source.change(|source| source.commit(commit));
        let at = committed.expect("a record can be appended").head;
        let truths = &*self.truths;
        let is_before = |before: &Truth| {
            let other = setting.bounds.records[before.record];
            other.0 == *partition && other.1 == *key && !key.is_empty()
        };
        let ancestors = self
            .facts()
            .filter(|(fact, before)| Self::has(truths.present, *fact) && is_before(before));
        let ancestors = ancestors.fold(0, |set, (fact, _)| set | 1 << fact);
        self.truths.change(|truths| {
            truths.all.push(Truth {
                at,
                record,
                era: truths.era,
                ancestors,
            });
            if partition.is_some() {
                truths.present |= 1 << fact;
            }
        });
    }

    /// The entry of a record that lies in the topic from the beginning.
    fn entry_there(&self, fact: u8) -> Entry {
        let foreign = matches!(self.setting.bounds.publishing, Publishing::Foreign(_));
        let link = Link {
            source: self.setting.source,
            at: self.truths.all[usize::from(fact)].at,
            previous: match fact {
                0 => At::ZERO,
                _ => self.truths.all[usize::from(fact) - 1].at,
            },
        };
        Entry {
            fact,
            link: (!foreign).then_some(link),
        }
    }

    /// A link as consumers read it.
    pub(crate) fn read_link(&self, link: Option<Link>) -> Option<Link> {
        if self.plants(Mutation::M1) {
            return link.map(|link| Link {
                previous: At::ZERO,
                ..link
            });
        }
        link
    }

    /// A message arrives in a partition.
    pub(crate) fn publish(&mut self, partition: u32, entry: Option<Entry>) -> Result<(), Halt> {
        let source = self.setting.source;
        let read = entry.and_then(|entry| self.read_link(entry.link));
        let before = self.topic[partition as usize].delivered;
        let class =
            self.topic[partition as usize].change(|shelf| shelf.append(entry, read, source));
        let (Some(entry), Some(class)) = (entry, class) else {
            return Ok(());
        };
        self.check_class(partition, entry, before, class)?;
        if class == Class::Deliver && self.setting.bounds.consuming.is_none() {
            self.effect(entry.fact, self.applied)?;
        }
        Ok(())
    }

    /// Whether a group that starts in the middle may begin.
    pub(crate) fn may_begin(&self) -> bool {
        self.topic[0].begins.is_none()
    }

    /// A group that starts in the middle begins now.
    pub(crate) fn begin_group(&mut self) {
        let (source, looks) = (self.setting.source, !self.plants(Mutation::M22));
        for shelf in &mut self.topic {
            shelf.change(|shelf| shelf.begin(source, looks));
        }
    }

    /// Records that the group must have taken in the end, as far as the topic shows it by now.
    pub(crate) fn required(&self, partition: u32) -> u32 {
        let of_partition = |(fact, _): &(u8, &Truth)| {
            Self::has(self.truths.present, *fact) && self.partition_of(*fact) == Some(partition)
        };
        let all = self.facts().filter(of_partition);
        let shelf = &self.topic[partition as usize];
        if self.setting.bounds.start == Start::Beginning {
            return all.fold(0, |set, (fact, _)| set | 1 << fact);
        }
        let Some((begins, (_, first_seen))) = shelf
            .begins
            .and_then(|begins| Some((begins, shelf.next(begins)?)))
        else {
            return 0;
        };
        // What was published before the group began is none of its business. A source whose first record of all was
        // among that starts with what is seen of it first; one that begins later is taken from its first record on.
        let before = &shelf.entries[..crate::topic::index(begins)];
        let before = before.iter().flatten();
        let before = before.fold(0, |set: u32, entry| set | 1 << entry.fact);
        let first = all.clone().next().map(|(fact, _)| fact);
        let began_before = first.is_some_and(|first| Self::has(before, first));
        all.filter(|(fact, _)| !Self::has(before, *fact))
            .filter(|(fact, _)| !began_before || *fact >= first_seen.fact)
            .fold(0, |set, (fact, _)| set | 1 << fact)
    }

    /// An effect takes place, of a handler that has seen the effects `saw`.
    pub(crate) fn effect(&mut self, fact: u8, saw: u32) -> Result<(), Halt> {
        let truth = &self.truths.all[usize::from(fact)];
        let partition = self.partition_of(fact).unwrap_or_default();
        let name = Fact(fact);
        if Self::has(self.applied, fact) {
            return Err(Halt::broken(ONCE, format!("{name} takes effect twice")));
        }
        if Self::has(self.given_up, fact) {
            let what = format!("{name} was given up and takes effect");
            return Err(Halt::broken(ONCE, what));
        }
        let mut before = truth.ancestors & !self.given_up;
        if self.setting.bounds.start == Start::Anchor {
            before &= self.required(partition);
        }
        let broken = |set: u32, what: &str| {
            let other = u8::try_from(set.trailing_zeros()).map_or(0, |fact| fact);
            let what = format!(
                "{name} takes effect, and {} of its lane {what}",
                Fact(other)
            );
            Halt::broken(ORDER, what)
        };
        if before & !self.applied != 0 {
            return Err(broken(before & !self.applied, "has not"));
        }
        if before & !saw != 0 {
            return Err(broken(before & !saw, "was not seen by its handler"));
        }
        let newer = |(other, after): (u8, &Truth)| {
            after.era > truth.era
                && Self::has(self.applied, other)
                && self.partition_of(other) == self.partition_of(fact)
        };
        if !Self::has(self.truths.present, fact) && self.facts().any(newer) {
            let what =
                format!("{name} was lost in a restore and takes effect after what came then");
            return Err(Halt::broken(TIME_LINE, what));
        }
        self.applied |= 1 << fact;
        Ok(())
    }

    /// The steps of the source's store itself.
    pub(crate) fn source_steps<F: FnMut(Next<Self>)>(steps: &mut Steps<'_, F>) {
        let bounds = &steps.world.setting.bounds;
        let head = steps.world.source.head().position.0;
        if head < bounds.records.len() as u64 {
            steps.show(What::Append, |world| {
                world.append_record();
                Ok(COURSE)
            });
        }
        if steps.world.left.backups > 0 {
            steps.show(What::BackUp, |world| {
                world.left.backups -= 1;
                world.backup = Some(Backup {
                    store: world.source.clone(),
                    present: world.truths.present,
                });
                Ok(FAULT)
            });
        }
        if let Some(backup) = steps.world.backup.clone() {
            steps.show(What::Restore, |world| world.restore(&backup));
        }
        if steps.world.may_begin() && bounds.consuming.is_none() {
            steps.show(What::GroupBegins, |world| {
                world.begin_group();
                Ok(COURSE)
            });
        }
    }

    /// The source's store is restored from its backup.
    fn restore(&mut self, backup: &Backup) -> Act {
        self.left.restores -= 1;
        let mut epoch = self.source.epoch_after(&backup.store);
        if self.plants(Mutation::M11) {
            epoch = backup.store.epoch().next();
        }
        let store = StoreValue::clone(&backup.store);
        let restored = self
            .source
            .change(|source| source.restore(store, epoch, Timestamp::UNIX_EPOCH));
        restored.map_err(|error| Halt::broken(SOUND, format!("a restore: {error:#}")))?;
        self.truths.change(|truths| {
            truths.present = backup.present;
            truths.era += 1;
        });
        if self.left.restores == 0 {
            self.backup = None;
        }
        Ok(FAULT)
    }
}

impl factum_sim::explore::World for World {
    type Step = Step;

    fn digest(&self) -> u128 {
        Digest::of(self)
    }

    fn share(&mut self, pool: &mut Pool) {
        pool.share(&mut self.truths);
        pool.share(&mut self.source);
        pool.share(&mut self.strays);
        pool.share(&mut self.group);
        self.relays.iter_mut().for_each(|relay| pool.share(relay));
        self.topic.iter_mut().for_each(|shelf| pool.share(shelf));
        self.owners.iter_mut().for_each(|owner| pool.share(owner));
    }

    fn steps(&self, visit: &mut impl FnMut(Next<Self>)) {
        let mut steps = Steps { world: self, visit };
        Self::source_steps(&mut steps);
        Self::relay_steps(&mut steps);
        Self::owner_steps(&mut steps);
        Self::operator_steps(&mut steps);
    }

    fn check(&self) -> Result<(), Violation> {
        self.check_all()
    }

    fn ended(&self) -> Result<(), String> {
        self.check_end()
    }
}
