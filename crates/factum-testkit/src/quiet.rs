//! Waiting until all is quiet: what was started has come to its end, and nothing more happens by itself.
//!
//! Tests wait for this instead of for a time. It only reads, through the ports, so that it works with every
//! adapter; it polls by tokio's clock, which may stand still.

use std::{fmt, sync::Arc, time::Duration};

use factum_core::{
    Broker, Env, Error, Group, InboxId, Parked, ParkedFilter, ParkedState, Store, Topic,
    TopicPartition,
};

/// How often is looked, unless told otherwise. With [`EVERY`] between, ten seconds.
const TURNS_MAX: u32 = 2_000;

/// How long is waited between two looks, unless told otherwise.
const EVERY: Duration = Duration::from_millis(5);

/// How many parked messages of a store are named when it is not quiet.
const PARKED_NAMED_MAX: usize = 5;

/// The stores and the broker of a world, and which groups read what.
///
/// It is quiet when
///
/// * every store's relay has published its whole log,
/// * every inbox, and every partition of the groups that were named, is handled to its end,
/// * no parked message is due, and no timer,
/// * every projection's rows, those that readers see and newer ones, show the whole log,
///
/// and two looks, one after another, find the same. Messages that are dead, or parked for later, wait for
/// a person or for time, and are quiet.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::sync::Arc;
/// use factum_core::{ServiceName, StoreId, Topic, TopicSpec, Broker};
/// use factum_testkit::{MemoryStore, MemoryTopicsDisk, Quiet, TestEnv};
///
/// let env = TestEnv::seeded(1).env();
/// let store = Arc::new(MemoryStore::new(StoreId(env.uuid()), ServiceName::of("payment"), env.now()));
/// let broker = Arc::new(MemoryTopicsDisk::new().open(env.clone()));
/// broker.ensure_topic(&TopicSpec::new(Topic::of("orders"), 3)).await.unwrap();
///
/// let world = Quiet::new(&env, broker).store(store).group("payment", ["orders"]);
/// world.run_until_quiet().await.unwrap();
/// # }
/// ```
#[must_use]
pub struct Quiet {
    env: Env,
    broker: Arc<dyn Broker>,
    services: Vec<Looked>,
    turns: u32,
    every: Duration,
    retries_too: bool,
    each_turn: Option<Box<dyn Fn() + Send + Sync>>,
}

/// A store, and which groups have their inboxes there.
struct Looked {
    store: Arc<dyn Store>,
    groups: Vec<(Group, Vec<Topic>)>,
}

/// The world did not become quiet in time, and this is what goes on.
#[derive(Clone, PartialEq, Eq)]
pub struct NotQuiet {
    /// How often was looked.
    pub turns: u32,
    /// What goes on, one line each. Empty when it was quiet at each look, and another quiet each time.
    pub goes_on: Vec<String>,
}

/// What one look has found.
#[derive(Default)]
struct Look {
    goes_on: Vec<String>,
    /// How far everything has come: when it differs from look to look, something happened between.
    marks: Vec<u64>,
}

impl Quiet {
    /// A world of nothing but a broker.
    pub fn new(env: &Env, broker: Arc<dyn Broker>) -> Self {
        Self {
            env: env.clone(),
            broker,
            services: Vec::new(),
            turns: TURNS_MAX,
            every: EVERY,
            retries_too: false,
            each_turn: None,
        }
    }

