//! A slow consumer of large messages, and of many small ones, and what happens to one whose broker is not listened to.

use std::sync::Arc;

use factum::{HELD_BYTES_MAX, Headers, Outgoing, Timestamp};
use serde_json::json;

use super::{
    App, AtomicU64, Counting, Data, EACH, GroupSpec, HELD_MAX, Key, Ordering, SESSION, Semaphore,
    Service, Take, Tap, Topic, TopicPartition, TopicSpec, ids, until,
};

/// What a broker may have given by the time it is told to pause.
const BATCH_BYTES: u64 = 8 * 1024 * 1024;

/// Messages of one size, more than may be held, and the bounds of what is.
struct Flood {
    messages: u64,
    padding: usize,
}

/// Four times as many bytes as may be held, in messages of which few are many.
const LARGE: Flood = Flood {
    messages: 160,
    padding: 400 * 1024,
};

/// More than may be held by their number.
const SMALL: Flood = Flood {
    messages: EACH,
    padding: 10,
};

impl Flood {
    fn message(&self, id: &str, number: u64) -> Outgoing {
        let padding = "x".repeat(self.padding);
        let value = json!({
            "event_type": "Fell",
            "event_id": format!("f-{number}"),
            "aggregate_id": id,
            "timestamp": "2026-03-02T10:00:00Z",
            "data": { "number": number, "padding": padding },
        });
        let key = Key::from(id);
        Outgoing {
            topic: Topic::of("drops"),
            partition: key.partition(2),
            key: Some(key),
            headers: Headers::new(),
            value: Some(value.to_string().into()),
            timestamp: Timestamp::UNIX_EPOCH,
        }
    }

    /// Whether so many messages and bytes are more than a consumer may hold.
    fn is_too_much(&self, messages: u64, bytes: u64) -> bool {
        let message = self.padding as u64 + 1_024;
        messages > HELD_MAX || bytes > HELD_BYTES_MAX as u64 + BATCH_BYTES + message
    }

    /// Lets all of it wait before a consumer that takes nothing, over a broker that pauses when it is told to, or doesn't.
    /// Whether more was held than may be.
    async fn overflows(&self, pauses: bool) -> bool {
        let data = Data::new();
        let [slow, _] = ids();
        let broker = Counting::over(data.broker().await);
        let broker = if pauses {
            broker
        } else {
            broker.without_pause()
        };
        let (pace, done) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU64::default()));
        let out_of_order = Arc::new(AtomicU64::default());
        let take = Take {
            slow,
            pace: pace.clone(),
            slow_done: done.clone(),
            others_done: Arc::default(),
            out_of_order: out_of_order.clone(),
        };
        let taps = Service::new("taps")
            .aggregate::<Tap>()
            .topic(TopicSpec::new(Topic::of("drops"), 2))
            .group(GroupSpec::new("slow").on(take).session(SESSION));
        let running = App::new(data.env.clone(), Arc::new(broker.clone()))
            .service_on(data.store("taps").await, taps)
            .start()
            .await
            .unwrap();
        let mut producer = running.broker().producer().await.unwrap();
        for number in 1..=self.messages {
            producer
                .send(vec![(number, self.message(slow, number))])
                .await
                .unwrap();
        }
        let mut reported = 0;
        while reported < self.messages {
            reported += producer.reports().await.unwrap().len() as u64;
        }
        let partition = TopicPartition::new(Topic::of("drops"), 0);
        until("it is told to pause, or has all", async || {
            broker.is_paused("slow", &partition)
                || broker.delivered("slow", &partition) == self.messages
        })
        .await;
        // Nothing was finished, so that all that was given is held.
        let (messages, bytes) = (
            broker.delivered("slow", &partition),
            broker.delivered_bytes("slow", &partition),
        );
        assert_eq!(done.load(Ordering::SeqCst), 0);
        pace.add_permits(usize::try_from(self.messages).unwrap());
        until("all is taken as soon as it can be", async || {
            done.load(Ordering::SeqCst) == self.messages
        })
        .await;
        assert_eq!(out_of_order.load(Ordering::SeqCst), 0);
        running.stop().await;
        self.is_too_much(messages, bytes)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_large_messages_no_more_is_held_than_a_stated_number_of_bytes() {
    assert!(!LARGE.overflows(true).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_small_messages_no_more_is_held_than_a_stated_number() {
    assert!(!SMALL.overflows(true).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_consumer_whose_pause_does_nothing_exceeds_both_bounds() {
    assert!(LARGE.overflows(false).await);
    assert!(SMALL.overflows(false).await);
}
