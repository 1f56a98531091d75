//! Producers: bytes, order and reports.

use std::collections::BTreeMap;

use bytes::Bytes;
use factum_core::{Headers, Key, Message, Outgoing};
use tokio::time::timeout;

use super::{
    BrokerHarness,
    world::{CALL, PATIENCE, World, part, reported, values},
};

/// Keys, headers, values, tombstones and times are not changed on the way.
pub async fn messages_come_back_byte_for_byte(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "bytes").await;
    let topic = world.make("orders", 1).await;
    let mut headers = Headers::new();
    headers.push("twice", "first");
    headers.push("empty", "");
    headers.push("twice", Bytes::from_static(&[0, 0xff, b'\n']));
    headers.push("이름", "값");
    let every_byte: Vec<u8> = (0..=255).collect();
    let cases = [
        (
            Some(Key::from("order-1")),
            Headers::new(),
            Some(Bytes::from_static(b"{}")),
        ),
        (
            Some(Key::from(every_byte.clone())),
            headers,
            Some(Bytes::from(every_byte)),
        ),
        (Some(Key::from("")), Headers::new(), Some(Bytes::new())),
        (Some(Key::from("order-2")), Headers::new(), None),
        (None, Headers::new(), Some(Bytes::from(vec![7; 300_000]))),
        (None, Headers::new(), None),
    ];
    let sent: Vec<_> = cases
        .into_iter()
        .map(|(key, headers, value)| Outgoing {
            topic: topic.clone(),
            partition: 0,
            key,
            headers,
            value,
            timestamp: harness.now(),
        })
        .collect();

    let offsets = world.publish_all(sent.clone()).await;

    let read = world.broker.read(&part(&topic, 0), 0, 100).await.unwrap();
    let expected = sent.into_iter().zip(offsets).map(|(message, offset)| {
        let Outgoing {
            topic,
            partition,
            key,
            headers,
            value,
            timestamp,
        } = message;
        Message {
            topic,
            partition,
            offset,
            timestamp,
            key,
            headers,
            value,
        }
    });
    assert_eq!(read, expected.collect::<Vec<_>>());
}

/// Reports name the offsets at which the messages are read.
pub async fn every_message_is_reported_once_with_its_offset(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "reported").await;
    let topic = world.make("orders", 3).await;
    let mut producer = world.broker.producer().await.unwrap();
    let mut sequence = 100;
    for batch in 0..20_usize {
        let batch = values(batch * 10..batch * 10 + 10)
            .into_iter()
            .map(|value| {
                sequence += 1;
                (
                    sequence,
                    world.message(&topic, u32::try_from(sequence % 3).unwrap(), &value),
                )
            });
        producer.send(batch.collect()).await.unwrap();
    }

    let offsets = reported(&mut *producer, 200).await;

    let mut expected = BTreeMap::new();
    for partition in 0..3 {
        for message in world
            .broker
            .read(&part(&topic, partition), 0, 1000)
            .await
            .unwrap()
        {
            expected.insert((partition, message.offset), message.value.unwrap());
        }
    }
    for ((number, value), offset) in values(0..200).into_iter().enumerate().zip(offsets) {
        let partition = u32::try_from((101 + number) % 3).unwrap();
        assert_eq!(
            expected.remove(&(partition, offset)),
            Some(Bytes::from(value)),
            "{partition} {offset}"
        );
    }
    assert!(
        expected.is_empty(),
        "nothing was appended twice: {expected:?}"
    );
}

/// What one producer sends to a partition is appended in that order, though much is on the way at a time.
pub async fn offsets_grow_in_the_order_of_sending(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "order").await;
    let topic = world.make("orders", 1).await;
    let mut producer = world.broker.producer().await.unwrap();
    for batch in 0..50_usize {
        let batch = values(batch * 20..batch * 20 + 20)
            .into_iter()
            .enumerate()
            .map(|(index, value)| {
                (
                    (batch * 20 + index) as u64,
                    world.message(&topic, 0, &value),
                )
            });
        producer.send(batch.collect()).await.unwrap();
    }

    let offsets = reported(&mut *producer, 1000).await;

    assert!(offsets.is_sorted_by(|a, b| a < b), "{offsets:?}");
    let read = world.broker.read(&part(&topic, 0), 0, 2000).await.unwrap();
    let read: Vec<_> = read
        .into_iter()
        .map(|message| message.value.unwrap())
        .collect();
    assert_eq!(read, values(0..1000));
}

