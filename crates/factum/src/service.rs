//! What a service is made of, as a value: its aggregates, consumer groups, projections and topics.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use factum_core::{
    Aggregate, AggregateKind, AnyProjection, AnyReactor, Category, Error, Event, Group, Kind,
    Projecting, Projection, Reacting, Reactor, RetryPolicy, Room, ServiceName, Start, Topic,
    TopicSpec,
};

/// A service: the owner of one store, and all the code that works on it.
///
/// Built once, then given to an [`App`](crate::App) together with its store. Everything that can be wrong with
/// it is found there, before anything runs.
#[must_use]
pub struct Service {
    pub(crate) name: ServiceName,
    pub(crate) kinds: BTreeMap<Category, Arc<dyn AggregateKind>>,
    pub(crate) groups: Vec<GroupSpec>,
    pub(crate) projections: Vec<Arc<dyn AnyProjection>>,
    pub(crate) topics: Vec<TopicSpec>,
    pub(crate) timers: Vec<(String, Arc<dyn crate::timers::AnyTimerHandler>)>,
    pub(crate) snapshot_every: Option<u64>,
    session: Option<Duration>,
    pub(crate) errors: Vec<Error>,
}

impl Service {
    /// A service without anything in it.
    pub fn new(name: &'static str) -> Self {
        Self {
            name: ServiceName::of(name),
            kinds: BTreeMap::new(),
            groups: Vec::new(),
            projections: Vec::new(),
            topics: Vec::new(),
            timers: Vec::new(),
            snapshot_every: None,
            session: None,
            errors: Vec::new(),
        }
    }

    /// Adds a kind of aggregate.
    pub fn aggregate<A: Aggregate>(mut self) -> Self {
        match Kind::<A>::new() {
            Ok(kind) => {
                let category = kind.category().clone();
                if self
                    .kinds
                    .insert(category.clone(), Arc::new(kind))
                    .is_some()
                {
                    self.errors.push(Error::fatal(format!(
                        "category `{category}` has two aggregates"
                    )));
                }
            }
            Err(error) => self.errors.push(error),
        }
        self
    }

    /// Adds a consumer group.
    pub fn group(mut self, mut group: GroupSpec) -> Self {
        self.errors.extend(group.errors.iter().cloned());
        group.session = self.session.unwrap_or(group.session);
        self.groups.push(group);
        self
    }

    /// Adds a projection.
    pub fn projection<P: Projection>(mut self, projection: P) -> Self {
        match Projecting::new(projection) {
            Ok(projection) => self.projections.push(Arc::new(projection)),
            Err(error) => self.errors.push(error),
        }
        self
    }

    /// Adds a handler for the timers whose ids begin with `<name>/`.
    pub fn timer<H: crate::TimerHandler>(mut self, name: &'static str, handler: H) -> Self {
        self.timers.push((
            format!("{name}/"),
            Arc::new(crate::timers::Handling(handler)),
        ));
        self
    }

    /// Keeps a snapshot after so many events of any of its aggregates, whatever they ask for; 0: never.
    pub fn snapshot_every(mut self, events: u64) -> Self {
        self.snapshot_every = Some(events);
        self
    }

    /// After how long without a sign of life a member of any of its groups counts as dead, whatever the groups say.
    pub fn session(mut self, session: Duration) -> Self {
        self.session = Some(session);
        for group in &mut self.groups {
            group.session = session;
        }
        self
    }

