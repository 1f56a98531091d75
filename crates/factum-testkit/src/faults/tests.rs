//! Each fault, met where the plan says and nowhere else, within the ports' contracts.

use std::{pin::pin, sync::Arc, time::Duration};

use factum_core::{
    Broker, Commit, CommitError, CommitId, Consumed, Consumer, Error, ErrorClass, Group, Headers,
    Message, Outgoing, Producer, ServiceName, Store, StoreId, Subscription, TimerWrite, Timestamp,
    Topic, TopicPartition, TopicSpec,
};
use futures_util::{FutureExt as _, future::join3};
use uuid::Uuid;

use super::*;
use crate::{MemoryStore, MemoryTopicsDisk, TestEnv};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn store(faults: &Faults) -> FaultyStore {
    let store = MemoryStore::new(StoreId(Uuid::nil()), ServiceName::of("order"), NOW);
    FaultyStore::new("a", Arc::new(store), faults)
}

fn id(number: u128) -> CommitId {
    CommitId(Uuid::from_u128(number))
}

/// A commit that sets the timer of its number.
fn commit(number: u128) -> Commit {
    let set = TimerWrite::Set {
        id: number.to_string(),
        due: NOW,
        payload: "".into(),
    };
    Commit {
        timers: vec![set],
        ..Commit::new(id(number), NOW)
    }
}

async fn applied(store: &FaultyStore) -> Vec<String> {
    store
        .inner()
        .next_timers(100)
        .await
        .unwrap()
        .into_iter()
        .map(|timer| timer.id)
        .collect()
}