/// Whoever computes partitions by key finds each key's messages in one partition, in order.
pub async fn messages_of_one_key_share_a_partition_and_keep_their_order(
    harness: &dyn BrokerHarness,
) {
    let world = World::open(harness, "keys").await;
    let topic = world.make("orders", 4).await;
    let keys: Vec<_> = (0..10)
        .map(|number| Key::from(format!("order-{number}")))
        .collect();
    let messages = (0..200).map(|number| {
        let key = keys[number % keys.len()].clone();
        let message = world.message(&topic, key.partition(4), &number.to_string());
        Outgoing {
            key: Some(key),
            ..message
        }
    });

    world.publish_all(messages.collect()).await;

    let mut by_key = BTreeMap::<_, Vec<usize>>::new();
    for partition in 0..4 {
        for message in world
            .broker
            .read(&part(&topic, partition), 0, 1000)
            .await
            .unwrap()
        {
            let key = message.key.unwrap();
            assert_eq!(key.partition(4), partition);
            let number = str::from_utf8(&message.value.unwrap())
                .unwrap()
                .parse()
                .unwrap();
            by_key.entry(key).or_default().push(number);
        }
    }
    for (index, key) in keys.iter().enumerate() {
        assert_eq!(
            by_key[key],
            (index..200).step_by(10).collect::<Vec<_>>(),
            "{key}"
        );
    }
}

/// Asking for reports doesn't wait for what was never sent.
pub async fn no_reports_come_when_nothing_is_on_the_way(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "no_reports").await;
    let topic = world.make("orders", 1).await;
    let mut producer = world.broker.producer().await.unwrap();
    assert!(
        timeout(PATIENCE, producer.reports())
            .await
            .expect("it does not wait")
            .unwrap()
            .is_empty()
    );
    producer
        .send(vec![(1, world.message(&topic, 0, "one"))])
        .await
        .unwrap();
    reported(&mut *producer, 1).await;
    assert!(
        timeout(PATIENCE, producer.reports())
            .await
            .expect("it does not wait")
            .unwrap()
            .is_empty()
    );
}

/// A call for reports that is dropped takes none away.
pub async fn a_report_that_was_not_taken_comes_with_the_next_call(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "cancelled_reports").await;
    let topic = world.make("orders", 1).await;
    let mut producer = world.broker.producer().await.unwrap();
    let mut seen = Vec::new();
    for sequence in 0..50 {
        producer
            .send(vec![(sequence, world.message(&topic, 0, "x"))])
            .await
            .unwrap();
        // Polled once and dropped, if it isn't ready at once.
        if let Ok(reports) = timeout(std::time::Duration::ZERO, producer.reports()).await {
            seen.extend(reports.unwrap().into_iter().map(|report| report.sequence));
        }
    }
    while seen.len() < 50 {
        let reports = timeout(PATIENCE, producer.reports())
            .await
            .expect("reports come")
            .unwrap();
        assert!(!reports.is_empty(), "{} of 50 reports came", seen.len());
        seen.extend(reports.into_iter().map(|report| report.sequence));
    }
    assert_eq!(seen, (0..50).collect::<Vec<_>>());
}

