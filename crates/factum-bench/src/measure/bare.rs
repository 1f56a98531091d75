//! Bare librdkafka: what ours over Kafka is compared with, and whoever hears of what was published.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use factum::Message;
use rdkafka::{
    ClientContext, Message as _, Offset, TopicPartitionList,
    config::FromClientConfigAndContext as _,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, ProducerContext},
    types::RDKafkaErrorCode,
};
use tokio::{sync::mpsc, time::Instant};

use super::relaying::PARTITIONS;
use crate::{failure::Failure, machine::PATIENCE, subject::Cluster, times::Times};

/// How many messages are given to the library between two looks at what was delivered.
const BETWEEN_LOOKS: usize = 1_000;

/// How many messages the tail has seen and nobody has asked for.
const SEEN_MAX: usize = 10_000;

/// Counts what was delivered.
#[derive(Clone, Default)]
struct Counting(Arc<Counts>);

#[derive(Default)]
struct Counts {
    delivered: AtomicUsize,
    failed: AtomicUsize,
}

impl ClientContext for Counting {}

impl ProducerContext for Counting {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let count = match result {
            Ok(_) => &self.0.delivered,
            Err(_) => &self.0.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

fn failure(doing: &'static str) -> impl Fn(KafkaError) -> Failure {
    move |error| Failure::while_(doing, error)
}

/// Produces so many messages, those of the sample in turns, and says how long it took from making the producer until the last
/// was acknowledged. Idempotent and by all replicas, as ours are.
pub(super) async fn produce(
    cluster: &Cluster,
    topic: String,
    sample: Vec<Message>,
    messages: usize,
) -> Result<Duration, Failure> {
    let mut config = cluster.config();
    config.set("enable.idempotence", "true");
    config.set("acks", "all");
    config.set("linger.ms", "1");
    config.set("queue.buffering.max.kbytes", "2097151");
    let producing = tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        let counting = Counting::default();
        let producer = BaseProducer::from_config_and_context(&config, counting.clone())
            .map_err(failure("making a producer"))?;
        for (number, message) in sample.iter().cycle().take(messages).enumerate() {
            if number % BETWEEN_LOOKS == 0 {
                producer.poll(Duration::ZERO);
            }
            give(&producer, &topic, message)?;
        }
        while counting.0.delivered.load(Ordering::Relaxed) < messages {
            if counting.0.failed.load(Ordering::Relaxed) > 0 || started.elapsed() > PATIENCE {
                return Err(Failure::new("bare librdkafka did not deliver all"));
            }
            producer.poll(Duration::from_millis(1));
        }
        Ok(started.elapsed())
    });
    let produced = producing.await;
    produced.map_err(|error| Failure::while_("producing", error))?
}

/// Gives a message to the library, as soon as there is room.
fn give(producer: &BaseProducer<Counting>, topic: &str, message: &Message) -> Result<(), Failure> {
    let mut headers = OwnedHeaders::new_with_capacity(message.headers.len());
    for (key, value) in message.headers.iter() {
        headers = headers.insert(Header {
            key,
            value: Some(&value[..]),
        });
    }
    let mut record = BaseRecord::<[u8], [u8]> {
        topic,
        partition: i32::try_from(message.partition).ok(),
        payload: message.value.as_deref(),
        key: message.key.as_ref().map(factum::Key::as_bytes),
        timestamp: Some(message.timestamp.as_millis()),
        headers: Some(headers),
        delivery_opaque: (),
    };
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                record = again;
                producer.poll(Duration::from_millis(1));
            }
            Err((error, _)) => return Err(failure("producing")(error)),
        }
    }
}

