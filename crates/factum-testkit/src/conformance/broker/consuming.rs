//! What one member reads: where it starts, how much comes, and that nothing is lost when it stops waiting.

use std::{collections::BTreeSet, sync::Arc};

use factum_core::Consumed;
use tokio::{sync::Notify, time::timeout};

use super::{
    BrokerHarness,
    world::{CALL, Inbox, PATIENCE, World, part, reported, values},
};

/// Reading starts where the member seeks, and not where the broker would like to.
pub async fn a_member_reads_from_where_it_seeks(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "seek").await;
    let topic = world.make("orders", 1).await;
    let offsets = world.publish(&topic, 0, values(0..10)).await;
    for (group, from) in [("first", 0), ("middle", 4), ("last", 9)] {
        let inbox = Inbox::default();
        inbox.set(&part(&topic, 0), offsets[from]);
        let mut member = world
            .join(&world.group(group), &[&topic], "one", &inbox)
            .await;

        member.receive(10 - from).await;

        assert_eq!(member.values(), values(from..10));
        assert_eq!(member.received[0].offset, offsets[from]);
        member.leave().await;
    }
}

/// The broker has no say in where a member starts: until it seeks, it gets nothing, in other partitions as well.
pub async fn nothing_is_delivered_before_the_first_seek(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "first_seek").await;
    let topic = world.make("orders", 2).await;
    world.publish(&topic, 0, values(0..2)).await;
    world.publish(&topic, 1, values(2..4)).await;
    let group = world.group("g");
    let subscription = world.subscription(&group, &[&topic], "one");
    let mut consumer = world.broker.join(subscription).await.unwrap();
    let mut assigned = 0;
    while assigned < 2 {
        let told = timeout(PATIENCE, consumer.next()).await;
        match told.expect("it is assigned").unwrap() {
            Consumed::Assigned(partitions) => assigned += partitions.len(),
            told => panic!("nothing was sought, and it is told {told:?}"),
        }
    }
    for _ in 0..5 {
        let told = timeout(CALL, consumer.next()).await;
        assert!(told.is_err(), "nothing was sought, and it is told {told:?}");
    }

    consumer.seek(&part(&topic, 1), 1).await.unwrap();

    let told = timeout(PATIENCE, consumer.next()).await;
    let Consumed::Messages(messages) = told.expect("messages come").unwrap() else {
        panic!("messages come");
    };
    let read: Vec<_> = messages
        .iter()
        .map(|message| (message.partition, message.offset))
        .collect();
    assert_eq!(read, [(1, 1)]);
}

/// Who starts at the end gets what is published from then on.
pub async fn the_end_is_a_place_to_start(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "end").await;
    let topic = world.make("orders", 1).await;
    world.publish(&topic, 0, values(0..5)).await;
    let inbox = Inbox::default();
    inbox.set(
        &part(&topic, 0),
        world.broker.watermarks(&part(&topic, 0)).await.unwrap().end,
    );
    let mut member = world
        .join(&world.group("g"), &[&topic], "one", &inbox)
        .await;
    member.own(1).await;
    member.receive_nothing().await;

    world.publish(&topic, 0, values(5..8)).await;

    member.receive(3).await;
    assert_eq!(member.values(), values(5..8));
}

/// A member may read again what it had.
pub async fn seeking_back_delivers_again(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "back").await;
    let topic = world.make("orders", 1).await;
    let offsets = world.publish(&topic, 0, values(0..6)).await;
    let mut member = world
        .join(&world.group("g"), &[&topic], "one", &Inbox::default())
        .await;
    member.receive(6).await;

    member
        .consumer
        .seek(&part(&topic, 0), offsets[2])
        .await
        .unwrap();

    member.receive(10).await;
    assert_eq!(member.values()[6..], values(2..6));
    member.receive_nothing().await;
}

/// An offset that the partition doesn't have is an error, and never answered by going elsewhere.
pub async fn seeking_out_of_range_is_fatal(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "out_of_range").await;
    let topic = world.make("orders", 1).await;
    world.publish(&topic, 0, values(0..3)).await;
    let partition = part(&topic, 0);
    let mut member = world
        .join(&world.group("g"), &[&topic], "one", &Inbox::default())
        .await;
    member.own(1).await;
    let end = world.broker.watermarks(&partition).await.unwrap().end;

    let error = member.consumer.seek(&partition, end + 1).await.unwrap_err();

    assert!(error.is_fatal(), "{error:?}");
    assert!(
        error.to_string().contains(topic.as_str()),
        "the error names the partition: {error}"
    );
    member.consumer.seek(&partition, end).await.unwrap();
}

