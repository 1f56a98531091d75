//! From one service's commands to another's effects: order, failures, parking, redrive, restarts.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use factum::{
    Broker, Commit, Epoch, Error, Headers, Input, Key, OperatorAction, OperatorInput, Outgoing,
    Parked, ParkedFilter, ParkedState, RetryPolicy, Room, Running, Start, Status, Topic,
    TopicPartition,
};

use factum_testkit::faults::{Call, Faults, FaultyBroker};
use futures_util::future::join_all;

use crate::world::{TOO_MUCH, World, amounts, deposit, follow_time, until};

async fn parked(running: &Running) -> Vec<Parked> {
    let store = running.service("receipts").unwrap().store();
    store.parked(&ParkedFilter::default(), 100).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn events_of_each_key_arrive_once_and_in_order() {
    let world = World::new(1);
    let _time = follow_time(&world.env);
    let running = world.start().await;
    for amount in 1..=10 {
        for account in ["a", "b", "c", "d"] {
            deposit(&running, account, amount).await;
        }
    }
    for account in ["a", "b", "c", "d"] {
        until("all receipts", async || {
            amounts(&running, account).await.len() == 10
        })
        .await;
        assert_eq!(
            amounts(&running, account).await,
            (1..=10).collect::<Vec<_>>()
        );
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn events_that_change_places_across_partitions_arrive_once_and_each_keys_in_order() {
    let world = World::new(11);
    let _time = follow_time(&world.env);
    let faults = Faults::new();
    let broker: Arc<dyn Broker> = Arc::new(FaultyBroker::new("one", world.broker(), &faults));
    let running = world.start_as("one", &broker).await;
    let accounts = ["a", "b", "c", "d", "e"];
    for amount in 1..=10 {
        faults.at(Call::Send).nth(amount % 3 + 1).swaps();
        faults.at(Call::Deliver).nth(amount % 2 + 1).swaps();
        // At once, so that what is sent and delivered is of several partitions.
        join_all(accounts.map(|account| deposit(&running, account, amount))).await;
    }
    for account in accounts {
        until("all receipts", async || {
            amounts(&running, account).await.len() >= 10
        })
        .await;
        assert_eq!(
            amounts(&running, account).await,
            (1..=10).collect::<Vec<_>>()
        );
    }
    assert_eq!(faults.unmet(), [""; 0]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_message_is_retried_and_its_key_waits_in_order_while_others_flow() {
    let world = World::new(2);
    let _time = follow_time(&world.env);
    let running = world.start().await;
    for amount in [1, 13, 2, 3] {
        deposit(&running, "a", amount).await;
    }
    deposit(&running, "b", 7).await;
    until("b's receipt", async || amounts(&running, "b").await == [7]).await;
    until("a's receipts", async || {
        amounts(&running, "a").await == [1, 13, 2, 3]
    })
    .await;
    until("nothing parked", async || parked(&running).await.is_empty()).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_poison_message_is_a_dead_letter_that_its_key_waits_behind_until_it_is_redriven() {
    let world = World::new(3);
    let _time = follow_time(&world.env);
    let running = world.start().await;
    for amount in [1, 66, 2] {
        deposit(&running, "a", amount).await;
    }
    until("two parked", async || parked(&running).await.len() == 2).await;
    let rows = parked(&running).await;
    assert_eq!(
        rows.iter().map(|row| row.state).collect::<Vec<_>>(),
        [ParkedState::Dead, ParkedState::Waiting]
    );
    assert_eq!(amounts(&running, "a").await, [1]);

    // The copy is on its topic.
    let inbox = &rows[0].id.inbox;
    let copies = TopicPartition::new(factum::Topic::of("accounts.dlq"), inbox.partition);
    until("the copy", async || {
        running.broker().watermarks(&copies).await.unwrap().end == 1
    })
    .await;
    let copy = &running.broker().read(&copies, 0, 1).await.unwrap()[0];
    assert_eq!(
        copy.headers.text("factum-dlq-id"),
        Some(rows[0].id.to_string().as_str())
    );

    world.mended.store(1, Ordering::SeqCst);
    let store = running.service("receipts").unwrap().store();
    let env = world.env.env();
    let mut commit = Commit::new(env.commit_id(), env.now());
    let (id, revision) = (rows[0].id.clone(), rows[0].revision);
    commit.input = Input::Operator(OperatorInput {
        id,
        revision,
        action: OperatorAction::Redrive,
    });
    store.commit(commit).await.unwrap();
    until("a's receipts", async || {
        amounts(&running, "a").await == [1, 66, 2]
    })
    .await;
    assert!(parked(&running).await.is_empty());
    running.stop().await;
}

/// It was taken for its source's start, and all that the relay published from then on missed what lay between.
#[tokio::test(start_paused = true)]
async fn a_group_that_starts_in_the_middle_takes_no_straggler_for_its_start() {
    let mut world = World::new(9);
    world.receipts_start = None;
    let _time = follow_time(&world.env);
    let running = world.start().await;
    for amount in 1..=3 {
        deposit(&running, "a", amount).await;
    }
    let partition = TopicPartition::new(Topic::of("accounts"), Key::from("a").partition(3));
    let read = async |running: &Running| {
        let messages = running.broker().read(&partition, 0, 10).await;
        messages.unwrap()
    };
    until("all published", async || read(&running).await.len() == 3).await;
    let old = read(&running).await.swap_remove(0);
    running.stop().await;

    world.receipts_start = Some(Start::Anchor);
    let running = world.start().await;
    let receipts = running.service("receipts").unwrap().store();
    until("a group", async || {
        receipts.inboxes().await.unwrap().len() == 3
    })
    .await;
    // A run of the relay that ended long ago.
    let straggler = Outgoing {
        topic: old.topic,
        partition: old.partition,
        key: old.key,
        headers: old.headers,
        value: old.value,
        timestamp: old.timestamp,
    };
    let mut producer = running.broker().producer().await.unwrap();
    producer.send(vec![(0, straggler)]).await.unwrap();
    assert_eq!(producer.reports().await.unwrap().len(), 1);
    for amount in 4..=6 {
        deposit(&running, "a", amount).await;
    }
    until("receipts from the start on", async || {
        amounts(&running, "a").await == [4, 5, 6]
    })
    .await;
    running.stop().await;
}

/// It went to the partition of the empty key, wherever it had come from.
#[tokio::test(start_paused = true)]
async fn the_copy_of_a_message_without_a_key_has_none_and_stays_in_its_partition() {
    let world = World::new(8);
    let _time = follow_time(&world.env);
    let running = world.start().await;
    let mut producer = running.broker().producer().await.unwrap();
    for (partition, key) in [(0, None), (1, None), (2, None), (1, Some("b"))] {
        let message = Outgoing {
            topic: Topic::of("accounts"),
            partition,
            key: key.map(Key::from),
            headers: Headers::new(),
            value: Some("no event".into()),
            timestamp: world.env.env().now(),
        };
        producer.send(vec![(0, message)]).await.unwrap();
        assert_eq!(producer.reports().await.unwrap().len(), 1);
    }
    until("four parked", async || parked(&running).await.len() == 4).await;
    let copies = async |partition| {
        let copies = TopicPartition::new(Topic::of("accounts.dlq"), partition);
        let copies = running.broker().read(&copies, 0, 10).await.unwrap();
        copies.into_iter().map(|copy| copy.key).collect::<Vec<_>>()
    };
    let keyed = Key::from("b").partition(3);
    for partition in 0..3 {
        let with_key = (partition == keyed).then(|| Some(Key::from("b")));
        let expected: Vec<_> = [None].into_iter().chain(with_key).collect();
        until("the copies", async || {
            let mut keys = copies(partition).await;
            keys.sort();
            keys == expected
        })
        .await;
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_panicking_handler_takes_nobody_down() {
    let world = World::new(4);
    let _time = follow_time(&world.env);
    let running = world.start().await;
    deposit(&running, "a", 99).await;
    deposit(&running, "b", 1).await;
    until("b's receipt", async || amounts(&running, "b").await == [1]).await;
    until("a dead letter", async || {
        parked(&running)
            .await
            .first()
            .is_some_and(|row| row.state == ParkedState::Dead)
    })
    .await;
    let failure = parked(&running).await[0].failure.clone().unwrap();
    assert_eq!(
        failure.message,
        "handler `write-receipt` panicked: the printer burns"
    );
    running.stop().await;
}

/// It went wrong: the relay tried for ever to read on from a place that the restore had taken off the time line.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_restored_under_a_running_relay_publishes_its_new_time_line() {
    let world = World::new(13);
    let _time = follow_time(&world.env);
    let running = world.start().await;
    deposit(&running, "a", 1).await;
    until("the first receipt", async || {
        amounts(&running, "a").await == [1]
    })
    .await;
    let backup = world.accounts.backup();
    deposit(&running, "a", 2).await;
    until("the second receipt", async || {
        amounts(&running, "a").await == [1, 2]
    })
    .await;
    world
        .accounts
        .restore(&backup, Epoch(0), world.env.env().now(), "a test")
        .unwrap();
    deposit(&running, "a", 3).await;
    until("the new time line's receipt", async || {
        amounts(&running, "a").await == [1, 2, 3]
    })
    .await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_not_finished_when_it_ended_is_finished_by_the_next_start() {
    let world = World::new(5);
    let _time = follow_time(&world.env);
    for round in 0..5 {
        let running = world.start().await;
        for amount in 1..=5 {
            deposit(&running, "a", round * 10 + amount).await;
        }
        if round % 2 == 0 {
            running.stop().await;
        }
        // Dropped: it ends as a crash would.
    }
    let running = world.start().await;
    let expected: Vec<_> = (0..5)
        .flat_map(|round| (1..=5).map(move |amount| round * 10 + amount))
        .collect();
    until("all receipts", async || {
        amounts(&running, "a").await.len() >= 25
    })
    .await;
    assert_eq!(amounts(&running, "a").await, expected);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_lane_stands_still_until_its_retry_makes_room_and_others_flow() {
    let room = Room {
        lane_max: 1,
        ..Room::default()
    };
    let world = World {
        room,
        ..World::new(6)
    };
    let _time = follow_time(&world.env);
    let running = world.start().await;
    for amount in [13, 2, 3, 4] {
        deposit(&running, "a", amount).await;
    }
    let health = running.service("receipts").unwrap().health();
    let full = || {
        let parts = health.parts().into_iter();
        parts
            .filter(|(_, (status, _))| matches!(status, Status::Degraded(_)))
            .count()
    };
    until("a partition that is full", async || full() == 1).await;
    deposit(&running, "b", 7).await;
    until("b's receipt", async || amounts(&running, "b").await == [7]).await;
    until("a's receipts", async || {
        amounts(&running, "a").await == [13, 2, 3, 4]
    })
    .await;
    assert_eq!(full(), 0, "{:?}", health.parts());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_can_never_be_stored_is_a_dead_letter_and_stops_nobody() {
    let world = World::new(7);
    let _time = follow_time(&world.env);
    let running = world.start().await;
    deposit(&running, "a", TOO_MUCH).await;
    deposit(&running, "b", 7).await;
    until("b's receipt", async || amounts(&running, "b").await == [7]).await;
    until("a dead letter", async || {
        let rows = parked(&running).await;
        rows.first()
            .is_some_and(|row| row.state == ParkedState::Dead)
    })
    .await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_retries_for_three_hours_while_others_flow_and_the_topic_forgets_its_message() {
    let hour = Duration::from_hours(1);
    let world = World {
        retry: RetryPolicy::exponential(hour)
            .at_most(2 * hour)
            .without_jitter(),
        retention: Some(hour / 2),
        ..World::new(8)
    };
    let running = world.start().await;
    deposit(&running, "a", 13).await;
    deposit(&running, "a", 2).await;
    until("two parked", async || parked(&running).await.len() == 2).await;
    let partition = parked(&running).await[0].id.inbox.partition;
    for hours in 1..=3 {
        world.env.advance(hour);
        // One of these goes to the partition of `a`, whose messages are forgotten then.
        for other in 0..12 {
            deposit(&running, &format!("other-{other}"), hours).await;
        }
        for other in 0..12 {
            let other = format!("other-{other}");
            until("the others flow", async || {
                amounts(&running, &other).await.last() == Some(&hours)
            })
            .await;
        }
    }
    until("a's receipts", async || {
        amounts(&running, "a").await == [13, 2]
    })
    .await;
    let partition = TopicPartition::new(factum::Topic::of("accounts"), partition);
    let marks = running.broker().watermarks(&partition).await.unwrap();
    assert!(
        marks.first >= 2,
        "the topic has forgotten what was parked: {marks:?}"
    );
    running.stop().await;
}

/// It went wrong: four rounds of conflicts, fences or unknown outcomes made a dead letter, for the process had "died".
#[tokio::test(start_paused = true)]
async fn conflicts_and_unknown_outcomes_are_no_deaths_of_the_process() {
    for (seed, error) in [
        (41, Error::conflict("others were faster")),
        (42, Error::unknown("the connection was lost")),
    ] {
        let world = World::new(seed);
        let _time = follow_time(&world.env);
        let running = world.start().await;
        // Of messages, live and parked.
        let commits = world
            .plan
            .at(Call::Commit)
            .about("message receipt-service:");
        commits.times(6).fails(error.clone());
        deposit(&running, "a", 1).await;
        until("a's receipt", async || {
            let dead = parked(&running).await;
            let dead = dead.iter().find(|row| row.state == ParkedState::Dead);
            assert_eq!(dead.map(|row| &row.failure), None, "{error}");
            amounts(&running, "a").await == [1]
        })
        .await;
        deposit(&running, "a", 13).await;
        until("the parked one's", async || {
            amounts(&running, "a").await == [1, 13]
        })
        .await;
        running.stop().await;
    }
}

/// It went wrong: the copy of such a message didn't fit into a record, and the group ended with it, again at each start.
#[tokio::test(start_paused = true)]
async fn a_dead_letter_whose_whole_copy_fits_into_no_record_is_parked_with_less_of_one() {
    let world = World::new(43);
    let _time = follow_time(&world.env);
    let running = world.start().await;
    let outgoing = |key: &str, header: &str| Outgoing {
        topic: factum::Topic::of("accounts"),
        partition: 0,
        key: Some(key.into()),
        headers: [(header, "x")].into_iter().collect(),
        value: Some("no envelope".into()),
        timestamp: world.env.env().now(),
    };
    let large = [
        outgoing(&"k".repeat(400_000), "tenant"),
        outgoing("k", &"\u{1}".repeat(300_000)),
        outgoing(&"k".repeat(200_000), &"\u{1}".repeat(200_000)),
    ];
    let mut producer = running.broker().producer().await.unwrap();
    producer.send((0..).zip(large).collect()).await.unwrap();
    until("three dead letters", async || {
        parked(&running).await.len() == 3
    })
    .await;
    for row in parked(&running).await {
        assert_eq!(row.state, ParkedState::Dead);
    }
    until("copies", async || {
        let mut copies = 0;
        for partition in 0..3 {
            let partition = TopicPartition::new(factum::Topic::of("accounts.dlq"), partition);
            copies += running.broker().watermarks(&partition).await.unwrap().end;
        }
        copies == 3
    })
    .await;
    for account in ["a", "b", "c", "d"] {
        deposit(&running, account, 1).await;
        until("the others flow", async || {
            amounts(&running, account).await == [1]
        })
        .await;
    }
    running.stop().await;
}

/// It went wrong: the member was dropped like one that crashed, and held every partition until its session ended.
#[tokio::test(start_paused = true)]
async fn a_member_that_fails_leaves_and_its_partitions_are_taken_over_at_once() {
    let world = World::new(45);
    let _time = follow_time(&world.env);
    let full = Error::transient("the disk is full");
    world
        .plan
        .at(Call::ClaimInbox)
        .about("accounts:")
        .nth(2)
        .fails(full);
    let running = world.start().await;
    let began = world.env.env().now();
    for account in ["a", "b", "c", "d"] {
        deposit(&running, account, 1).await;
    }
    for account in ["a", "b", "c", "d"] {
        until("its receipt", async || {
            amounts(&running, account).await == [1]
        })
        .await;
    }
    let took = world.env.env().now().since(began);
    assert!(took < Duration::from_secs(5), "half a session is {took:?}");
    running.stop().await;
}

/// It went wrong: they had no owner any more, so that a redrive was answered, nothing happened, and they kept their room.
#[tokio::test(start_paused = true)]
async fn what_is_parked_from_a_topic_that_the_group_reads_no_more_goes_on() {
    let mut world = World::new(46);
    let _time = follow_time(&world.env);
    let running = world.start().await;
    for amount in [66, 1] {
        deposit(&running, "a", amount).await;
    }
    until("two are parked", async || parked(&running).await.len() == 2).await;
    running.stop().await;
    drop(running);
    world.mended.store(1, Ordering::SeqCst);
    world.reads = "receipts";
    let running = world.start().await;
    let operator = running.service("receipts").unwrap().operator();
    let by = factum::By::new("local", "the cause is mended");
    let row = parked(&running).await.remove(0);
    operator.redrive(&row.id, row.revision, &by).await.unwrap();
    // Another process might have an owner for it: it counts as gone when a message was due for a while.
    let passing = || world.env.advance(Duration::from_secs(1));
    until("it is tried, and says that nobody reads it", async || {
        passing();
        let row = parked(&running).await.remove(0);
        let failure = row.failure.unwrap().message;
        row.state == ParkedState::Dead
            && failure.contains("reads `Deposited` from topic `accounts`")
    })
    .await;
    let row = parked(&running).await.remove(0);
    operator.discard(&row.id, row.revision, &by).await.unwrap();
    until("the next is tried", async || {
        passing();
        let rows = parked(&running).await;
        rows.iter().any(|row| row.state == ParkedState::Dead)
    })
    .await;
    running.stop().await;
    drop(running);

    world.reads = "accounts";
    let running = world.start().await;
    let operator = running.service("receipts").unwrap().operator();
    let rows = parked(&running).await;
    let row = rows.iter().find(|row| row.state == ParkedState::Dead);
    let row = row.unwrap();
    operator.redrive(&row.id, row.revision, &by).await.unwrap();
    until("with its handler it is handled", async || {
        amounts(&running, "a").await == [1]
    })
    .await;
    running.stop().await;
}
