//! What nobody knows any more is dropped, and nothing else.

use factum_core::{Epoch, Query, Timestamp};

use crate::{
    shelf::{LOOK_EVERY, Owner, WAIT_MAX, view, views},
    support::{Place, redis_at},
};

fn keys(place: &Place) -> Vec<String> {
    let mut keys: Vec<String> = redis::cmd("KEYS")
        .arg(format!("{}:*orders*", place.prefix))
        .query(&mut redis_at(&place.url))
        .expect("keys are listed");
    keys.sort();
    keys
}

async fn until(condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(WAIT_MAX, met)
        .await
        .expect("it comes to that before long");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_epoch_drops_the_rows_of_those_before_it() {
    let Some(place) = Place::new() else { return };
    let process = place.process().await;
    let mut owner = Owner::claim(&process.store, 1).await.expect("it is free");
    owner.count_one("a").await.expect("it is ours");
    let old = keys(&place);
    assert_eq!(old.len(), 5, "{old:?}");
    // Another store's keys, which look alike.
    let mut other = Place::on(&place.url);
    other.prefix.clone_from(&place.prefix);
    let stranger = other.process().await;
    let mut theirs = Owner::claim(&stranger.store, 1).await.expect("it is free");
    theirs.count_one("a").await.expect("it is theirs");
    let epoch = Epoch(process.store.identity().epoch.0 + 1);
    let opened = process
        .store
        .open_epoch(epoch, Timestamp::UNIX_EPOCH, "a test");
    opened.await.expect("an epoch can be opened");
    let mut owner = Owner::claim(&process.store, 1).await.expect("it is free");
    owner.count_one("b").await.expect("it is ours");
    until(|| keys(&place).iter().all(|key| !old.contains(key))).await;
    let count = views(&*process.store)
        .count(&view(), Some(1), &Query::all(), 10)
        .await;
    assert_eq!(count.expect("rows are counted"), 1);
    theirs.count_one("a").await.expect("it is still theirs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_whose_state_was_lost_are_dropped_when_it_is_made_anew() {
    let Some(place) = Place::new() else { return };
    let process = place.process().await;
    let mut owner = Owner::claim(&process.store, 7).await.expect("it is free");
    owner.count_one("a").await.expect("it is ours");
    let old = keys(&place);
    let state = &old[0];
    redis::cmd("DEL")
        .arg(state)
        .exec(&mut redis_at(&place.url))
        .expect("it can be deleted");
    let mut owner = Owner::claim(&process.store, 1).await.expect("it is free");
    owner.count_one("b").await.expect("it is ours");
    until(|| keys(&place).len() == 5).await;
    assert!(
        keys(&place)
            .iter()
            .all(|key| key == state || !old.contains(key))
    );
    owner.count_one("b").await.expect("what is known stays");
}