/// Pausing holds back messages and nothing else.
pub async fn a_paused_partition_delivers_nothing_and_stays_owned(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "pause").await;
    let topic = world.make("orders", 2).await;
    let mut member = world
        .join(&world.group("g"), &[&topic], "one", &Inbox::default())
        .await;
    member.own(2).await;
    member.consumer.pause(&part(&topic, 0)).await.unwrap();
    world.publish(&topic, 0, ["held"]).await;
    world.publish(&topic, 1, ["flows"]).await;

    member.receive(1).await;
    assert_eq!(member.values(), ["flows"]);
    world.pass(harness.session(), &mut [&mut member]).await;
    member.receive_nothing().await;
    assert_eq!(member.owned.len(), 2);

    member.consumer.resume(&part(&topic, 0)).await.unwrap();
    member.receive(2).await;
    assert_eq!(member.values(), ["flows", "held"]);
}

/// No batch has more messages than were asked for.
pub async fn a_batch_has_a_bound(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "batch").await;
    let topic = world.make("orders", 3).await;
    for partition in 0..3 {
        world.publish(&topic, partition, values(0..20)).await;
    }
    for batch_max in [1, 7] {
        let group = world.group(&format!("g{batch_max}"));
        let mut member = world.join_with(batch_max, &group, &topic).await;
        while member.received.len() < 60 {
            if let Some(Consumed::Messages(messages)) = member.call().await {
                assert!(
                    messages.len() <= batch_max,
                    "{} messages came at once",
                    messages.len()
                );
            }
        }
    }
}

/// A partition with much to read does not keep the others waiting until it is done.
pub async fn no_partition_starves_behind_a_full_one(harness: &dyn BrokerHarness) {
    // More than a broker hands over at a time: what it sent before it was asked for the others is no starving.
    const MANY: usize = 500;
    let large = "x".repeat(16 * 1024);
    let world = World::open(harness, "starve").await;
    let topic = world.make("orders", 3).await;
    world.publish(&topic, 0, [&large; MANY]).await;
    world.publish(&topic, 1, ["one"]).await;
    world.publish(&topic, 2, ["two"]).await;
    // One at a time leaves no room for all partitions in a batch, so that they have to take turns.
    for batch_max in [1, 100] {
        let group = world.group(&format!("g{batch_max}"));
        let mut member = world.join_with(batch_max, &group, &topic).await;

        member.receive(MANY + 2).await;

        let values = member.values();
        for wanted in ["one", "two"] {
            let place = values.iter().position(|value| *value == wanted).unwrap();
            assert!(
                place < MANY,
                "`{wanted}` came at place {place}, behind all of the other partition"
            );
        }
    }
}

/// A member that waits without a time limit is woken by what arrives.
pub async fn a_message_wakes_a_member_that_waits(harness: &dyn BrokerHarness) {
    const ROUNDS: u64 = 2000;
    let world = World::open(harness, "wake").await;
    let topic = world.make("orders", 1).await;
    let mut member = world
        .join(&world.group("g"), &[&topic], "one", &Inbox::default())
        .await;
    member.own(1).await;
    // The next message is published as soon as this one was received, by another thread: sooner or later it
    // arrives between the member's look at what is there and its going to sleep.
    let turn = Arc::new(Notify::new());
    let mut producer = world.broker.producer().await.unwrap();
    let message = world.message(&topic, 0, "wake");
    let publishing = tokio::spawn({
        let turn = turn.clone();
        async move {
            for round in 0..ROUNDS {
                turn.notified().await;
                producer.send(vec![(round, message.clone())]).await.unwrap();
                reported(&mut *producer, 1).await;
            }
        }
    });
    for round in 0..ROUNDS {
        turn.notify_one();
        // A little later in each round, so that some round meets the arrival.
        for _ in 0..round % 500 * 20 {
            std::hint::spin_loop();
        }
        let told = timeout(PATIENCE, member.consumer.next()).await;
        let told = told.expect("it is woken").unwrap();
        assert!(
            matches!(&told, Consumed::Messages(messages) if messages.len() == 1),
            "{told:?}"
        );
    }
    publishing.await.unwrap();
}

