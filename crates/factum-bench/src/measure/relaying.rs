//! Relaying: a backlog from PostgreSQL's log to Kafka's partitions, beside bare librdkafka that produces the same bytes; and how
//! long a lone event is on its way.

use std::{path::Path, sync::Arc, time::Duration};

use factum::{Topic, TopicPartition, TopicSpec};
use tokio::time::Instant;

use super::{Measuring, bare};
use crate::{
    failure::Failure,
    figures::{Aim, Figure, Unit},
    load,
    machine::PATIENCE,
    subject::{Backend, CarriesOut, Cluster, OverKafka, Running, topic_of},
    times::{Times, millis, rate},
    workload::{
        Step,
        announced::{Announcing, TOPIC},
    },
};

const BACKLOG: &str = "relay, PostgreSQL to Kafka";
const LONE: &str = "one event every 5 ms, append to consumer";

/// How many partitions the topic has.
pub(super) const PARTITIONS: u32 = 6;

/// How many different messages bare librdkafka produces in turns: 6 MB of them.
const SAMPLE: usize = 12_000;

/// How many clients write what is relayed.
const CLIENTS: usize = 256;

/// How often the lone event comes.
const EVERY: Duration = Duration::from_millis(5);

/// Takes the figures.
pub(super) async fn measure(
    run: &mut Measuring<'_>,
    stores: &Arc<dyn Backend>,
    cluster: &Cluster,
) -> Result<(), Failure> {
    let backend = OverKafka {
        stores: stores.clone(),
        cluster: cluster.clone(),
        topics_of: None,
    };
    if run.wants(BACKLOG) {
        backlog(run, &backend).await?;
    }
    if run.wants(LONE) {
        lone(run, &backend).await?;
    }
    Ok(())
}

