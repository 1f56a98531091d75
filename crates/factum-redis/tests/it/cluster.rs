//! A cluster: all keys that one script takes are in one slot.

use factum_testkit::conformance::{
    store::StoreHarness,
    views::{outside, paging, queries, random, rows, schema},
};

use crate::{
    server::Server,
    shelf::{LOOK_EVERY, WAIT_MAX},
    suites::OnServer,
    support::Place,
};

/// A node that has all slots takes every call that keeps to one slot, and refuses the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_keeps_to_one_slot() {
    let Some(server) = Server::start(&["--cluster-enabled", "yes"]) else {
        return;
    };
    let mut connection = server.connect();
    redis::cmd("CLUSTER")
        .arg("ADDSLOTSRANGE")
        .arg(0)
        .arg(16_383)
        .exec(&mut connection)
        .expect("the slots are free");
    let ready = async {
        loop {
            let info: String = redis::cmd("CLUSTER")
                .arg("INFO")
                .query(&mut connection)
                .expect("it answers");
            if info.contains("cluster_state:ok") {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(WAIT_MAX, ready)
        .await
        .expect("one node agrees with itself before long");
    let harness = || -> Box<dyn StoreHarness> { Box::new(OnServer::at(Place::on(&server.url()))) };
    random::random_queries_agree_with_a_plain_list(&*harness()).await;
    queries::filters_hold_together(&*harness()).await;
    paging::pages_by_number_hold_every_row_once(&*harness()).await;
    rows::a_delete_leaves_a_tombstone(&*harness()).await;
    schema::readers_see_the_active_generation(&*harness()).await;
    schema::a_generation_that_nobody_sees_is_dropped(&*harness()).await;
    outside::a_generation_goes_on_where_it_was_and_is_forgotten(&*harness()).await;
    outside::a_new_epoch_sees_nothing_of_the_old(&*harness()).await;
}