#[tokio::test]
async fn the_nth_commit_fails_and_with_it_what_stands_on_it_until_it_is_given_again() {
    let faults = Faults::new();
    let store = store(&faults);
    faults
        .at(Call::Commit)
        .nth(2)
        .fails(Error::transient("the disk is full"));
    assert!(store.commit(commit(1)).await.is_ok());
    assert_eq!(
        store.commit(commit(2)).await.unwrap_err().class(),
        ErrorClass::Transient
    );

    let on = |number, on| Commit {
        stands_on: vec![id(on)],
        ..commit(number)
    };
    assert!(
        matches!(store.commit(on(3, 2)).await, Err(CommitError::StoodOnFailed(failed)) if failed == id(2))
    );
    assert!(
        matches!(store.commit(on(4, 3)).await, Err(CommitError::StoodOnFailed(failed)) if failed == id(3))
    );
    assert_eq!(applied(&store).await, ["1"]);

    assert!(store.commit(commit(2)).await.is_ok());
    assert!(store.commit(on(3, 2)).await.is_ok());
    assert_eq!(applied(&store).await, ["1", "2", "3"]);
    assert_eq!(faults.unmet(), [""; 0]);
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_the_commit_has_happened() {
    let faults = Faults::new();
    let store = store(&faults);
    faults
        .at(Call::Commit)
        .on("a")
        .about("nothing")
        .loses_the_answer();
    faults
        .at(Call::Commit)
        .on("b")
        .fails(Error::fatal("of another node"));
    assert_eq!(
        store.commit(commit(1)).await.unwrap_err().class(),
        ErrorClass::Unknown
    );
    assert_eq!(applied(&store).await, ["1"]);
    // Sent again it is applied once.
    assert!(store.commit(commit(1)).await.is_ok());
    assert_eq!(faults.unmet().len(), 1);
}

#[tokio::test]
async fn a_commit_that_waits_is_not_overtaken() {
    let faults = Faults::new();
    let store = store(&faults);
    let gate = faults.at(Call::Commit).waits();
    // All set the same timer, so that the last one to be decided is seen.
    let set = |number: u128| {
        let set = TimerWrite::Set {
            id: "t".into(),
            due: NOW,
            payload: number.to_string().into(),
        };
        store.commit(Commit {
            timers: vec![set],
            ..Commit::new(id(number), NOW)
        })
    };
    let mut all = Box::pin(join3(set(1), set(2), set(3)));
    assert!((&mut all).now_or_never().is_none());
    assert_eq!(applied(&store).await, [""; 0]);
    gate.open();
    let (first, second, third) = all.await;
    assert!(first.is_ok() && second.is_ok() && third.is_ok());
    assert_eq!(store.next_timers(1).await.unwrap()[0].payload, "3");
}

#[tokio::test]
async fn a_hook_that_never_answers_is_a_crash_before_or_after_a_write() {
    for (moment, left) in [(Moment::Before, vec!["1"]), (Moment::After, vec!["1", "2"])] {
        let faults = Faults::new();
        let store = store(&faults);
        faults.on_write(move |operation, now| {
            let dies = operation.number == 2 && now == moment;
            async move {
                if dies {
                    std::future::pending::<()>().await;
                }
            }
        });
        store.commit(commit(1)).await.unwrap();
        assert!(store.commit(commit(2)).now_or_never().is_none());
        assert_eq!(applied(&store).await, left);
        let log: Vec<_> = faults.log().iter().map(Entry::to_string).collect();
        assert_eq!(
            log,
            [
                "1 a Commit: nothing -> ok",
                "2 a Commit: nothing -> (no answer)"
            ]
        );
    }
}

#[tokio::test]
async fn a_paused_node_stands_still_and_the_others_go_on() {
    let faults = Faults::new();
    let first = store(&faults);
    let second = FaultyStore::new("b", first.inner().clone(), &faults);
    let gate = faults.pause("a");
    let mut held = first.commit(commit(1));
    assert!((&mut held).now_or_never().is_none());
    assert!(first.head().now_or_never().is_none());
    second.commit(commit(2)).await.unwrap();
    assert_eq!(applied(&second).await, ["2"]);
    gate.open();
    held.await.unwrap();
    assert!(first.head().await.is_ok());
    assert_eq!(applied(&second).await, ["1", "2"]);
}

struct Topics {
    faults: Faults,
    broker: FaultyBroker,
}

impl Topics {
    /// A topic of two partitions.
    async fn new() -> Self {
        let (faults, disk) = (Faults::new(), MemoryTopicsDisk::new());
        let broker = FaultyBroker::new("a", Arc::new(disk.open(TestEnv::seeded(1).env())), &faults);
        broker
            .ensure_topic(&TopicSpec::new(Topic::of("orders"), 2))
            .await
            .unwrap();
        Self { faults, broker }
    }

    /// Sends values to partitions, numbered from 1.
    async fn send(&self, sent: &[(u32, &'static str)]) -> Box<dyn Producer> {
        let mut producer = self.broker.producer().await.unwrap();
        let outgoing = sent.iter().map(|(partition, value)| Outgoing {
            topic: Topic::of("orders"),
            partition: *partition,
            key: Some("k".into()),
            headers: Headers::new(),
            value: Some((*value).into()),
            timestamp: NOW,
        });
        producer.send((1..).zip(outgoing).collect()).await.unwrap();
        producer
    }

    /// What is in a partition.
    async fn values(&self, partition: u32) -> Vec<String> {
        let partition = TopicPartition::new(Topic::of("orders"), partition);
        values(&self.broker.inner().read(&partition, 0, 100).await.unwrap())
    }

    /// A member that reads both partitions from their beginning.
    async fn join(&self) -> Box<dyn Consumer> {
        let subscription = Subscription {
            group: Group::of("payment"),
            topics: vec![Topic::of("orders")],
            member: "a".into(),
            session: Duration::from_secs(10),
            batch_max: 100,
        };
        let mut consumer = self.broker.join(subscription).await.unwrap();
        let Ok(Consumed::Assigned(partitions)) = consumer.next().await else {
            panic!("nothing was assigned")
        };
        for partition in &partitions {
            consumer.seek(partition, 0).await.unwrap();
        }
        consumer
    }
}

fn values(messages: &[Message]) -> Vec<String> {
    messages
        .iter()
        .map(|message| String::from_utf8(message.value.clone().unwrap().into()).unwrap())
        .collect()
}

/// The outcome of each message, by the sender's number, of as many as are reported.
async fn reports(producer: &mut dyn Producer) -> Vec<(u64, Option<ErrorClass>)> {
    let mut all = Vec::new();
    loop {
        let reports = producer.reports().await.unwrap();
        if reports.is_empty() {
            all.sort_unstable();
            return all;
        }
        all.extend(reports.iter().map(|report| {
            (
                report.sequence,
                report.result.as_ref().err().map(Error::class),
            )
        }));
    }
}

async fn messages(consumer: &mut dyn Consumer) -> Vec<String> {
    match consumer.next().await.unwrap() {
        Consumed::Messages(messages) => values(&messages),
        other => panic!("messages were expected, not {other:?}"),
    }
}

#[tokio::test]
async fn a_lost_publication_lets_those_behind_it_through_and_kills_its_producer() {
    let topics = Topics::new().await;
    topics
        .faults
        .at(Call::Send)
        .about("orders/0")
        .nth(2)
        .fails(Error::unknown("the connection is gone"));
    let mut producer = topics.send(&[(0, "1"), (0, "2"), (0, "3")]).await;
    assert_eq!(topics.values(0).await, ["1", "3"]);
    assert_eq!(
        reports(&mut *producer).await,
        [(1, None), (2, Some(ErrorClass::Unknown)), (3, None)]
    );
    assert!(producer.send(Vec::new()).await.is_err());
}

#[tokio::test]
async fn a_publication_is_doubled_or_told_as_failed_though_it_happened() {
    let topics = Topics::new().await;
    topics.faults.at(Call::Send).twice();
    topics.faults.at(Call::Send).nth(2).loses_the_answer();
    let mut producer = topics.send(&[(0, "1"), (0, "2"), (0, "3")]).await;
    assert_eq!(topics.values(0).await, ["1", "1", "2", "3"]);
    assert_eq!(
        reports(&mut *producer).await,
        [(1, None), (2, Some(ErrorClass::Unknown)), (3, None)]
    );
}

#[tokio::test]
async fn a_report_comes_late_and_the_others_in_time() {
    let topics = Topics::new().await;
    let gate = topics.faults.at(Call::Report).about("orders/1").waits();
    let mut producer = topics.send(&[(0, "1"), (1, "2"), (0, "3")]).await;
    let mut heard = Vec::new();
    while let Some(reports) = producer.reports().now_or_never() {
        heard.extend(reports.unwrap().into_iter().map(|report| report.sequence));
    }
    assert_eq!(heard, [1, 3]);
    assert_eq!(topics.values(1).await, ["2"]);
    gate.open();
    assert_eq!(reports(&mut *producer).await, [(2, None)]);
}

#[tokio::test]
async fn a_publication_changes_places_with_the_next_to_another_partition() {
    let topics = Topics::new().await;
    topics.faults.at(Call::Send).swaps();
    let mut producer = topics.send(&[(0, "1"), (1, "2"), (0, "3")]).await;
    let mut heard = Vec::new();
    while heard.len() < 3 {
        let reports = producer.reports().await.unwrap();
        heard.extend(reports.into_iter().map(|report| report.sequence));
    }
    assert_eq!(heard, [2, 1, 3]);
    // Of one partition nothing comes before what it follows, and what nothing follows is sent as well.
    topics.faults.at(Call::Send).times(3).swaps();
    topics.send(&[(0, "4"), (0, "5"), (1, "6")]).await;
    assert_eq!(topics.values(0).await, ["1", "3", "4", "5"]);
    assert_eq!(topics.values(1).await, ["2", "6"]);
    assert_eq!(topics.faults.unmet(), [""; 0]);
}

#[tokio::test]
async fn a_delivery_changes_places_with_the_next_of_another_partition() {
    let topics = Topics::new().await;
    let swaps = || topics.faults.at(Call::Deliver).about("orders/0").swaps();
    swaps();
    topics.send(&[(0, "1"), (1, "2")]).await;
    let mut consumer = topics.join().await;
    assert_eq!(messages(&mut *consumer).await, ["2"]);
    assert_eq!(messages(&mut *consumer).await, ["1"]);
    // With what comes later, too.
    swaps();
    topics.send(&[(0, "3")]).await;
    {
        let mut next = pin!(messages(&mut *consumer));
        assert!(next.as_mut().now_or_never().is_none());
        topics.send(&[(1, "4")]).await;
        assert_eq!(next.await, ["4"]);
    }
    assert_eq!(messages(&mut *consumer).await, ["3"]);
    // Of one partition nothing comes before what it follows.
    swaps();
    topics.send(&[(0, "5")]).await;
    {
        let mut next = pin!(messages(&mut *consumer));
        assert!(next.as_mut().now_or_never().is_none());
        topics.send(&[(0, "6")]).await;
        assert_eq!(next.await, ["5", "6"]);
    }
    // Where nothing comes, it comes when it is asked again.
    swaps();
    topics.send(&[(0, "7")]).await;
    assert!(consumer.next().now_or_never().is_none());
    assert_eq!(messages(&mut *consumer).await, ["7"]);
    assert_eq!(topics.faults.unmet(), [""; 0]);
}

#[tokio::test]
async fn a_partition_lags_behind_another_and_keeps_its_order() {
    let topics = Topics::new().await;
    let gate = topics.faults.at(Call::Deliver).about("orders/0").waits();
    topics.send(&[(0, "1"), (1, "2")]).await;
    let mut consumer = topics.join().await;
    assert_eq!(messages(&mut *consumer).await, ["2"]);
    topics.send(&[(0, "3"), (1, "4")]).await;
    assert_eq!(messages(&mut *consumer).await, ["4"]);
    assert!(consumer.next().now_or_never().is_none());
    gate.open();
    assert_eq!(messages(&mut *consumer).await, ["1"]);
    assert_eq!(messages(&mut *consumer).await, ["3"]);
}

#[tokio::test]
async fn a_partition_that_waits_is_not_delivered_to_who_paused_it_and_is_read_anew_after_a_seek() {
    let topics = Topics::new().await;
    let gate = topics.faults.at(Call::Deliver).waits();
    topics.send(&[(0, "1")]).await;
    let mut consumer = topics.join().await;
    let partition = TopicPartition::new(Topic::of("orders"), 0);
    assert!(consumer.next().now_or_never().is_none());
    consumer.pause(&partition).await.unwrap();
    gate.open();
    assert!(consumer.next().now_or_never().is_none());
    consumer.resume(&partition).await.unwrap();
    assert_eq!(messages(&mut *consumer).await, ["1"]);

    let gate = topics.faults.at(Call::Deliver).waits();
    topics.send(&[(0, "2")]).await;
    assert!(consumer.next().now_or_never().is_none());
    consumer.seek(&partition, 0).await.unwrap();
    assert_eq!(messages(&mut *consumer).await, ["1", "2"]);
    gate.open();
    assert!(consumer.next().now_or_never().is_none());
}

#[tokio::test]
async fn a_delivery_comes_twice_or_behind_an_error() {
    let topics = Topics::new().await;
    topics.faults.at(Call::Deliver).twice();
    topics
        .faults
        .at(Call::Deliver)
        .nth(2)
        .fails(Error::transient("the network is slow"));
    topics.send(&[(0, "1")]).await;
    let mut consumer = topics.join().await;
    assert_eq!(messages(&mut *consumer).await, ["1"]);
    assert_eq!(messages(&mut *consumer).await, ["1"]);
    topics.send(&[(0, "2")]).await;
    assert!(consumer.next().await.unwrap_err().is_transient());
    assert_eq!(messages(&mut *consumer).await, ["2"]);
}