/// A producer ends with its first failure, so that nothing is appended behind a message that was not.
pub async fn a_message_for_an_unknown_partition_kills_its_producer(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "dead_producer").await;
    let topic = world.make("orders", 1).await;
    let mut producer = world.broker.producer().await.unwrap();
    producer
        .send(vec![(1, world.message(&topic, 0, "one"))])
        .await
        .unwrap();
    assert_eq!(reported(&mut *producer, 1).await, [0]);

    let batch = vec![(2, world.message(&topic, 7, "two"))];
    let refused = match timeout(PATIENCE, producer.send(batch))
        .await
        .expect("it is answered")
    {
        Ok(()) => {
            let reports = timeout(PATIENCE, producer.reports())
                .await
                .expect("a report comes")
                .unwrap();
            assert_eq!(reports.len(), 1);
            assert_eq!(reports[0].sequence, 2);
            reports[0].result.is_err()
        }
        Err(_) => true,
    };

    assert!(refused);
    let later = producer
        .send(vec![(3, world.message(&topic, 0, "three"))])
        .await;
    assert!(later.is_err(), "a producer that failed sends no more");
    assert_eq!(
        world.broker.watermarks(&part(&topic, 0)).await.unwrap().end,
        1
    );
    assert_eq!(world.publish(&topic, 0, ["by another"]).await, [1]);
}

/// A message beyond the stated bound is refused as what it is: bad for ever.
pub async fn a_message_that_is_too_large_is_poison(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "too_large").await;
    let topic = world.make("orders", 1).await;
    let most = world.broker.capabilities().message_bytes_max;
    let message = Outgoing {
        key: None,
        value: Some(vec![b'x'; most + 1].into()),
        ..world.message(&topic, 0, "")
    };
    let mut producer = world.broker.producer().await.unwrap();
    let error = match producer.send(vec![(1, message)]).await {
        Ok(()) => {
            let mut reports = timeout(PATIENCE, producer.reports())
                .await
                .expect("a report comes")
                .unwrap();
            reports.remove(0).result.unwrap_err()
        }
        Err(error) => error,
    };
    assert!(error.is_poison(), "{error:?}");
    assert_eq!(
        world.broker.watermarks(&part(&topic, 0)).await.unwrap().end,
        0
    );
}

/// Nothing is appended behind a message that was not: what is bad fails, and all that was sent behind it.
pub async fn a_bad_message_fails_itself_and_those_behind_it(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "behind_bad").await;
    let topic = world.make("orders", 2).await;
    let most = world.broker.capabilities().message_bytes_max;
    let bad = Outgoing {
        value: Some(vec![b'x'; most + 1].into()),
        ..world.message(&topic, 0, "bad")
    };
    let batch = [
        world.message(&topic, 0, "before"),
        bad,
        world.message(&topic, 0, "behind"),
        world.message(&topic, 1, "elsewhere"),
    ];
    let mut producer = world.broker.producer().await.unwrap();

    // An error here leaves what was not handed over without a report.
    let sent = producer.send((1..).zip(batch).collect()).await;

    let mut results = Vec::new();
    while results.len() < 4 {
        let reports = timeout(PATIENCE, producer.reports())
            .await
            .expect("reports come")
            .unwrap();
        if reports.is_empty() {
            break;
        }
        let reports = reports.into_iter();
        results.extend(reports.map(|report| (report.sequence, report.result.is_ok())));
    }
    results.sort_unstable();
    let expected = [(1, true), (2, false), (3, false), (4, false)];
    assert!(expected.starts_with(&results), "{results:?}");
    assert!(results.len() == 4 || sent.is_err(), "{results:?}");
    let read = world.broker.read(&part(&topic, 0), 0, 10).await.unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].key, Some("before".into()));
    let elsewhere = world.broker.watermarks(&part(&topic, 1)).await.unwrap();
    assert_eq!(elsewhere.end, 0);
}

/// Whenever a `send` is cancelled, what was appended is in order, and what comes behind it too or not at all.
pub async fn a_cancelled_send_breaks_no_order(harness: &dyn BrokerHarness) {
    const EACH: usize = 20;
    let world = World::open(harness, "cancelled_send").await;
    let topic = world.make("orders", 1).await;
    let name = |round: usize, number: usize| format!("{round:02}-{number:02}");
    let mut completed = Vec::new();
    for round in 0..30 {
        let mut producer = world.broker.producer().await.unwrap();
        for number in 0..EACH {
            let value = name(round, number);
            let batch = vec![(number as u64, world.message(&topic, 0, &value))];
            if number == round % EACH {
                // Polled once and dropped, if it isn't ready at once.
                drop(timeout(std::time::Duration::ZERO, producer.send(batch)).await);
            } else if producer.send(batch).await.is_err() {
                break;
            } else {
                completed.push(value);
            }
        }
        // What is reported is appended, or failed: after this nothing of the round comes any more.
        while let Ok(Ok(reports)) = timeout(PATIENCE, producer.reports()).await
            && !reports.is_empty()
        {
            for report in reports.iter().filter(|report| report.result.is_err()) {
                let failed = name(round, usize::try_from(report.sequence).unwrap());
                completed.retain(|value| *value != failed);
            }
        }
    }
    let read = world
        .broker
        .read(&part(&topic, 0), 0, 30 * EACH)
        .await
        .unwrap();
    let read: Vec<_> = read
        .iter()
        .filter_map(|message| message.key.as_ref()?.as_text())
        .collect();
    assert!(read.is_sorted_by(|a, b| a < b), "{read:?}");
    for value in &completed {
        assert!(read.contains(&value.as_str()), "{value} was sent");
    }
}

