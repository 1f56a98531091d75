//! Partitions of which retention took what a group was to read next: the others flow, and an operator lets it go on.

use std::{cell::Cell, sync::atomic::Ordering, time::Duration};

use factum::{
    By, InboxId, Key, Parked, ParkedFilter, Position, Room, Running, Status, TopicPartition,
    Watermarks,
};

use crate::{
    bank::status,
    world::{World, amounts, deposit, follow_time, until},
};

const HOUR: Duration = Duration::from_hours(1);

/// Two accounts of one partition, and one of another.
fn accounts() -> (String, String, String) {
    let partition = |name: &String| Key::from(name.as_str()).partition(3);
    let names: Vec<_> = (0..20).map(|number| format!("account-{number}")).collect();
    let first = &names[0];
    let of = |same: bool| {
        let mut others = names[1..].iter();
        others.find(|name| (partition(name) == partition(first)) == same)
    };
    let (beside, elsewhere) = (of(true).unwrap(), of(false).unwrap());
    (first.clone(), beside.clone(), elsewhere.clone())
}

fn by() -> By {
    By::new("local", "the topic keeps an hour only")
}

/// A world whose topics keep an hour, and whose lanes have room for one parked message.
fn world(seed: u64) -> World {
    World {
        retention: Some(HOUR),
        room: Room {
            lane_max: 1,
            ..Room::default()
        },
        ..World::new(seed)
    }
}

async fn parked(running: &Running) -> Vec<Parked> {
    let store = running.service("receipts").unwrap().store();
    store.parked(&ParkedFilter::default(), 100).await.unwrap()
}

async fn marks(running: &Running, inbox: &InboxId) -> Watermarks {
    let partition = TopicPartition::new(inbox.topic.clone(), inbox.partition);
    running.broker().watermarks(&partition).await.unwrap()
}

/// Has retention take all that was published so far.
async fn forget(world: &World, running: &Running, inbox: &InboxId) {
    let count = running.service("accounts").unwrap().store();
    let head = count.head().await.unwrap();
    until("all is published", async || {
        count.relay().await.unwrap().checkpoint == head
    })
    .await;
    world.env.advance(2 * HOUR);
    running.broker().sweep(world.env.env().now()).await.unwrap();
    let marks = marks(running, inbox).await;
    assert_eq!(marks.first, marks.end, "all is gone");
}

fn partition_status(running: &Running, inbox: &InboxId) -> Option<Status> {
    let part = format!(
        "receipts/group/{}/{}/{}",
        inbox.group, inbox.topic, inbox.partition
    );
    status(running.service("receipts").unwrap().health(), &part)
}

async fn until_failed(running: &Running, inbox: &InboxId) {
    until("a person is called", async || {
        matches!(partition_status(running, inbox), Some(Status::Failed(_)))
    })
    .await;
}

async fn redrive(running: &Running) {
    let operator = running.service("receipts").unwrap().operator();
    let dead = &parked(running).await[0];
    operator
        .redrive(&dead.id, dead.revision, &by())
        .await
        .unwrap();
}

/// Has everything behind `to` published again.
async fn publish_again(running: &Running, to: u64) {
    let operator = running.service("accounts").unwrap().operator();
    operator.rewind_relay(Position(to), &by()).await.unwrap();
}

/// It went wrong: the whole group ended.
#[tokio::test(start_paused = true)]
async fn retention_that_overtakes_a_paused_partition_stops_no_other_and_an_operator_lets_it_go_on()
{
    // More than an owner and its buffer hold, so that the partition is paused in the middle.
    const MANY: u64 = 3_000;
    let world = world(61);
    let _time = follow_time(&world.env);
    let running = world.start().await;
    let (name, _, elsewhere) = accounts();
    deposit(&running, &name, 66).await;
    until("a dead letter", async || parked(&running).await.len() == 1).await;
    let inbox = parked(&running).await[0].id.inbox.clone();
    let deposits = (1..=MANY).map(|amount| deposit(&running, &name, 1_000 + amount));
    futures_util::future::join_all(deposits).await;
    until("it is full", async || {
        matches!(
            partition_status(&running, &inbox),
            Some(Status::Degraded(_))
        )
    })
    .await;
    forget(&world, &running, &inbox).await;

    world.mended.store(1, Ordering::SeqCst);
    redrive(&running).await;

    until_failed(&running, &inbox).await;
    deposit(&running, &elsewhere, 7).await;
    until("the others flow", async || {
        amounts(&running, &elsewhere).await == [7]
    })
    .await;
    let service = running.service("receipts").unwrap();
    let store = service.store();
    let low = Cell::new(0);
    until("what it had in memory is finished", async || {
        let before = low.replace(store.inbox(&inbox).await.unwrap().unwrap().low);
        low.get() == before && parked(&running).await.is_empty()
    })
    .await;
    let taken = amounts(&running, &name).await;
    assert!(
        taken.len() > 1_000 && taken.len() < 3_000,
        "{}",
        taken.len()
    );

    let at = marks(&running, &inbox).await.first;
    let stood = service.operator().go_on(&inbox, at, &by()).await.unwrap();
    assert_eq!(stood, low.get());
    until("it is well", async || {
        partition_status(&running, &inbox) == Some(Status::Running)
    })
    .await;
    publish_again(&running, 0).await;

    let expected: Vec<_> = [66]
        .into_iter()
        .chain((1..=MANY).map(|n| 1_000 + n))
        .collect();
    until("all is taken, each once", async || {
        amounts(&running, &name).await.len() as u64 > MANY
    })
    .await;
    assert_eq!(amounts(&running, &name).await, expected);
    assert_eq!(amounts(&running, &elsewhere).await, [7]);
    running.stop().await;
}

