//! Back-pressure: a consumer that is a hundred times slower than its producer, a view that is stuck, a writer that
//! can't be given more. What waits is bounded and shows as lag, others go on, and nothing needs a restart. What it costs
//! in bytes is measured by `tests/memory`.

mod bytes;
mod counting;
mod lanes;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use factum::{
    AHEAD_MAX, Aggregate, App, Decision, Event, Failure, GroupSpec, Key, Projection, QueryError,
    Reaction, Reactor, Recorded, RowSet, Running, RunningService, Service, Stale, Topic,
    TopicPartition, TopicSpec, View, ViewDefinition,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use self::counting::Counting;
use crate::data::{Data, until};

/// How many messages of one partition a group may hold in memory: what it looks at ahead of the first unfinished
/// one, as many that wait to be looked at, and the batch that may come before the broker is told to pause.
const HELD_MAX: u64 = AHEAD_MAX + AHEAD_MAX + 500;

/// Nobody is to be taken for dead here, however slow the machine is.
const SESSION: Duration = Duration::from_mins(2);

/// How many messages each of the keys gets: more than may be held.
const EACH: u64 = 4_000;

#[derive(Event, Clone, Debug, PartialEq)]
#[event(topic = "drops")]
enum Drops {
    #[event(name = "Fell", version = 1)]
    Fell { number: u64 },
}

/// Lets drops fall, numbered from 1.
#[derive(Default, Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Tap {
    fell: u64,
}

impl Aggregate for Tap {
    const CATEGORY: &'static str = "tap";
    type Id = String;
    type Command = ();
    type Event = Drops;
    type Error = std::convert::Infallible;

    fn handle(&self, (): (), _: &Decision) -> Result<Vec<Drops>, Self::Error> {
        let number = self.fell + 1;
        Ok(vec![Drops::Fell { number }])
    }

    fn apply(&mut self, Drops::Fell { number }: &Drops) {
        self.fell = *number;
    }
}

/// Takes the drops of one key as slowly as the test lets it, and the others at once.
struct Take {
    slow: &'static str,
    pace: Arc<Semaphore>,
    slow_done: Arc<AtomicU64>,
    others_done: Arc<AtomicU64>,
    out_of_order: Arc<AtomicU64>,
}

impl Reactor for Take {
    type Event = Drops;

