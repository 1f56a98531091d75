//! Effects: messages of a Kafka topic, each handled and committed with its inbox, once.
//!
//! The topic is filled first, by a relay of ours. What is counted is from the first message that was committed to the last, so
//! that joining the group is not part of it.

use std::{path::Path, sync::Arc, time::Duration};

use factum::{GroupSpec, Reaction, Recorded, Topic, TopicSpec, reactor};
use tokio::time::Instant;

use super::{
    Measuring,
    relaying::{PARTITIONS, Publishing},
};
use crate::{
    failure::Failure,
    figures::{Aim, Figure, Unit},
    machine::{self, PATIENCE},
    subject::{Backend, Cluster, Embedded, OverKafka, Running},
    times::{as_f64, rate},
    workload::announced::{self, Announced, Noting, TOPIC},
};

const MEASURE: &str = "Kafka to commit, once";

/// How a message is handled.
type React = fn(&Recorded<Announced>, &mut Reaction) -> Result<(), factum::Failure>;

/// The ways in which messages are handled, and which of them the aims are of.
const WAYS: [(&str, React, bool); 2] = [
    ("event appended", announced::import, true),
    ("command decided", announced::command, false),
];

/// Takes the figures of stores on SQLite, and of others where there are some.
pub(super) async fn measure(
    run: &mut Measuring<'_>,
    others: Option<&Arc<dyn Backend>>,
    cluster: &Cluster,
) -> Result<(), Failure> {
    if !run.wants(MEASURE) {
        return Ok(());
    }
    let embedded: Arc<dyn Backend> = Arc::new(Embedded);
    let mut kinds = vec![("SQLite", &embedded, 150_000.0)];
    kinds.extend(others.map(|stores| ("PostgreSQL", stores, 80_000.0)));

    run.say(format!("{MEASURE}: filling a topic"));
    let topics = run.directory()?;
    let source = OverKafka {
        stores: embedded.clone(),
        cluster: cluster.clone(),
        topics_of: None,
    };
    let publishing = Publishing::start(&source, &topics).await?;
    let messages = publishing.write(run.scaled(40_000)).await?;
    publishing.published().await?;
    publishing.running.stop().await;

    for (kind, stores, aim) in kinds {
        let over = OverKafka {
            stores: stores.clone(),
            cluster: cluster.clone(),
            topics_of: Some(topics.clone()),
        };
        let mut rates = vec![Vec::new(); WAYS.len()];
        let mut processor = vec![Vec::new(); WAYS.len()];
        for round in run.rounds() {
            for (index, (way, react, _)) in WAYS.into_iter().enumerate() {
                run.say(format!("{MEASURE}: {kind}, {way}, round {round}"));
                let directory = run.directory()?;
                let (rate, micros) = consume(&over, &directory, react, messages).await?;
                stores.remove(&directory).await?;
                rates[index].push(rate);
                processor[index].extend(micros);
            }
        }
        for (index, (way, _, is_held)) in WAYS.into_iter().enumerate() {
            let measure = format!("{MEASURE}, into {kind}");
            let rates = std::mem::take(&mut rates[index]);
            let figure = Figure::of(&measure, format!("{way}, messages"), Unit::PerSecond, rates);
            run.add(if is_held {
                figure.aim(Aim::AtLeast(aim))
            } else {
                figure
            });
            let processor = std::mem::take(&mut processor[index]);
            run.add(Figure::of(
                &measure,
                format!("{way}, processor time"),
                Unit::Micros,
                processor,
            ));
        }
    }
    source.remove(&topics).await
}

/// Lets a service take all messages, and says how many a second it committed and how much processor time each took.
async fn consume(
    backend: &OverKafka,
    directory: &Path,
    react: React,
    messages: usize,
) -> Result<(f64, Option<f64>), Failure> {
    let service = Running::plain_service()
        .aggregate::<Noting>()
        .topic(TopicSpec::new(Topic::of(TOPIC), PARTITIONS))
        .group(GroupSpec::new("effects").on(reactor("note", react)));
    let running = Running::start_service(backend, directory, service).await?;
    let counting = async {
        let mut looking = tokio::time::interval(Duration::from_millis(2));
        let mut first = None;
        loop {
            looking.tick().await;
            let done = running.store.head().await?.position.0;
            let (now, used) = (Instant::now(), machine::processor_time());
            if done == 0 {
                continue;
            }
            let (before, since, used_before) = *first.get_or_insert((done, now, used));
            if done >= messages as u64 {
                let counted = usize::try_from(done - before).unwrap_or(usize::MAX);
                let used = used.zip(used_before);
                let micros = used.map(|(used, before)| {
                    1e6 * used.saturating_sub(before).as_secs_f64() / as_f64(counted.max(1))
                });
                return Ok((rate(counted, now - since), micros));
            }
        }
    };
    let late = |_| Failure::new("the messages were not handled in time");
    let counted: Result<_, Failure> = tokio::time::timeout(PATIENCE, counting)
        .await
        .map_err(late)?;
    // Nothing comes twice behind the last either.
    running.service().stop().await;
    let done = running.store.head().await?.position.0;
    if done != messages as u64 {
        return Err(Failure::new(format!(
            "{messages} messages are {done} events"
        )));
    }
    running.stop().await;
    counted
}