/// A call that is dropped while it waits or reads takes nothing with it.
pub async fn a_call_that_was_cancelled_loses_nothing(harness: &dyn BrokerHarness) {
    const COUNT: usize = 500;
    let world = World::open(harness, "cancel").await;
    let topic = world.make("orders", 2).await;
    let mut producer = world.broker.producer().await.unwrap();
    let messages: Vec<_> = (0..COUNT)
        .map(|number| {
            world.message(
                &topic,
                u32::try_from(number % 2).unwrap(),
                &number.to_string(),
            )
        })
        .collect();
    let publishing = tokio::spawn(async move {
        for (sequence, message) in (0..).zip(messages) {
            producer.send(vec![(sequence, message)]).await.unwrap();
            drop(producer.reports().await.unwrap());
        }
    });
    let mut member = world
        .join(&world.group("g"), &[&topic], "one", &Inbox::default())
        .await;
    let receiving = async {
        let mut rounds = 0_u32;
        while member.received.len() < COUNT {
            rounds += 1;
            // Dropped at once, or after so short a time that it falls into the middle of the work.
            let limit = CALL * (rounds % 8) / 100;
            if let Ok(consumed) = timeout(limit, member.consumer.next()).await {
                member.handle(&consumed.unwrap()).await;
            } else {
                tokio::task::yield_now().await;
            }
        }
    };
    timeout(PATIENCE, receiving)
        .await
        .expect("all messages come");
    publishing.await.unwrap();
    assert_eq!(member.received.len(), COUNT);
    for partition in 0..2 {
        let offsets = member
            .received
            .iter()
            .filter(|message| message.partition == partition);
        assert!(
            offsets
                .map(|message| message.offset)
                .is_sorted_by(|a, b| a < b)
        );
    }
    let distinct: BTreeSet<_> = member
        .received
        .iter()
        .map(|message| (message.partition, message.offset))
        .collect();
    assert_eq!(distinct.len(), COUNT);
}

/// A member has no say over partitions of others.
pub async fn what_is_not_assigned_can_not_be_sought(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "not_assigned").await;
    let topic = world.make("orders", 1).await;
    let other = world.make("payments", 1).await;
    let mut member = world
        .join(&world.group("g"), &[&topic], "one", &Inbox::default())
        .await;
    member.own(1).await;
    let (consumer, other) = (&mut member.consumer, part(&other, 0));
    for answer in [
        consumer.seek(&other, 0).await,
        consumer.pause(&other).await,
        consumer.resume(&other).await,
    ] {
        let error = answer.unwrap_err();
        assert!(error.is_fenced(), "{error:?}");
    }
}

/// What a member says of partitions that it doesn't hold is not kept, and the rest of what it says is.
pub async fn offsets_of_what_is_not_held_are_dropped(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "not_held").await;
    let topic = world.make("orders", 1).await;
    let other = world.make("payments", 1).await;
    let group = world.group("g");
    world.publish(&topic, 0, values(0..3)).await;
    let mut member = world
        .join(&group, &[&topic], "one", &Inbox::default())
        .await;
    member.receive(3).await;

    let commits = [(part(&other, 0), 0), (part(&topic, 0), 3)];
    member.consumer.commit(&commits).await.unwrap();

    let kept = async {
        while world.broker.committed(&group).await.unwrap() != commits[1..] {
            member.call().await;
        }
    };
    timeout(PATIENCE, kept).await.expect("its own is kept");
    member.leave().await;
    assert_eq!(world.broker.committed(&group).await.unwrap(), commits[1..]);
}

/// What a group committed can be compared with the end of the partition.
pub async fn lag_is_the_end_without_what_was_committed(harness: &dyn BrokerHarness) {
    let world = World::open(harness, "lag").await;
    let topic = world.make("orders", 2).await;
    let group = world.group("g");
    assert_eq!(world.broker.committed(&group).await.unwrap(), []);
    world.publish(&topic, 0, values(0..5)).await;
    world.publish(&topic, 1, values(5..8)).await;
    let mut member = world
        .join(&group, &[&topic], "one", &Inbox::default())
        .await;
    member.receive(8).await;
    let commits = [(part(&topic, 0), 2), (part(&topic, 1), 3)];

    member.consumer.commit(&commits[..1]).await.unwrap();
    member.consumer.commit(&commits).await.unwrap();

    let told = async {
        loop {
            // It may be told later, so ask until it is there.
            let committed = world.broker.committed(&group).await.unwrap();
            if committed == commits {
                return committed;
            }
            member.call().await;
        }
    };
    let committed = timeout(PATIENCE, told)
        .await
        .expect("what was committed is told");
    let mut lag = Vec::new();
    for (partition, offset) in committed {
        lag.push(world.broker.watermarks(&partition).await.unwrap().end - offset);
    }
    assert_eq!(lag, [3, 0]);
}
