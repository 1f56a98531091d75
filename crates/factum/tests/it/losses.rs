//! Messages that are missing for good, or until they are published again: a group that can't go on says so, and an
//! operator lets it.

use std::time::Duration;

use factum::{
    Accepted, At, By, Incident, Link, Outgoing, Position, Running, ServiceName, Status, StoreId,
    Topic, TopicPartition, chain::SOURCES_MAX,
};
use factum_testkit::{MemoryDisk, MemoryTopicsDisk};

use crate::{
    bank::{deposit, status},
    world::{World, amounts, follow_time, until},
};

fn by() -> By {
    By::new("local", "the broker lost its disk")
}

fn incidents(running: &Running) -> Vec<Incident> {
    running.service("receipts").unwrap().operator().incidents()
}

/// A world whose broker lost what it had acknowledged, 3 deposits, before a new group read them; with a fourth
/// deposit, which comes behind what is lost.
async fn after_a_loss(seed: u64) -> (World, Running) {
    let mut world = World::new(seed);
    // Runs on as long as the test does.
    drop(follow_time(&world.env));
    let running = world.start().await;
    for amount in 1..=3 {
        deposit(&running, "a", amount).await;
    }
    until("they are published", async || {
        let store = running.service("accounts").unwrap().store();
        store.relay().await.unwrap().checkpoint.position == Position(3)
    })
    .await;
    running.stop().await;
    drop(running);
    world.topics = MemoryTopicsDisk::new();
    let env = world.env.env();
    world.receipts = MemoryDisk::new(StoreId(env.uuid()), ServiceName::of("receipts"), env.now());
    let running = world.start().await;
    deposit(&running, "a", 4).await;
    (world, running)
}

/// Waits until the incident is raised, which takes a minute.
async fn until_raised(running: &Running) -> Incident {
    tokio::time::sleep(Duration::from_mins(1)).await;
    until("it is raised", async || !incidents(running).is_empty()).await;
    incidents(running).remove(0)
}

fn part(incident: &Incident) -> String {
    let inbox = &incident.inbox;
    let partition = TopicPartition::new(inbox.topic.clone(), inbox.partition);
    format!("receipts/group/receipt-service/{partition}")
}

