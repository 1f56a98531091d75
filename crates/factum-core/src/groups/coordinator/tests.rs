//! The coordinator under every order of calls: what must hold at each step, and what at rest.

use proptest::prelude::*;

use super::*;

const SESSION: Duration = Duration::from_secs(10);

fn at(seconds: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn topics(names: &[&'static str]) -> BTreeSet<Topic> {
    names.iter().map(|name| Topic::of(name)).collect()
}

fn partitions(topic: &'static str, partitions: &[u32]) -> Vec<TopicPartition> {
    partitions
        .iter()
        .map(|partition| TopicPartition::new(Topic::of(topic), *partition))
        .collect()
}

fn group(partitions: u32) -> Coordinator {
    let mut group = Coordinator::new();
    group.set_topic(&Topic::of("t"), partitions);
    group
}

fn join(group: &mut Coordinator, id: u64) -> MemberId {
    group.join(
        MemberId(id),
        format!("m{id}"),
        topics(&["t"]),
        SESSION,
        at(0),
    );
    MemberId(id)
}

#[test]
fn the_first_member_gets_everything() {
    let mut group = group(3);
    let one = join(&mut group, 1);
    assert_eq!(
        group.turn(one),
        Some(Turn::Assigned(partitions("t", &[0, 1, 2])))
    );
    assert_eq!(group.turn(one), None);
}

#[test]
fn a_partition_moves_only_after_its_owner_acknowledged() {
    let mut group = group(2);
    let one = join(&mut group, 1);
    group.turn(one);
    let two = join(&mut group, 2);
    assert_eq!(group.turn(two), None, "it is still held");
    assert_eq!(group.turn(one), Some(Turn::Revoked(partitions("t", &[1]))));
    assert_eq!(
        group.turn(two),
        None,
        "its owner was told, and has not answered"
    );
    assert!(group.acknowledge(one));
    assert_eq!(group.turn(one), None);
    assert_eq!(group.turn(two), Some(Turn::Assigned(partitions("t", &[1]))));
}

#[test]
fn a_revocation_that_was_not_told_yet_can_be_withdrawn() {
    let mut group = group(2);
    let one = join(&mut group, 1);
    group.turn(one);
    let two = join(&mut group, 2);
    group.leave(two);
    assert_eq!(group.turn(one), None);
}

#[test]
fn what_was_told_revoked_comes_back_as_assigned() {
    let mut group = group(2);
    let one = join(&mut group, 1);
    group.turn(one);
    let two = join(&mut group, 2);
    assert_eq!(group.turn(one), Some(Turn::Revoked(partitions("t", &[1]))));
    group.leave(two);
    assert_eq!(group.turn(one), None);
    group.acknowledge(one);
    assert_eq!(group.turn(one), Some(Turn::Assigned(partitions("t", &[1]))));
}

#[test]
fn a_silent_member_is_expelled_after_its_session_and_not_before() {
    let mut group = group(2);
    let one = join(&mut group, 1);
    group.turn(one);
    let two = join(&mut group, 2);
    group.touch(two, at(10));
    assert!(!group.expire(at(10)));
    assert!(group.expire(at(11)));
    assert!(!group.has(one));
    assert_eq!(group.turn(one), None);
    assert_eq!(
        group.turn(two),
        Some(Turn::Assigned(partitions("t", &[0, 1])))
    );
}

#[test]
fn a_clock_that_goes_back_expels_nobody() {
    let mut group = group(1);
    let one = join(&mut group, 1);
    group.touch(one, at(1000));
    assert!(!group.expire(at(5)));
    group.touch(one, at(5));
    assert!(
        group.expire(at(16)),
        "silence is counted from the last call, whatever the clock showed before"
    );
}

#[test]
fn a_topic_that_appears_later_is_spread_over_the_members() {
    let mut group = group(2);
    for id in [1, 2] {
        group.join(MemberId(id), "m", topics(&["t", "u"]), SESSION, at(0));
    }
    for id in [1, 2] {
        assert!(matches!(group.turn(MemberId(id)), Some(Turn::Assigned(some)) if some.len() == 1));
    }
    group.set_topic(&Topic::of("u"), 2);
    for id in [1, 2] {
        assert!(
            matches!(group.turn(MemberId(id)), Some(Turn::Assigned(some)) if some[0].topic.as_str() == "u")
        );
    }
    assert!(group.is_settled());
}

/// One thing that happens to a group.
#[derive(Clone, Debug)]
enum Step {
    Join,
    /// The member with this index, modulo how many there are, does something.
    Leave(usize),
    Crash(usize),
    Call(usize),
    /// A second passes.
    Tick,
    /// A topic becomes known.
    Topic(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Join),
        1 => (0..8_usize).prop_map(Step::Leave),
        1 => (0..8_usize).prop_map(Step::Crash),
        8 => (0..8_usize).prop_map(Step::Call),
        2 => Just(Step::Tick),
        1 => (0..3_usize).prop_map(Step::Topic),
    ]
}

const TOPICS: [(&str, u32); 3] = [("a", 5), ("b", 1), ("c", 3)];

/// A group with members that keep their side of the contract, and what each believes to own.
#[derive(Default)]
struct World {
    group: Coordinator,
    /// `None`: crashed. What it believed to own no longer counts once it was expelled.
    believed: BTreeMap<MemberId, (bool, BTreeSet<TopicPartition>)>,
    revoked: BTreeMap<MemberId, Vec<TopicPartition>>,
    seconds: u64,
    next: u64,
}

impl World {
    fn alive(&self, index: usize) -> Option<MemberId> {
        let alive: Vec<_> = self
            .believed
            .iter()
            .filter(|(_, (alive, _))| *alive)
            .map(|(id, _)| *id)
            .collect();
        (!alive.is_empty()).then(|| alive[index % alive.len()])
    }

    fn call(&mut self, id: MemberId) {
        for partition in self.revoked.remove(&id).unwrap_or_default() {
            self.believed.get_mut(&id).unwrap().1.remove(&partition);
        }
        self.group.acknowledge(id);
        self.group.touch(id, at(self.seconds));
        self.group.expire(at(self.seconds));
        self.forget_expelled();
        match self.group.turn(id) {
            Some(Turn::Assigned(partitions)) => {
                self.believed.get_mut(&id).unwrap().1.extend(partitions);
            }
            Some(Turn::Revoked(partitions)) => drop(self.revoked.insert(id, partitions)),
            None => {}
        }
    }

    fn forget_expelled(&mut self) {
        let group = &self.group;
        self.believed.retain(|id, _| group.has(*id));
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Join => {
                self.next += 1;
                let id = MemberId(self.next);
                self.group
                    .join(id, "m", topics(&["a", "b", "c"]), SESSION, at(self.seconds));
                self.believed.insert(id, (true, BTreeSet::new()));
            }
            Step::Leave(index) => {
                if let Some(id) = self.alive(*index) {
                    self.group.leave(id);
                    self.believed.remove(&id);
                    self.revoked.remove(&id);
                }
            }
            Step::Crash(index) => {
                if let Some(id) = self.alive(*index) {
                    self.believed.get_mut(&id).unwrap().0 = false;
                }
            }
            Step::Call(index) => {
                if let Some(id) = self.alive(*index) {
                    self.call(id);
                }
            }
            Step::Tick => self.seconds += 1,
            Step::Topic(index) => {
                let (topic, partitions) = TOPICS[*index];
                self.group.set_topic(&Topic::of(topic), partitions);
            }
        }
        self.forget_expelled();
    }

    /// Every partition is owned by one member at most, as the members believe.
    fn assert_exclusive(&self) {
        let mut seen = BTreeSet::new();
        for (id, (_, partitions)) in &self.believed {
            for partition in partitions {
                assert!(
                    seen.insert(partition),
                    "{partition} has two owners, one is {id}"
                );
            }
        }
    }

    /// Lets everybody who lives call until nothing changes any more.
    fn settle(&mut self) {
        self.seconds += 1;
        for _ in 0..2 {
            // Those that crashed stay silent for longer than their session, the others don't.
            for _ in 0..6 {
                let alive: Vec<_> = self
                    .believed
                    .iter()
                    .filter(|(_, (alive, _))| *alive)
                    .map(|(id, _)| *id)
                    .collect();
                for id in alive {
                    if self.group.has(id) {
                        self.call(id);
                        self.assert_exclusive();
                    }
                }
            }
            for _ in 0..3 {
                self.seconds += 4;
                let alive: Vec<_> = self
                    .believed
                    .iter()
                    .filter(|(_, (alive, _))| *alive)
                    .map(|(id, _)| *id)
                    .collect();
                for id in alive {
                    self.group.touch(id, at(self.seconds));
                }
            }
        }
    }

    fn loads(&self) -> Vec<usize> {
        self.believed
            .values()
            .map(|(_, partitions)| partitions.len())
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// At each step nobody shares a partition; at rest all are owned, evenly, and nothing moves any more.
    #[test]
    fn ownership_is_exclusive_always_and_balanced_at_rest(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::default();
        for (topic, partitions) in &TOPICS[..1] {
            world.group.set_topic(&Topic::of(topic), *partitions);
        }
        for step in &steps {
            world.apply(step);
            world.assert_exclusive();
        }
        world.settle();
        if world.alive(0).is_none() {
            return Ok(()); // Nobody is left who could notice.
        }
        prop_assert!(world.group.is_settled());
        let loads = world.loads();
        prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{loads:?}");
        let total: u32 = world.group.topics.values().sum();
        prop_assert_eq!(loads.iter().sum::<usize>(), total as usize);
        let generation = world.group.generation();
        world.settle();
        prop_assert_eq!(world.group.generation(), generation);
    }

    /// Who joins takes from the others and who leaves gives to them, and nothing moves between those that stay.
    #[test]
    fn members_keep_what_they_have(members in 1..6_usize, leaves in any::<prop::sample::Index>()) {
        let mut world = World::default();
        for (topic, partitions) in TOPICS {
            world.group.set_topic(&Topic::of(topic), partitions);
        }
        for _ in 0..members {
            world.apply(&Step::Join);
        }
        world.settle();
        let before = world.believed.clone();
        world.apply(&Step::Join);
        world.settle();
        for (id, (_, partitions)) in &before {
            prop_assert!(world.believed[id].1.is_subset(partitions), "{id} was given something by a join");
        }
        let before = world.believed.clone();
        world.apply(&Step::Leave(leaves.index(world.believed.len())));
        world.settle();
        for (id, (_, partitions)) in &world.believed {
            prop_assert!(partitions.is_superset(&before[id].1), "{id} lost something by a leave");
        }
    }
}
