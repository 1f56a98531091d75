//! Stalls: a process and its database hear nothing of each other for a while, and neither of them knows.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    customers::Customers,
    deaths::until_confirmed,
    process::{Engines, Platform},
    proxy::{Proxy, Way},
};

/// How long nothing is said at least: longer than the server waits within a transaction (3 s), and than a process has a
/// lease without a sign of life (5 s).
const STALL_MIN: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_connections_stall_is_passed_over_and_does_nothing_twice_when_they_flow_again()
 {
    let Some(engines) = Engines::of_the_tests() else {
        return;
    };
    let proxy = Proxy::to(&engines.store).await;
    // One process of each two.
    let store = |index: usize| match index {
        1 | 2 => proxy.url.clone(),
        _ => engines.store.clone(),
    };
    let platform = Platform::start_on(&engines, store);
    let mut customers = Customers::of(&platform).await;
    customers.begin();
    customers.more(30).await;
    for ways in [
        &[Way::Asked][..],
        &[Way::Answered],
        &[Way::Asked, Way::Answered],
    ] {
        let stalled = Instant::now();
        proxy.stall(ways);
        // Until the others do all that these did.
        let orders = customers.order_once().await;
        until_confirmed(&platform, &orders).await;
        sleep(STALL_MIN.saturating_sub(stalled.elapsed())).await;
        proxy.mend();
        customers.more(20).await;
    }
    customers.rest(&platform).await;
    customers.look(&platform).await;
    for (_, process) in &platform.services {
        let health = process.client();
        health
            .until("/health", |health| health["status"] == "ok")
            .await;
    }
    platform.terminate();
}