#[tokio::test(start_paused = true)]
async fn a_source_that_misses_a_message_is_an_incident_after_a_minute_and_says_what_is_missing() {
    let (world, running) = after_a_loss(1).await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(
        incidents(&running),
        [],
        "the relay may still publish it again"
    );

    let incident = until_raised(&running).await;

    let source = running.service("accounts").unwrap().store().identity().id;
    assert_eq!(incident.source, source);
    assert_eq!(
        (incident.last, incident.expected, incident.seen),
        (At::ZERO, At::new(1, 3), At::new(1, 4))
    );
    let health = running.service("receipts").unwrap().health();
    let Some(Status::Degraded(reason)) = status(health, &part(&incident)) else {
        panic!("{:?}", health.parts());
    };
    for said in [
        "inbox `receipt-service:accounts:",
        &source.to_string(),
        "offset 0",
        "record 1-4",
        "behind record 1-3",
    ] {
        assert!(reason.contains(said), "{said}: {reason}");
    }
    assert_eq!(amounts(&running, "a").await, [0; 0], "nothing is taken");

    // After a restart it is known at once, though the message was passed over.
    running.stop().await;
    drop(running);
    let running = world.start().await;
    until("it is raised again", async || {
        !incidents(&running).is_empty()
    })
    .await;
    assert_eq!(incidents(&running)[0].seen, At::new(1, 4));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_is_set_back_publishes_what_was_lost_and_the_incident_ends() {
    let (_, running) = after_a_loss(2).await;
    let incident = until_raised(&running).await;

    let operator = running.service("accounts").unwrap().operator();
    let set_back = operator.rewind_relay(incident.last.position, &by()).await;
    assert_eq!(set_back.unwrap(), At::ZERO);

    until("all is taken", async || {
        amounts(&running, "a").await == [1, 2, 3, 4]
    })
    .await;
    until("the incident is over", async || {
        incidents(&running).is_empty()
    })
    .await;
    let health = running.service("receipts").unwrap().health();
    until("it is well", async || {
        status(health, &part(&incident)) == Some(Status::Running)
    })
    .await;
    let audit = operator.audit(None, 1).await.unwrap();
    assert_eq!(
        (
            &*audit[0].entry.action,
            &*audit[0].entry.subject,
            &*audit[0].entry.reason
        ),
        ("rewind", "relay to 0", "the broker lost its disk")
    );
    deposit(&running, "a", 5).await;
    until("it goes on", async || {
        amounts(&running, "a").await == [1, 2, 3, 4, 5]
    })
    .await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_relay_is_set_back_to_any_place_and_whoever_has_the_messages_takes_none_twice() {
    let world = World::new(3);
    let _time = follow_time(&world.env);
    let running = world.start().await;
    let accounts = ["a", "b", "c", "d", "e"];
    for amount in 1..=4 {
        for account in accounts {
            deposit(&running, account, amount).await;
        }
    }
    let expected: Vec<u64> = (1..=4).collect();
    let all_taken = async || {
        for account in accounts {
            if amounts(&running, account).await != expected {
                return false;
            }
        }
        true
    };
    until("all is taken", &all_taken).await;
    let source = running.service("accounts").unwrap();
    let published = async || {
        let mut published = 0;
        for partition in 0..3 {
            let partition = TopicPartition::new(factum::Topic::of("accounts"), partition);
            let marks = running.broker().watermarks(&partition).await.unwrap();
            published += marks.end - marks.first;
        }
        published
    };
    for to in [0, 1, 7, 13, 19] {
        until("the relay is at the end", async || {
            source.store().relay().await.unwrap().checkpoint.position == Position(20)
        })
        .await;
        let before = published().await;
        let set_back = source.operator().rewind_relay(Position(to), &by()).await;
        assert_eq!(set_back.unwrap().position, Position(to));
        until("they are published again", async || {
            published().await == before + 20 - to
        })
        .await;
    }
    deposit(&running, "a", 5).await;
    until("it goes on", async || {
        amounts(&running, "a").await == [1, 2, 3, 4, 5]
    })
    .await;
    assert_eq!(amounts(&running, "b").await, expected);
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(incidents(&running), []);
    let error = source.operator().rewind_relay(Position(21), &by()).await;
    assert!(error.unwrap_err().is_poison());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_loss_that_is_accepted_is_left_out_and_what_the_log_still_holds_behind_it_comes() {
    let (_, running) = after_a_loss(4).await;
    let incident = until_raised(&running).await;
    let operator = running.service("receipts").unwrap().operator();
    let accepted = Accepted {
        inbox: incident.inbox.clone(),
        source: incident.source,
        from: incident.expected,
    };
    let without = operator
        .accept_loss(&accepted, &By::new("local", " "))
        .await;
    assert!(without.unwrap_err().to_string().contains("needs a reason"));
    let mut unknown = accepted.clone();
    unknown.inbox.partition = 77;
    assert!(operator.accept_loss(&unknown, &by()).await.is_err());

    operator.accept_loss(&accepted, &by()).await.unwrap();
    let source = running.service("accounts").unwrap().operator();
    let to = incident.expected.position;
    source.rewind_relay(to, &by()).await.unwrap();

    until("what is behind comes", async || {
        amounts(&running, "a").await == [4]
    })
    .await;
    until("the incident is over", async || {
        incidents(&running).is_empty()
    })
    .await;
    deposit(&running, "a", 5).await;
    until("it goes on", async || {
        amounts(&running, "a").await == [4, 5]
    })
    .await;
    let again = operator.accept_loss(&accepted, &by()).await;
    assert!(again.unwrap_err().is_poison(), "it has come further");
    let audit = operator.audit(None, 1).await.unwrap();
    assert_eq!(audit[0].entry.action, "accept-loss");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_loss_that_is_accepted_up_to_the_last_message_goes_on_with_the_next() {
    let (_, running) = after_a_loss(5).await;
    let incident = until_raised(&running).await;
    let operator = running.service("receipts").unwrap().operator();
    let accepted = Accepted {
        inbox: incident.inbox.clone(),
        source: incident.source,
        from: incident.latest,
    };
    operator.accept_loss(&accepted, &by()).await.unwrap();
    deposit(&running, "a", 5).await;
    until("it goes on", async || amounts(&running, "a").await == [5]).await;
    assert_eq!(incidents(&running), []);
    running.stop().await;
}

/// It went wrong: a row kept each source that was ever seen, and was written whole with each commit.
#[tokio::test(start_paused = true)]
async fn a_source_too_many_is_an_incident_until_another_is_retired() {
    let world = World::new(6);
    let _time = follow_time(&world.env);
    let running = world.start().await;
    let env = world.env.env();
    let sources: Vec<_> = (0..SOURCES_MAX).map(|_| StoreId(env.uuid())).collect();
    for partition in 0..3 {
        let message = |source: &StoreId| Outgoing {
            topic: Topic::of("accounts"),
            partition,
            key: None,
            headers: Link {
                source: *source,
                at: At::new(1, 1),
                previous: At::ZERO,
            }
            .to_headers()
            .into_iter()
            .collect(),
            value: Some("{}".into()),
            timestamp: env.now(),
        };
        let mut producer = running.broker().producer().await.unwrap();
        let batch = (0..).zip(sources.iter().map(message)).collect();
        producer.send(batch).await.unwrap();
    }
    let receipts = running.service("receipts").unwrap();
    until("all are known", async || {
        let rows = receipts.store().inboxes().await.unwrap();
        rows.len() == 3
            && rows
                .iter()
                .all(|(_, row)| row.lasts.iter().count() == SOURCES_MAX)
    })
    .await;
    deposit(&running, "a", 1).await;
    let incident = until_raised(&running).await;
    assert!(incident.crowded);
    let Some(Status::Degraded(reason)) = status(receipts.health(), &part(&incident)) else {
        panic!("{:?}", receipts.health().parts());
    };
    assert!(reason.contains("Retire one"), "{reason}");

    let operator = receipts.operator();
    let retired = operator
        .retire_source(&incident.inbox, sources[7], &by())
        .await;
    assert_eq!(retired.unwrap(), At::new(1, 1));
    let again = operator
        .retire_source(&incident.inbox, sources[7], &by())
        .await;
    assert!(again.unwrap_err().is_poison());
    assert_eq!(
        operator.audit(None, 1).await.unwrap()[0].entry.action,
        "retire-source"
    );
    let accounts = running.service("accounts").unwrap().operator();
    accounts.rewind_relay(Position(0), &by()).await.unwrap();
    until("it is taken", async || amounts(&running, "a").await == [1]).await;
    until("the incident is over", async || {
        incidents(&running).is_empty()
    })
    .await;
    running.stop().await;
}