/// It went wrong: after a restart nothing could move the group on, and what was parked was never tried.
#[tokio::test(start_paused = true)]
async fn a_restart_before_what_retention_took_retries_what_is_parked_and_an_operator_lets_it_go_on()
{
    let world = world(62);
    let _time = follow_time(&world.env);
    let mut running = world.start().await;
    let (name, _, elsewhere) = accounts();
    deposit(&running, &name, 66).await;
    until("a dead letter", async || parked(&running).await.len() == 1).await;
    let inbox = parked(&running).await[0].id.inbox.clone();
    running.service("receipts").unwrap().stop().await;
    for amount in 1..=3 {
        deposit(&running, &name, amount).await;
    }
    forget(&world, &running, &inbox).await;

    for _ in 0..2 {
        running.stop().await;
        drop(running);
        running = world.start().await;
        until_failed(&running, &inbox).await;
    }
    deposit(&running, &elsewhere, 7).await;
    until("the others flow", async || {
        amounts(&running, &elsewhere).await == [7]
    })
    .await;
    world.mended.store(1, Ordering::SeqCst);
    redrive(&running).await;
    until("what is parked is tried", async || {
        parked(&running).await.is_empty() && amounts(&running, &name).await == [66]
    })
    .await;

    let operator = running.service("receipts").unwrap().operator();
    let at = marks(&running, &inbox).await.first;
    let without = operator.go_on(&inbox, at, &By::new("local", " ")).await;
    assert!(without.unwrap_err().to_string().contains("needs a reason"));
    for elsewhere in [at - 1, at + 1] {
        let refused = operator.go_on(&inbox, elsewhere, &by()).await;
        assert!(refused.unwrap_err().is_poison(), "{elsewhere}");
    }
    let unknown = InboxId {
        partition: 77,
        ..inbox.clone()
    };
    assert!(
        operator
            .go_on(&unknown, at, &by())
            .await
            .unwrap_err()
            .is_poison()
    );
    assert_eq!(operator.go_on(&inbox, at, &by()).await.unwrap(), 1);
    let again = operator.go_on(&inbox, at, &by()).await;
    assert!(
        again.unwrap_err().is_poison(),
        "nothing is missing any more"
    );
    let audit = operator.audit(None, 1).await.unwrap();
    assert_eq!(
        (&*audit[0].entry.action, audit[0].entry.subject.clone()),
        ("go-on", format!("{inbox} from offset 1 at {at}"))
    );
    until("it is well", async || {
        partition_status(&running, &inbox) == Some(Status::Running)
    })
    .await;
    publish_again(&running, 1).await;
    deposit(&running, &name, 4).await;
    until("what was gone comes again", async || {
        amounts(&running, &name).await == [66, 1, 2, 3, 4]
    })
    .await;
    running.stop().await;
    drop(running);
    let running = world.start().await;
    deposit(&running, &name, 5).await;
    until("it goes on after a restart", async || {
        amounts(&running, &name).await == [66, 1, 2, 3, 4, 5]
    })
    .await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_finished_out_of_order_before_it_was_gone_is_not_done_twice() {
    let world = world(63);
    let _time = follow_time(&world.env);
    let running = world.start().await;
    let (name, beside, _) = accounts();
    deposit(&running, &name, 66).await;
    until("a dead letter", async || parked(&running).await.len() == 1).await;
    let inbox = parked(&running).await[0].id.inbox.clone();
    // There is no room for this one, and the next is finished before it.
    deposit(&running, &name, 1).await;
    deposit(&running, &beside, 5).await;
    until("the next is finished", async || {
        amounts(&running, &beside).await == [5]
    })
    .await;
    let receipts = running.service("receipts").unwrap();
    receipts.stop().await;
    forget(&world, &running, &inbox).await;
    deposit(&running, &name, 2).await;
    receipts.start().await;
    until_failed(&running, &inbox).await;
    let row = receipts.store().inbox(&inbox).await.unwrap().unwrap();
    assert_eq!((row.low, row.is_done(1), row.is_done(2)), (1, false, true));

    let operator = receipts.operator();
    let at = marks(&running, &inbox).await.first;
    operator.go_on(&inbox, at, &by()).await.unwrap();
    publish_again(&running, 0).await;
    world.mended.store(1, Ordering::SeqCst);
    redrive(&running).await;

    until("it goes on", async || {
        amounts(&running, &name).await == [66, 2]
    })
    .await;
    deposit(&running, &beside, 6).await;
    until("it goes on beside", async || {
        amounts(&running, &beside).await.contains(&6)
    })
    .await;
    assert_eq!(amounts(&running, &beside).await, [5, 6], "once each");
    running.stop().await;
}