async fn backlog(run: &mut Measuring<'_>, backend: &OverKafka) -> Result<(), Failure> {
    let orders = run.scaled(80_000);
    let (mut rates, mut bares, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for round in run.rounds() {
        let directory = run.directory()?;
        run.say(format!("{BACKLOG}: writing, round {round}"));
        let publishing = Publishing::start(backend, &directory).await?;
        publishing.running.service().stop().await;
        let events = publishing.write(orders).await?;
        run.say(format!("{BACKLOG}: round {round}"));
        let started = Instant::now();
        publishing.running.service().start().await;
        publishing.published().await?;
        let ours = rate(events, started.elapsed());

        run.say(format!("{BACKLOG}: bare librdkafka, round {round}"));
        let sample = publishing.sample(events).await?;
        let topic = TopicSpec::new(Topic::of("bare"), PARTITIONS);
        publishing.running.broker().ensure_topic(&topic).await?;
        let bare = bare::produce(
            &backend.cluster,
            topic_of(&directory, "bare"),
            sample,
            events,
        );
        let bare = rate(events, bare.await?);
        publishing.running.stop().await;
        backend.remove(&directory).await?;
        rates.push(ours);
        bares.push(bare);
        shares.push(100.0 * ours / bare);
    }
    run.add(Figure::of(
        BACKLOG,
        "bare librdkafka, messages",
        Unit::PerSecond,
        bares,
    ));
    run.add(Figure::of(
        BACKLOG,
        "factum, messages",
        Unit::PerSecond,
        rates,
    ));
    run.add(
        Figure::of(BACKLOG, "factum / bare librdkafka", Unit::Percent, shares)
            .aim(Aim::AtLeast(60.0)),
    );
    Ok(())
}

async fn lone(run: &mut Measuring<'_>, backend: &OverKafka) -> Result<(), Failure> {
    let (mut halves, mut tails, mut answers, mut bares) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in run.rounds() {
        let directory = run.directory()?;
        run.say(format!("{LONE}: round {round}"));
        let publishing = Publishing::start(backend, &directory).await?;
        let commands = publishing.running.service().commands();
        let mut tail = bare::Tail::start(&backend.cluster, topic_of(&directory, TOPIC)).await?;
        let env = factum::system_env();
        // The first ones show that all listen.
        let (warm_up, counted) = (20, run.scaled(1_000));
        let (mut whole, mut answered) = (Vec::new(), Vec::new());
        let mut ticking = tokio::time::interval(EVERY);
        ticking.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for number in 0..warm_up + counted {
            ticking.tick().await;
            let order = env.uuid().to_string();
            let given = Instant::now();
            let executed = commands.execute::<Announcing>(&order, number as u64).await;
            executed.map_err(|error| Failure::while_("a command", error))?;
            let stored = Instant::now();
            let seen = tail.seen(&order).await?;
            if number >= warm_up {
                whole.push(seen.saturating_duration_since(given));
                answered.push(seen.saturating_duration_since(stored));
            }
        }
        tail.stop().await;
        let bare = bare::one_by_one(
            &backend.cluster,
            topic_of(&directory, TOPIC),
            EVERY,
            counted,
        );
        bares.push(millis(bare.await?.percentile(50)));
        publishing.running.stop().await;
        backend.remove(&directory).await?;
        let whole = Times::of(whole);
        halves.push(millis(whole.percentile(50)));
        tails.push(millis(whole.percentile(99)));
        answers.push(millis(Times::of(answered).percentile(50)));
    }
    run.add(Figure::of(
        LONE,
        "bare librdkafka, p50",
        Unit::Millis,
        bares,
    ));
    run.add(Figure::of(LONE, "factum, p50", Unit::Millis, halves).aim(Aim::Below(2.0)));
    run.add(Figure::of(LONE, "factum, p99", Unit::Millis, tails));
    run.add(Figure::of(
        LONE,
        "factum, p50 from the answer on",
        Unit::Millis,
        answers,
    ));
    Ok(())
}

/// A service whose events go to a topic.
pub(super) struct Publishing {
    pub(super) running: Running,
}

impl Publishing {
    /// Starts it on what is in `directory`.
    pub(super) async fn start(backend: &dyn Backend, directory: &Path) -> Result<Self, Failure> {
        let service = Running::plain_service()
            .aggregate::<Announcing>()
            .topic(TopicSpec::new(Topic::of(TOPIC), PARTITIONS));
        let running = Running::start_service(backend, directory, service).await?;
        Ok(Self { running })
    }

    /// Writes three announcements of each order, and says how many that are.
    pub(super) async fn write(&self, orders: usize) -> Result<usize, Failure> {
        let writing = Arc::new(Writing(self.running.service().commands()));
        load::orders(&writing, CLIENTS, orders).await?;
        Ok(orders * Step::ALL.len())
    }

    /// Waits until the relay has published the whole log, and noted that it has.
    pub(super) async fn published(&self) -> Result<(), Failure> {
        let store = &self.running.store;
        let waiting = async {
            let mut looking = tokio::time::interval(Duration::from_millis(2));
            let head = store.head().await?;
            while store.relay().await?.checkpoint < head {
                looking.tick().await;
            }
            Ok(())
        };
        let late = |_| Failure::new("the relay did not publish all in time");
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .map_err(late)?
    }

    /// Some of what was published, each partition's in order; refuses if it is not as many messages as events.
    async fn sample(&self, events: usize) -> Result<Vec<factum::Message>, Failure> {
        let broker = self.running.broker();
        let (mut sample, mut published) = (Vec::new(), 0);
        for partition in 0..PARTITIONS {
            let partition = TopicPartition::new(Topic::of(TOPIC), partition);
            let marks = broker.watermarks(&partition).await?;
            published += marks.end;
            let most = sample.len() + SAMPLE / PARTITIONS as usize;
            let mut next = marks.first;
            while sample.len() < most {
                let read = broker.read(&partition, next, 500).await?;
                let Some(last) = read.last() else { break };
                next = last.offset + 1;
                sample.extend(read);
            }
        }
        if published != events as u64 {
            return Err(Failure::new(format!(
                "{events} events are {published} messages"
            )));
        }
        Ok(sample)
    }
}

/// Carries announcements out.
struct Writing(factum::Commands);

impl CarriesOut for Writing {
    async fn carry_out(&self, order: &str, _: Step, number: u64) -> Result<(), Failure> {
        let order = order.to_owned();
        let executed = self.0.execute::<Announcing>(&order, number).await;
        executed
            .map(drop)
            .map_err(|error| Failure::while_("a command", error))
    }

    async fn close(&self) {}
}