    /// Adds a store.
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.services.push(Looked {
            store,
            groups: Vec::new(),
        });
        self
    }

    /// Adds a group whose inboxes are in the store that was added last. Without it, only those partitions are
    /// looked at that the group has claimed.
    ///
    /// # Panics
    ///
    /// When no store was added before.
    #[track_caller]
    pub fn group<const N: usize>(mut self, group: &'static str, topics: [&'static str; N]) -> Self {
        let last = self
            .services
            .last_mut()
            .expect("a store is added before its groups");
        last.groups
            .push((Group::of(group), topics.map(Topic::of).to_vec()));
        self
    }

    /// Messages that are parked for later are waited for too, whether they are due or not.
    pub fn retries_too(mut self) -> Self {
        self.retries_too = true;
        self
    }

    /// Looks that often, with so much time between.
    pub fn looking(mut self, turns: u32, every: Duration) -> Self {
        (self.turns, self.every) = (turns, every);
        self
    }

    /// Does this before each look, such as moving a manual clock on.
    pub fn each_turn(mut self, act: impl Fn() + Send + Sync + 'static) -> Self {
        self.each_turn = Some(Box::new(act));
        self
    }

    /// Waits until it is quiet.
    ///
    /// # Errors
    ///
    /// What goes on, when that takes too many looks.
    pub async fn run_until_quiet(&self) -> Result<(), NotQuiet> {
        let mut before: Option<Vec<u64>> = None;
        let mut goes_on = Vec::new();
        for _ in 0..self.turns {
            if let Some(act) = &self.each_turn {
                act();
            }
            let look = self.look().await;
            goes_on = look.goes_on;
            // A look is not of one moment: a message may pass from what is not yet looked at to what already was.
            // What is quiet twice, and has not come further between, was quiet all the time between.
            if goes_on.is_empty() && before.as_ref() == Some(&look.marks) {
                return Ok(());
            }
            before = goes_on.is_empty().then_some(look.marks);
            tokio::time::sleep(self.every).await;
        }
        Err(NotQuiet {
            turns: self.turns,
            goes_on,
        })
    }

    async fn look(&self) -> Look {
        let mut look = Look::default();
        for Looked { store, groups } in &self.services {
            let service = store.identity().service;
            let mut seen = Look::default();
            if let Err(error) = self.look_at(&**store, groups, &mut seen).await {
                seen.goes_on.push(format!("can't be looked at: {error:?}"));
            }
            look.goes_on.extend(
                seen.goes_on
                    .into_iter()
                    .map(|line| format!("{service}: {line}")),
            );
            look.marks.extend(seen.marks);
        }
        look
    }

    async fn look_at(
        &self,
        store: &dyn Store,
        groups: &[(Group, Vec<Topic>)],
        look: &mut Look,
    ) -> Result<(), Error> {
        let head = store.head().await?;
        look.marks.push(head.position.0);
        let relay = store.relay().await?.checkpoint;
        if relay.position < head.position {
            look.goes_on.push(format!(
                "the relay has published up to {relay}, the head is {head}"
            ));
        }
        for inbox in self.inboxes(store, groups).await? {
            let partition = TopicPartition::new(inbox.topic.clone(), inbox.partition);
            let marks = self.broker.watermarks(&partition).await?;
            let row = store.inbox(&inbox).await?;
            look.marks
                .extend([marks.end, row.as_ref().map_or(0, |row| row.low)]);
            match row {
                Some(row) if row.low < marks.end => look.goes_on.push(format!(
                    "inbox {inbox} is handled up to {}, the partition ends at {}",
                    row.low, marks.end
                )),
                None if marks.first < marks.end => {
                    let count = marks.end - marks.first;
                    look.goes_on.push(format!(
                        "inbox {inbox} was never claimed, and has {count} messages"
                    ));
                }
                _ => {}
            }
        }
        let due = (!self.retries_too).then(|| self.env.now());
        let retrying = ParkedFilter {
            state: Some(ParkedState::Retrying),
            due,
            ..ParkedFilter::default()
        };
        let retrying = store.parked(&retrying, PARKED_NAMED_MAX).await?;
        look.goes_on.extend(retrying.iter().map(parked_line));
        if let Some(timer) = store
            .next_timers(1)
            .await?
            .into_iter()
            .find(|timer| timer.due <= self.env.now())
        {
            look.goes_on
                .push(format!("timer {} is due since {}", timer.id, timer.due));
        }
        for state in store.projections().await? {
            let views = store.views();
            let active = match views {
                Some(views) => views.active(&state.projection).await?,
                None => None,
            };
            // Older generations than the one that readers see stay where they are until they are dropped.
            let counts = active.is_none_or(|active| state.generation >= active);
            look.marks.push(state.checkpoint.position.0);
            if counts && state.checkpoint.position < head.position {
                look.goes_on.push(format!(
                    "projection {}@{} shows up to {}, the head is {head}",
                    state.projection, state.generation, state.checkpoint
                ));
            }
        }
        Ok(())
    }

    /// The inboxes of a store, and those that it should have.
    async fn inboxes(
        &self,
        store: &dyn Store,
        groups: &[(Group, Vec<Topic>)],
    ) -> Result<Vec<InboxId>, Error> {
        let mut inboxes: Vec<_> = store
            .inboxes()
            .await?
            .into_iter()
            .map(|(inbox, _)| inbox)
            .collect();
        let topics = self.broker.topics().await?;
        for (group, read) in groups {
            for spec in topics.iter().filter(|spec| read.contains(&spec.topic)) {
                inboxes.extend((0..spec.partitions).map(|partition| InboxId {
                    group: group.clone(),
                    topic: spec.topic.clone(),
                    partition,
                }));
            }
        }
        inboxes.sort();
        inboxes.dedup();
        Ok(inboxes)
    }
}

fn parked_line(parked: &Parked) -> String {
    let due = parked
        .due
        .map_or_else(String::new, |due| format!(", due {due}"));
    let failure = parked
        .failure
        .as_ref()
        .map_or("", |failure| &failure.message);
    format!(
        "message {} is parked for a retry{due}: {failure}",
        parked.id
    )
}

impl fmt::Display for NotQuiet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not quiet after {} looks", self.turns)?;
        if self.goes_on.is_empty() {
            f.write_str(": something happened between any two of them")?;
        }
        self.goes_on
            .iter()
            .try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// As for people, since a test unwraps it.
impl fmt::Debug for NotQuiet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for NotQuiet {}

impl fmt::Debug for Quiet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quiet")
            .field("stores", &self.services.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