/// A producer that never asks for reports is slowed down by what is on the way, and not stopped by it.
pub async fn sending_waits_for_room_and_not_for_reports_to_be_taken(harness: &dyn BrokerHarness) {
    const COUNT: usize = 10_000;
    let world = World::open(harness, "room").await;
    let topic = world.make("orders", 1).await;
    let mut producer = world.broker.producer().await.unwrap();
    let messages: Vec<_> = (0..COUNT).map(|_| world.message(&topic, 0, "x")).collect();
    for (start, batch) in (0..).step_by(500).zip(messages.chunks(500)) {
        let batch = (start..).zip(batch.iter().cloned()).collect();
        timeout(PATIENCE, producer.send(batch))
            .await
            .expect("there is room in time")
            .unwrap();
    }
    let offsets = reported(&mut *producer, COUNT).await;
    assert!(offsets.is_sorted_by(|a, b| a < b));
}

/// Producers don't disturb each other.
pub async fn producers_side_by_side_keep_an_order_each(harness: &dyn BrokerHarness) {
    const EACH: usize = 200;
    let world = World::open(harness, "side_by_side").await;
    let topic = world.make("orders", 1).await;
    let mut tasks = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let mut producer = world.broker.producer().await.unwrap();
        let messages: Vec<_> = (0..EACH)
            .map(|number| world.message(&topic, 0, &format!("{name}-{number:03}")))
            .collect();
        tasks.push(tokio::spawn(async move {
            for (sequence, message) in (0..).zip(messages) {
                producer.send(vec![(sequence, message)]).await.unwrap();
            }
            reported(&mut *producer, EACH).await
        }));
    }
    for task in tasks {
        assert!(task.await.unwrap().is_sorted_by(|a, b| a < b));
    }
    let read = world
        .broker
        .read(&part(&topic, 0), 0, 10 * EACH)
        .await
        .unwrap();
    assert_eq!(read.len(), 4 * EACH);
    for name in ["a", "b", "c", "d"] {
        let its = read
            .iter()
            .filter_map(|message| message.key.as_ref()?.as_text());
        let its: Vec<_> = its.filter(|text| text.starts_with(name)).collect();
        assert_eq!(its.len(), EACH);
        assert!(its.is_sorted(), "{its:?}");
    }
}

/// A reader outside of any group reads in pages, and finds the end.
pub async fn a_read_is_bounded_and_goes_on(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "pages").await;
    let topic = world.make("orders", 1).await;
    world.publish(&topic, 0, values(0..25)).await;
    let partition = part(&topic, 0);
    let (mut next, mut read) = (0, Vec::new());
    loop {
        let page = timeout(PATIENCE, world.broker.read(&partition, next, 10))
            .await
            .expect("it does not wait")
            .unwrap();
        assert!(page.len() <= 10);
        let Some(last) = page.last() else { break };
        next = last.offset + 1;
        read.extend(page.into_iter().map(|message| message.value.unwrap()));
    }
    assert_eq!(read, values(0..25));
    assert_eq!(next, world.broker.watermarks(&partition).await.unwrap().end);
    let beyond = timeout(CALL.max(PATIENCE), world.broker.read(&partition, next, 10)).await;
    assert_eq!(beyond.expect("it does not wait").unwrap(), []);
}
