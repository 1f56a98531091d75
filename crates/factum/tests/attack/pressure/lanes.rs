//! A slow key and a quick one in the same partition: the quick one does not wait, as long as what the slow one has to do
//! is within what is looked at ahead.

use std::{sync::Arc, time::Duration};

use factum::AHEAD_MAX;

use super::{
    App, AtomicU64, Data, GroupSpec, Ordering, SESSION, Semaphore, Service, Take, Tap, Topic,
    TopicSpec, fall, ids_of, until,
};
use crate::data::PATIENCE;

/// A drop of the slow key, then so many of the quick one, and so on: together as many as are looked at ahead.
const QUICK_FOR_EACH: u64 = 7;
const SLOW: u64 = AHEAD_MAX / (QUICK_FOR_EACH + 1);
const QUICK: u64 = SLOW * QUICK_FOR_EACH;

/// How long a group is watched that can't do it: what never happens is as sure after a moment as after a minute.
const MOMENT: Duration = Duration::from_secs(1);

/// Whether all drops of a quick key are taken, within so long, while the first of a slow one in the same partition is
/// still being taken.
async fn passes_by(concurrency: usize, patience: Duration) -> bool {
    let data = Data::new();
    let mut ids = ids_of(0);
    let (slow, quick) = (ids.next().unwrap(), ids.next().unwrap());
    let count = || Arc::new(AtomicU64::default());
    let (pace, slow_done, quick_done, out_of_order) =
        (Arc::new(Semaphore::new(0)), count(), count(), count());
    let take = Take {
        slow,
        pace: pace.clone(),
        slow_done: slow_done.clone(),
        others_done: quick_done.clone(),
        out_of_order: out_of_order.clone(),
    };
    let group = GroupSpec::new("slow").on(take).session(SESSION);
    let taps = Service::new("taps")
        .aggregate::<Tap>()
        .topic(TopicSpec::new(Topic::of("drops"), 2))
        .group(group.concurrency(concurrency));
    let running = App::new(data.env.clone(), data.broker().await)
        .service_on(data.store("taps").await, taps)
        .start()
        .await
        .unwrap();
    for _ in 0..SLOW {
        fall(&running, slow).await;
        for _ in 0..QUICK_FOR_EACH {
            fall(&running, quick).await;
        }
    }
    let all = until("the quick key is taken", async || {
        quick_done.load(Ordering::SeqCst) == QUICK
    });
    let passed = if patience == PATIENCE {
        all.await;
        true
    } else {
        tokio::time::timeout(patience, all).await.is_ok()
    };
    assert_eq!(slow_done.load(Ordering::SeqCst), 0);

    // The slow one catches up by itself as soon as it can, in order.
    pace.add_permits(usize::try_from(SLOW).unwrap());
    until("both are taken", async || {
        let done = (
            slow_done.load(Ordering::SeqCst),
            quick_done.load(Ordering::SeqCst),
        );
        done == (SLOW, QUICK)
    })
    .await;
    assert_eq!(out_of_order.load(Ordering::SeqCst), 0);
    running.stop().await;
    passed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_quick_key_is_not_held_up_by_a_slow_one_in_the_same_partition() {
    assert!(passes_by(2, PATIENCE).await);
}

/// Where only one message runs at a time, the quick key waits for the slow one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_partition_that_runs_one_message_at_a_time_holds_the_quick_key_up() {
    assert!(!passes_by(1, MOMENT).await);
}