    /// Describes a topic that this service publishes to or reads. One that no service of the app describes is
    /// taken as the broker has it, or made with [`App::partitions`](crate::App::partitions).
    pub fn topic(mut self, topic: TopicSpec) -> Self {
        self.topics.push(topic);
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let fatal = |what: String| Err(Error::fatal(format!("service `{}`: {what}", self.name)));
        if let Some(error) = self.errors.first() {
            return Err(error.clone().while_(format!("service `{}`", self.name)));
        }
        for (index, group) in self.groups.iter().enumerate() {
            if self.groups[..index]
                .iter()
                .any(|other| other.name == group.name)
            {
                return fatal(format!("group `{}` is declared twice", group.name));
            }
            for (position, (topic, reactor)) in group.reactors.iter().enumerate() {
                let same = |(other, reacting): &(Topic, Arc<dyn AnyReactor>)| {
                    other == topic && reacting.name() == reactor.name()
                };
                if group.reactors[..position].iter().any(same) {
                    return fatal(format!(
                        "group `{}` has handler `{}` twice",
                        group.name,
                        reactor.name()
                    ));
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A consumer group: the unit of inbox, retry and parking. All that its handlers do for one message is one
/// commit; what shall fail independently is another group.
#[derive(Clone)]
#[must_use]
pub struct GroupSpec {
    pub(crate) name: Group,
    pub(crate) start: Start,
    pub(crate) reactors: Vec<(Topic, Arc<dyn AnyReactor>)>,
    pub(crate) retry: RetryPolicy,
    pub(crate) room: Room,
    pub(crate) concurrency: usize,
    pub(crate) crashes_max: u32,
    pub(crate) remember: Duration,
    pub(crate) session: Duration,
    errors: Vec<Error>,
}

impl GroupSpec {
    /// A group that reads its topics from their beginning.
    pub fn new(name: &'static str) -> Self {
        Self {
            name: Group::of(name),
            start: Start::Beginning,
            reactors: Vec::new(),
            retry: RetryPolicy::default(),
            room: Room::default(),
            concurrency: 32,
            crashes_max: 3,
            remember: Duration::from_hours(7 * 24),
            session: Duration::from_secs(10),
            errors: Vec::new(),
        }
    }

    /// Adds a handler of the events of its kind, from the topic that they are published to.
    pub fn on<R: Reactor>(self, reactor: R) -> Self {
        let topic = const {
            match <R::Event as Event>::TOPIC {
                Some(topic) => topic,
                None => panic!(
                    "these events have no topic: give them #[event(topic = \"..\")], or say `on_topic`"
                ),
            }
        };
        self.on_topic(topic, reactor)
    }

    /// Adds a handler of messages from `topic`.
    pub fn on_topic<R: Reactor>(mut self, topic: &'static str, reactor: R) -> Self {
        match Reacting::new(reactor) {
            Ok(reactor) => self.reactors.push((Topic::of(topic), Arc::new(reactor))),
            Err(error) => self
                .errors
                .push(error.while_(format!("group `{}`", self.name))),
        }
        self
    }

    /// Where the group starts in a partition that it has never read. Only the first start counts: afterwards
    /// the inbox says where to go on.
    pub fn starts(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// When failed messages are tried again. Default: after 1, 2 and 4 seconds.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// How many messages may be parked.
    pub fn room(mut self, room: Room) -> Self {
        self.room = room;
        self
    }

    /// How many messages are handled side by side, each of another key. Default: 32.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }

    /// How often a message may take the whole process down before it is parked as dead, counted from when it is
    /// suspected: at the first death nobody is, since all that was under way died with it. Default: 3.
    pub fn crashes_at_most(mut self, crashes: u32) -> Self {
        self.crashes_max = crashes.max(1);
        self
    }

    /// How long the ids of foreign messages are remembered to tell duplicates. Default: 7 days.
    pub fn remember(mut self, remember: Duration) -> Self {
        self.remember = remember;
        self
    }

    /// After how long without a sign of life a member counts as dead. Default: 10 seconds.
    pub fn session(mut self, session: Duration) -> Self {
        self.session = session;
        self
    }

    /// The topics that the group reads.
    pub(crate) fn topics(&self) -> Vec<Topic> {
        let mut topics: Vec<_> = self
            .reactors
            .iter()
            .map(|(topic, _)| topic.clone())
            .collect();
        topics.sort();
        topics.dedup();
        topics
    }

    /// Whether any handler of messages from `topic` reads events of this name.
    pub(crate) fn handles(&self, topic: &Topic, name: &str) -> bool {
        self.reactors
            .iter()
            .any(|(known, reactor)| known == topic && reactor.names().contains(&name))
    }
}

impl fmt::Debug for GroupSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupSpec")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups that were added behind it kept what they said.
    #[test]
    fn the_session_that_a_service_names_is_that_of_all_its_groups() {
        let own = || GroupSpec::new("b").session(Duration::from_secs(30));
        let short = Duration::from_secs(3);
        let before = Service::new("orders").session(short).group(own());
        let after = Service::new("orders").group(own()).session(short);
        for service in [before, after] {
            assert_eq!(service.groups[0].session, short);
        }
    }
}
