//! Outages: the database is gone for a while. That is said, waited for, and over when it is over.

use super::{
    customers::Customers,
    process::{Engines, Platform},
    proxy::Proxy,
};
use orders::platform::Role;

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_gone_is_told_in_health_and_waited_for() {
    let Some(engines) = Engines::of_the_tests() else {
        return;
    };
    let proxy = Proxy::to(&engines.store).await;
    let engines = Engines {
        store: proxy.url.clone(),
        ..engines
    };
    let mut platform = Platform::start(&engines);
    let mut customers = Customers::of(&platform).await;
    customers.begin();
    customers.more(20).await;
    let payment = platform.of(Role::Payment)[0].client();
    payment
        .until("/health", |health| health["status"] == "ok")
        .await;
    payment.get("/ready").await.is(200);

    proxy.cut();
    let health = payment
        .until("/health", |health| health["status"] == "degraded")
        .await;
    let parts = health["services"]["payment"].as_array().unwrap();
    let reasons: Vec<_> = parts
        .iter()
        .filter_map(|part| part["reason"].as_str())
        .collect();
    assert!(
        reasons
            .iter()
            .any(|reason| reason.contains("database") || reason.contains("server")),
        "{health}"
    );
    let ready = payment.get("/ready").await;
    ready.is(503);
    payment.get("/metrics").await.is(200);

    proxy.mend();
    payment
        .until("/health", |health| health["status"] == "ok")
        .await;
    payment.get("/ready").await.is(200);
    customers.more(20).await;
    customers.end(&platform).await;
    platform.terminate();
}
