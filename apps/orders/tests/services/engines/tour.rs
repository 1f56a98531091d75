//! The tour and the load, from outside, as they are on one platform.

use factum_testkit::engines;

use super::process::{Engines, Platform};
use crate::fleet::orders;

async fn played(engines: Engines) {
    let platform = Platform::start(&engines);
    for run in [&["demo"][..], &["load", "--rate", "40", "--for", "3s"]] {
        let played = tokio::spawn(orders(run, platform.client.url().to_owned()));
        assert!(played.await.is_ok(), "{run:?} fails\n{}", platform.logs());
    }
    platform.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_and_the_load_are_played_on_processes_with_rows_in_postgres() {
    let Some(engines) = Engines::of_the_tests() else {
        return;
    };
    played(engines).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_and_the_load_are_played_on_processes_with_rows_in_redis() {
    let Some(engines) = Engines::of_the_tests() else {
        return;
    };
    let views = engines::server("FACTUM_TEST_REDIS");
    if views.is_some() {
        played(Engines { views, ..engines }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_and_the_load_are_played_on_processes_with_rows_in_opensearch() {
    let Some(engines) = Engines::of_the_tests() else {
        return;
    };
    let views = engines::server("FACTUM_TEST_OPENSEARCH");
    if let Some(views) = views {
        let views = Some(views.replacen("http://", "elasticsearch://", 1));
        played(Engines { views, ..engines }).await;
    }
}
