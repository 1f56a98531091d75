//! Deaths: processes are killed and paused in the middle of their work, and others take over or they come back.

use std::time::Duration;

use orders::platform::Role;
use tokio::time::Instant;

use super::{
    customers::{Customers, PATIENCE},
    process::{Engines, Platform},
};

/// How long it may take until others have taken over what a dead process did, which they do within ten seconds, and have
/// brought orders through: ten processes share two cores here.
const THROUGH_MAX: Duration = Duration::from_secs(20);

/// How long a process is paused at least: twice the session of a group (6 s), which is longer than a lease (5 s) and than
/// the server waits within a transaction (3 s). Whatever it had is in other hands then.
const PAUSE_MIN: Duration = Duration::from_secs(12);

/// Waits until all of these orders are through.
pub(crate) async fn until_confirmed(platform: &Platform, orders: &[String]) {
    let confirmed = async {
        for order in orders {
            loop {
                let seen = platform.client.get(&format!("/orders/{order}")).await;
                if seen.status == 200 && seen.body["status"] == "confirmed" {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let confirmed = tokio::time::timeout(PATIENCE, confirmed).await;
    assert!(
        confirmed.is_ok(),
        "orders are not confirmed\n{}",
        platform.logs()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn any_process_may_be_killed_under_load_and_nothing_is_lost_or_done_twice() {
    let Some(engines) = Engines::of_the_tests() else {
        return;
    };
    let mut platform = Platform::start(&engines);
    let mut customers = Customers::of(&platform).await;
    customers.begin();
    customers.more(30).await;
    for index in 0..platform.services.len() {
        platform.services[index].1.kill();
        // A role that has no process left takes no orders: it comes back at once.
        if platform.services[index].0 != Role::Users {
            let is_order = platform.services[index].0 == Role::Order;
            customers.more(if is_order { 10 } else { 30 }).await;
        }
        platform.services[index].1.restart();
        customers.more(10).await;
    }
    for rounds in 0..2 {
        let process = if rounds == 0 {
            &mut platform.front
        } else {
            &mut platform.outside
        };
        process.kill();
        process.restart();
        customers.more(20).await;
    }
    customers.end(&platform).await;
    platform.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_did_is_taken_over_and_orders_are_through_soon() {
    let Some(engines) = Engines::of_the_tests() else {
        return;
    };
    let mut platform = Platform::start(&engines);
    let customers = Customers::of(&platform).await;
    let before = customers.order_once().await;
    until_confirmed(&platform, &before).await;
    // Whichever of the two publishes, keeps up the rows and consumes a partition: each dies once.
    for role in [Role::Payment, Role::Order] {
        for index in 0..2 {
            let killed = Instant::now();
            platform.of(role)[index].kill();
            let orders = customers.order_once().await;
            until_confirmed(&platform, &orders).await;
            let took = killed.elapsed();
            assert!(
                took < THROUGH_MAX,
                "{role} {index}: orders are through after {took:?}\n{}",
                platform.logs()
            );
            platform.of(role)[index].restart();
            let orders = customers.order_once().await;
            until_confirmed(&platform, &orders).await;
        }
    }
    customers.end(&platform).await;
    platform.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_paused_and_wakes_up_does_nothing_twice() {
    let Some(engines) = Engines::of_the_tests() else {
        return;
    };
    let mut platform = Platform::start(&engines);
    let mut customers = Customers::of(&platform).await;
    customers.begin();
    customers.more(30).await;
    for role in [Role::Payment, Role::Order] {
        for index in 0..2 {
            let paused = Instant::now();
            platform.of(role)[index].signal("-STOP");
            // Until others do all that it did, with it in the middle of whatever it was at.
            let orders = customers.order_once().await;
            until_confirmed(&platform, &orders).await;
            tokio::time::sleep(PAUSE_MIN.saturating_sub(paused.elapsed())).await;
            platform.of(role)[index].signal("-CONT");
            customers.more(20).await;
        }
    }
    customers.end(&platform).await;
    platform.terminate();
}