/// Produces messages one by one, each behind a pause, and says how long each was on its way to a consumer.
pub(super) async fn one_by_one(
    cluster: &Cluster,
    topic: String,
    every: Duration,
    messages: usize,
) -> Result<Times, Failure> {
    let mut config = cluster.config();
    config.set("enable.idempotence", "true");
    config.set("acks", "all");
    config.set("linger.ms", "0");
    let mut tail = Tail::start(cluster, topic.clone()).await?;
    let producer = BaseProducer::from_config_and_context(&config, Counting::default())
        .map_err(failure("making a producer"))?;
    let value = [b'x'; 200];
    let warm_up = 20;
    let mut times = Vec::new();
    let mut ticking = tokio::time::interval(every);
    ticking.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for number in 0..warm_up + messages {
        ticking.tick().await;
        let key = format!("bare-{number}");
        let given = Instant::now();
        let record = BaseRecord::<[u8], [u8]>::to(&topic)
            .key(key.as_bytes())
            .payload(&value);
        let sent = producer.send(record);
        sent.map_err(|(error, _)| failure("producing")(error))?;
        let seen = tail.seen(&key).await?;
        if number >= warm_up {
            times.push(seen.saturating_duration_since(given));
        }
        producer.poll(Duration::ZERO);
    }
    tail.stop().await;
    // Dropping it blocks.
    let dropped = tokio::task::spawn_blocking(move || drop(producer)).await;
    dropped.map_err(|error| Failure::while_("ending a producer", error))?;
    Ok(Times::of(times))
}

/// A consumer of all that comes to a topic from now on, on a thread of its own: it notes when it saw what.
pub(super) struct Tail {
    seen: mpsc::Receiver<(String, Instant)>,
    waiting: BTreeMap<String, Instant>,
    stop: Arc<AtomicBool>,
    polling: tokio::task::JoinHandle<Result<(), Failure>>,
}

impl Tail {
    /// Starts it behind the end of each partition.
    pub(super) async fn start(cluster: &Cluster, topic: String) -> Result<Self, Failure> {
        let mut config = cluster.config();
        config.set("group.id", &topic);
        config.set("enable.auto.commit", "false");
        let (sees, seen) = mpsc::channel(SEEN_MAX);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let polling = tokio::task::spawn_blocking(move || {
            let failed = failure("reading a topic");
            let consumer: BaseConsumer = config.create().map_err(&failed)?;
            let mut all = TopicPartitionList::new();
            for partition in 0..i32::try_from(PARTITIONS).unwrap_or(i32::MAX) {
                let (_, end) = consumer
                    .fetch_watermarks(&topic, partition, PATIENCE)
                    .map_err(&failed)?;
                all.add_partition_offset(&topic, partition, Offset::Offset(end))
                    .map_err(&failed)?;
            }
            consumer.assign(&all).map_err(&failed)?;
            if ready.send(()).is_err() {
                return Ok(());
            }
            while !stopped.load(Ordering::Relaxed) {
                let Some(message) = consumer.poll(Duration::from_millis(100)) else {
                    continue;
                };
                let now = Instant::now();
                let message = message.map_err(&failed)?;
                let key = message.key().map(String::from_utf8_lossy);
                if sees
                    .blocking_send((key.unwrap_or_default().into_owned(), now))
                    .is_err()
                {
                    break;
                }
            }
            Ok(())
        });
        if is_ready.await.is_err() {
            let why = polling.await;
            why.map_err(|error| Failure::while_("reading a topic", error))??;
            return Err(Failure::new("a topic could not be read"));
        }
        Ok(Self {
            seen,
            waiting: BTreeMap::new(),
            stop,
            polling,
        })
    }

    /// When the message with this key was seen.
    pub(super) async fn seen(&mut self, key: &str) -> Result<Instant, Failure> {
        let waiting = async {
            loop {
                if let Some(at) = self.waiting.remove(key) {
                    return Some(at);
                }
                let (key, at) = self.seen.recv().await?;
                self.waiting.insert(key, at);
            }
        };
        let seen = tokio::time::timeout(PATIENCE, waiting).await;
        seen.ok()
            .flatten()
            .ok_or_else(|| Failure::new(format!("`{key}` did not arrive")))
    }

    /// Ends it.
    pub(super) async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.seen);
        drop(self.polling.await);
    }
}
