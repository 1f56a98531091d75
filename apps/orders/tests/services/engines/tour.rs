//! The tour and the load, from outside, as they are on one platform.

use factum_testkit::engines;

use super::process::{Engines, Platform};
use crate::fleet::{Answer, orders};

/// Plays both, and says what looking for an order by words gives then.
async fn played(engines: Engines) -> Answer {
    let platform = Platform::start(&engines);
    for run in [&["demo"][..], &["load", "--rate", "40", "--for", "3s"]] {
        let played = tokio::spawn(orders(run, platform.client.url().to_owned()));
        assert!(played.await.is_ok(), "{run:?} fails\n{}", platform.logs());
    }
    let found = platform.client.get("/orders/search?q=TEA").await;
    platform.terminate();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_and_the_load_are_played_on_processes_with_rows_in_postgres() {
    let Some(engines) = Engines::of_the_tests() else {
        return;
    };
    played(engines).await.is(501);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_and_the_load_are_played_on_processes_with_rows_in_redis() {
    let Some(engines) = Engines::of_the_tests() else {
        return;
    };
    let views = engines::server("FACTUM_TEST_REDIS");
    if views.is_some() {
        played(Engines { views, ..engines }).await.is(501);
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
        let found = played(Engines { views, ..engines }).await;
        let orders = found.is(200)["orders"].as_array().unwrap();
        assert!(!orders.is_empty(), "the tour has sold tea: {found:?}");
    }
}
