//! Timers: durable, and fired once.

use bytes::Bytes;
use factum_core::{
    Commit, CommitError, ErrorClass, ExpectedVersion, Fence, Input, Timer, TimerInput, TimerWrite,
    Version,
};

use super::{
    StoreHarness,
    world::{World, at},
};

fn set(id: &str, due: i64) -> TimerWrite {
    TimerWrite::Set {
        id: id.into(),
        due: at(due),
        payload: Bytes::from(format!("payload of {id} at {due}")),
    }
}

async fn write(world: &World, timers: Vec<TimerWrite>) {
    world
        .apply(Commit {
            timers,
            ..world.commit()
        })
        .await;
}

async fn next(world: &World, limit: usize) -> Vec<Timer> {
    world
        .store
        .next_timers(limit)
        .await
        .expect("timers are listed")
}

fn fired(world: &World, fence: Fence, timer: &Timer) -> Commit {
    let input = TimerInput {
        fence,
        id: timer.id.clone(),
        generation: timer.generation,
    };
    Commit {
        input: Input::Timer(input),
        ..world.commit()
    }
}

/// Due or not, the next ones are told, so that their owner knows how long to sleep.
pub async fn timers_come_in_the_order_in_which_they_are_due(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    write(
        &world,
        vec![set("c", 100), set("a", 300), set("b", -5), set("d", 200)],
    )
    .await;
    write(
        &world,
        vec![
            set("a", 50),
            TimerWrite::Cancel { id: "d".into() },
            TimerWrite::Cancel { id: "e".into() },
        ],
    )
    .await;
    let world = world.reopen(harness).await;
    let timers = next(&world, 10).await;
    let shown: Vec<_> = timers
        .iter()
        .map(|timer| (timer.id.as_str(), timer.due))
        .collect();
    assert_eq!(shown, [("b", at(-5)), ("a", at(50)), ("c", at(100))]);
    assert_eq!(timers[1].payload, Bytes::from_static(b"payload of a at 50"));
    assert_eq!(next(&world, 2).await, timers[..2]);
}

/// A timer that has fired is gone.
pub async fn a_timer_fires_once(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    write(&world, vec![set("a", 1), set("b", 2)]).await;
    let fence = world
        .store
        .claim_timers()
        .await
        .expect("timers are claimed");
    let timers = next(&world, 10).await;
    let effect = |commit| Commit {
        appends: vec![world.append("order/1", ExpectedVersion::Any, 1)],
        ..commit
    };
    world.apply(effect(fired(&world, fence, &timers[0]))).await;
    let error = world.refuse(effect(fired(&world, fence, &timers[0]))).await;
    assert!(
        matches!(&error, CommitError::TimerChanged(id) if id == "a"),
        "{error}"
    );
    assert_eq!(error.class(), ErrorClass::Conflict);
    assert_eq!(world.version("order/1").await, Version(1));
    assert_eq!(next(&world, 10).await, timers[1..]);
}

/// A firing decided on an earlier setting does not take the later one, though it was cancelled or fired between.
pub async fn a_timer_set_again_is_another_timer(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let fence = world
        .store
        .claim_timers()
        .await
        .expect("timers are claimed");
    write(&world, vec![set("a", 1)]).await;
    let mut known = next(&world, 1).await;
    for (what, timers) in [
        ("set again", vec![set("a", 1)]),
        (
            "cancelled and set again",
            vec![TimerWrite::Cancel { id: "a".into() }, set("a", 1)],
        ),
    ] {
        write(&world, timers).await;
        let timer = next(&world, 1).await.remove(0);
        assert!(
            timer.generation > known[0].generation,
            "{what}: the generation grows"
        );
        for old in &known {
            let error = world.refuse(fired(&world, fence, old)).await;
            assert!(
                matches!(error, CommitError::TimerChanged(_)),
                "{what}: {error}"
            );
        }
        known.insert(0, timer);
    }
    world.apply(fired(&world, fence, &known[0])).await;
    let world = world.reopen(harness).await;
    write(&world, vec![set("a", 1)]).await;
    let timer = next(&world, 1).await.remove(0);
    assert!(
        timer.generation > known[0].generation,
        "fired and set again: the generation grows"
    );
    let error = world.refuse(fired(&world, fence, &known[0])).await;
    assert!(
        matches!(error, CommitError::TimerChanged(_)),
        "fired and set again: {error}"
    );
    world.apply(fired(&world, fence, &timer)).await;
}

/// A reminder that repeats sets itself again in the commit that it leads to.
pub async fn a_timer_may_be_set_by_what_it_leads_to(harness: &dyn StoreHarness) {
    let world = World::create(harness).await;
    let fence = world
        .store
        .claim_timers()
        .await
        .expect("timers are claimed");
    write(&world, vec![set("a", 1)]).await;
    for round in 2..5 {
        let timer = next(&world, 1).await.remove(0);
        world
            .apply(Commit {
                timers: vec![set("a", round)],
                ..fired(&world, fence, &timer)
            })
            .await;
        let timers = next(&world, 10).await;
        assert_eq!((timers.len(), timers[0].due), (1, at(round)));
        assert!(timers[0].generation > timer.generation);
    }
}
