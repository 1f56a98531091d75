//! Metrics, by the dictionary: names, units and labels are here and nowhere else.
//!
//! Prefix `factum_`, base units, `_total` for counters. Labels are names from code, never ids, keys or error
//! texts, so that the number of series is bounded. What is not known is absent, and not 0.

use std::{
    borrow::Cow,
    fmt,
    hash::Hash,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use factum_core::{AggregateKind, FailureClass, Group, ServiceName, Store, Topic, TopicPartition};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfService {
    service: Arc<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCommand {
    service: Arc<String>,
    aggregate: Cow<'static, str>,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfEvent {
    service: Arc<String>,
    event_type: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfMessage {
    group: String,
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFailure {
    group: String,
    class: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfGroup {
    group: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPartition {
    group: String,
    topic: String,
    partition: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTopic {
    topic: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfProjection {
    service: Arc<String>,
    projection: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    outcome: String,
}

/// What becomes of commands.
const COMMAND_OUTCOMES: [&str; 5] = ["accepted", "duplicate", "rejected", "conflict", "error"];
/// What becomes of messages.
const MESSAGE_OUTCOMES: [&str; 4] = ["handled", "parked", "given_back", "duplicate"];
/// What becomes of what operators ask to be redriven.
const REDRIVE_OUTCOMES: [&str; 3] = ["redriven", "changed", "failed"];

/// A store that counts by itself.
type Watched = (OfService, Weak<dyn Store>);

/// From 50 µs to 26 s, doubling: the range between a cached decision and a stuck disk.
fn durations() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(
        0.000_05, 2.0, 20,
    ))
}

/// All metrics of a process. Cheap to clone.
#[derive(Clone)]
pub struct Registered {
    registry: Arc<Mutex<Registry>>,
    commands: Family<OfCommand, Counter>,
    command_seconds: Family<OfService, Histogram, fn() -> Histogram>,
    conflicts: Family<OfService, Counter>,
    cache_hits: Family<OfService, Counter>,
    cache_misses: Family<OfService, Counter>,
    position: Family<OfService, Gauge<i64, AtomicI64>>,
    appended: Family<OfEvent, Counter>,
    queue: Family<OfService, Gauge<i64, AtomicI64>>,
    records_read: Family<OfService, Counter>,
    /// The stores that count by themselves.
    stores: Arc<Mutex<Vec<Watched>>>,
    relay_pending: Family<OfService, Gauge<i64, AtomicI64>>,
    relay_published: Family<OfTopic, Counter>,
    messages: Family<OfMessage, Counter>,
    handler_seconds: Family<OfGroup, Histogram, fn() -> Histogram>,
    lag: Family<OfPartition, Gauge<i64, AtomicI64>>,
    in_flight: Family<OfGroup, Gauge<i64, AtomicI64>>,
    partitions: Family<OfGroup, Gauge<i64, AtomicI64>>,
    rebalances: Family<OfGroup, Counter>,
    unknown: Family<OfGroup, Counter>,
    premature: Family<OfGroup, Counter>,
    retries: Family<OfFailure, Counter>,
    dead_total: Family<OfFailure, Counter>,
    dead: Family<OfGroup, Gauge<i64, AtomicI64>>,
    parked: Family<OfGroup, Gauge<i64, AtomicI64>>,
    redrives: Family<OfOutcome, Counter>,
    projection_position: Family<OfProjection, Gauge<i64, AtomicI64>>,
    projection_lag: Family<OfProjection, Gauge<i64, AtomicI64>>,
    projection_seconds: Family<OfProjection, Gauge<f64, AtomicU64>>,
    query_waits: Family<OfOutcome, Counter>,
}

impl Default for Registered {
    fn default() -> Self {
        let mut registry = Registry::default();
        macro_rules! register {
            ($name:literal, $help:literal) => {{
                let family = Family::default();
                registry.register($name, $help, family.clone());
                family
            }};
        }
        let command_seconds = Family::new_with_constructor(durations as fn() -> Histogram);
        let handler_seconds = Family::new_with_constructor(durations as fn() -> Histogram);
        registry.register(
            "factum_command_duration_seconds",
            "Time from a command to its durable answer",
            command_seconds.clone(),
        );
        registry.register(
            "factum_handler_duration_seconds",
            "Time from a message to its durable effect",
            handler_seconds.clone(),
        );
        Self {
            commands: register!("factum_commands", "Commands, by what became of them"),
            command_seconds,
            conflicts: register!(
                "factum_command_conflicts",
                "Decisions made again after a conflict"
            ),
            cache_hits: register!("factum_aggregate_cache_hits", "Aggregates found loaded"),
            cache_misses: register!(
                "factum_aggregate_cache_misses",
                "Aggregates loaded from the store"
            ),
            position: register!("factum_store_position", "Position of the last record"),
            appended: register!(
                "factum_store_events_appended",
                "Events and imports recorded, by type"
            ),
            queue: register!(
                "factum_store_queue_depth",
                "Commits that wait to be written; stores of one data directory share the queue"
            ),
            records_read: register!(
                "factum_store_records_read",
                "Records read from the log since the start, indexing included"
            ),
            stores: Arc::default(),
            relay_pending: register!("factum_relay_pending", "Records that are not published yet"),
            relay_published: register!("factum_relay_published", "Records published"),
            messages: register!(
                "factum_consumer_messages",
                "Messages, by what became of them"
            ),
            handler_seconds,
            lag: register!(
                "factum_consumer_lag",
                "Messages that a group has not finished"
            ),
            in_flight: register!("factum_consumer_in_flight", "Messages being handled"),
            partitions: register!(
                "factum_consumer_partitions",
                "Partitions that this process owns"
            ),
            rebalances: register!(
                "factum_consumer_rebalances",
                "Changes of what a member is assigned"
            ),
            unknown: register!(
                "factum_unknown_events",
                "Messages of types that the group doesn't handle"
            ),
            premature: register!(
                "factum_premature_messages",
                "Messages whose predecessor was lost on the way"
            ),
            retries: register!("factum_retries", "Failures that will be tried again"),
            dead_total: register!(
                "factum_dead_letters_made",
                "Messages that became dead letters"
            ),
            dead: register!("factum_dead_letters", "Dead letters that wait for a person"),
            parked: register!("factum_parked_messages", "Messages that are parked"),
            redrives: register!(
                "factum_redrives",
                "Messages redriven, by what became of the request"
            ),
            projection_position: register!(
                "factum_projection_position",
                "How far a projection has come"
            ),
            projection_lag: register!(
                "factum_projection_lag_events",
                "Records that a projection is behind"
            ),
            projection_seconds: register!(
                "factum_projection_write_duration_seconds",
                "Time that the last batch of a projection took"
            ),
            query_waits: register!(
                "factum_query_waits",
                "Queries with a token, by how they ended"
            ),
            registry: Arc::new(Mutex::new(registry)),
        }
    }
}

impl Registered {
    /// All metrics in the text format that scrapers of Prometheus and its kin read.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        self.look_at_stores();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a String doesn't fail.
        encode(&mut text, &registry).unwrap_or_default();
        text
    }

    fn look_at_stores(&self) {
        let stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        for (labels, store) in stores.iter() {
            let Some(store) = store.upgrade() else {
                continue;
            };
            if let Some(read) = store.records_read() {
                let counter = self.records_read.get_or_create(labels);
                counter.inner().store(read, Ordering::Relaxed);
            }
            if let Some(waiting) = store.commits_waiting() {
                self.queue.get_or_create(labels).set(number(waiting));
            }
        }
    }

    /// The metrics of one service.
    pub(crate) fn of(&self, service: &ServiceName) -> Metrics {
        Metrics {
            all: self.clone(),
            service: Arc::new(service.to_string()),
            known: Arc::default(),
        }
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registered")
    }
}

/// The metrics of one service.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    all: Registered,
    service: Arc<String>,
    known: Arc<Known>,
}

/// Series that every command counts in, kept at hand from their first use on: looking them up each time costs more
/// than counting.
#[derive(Debug, Default)]
struct Known {
    cache_hits: OnceLock<Counter>,
    cache_misses: OnceLock<Counter>,
    command_seconds: OnceLock<Histogram>,
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Makes a series, at zero.
fn begin<L: Clone + Eq + Hash>(family: &Family<L, Counter>, labels: &L) {
    drop(family.get_or_create_owned(labels));
}

fn of_group(group: &Group) -> OfGroup {
    OfGroup {
        group: group.to_string(),
    }
}

/// One of what a gauge counts, as long as it is held.
pub(crate) struct Counted(Gauge<i64, AtomicI64>);

impl Counted {
    fn in_(gauge: Gauge<i64, AtomicI64>) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    fn service(&self) -> OfService {
        OfService {
            service: self.service.clone(),
        }
    }

    /// Lets what the service's store counts by itself be shown.
    pub(crate) fn watch(&self, store: &Arc<dyn Store>) {
        let mut stores = self
            .all
            .stores
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        stores.push((self.service(), Arc::downgrade(store)));
    }

    /// Makes the series that are known before anything happens, at zero: what first counts when something goes wrong is
    /// no increase to an alert that has never seen the series.
    pub(crate) fn begin<'a>(
        &self,
        aggregates: impl Iterator<Item = &'a Arc<dyn AggregateKind>>,
        groups: impl Iterator<Item = &'a Group>,
        topics: impl Iterator<Item = &'a Topic>,
    ) {
        let all = &self.all;
        for family in [&all.conflicts, &all.cache_hits, &all.cache_misses] {
            begin(family, &self.service());
        }
        for aggregate in aggregates {
            for outcome in COMMAND_OUTCOMES {
                let labels = OfCommand {
                    service: self.service.clone(),
                    aggregate: aggregate.category().to_string().into(),
                    outcome,
                };
                begin(&all.commands, &labels);
            }
            for event_type in aggregate.names() {
                let labels = OfEvent {
                    service: self.service.clone(),
                    event_type: event_type.into(),
                };
                begin(&all.appended, &labels);
            }
        }
        for group in groups {
            for family in [&all.rebalances, &all.unknown, &all.premature] {
                begin(family, &of_group(group));
            }
            for family in [&all.in_flight, &all.partitions] {
                drop(family.get_or_create_owned(&of_group(group)));
            }
            for outcome in MESSAGE_OUTCOMES {
                let (group, outcome) = (group.to_string(), outcome.into());
                begin(&all.messages, &OfMessage { group, outcome });
            }
            for class in FailureClass::ALL {
                let (group, class) = (group.to_string(), class.to_string());
                let labels = OfFailure { group, class };
                begin(&all.retries, &labels);
                begin(&all.dead_total, &labels);
            }
        }
        for topic in topics {
            let topic = topic.to_string();
            begin(&all.relay_published, &OfTopic { topic });
        }
        for outcome in REDRIVE_OUTCOMES {
            let outcome = outcome.into();
            begin(&all.redrives, &OfOutcome { outcome });
        }
    }

    pub(crate) fn command(&self, aggregate: &'static str, outcome: &'static str, took: Duration) {
        let labels = OfCommand {
            service: self.service.clone(),
            aggregate: aggregate.into(),
            outcome,
        };
        self.all.commands.get_or_create(&labels).inc();
        let seconds = self.known.command_seconds.get_or_init(|| {
            let family = &self.all.command_seconds;
            family.get_or_create(&self.service()).clone()
        });
        seconds.observe(took.as_secs_f64());
    }

    /// Events and imports of these types were recorded.
    pub(crate) fn appended(&self, types: &[Arc<str>]) {
        for event_type in types {
            let labels = OfEvent {
                service: self.service.clone(),
                event_type: event_type.to_string(),
            };
            self.all.appended.get_or_create(&labels).inc();
        }
    }

    pub(crate) fn conflict(&self) {
        self.all.conflicts.get_or_create(&self.service()).inc();
    }

    pub(crate) fn cache(&self, hit: bool) {
        let (known, family) = if hit {
            (&self.known.cache_hits, &self.all.cache_hits)
        } else {
            (&self.known.cache_misses, &self.all.cache_misses)
        };
        known
            .get_or_init(|| family.get_or_create(&self.service()).clone())
            .inc();
    }

    pub(crate) fn head(&self, position: u64) {
        self.all
            .position
            .get_or_create(&self.service())
            .set(number(position));
    }

    pub(crate) fn relay_pending(&self, records: u64) {
        self.all
            .relay_pending
            .get_or_create(&self.service())
            .set(number(records));
    }

    pub(crate) fn published(&self, topic: &Topic) {
        self.all
            .relay_published
            .get_or_create(&OfTopic {
                topic: topic.to_string(),
            })
            .inc();
    }

    pub(crate) fn message(&self, group: &Group, outcome: &str, took: Duration) {
        let labels = OfMessage {
            group: group.to_string(),
            outcome: outcome.into(),
        };
        self.all.messages.get_or_create(&labels).inc();
        self.all
            .handler_seconds
            .get_or_create(&of_group(group))
            .observe(took.as_secs_f64());
    }

    pub(crate) fn lag(&self, group: &Group, partition: &TopicPartition, lag: u64) {
        let labels = OfPartition {
            group: group.to_string(),
            topic: partition.topic.to_string(),
            partition: partition.partition,
        };
        self.all.lag.get_or_create(&labels).set(number(lag));
    }

    /// Counts a handler that runs until it is dropped, as that of an aborted task is.
    pub(crate) fn in_flight(&self, group: &Group) -> Counted {
        Counted::in_(self.all.in_flight.get_or_create_owned(&of_group(group)))
    }

    /// Counts a partition that this process owns until it is dropped, as that of a member that failed is.
    pub(crate) fn owned(&self, group: &Group) -> Counted {
        Counted::in_(self.all.partitions.get_or_create_owned(&of_group(group)))
    }

    pub(crate) fn rebalance(&self, group: &Group) {
        self.all.rebalances.get_or_create(&of_group(group)).inc();
    }

    pub(crate) fn unknown(&self, group: &Group) {
        self.all.unknown.get_or_create(&of_group(group)).inc();
    }

    pub(crate) fn premature(&self, group: &Group) {
        self.all.premature.get_or_create(&of_group(group)).inc();
    }

    pub(crate) fn failure(&self, group: &Group, class: FailureClass, dead: bool) {
        let labels = OfFailure {
            group: group.to_string(),
            class: class.to_string(),
        };
        let family = if dead {
            &self.all.dead_total
        } else {
            &self.all.retries
        };
        family.get_or_create(&labels).inc();
    }

    pub(crate) fn parked(&self, group: &Group, parked: u64, dead: u64) {
        self.all
            .parked
            .get_or_create(&of_group(group))
            .set(number(parked));
        self.all
            .dead
            .get_or_create(&of_group(group))
            .set(number(dead));
    }

    pub(crate) fn redrive(&self, outcome: &str) {
        self.all
            .redrives
            .get_or_create(&OfOutcome {
                outcome: outcome.into(),
            })
            .inc();
    }

    pub(crate) fn projection(&self, projection: &str, position: u64, head: u64) {
        let labels = self.of_projection(projection);
        self.all
            .projection_position
            .get_or_create(&labels)
            .set(number(position));
        self.all
            .projection_lag
            .get_or_create(&labels)
            .set(number(head.saturating_sub(position)));
    }

    pub(crate) fn projected(&self, projection: &str, took: Duration) {
        self.all
            .projection_seconds
            .get_or_create(&self.of_projection(projection))
            .set(took.as_secs_f64());
    }

    fn of_projection(&self, projection: &str) -> OfProjection {
        OfProjection {
            service: self.service.clone(),
            projection: projection.into(),
        }
    }

    pub(crate) fn query_wait(&self, outcome: &str) {
        self.all
            .query_waits
            .get_or_create(&OfOutcome {
                outcome: outcome.into(),
            })
            .inc();
    }
}