    fn name(&self) -> &'static str {
        "take"
    }

    async fn react(&self, event: &Recorded<Drops>, _: &mut Reaction) -> Result<(), Failure> {
        let Drops::Fell { number } = event.data;
        if event.aggregate_id.as_deref() == Some(self.slow) {
            self.pace.acquire().await.unwrap().forget();
            let before = self.slow_done.fetch_add(1, Ordering::SeqCst);
            if number != before + 1 {
                self.out_of_order.fetch_add(1, Ordering::SeqCst);
            }
        } else {
            self.others_done.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// Ids whose drops go to this partition of two.
fn ids_of(partition: u32) -> impl Iterator<Item = &'static str> {
    let ids = ["a", "b", "c", "d", "e", "f", "g", "h"].into_iter();
    ids.filter(move |id| Key::from(*id).partition(2) == partition)
}

/// Two ids whose drops go to partitions 0 and 1 of two.
fn ids() -> [&'static str; 2] {
    [0, 1].map(|partition| ids_of(partition).next().unwrap())
}

fn service(running: &Running) -> &RunningService {
    running.services().next().unwrap()
}

async fn fall(running: &Running, id: &str) {
    let commands = service(running).commands();
    commands.execute::<Tap>(&id.to_string(), ()).await.unwrap();
}

/// The value of a metric whose line begins like this and has all of these labels.
async fn metric(running: &Running, name: &str, labels: &[&str]) -> Option<u64> {
    let text = running.metrics().await;
    let mut lines = text.lines().filter(|line| line.starts_with(name));
    let line = lines.find(|line| labels.iter().all(|label| line.contains(label)))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_consumer_a_hundred_times_slower_holds_a_bounded_backlog_and_harms_nobody_else() {
    let data = Data::new();
    let [slow, quick] = ids();
    let (pace, broker) = (
        Arc::new(Semaphore::new(0)),
        Counting::over(data.broker().await),
    );
    let count = || Arc::new(AtomicU64::default());
    let (slow_done, others_done, out_of_order) = (count(), count(), count());
    let take = Take {
        slow,
        pace: pace.clone(),
        slow_done: slow_done.clone(),
        others_done: others_done.clone(),
        out_of_order: out_of_order.clone(),
    };
    let (audited, audit_pace) = (count(), Arc::new(Semaphore::new(0)));
    let audit = Take {
        slow: "nobody",
        pace: audit_pace,
        slow_done: count(),
        others_done: audited.clone(),
        out_of_order: count(),
    };
    let taps = Service::new("taps")
        .aggregate::<Tap>()
        .topic(TopicSpec::new(Topic::of("drops"), 2))
        .group(GroupSpec::new("slow").on(take).session(SESSION))
        .group(GroupSpec::new("audit").on(audit).session(SESSION));
    let running = App::new(data.env.clone(), Arc::new(broker.clone()))
        .service_on(data.store("taps").await, taps)
        .start()
        .await
        .unwrap();
    let partition = TopicPartition::new(Topic::of("drops"), 0);
    let delivered = || broker.delivered("slow", &partition);

    let mut held_most = 0;
    for number in 1..=EACH {
        let (one, other) = (fall(&running, slow), fall(&running, quick));
        futures_util::join!(one, other);
        if number.is_multiple_of(100) {
            pace.add_permits(1);
        }
        held_most = held_most.max(delivered() - slow_done.load(Ordering::SeqCst));
    }
    // All that can be done beside it is done.
    until("the quick key is taken", async || {
        others_done.load(Ordering::SeqCst) == EACH
    })
    .await;
    until("the other group has all", async || {
        audited.load(Ordering::SeqCst) == 2 * EACH
    })
    .await;
    until("the slow key has its share", async || {
        slow_done.load(Ordering::SeqCst) == EACH / 100
    })
    .await;
    let held = delivered() - slow_done.load(Ordering::SeqCst);
    let held = held.max(held_most);
    assert!(
        held <= HELD_MAX,
        "{held} messages are held, {HELD_MAX} at most"
    );
    assert!(held >= AHEAD_MAX, "{held}: the bound was never reached");
    until("the lag can be seen", async || {
        let labels = ["group=\"slow\"", "partition=\"0\""];
        let lag = metric(&running, "factum_consumer_lag{", &labels).await;
        lag.is_some_and(|lag| lag >= EACH - EACH / 100 - AHEAD_MAX)
    })
    .await;
    fall(&running, quick).await;

    // It catches up by itself as soon as it can.
    pace.add_permits(usize::try_from(EACH).unwrap());
    until("the slow key is taken", async || {
        slow_done.load(Ordering::SeqCst) == EACH
    })
    .await;
    until("there is no lag any more", async || {
        let labels = ["group=\"slow\"", "partition=\"0\""];
        metric(&running, "factum_consumer_lag{", &labels).await == Some(0)
    })
    .await;
    assert_eq!(out_of_order.load(Ordering::SeqCst), 0);
    assert_eq!(
        slow_done.load(Ordering::SeqCst),
        EACH,
        "nothing was taken twice"
    );
    running.stop().await;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Level {
    fell: u64,
}

const STUCK: View<Level> = View::new("stuck");
const FREE: View<Level> = View::new("free");

/// Keeps the levels in a view; waits before each drop until the test lets it.
struct Levels {
    pace: Arc<Semaphore>,
    tried: Arc<AtomicU64>,
}

impl Projection for Levels {
    const NAME: &'static str = "stuck";
    type Event = Drops;

    fn views(&self) -> Vec<ViewDefinition> {
        vec![STUCK.kept_by::<Self>()]
    }

    async fn project(&self, event: &Recorded<Drops>, rows: &mut RowSet<'_>) -> Result<(), Failure> {
        self.tried.fetch_add(1, Ordering::SeqCst);
        self.pace.acquire().await.unwrap().forget();
        keep(STUCK, event, rows)
    }
}

/// Keeps them in another one, at once.
struct FreeLevels;

impl Projection for FreeLevels {
    const NAME: &'static str = "free";
    type Event = Drops;

    fn views(&self) -> Vec<ViewDefinition> {
        vec![FREE.kept_by::<Self>()]
    }

    async fn project(&self, event: &Recorded<Drops>, rows: &mut RowSet<'_>) -> Result<(), Failure> {
        keep(FREE, event, rows)
    }
}

fn keep(view: View<Level>, event: &Recorded<Drops>, rows: &mut RowSet<'_>) -> Result<(), Failure> {
    let Drops::Fell { number } = event.data;
    let tap = event.aggregate_id.as_deref().unwrap_or_default();
    rows.put(view, tap, &Level { fell: number })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stuck_view_says_so_and_holds_up_neither_commands_nor_other_views() {
    const DROPS: u64 = 2_000;
    let data = Data::new();
    let (pace, tried) = (Arc::new(Semaphore::new(1)), Arc::new(AtomicU64::default()));
    let levels = Levels {
        pace: pace.clone(),
        tried: tried.clone(),
    };
    let taps = Service::new("taps")
        .aggregate::<Tap>()
        .topic(TopicSpec::new(Topic::of("drops"), 2))
        .projection(levels)
        .projection(FreeLevels);
    let running = App::new(data.env.clone(), data.broker().await)
        .service_on(data.store("taps").await, taps)
        .start()
        .await
        .unwrap();
    fall(&running, "a").await;
    let queries = service(&running).queries();
    until("the first row", async || {
        let row = queries.get(STUCK, "a", None).await;
        row.is_ok_and(|row| row.value == Some(Level { fell: 1 }))
    })
    .await;

    for _ in 1..DROPS {
        fall(&running, "a").await;
    }
    let commands = service(&running).commands();
    let last = commands.execute::<Tap>(&"a".to_string(), ()).await.unwrap();

    let free = queries.get(FREE, "a", Some(&last.token)).await.unwrap();
    assert_eq!(free.value, Some(Level { fell: DROPS + 1 }));
    let asked = queries.clone().with_timeout(Duration::ZERO);
    let error = asked.get(STUCK, "a", Some(&last.token)).await.unwrap_err();
    assert!(
        matches!(error, QueryError::Stale(Stale::Pending | Stale::Timeout)),
        "{error:?}"
    );
    let old = queries.get(STUCK, "a", None).await.unwrap();
    assert_eq!(old.value, Some(Level { fell: 1 }), "old rows are served");
    // The batch in its hands is all that it has read: the rest waits in the log.
    assert_eq!(tried.load(Ordering::SeqCst), 2);
    let status = service(&running).operator().projections().await.unwrap();
    let stuck = status
        .iter()
        .find(|status| status.projection.as_str() == "stuck");
    let stuck = stuck.unwrap();
    assert_eq!(stuck.head.0 - stuck.reached.0, DROPS, "the lag can be seen");
    let of_stuck = ["projection=\"stuck\""];
    let lag = metric(&running, "factum_projection_lag_events{", &of_stuck).await;
    assert_eq!(lag, Some(DROPS), "by those who scrape, too");
    let of_free = ["projection=\"free\""];
    until("the other view is seen to be up to date", async || {
        metric(&running, "factum_projection_lag_events{", &of_free).await == Some(0)
    })
    .await;

    pace.add_permits(usize::try_from(DROPS).unwrap());
    let fresh = queries.get(STUCK, "a", Some(&last.token)).await.unwrap();
    assert_eq!(fresh.value, Some(Level { fell: DROPS + 1 }));
    assert_eq!(tried.load(Ordering::SeqCst), DROPS + 1);
    running.stop().await;
}

/// How many commits may wait for the writer.
const QUEUE_MAX: u64 = 1_024;

/// More than may wait for it, and than it may have taken up to do next.
const CROWD: u64 = 3_000;

/// How many commits wait for the writer, as it is shown.
async fn queue_depth(running: &Running) -> u64 {
    let depth = metric(running, "factum_store_queue_depth{", &["service=\"taps\""]);
    depth.await.expect("the store counts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_of_commands_before_a_busy_writer_waits_is_answered_in_full_and_reads_go_on() {
    let data = Data::new();
    let store = data.store("taps").await;
    let taps = Service::new("taps")
        .aggregate::<Tap>()
        .topic(TopicSpec::new(Topic::of("drops"), 2));
    let running = App::new(data.env.clone(), data.broker().await)
        .service_on(store.clone(), taps)
        .start()
        .await
        .unwrap();
    fall(&running, "old").await;
    let mut rows = 5_000_000;
    for round in 0.. {
        assert!(round < 8, "the writer was never busy for long enough");
        let before = store.head().await.unwrap().position.0;
        let (writer, commit) = (store.clone(), data.busy("taps", rows));
        let writing = tokio::spawn(async move { writer.commit(commit).await });
        let answered = Arc::new(AtomicU64::default());
        let mut crowd = Vec::new();
        for number in 0..CROWD {
            let (commands, answered) = (service(&running).commands(), answered.clone());
            crowd.push(tokio::spawn(async move {
                let tap = format!("{round}-{number}");
                commands.execute::<Tap>(&tap, ()).await.unwrap();
                answered.fetch_add(1, Ordering::SeqCst);
            }));
        }
        // Neither what is loaded nor what has to be read waits for the writer.
        let commands = service(&running).commands();
        let (old, _) = commands.load::<Tap>(&"old".to_string()).await.unwrap();
        assert_eq!(old.fell, 1);
        let stream = "tap/old".parse().unwrap();
        let page = store.read_stream(&stream, factum::Version(1), 10).await;
        assert_eq!(page.unwrap().records.len(), 1);
        // All come to wait while it is busy; what does not fit into the queue waits before it.
        let mut deepest = 0;
        while deepest < QUEUE_MAX && !writing.is_finished() {
            deepest = deepest.max(queue_depth(&running).await);
        }
        let (early, was_busy) = (answered.load(Ordering::SeqCst), !writing.is_finished());
        writing.await.unwrap().unwrap();
        for command in crowd {
            command.await.unwrap();
        }
        let after = store.head().await.unwrap().position.0;
        assert_eq!(after - before, CROWD, "each is carried out once");
        // What was before the writer when it became busy may be answered; not what came behind.
        if was_busy && early < CROWD / 2 {
            assert_eq!(deepest, QUEUE_MAX, "a full queue shows");
            break;
        }
        rows *= 2;
    }
    until("nothing waits any more", async || {
        queue_depth(&running).await == 0
    })
    .await;
    running.stop().await;
}
