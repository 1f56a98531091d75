//! Faults on demand: set at the one address, met by whom they are for.

use orders::platform::Role;
use serde_json::json;

use crate::fleet::{Client, Fleet};

#[tokio::test(flavor = "multi_thread")]
async fn faults_reach_the_processes_that_meet_them_and_are_shown_as_those_have_them() {
    let fleet = Fleet::start().await;
    let client = &fleet.client;
    let body = json!({ "gateway_down": true, "advice_hidden": true, "flaky_tries": 7, "reason": "a test" });
    let shown = client.post("/faults", &body).await;
    let expected = json!({
        "gateway_down": true, "notifier_down": false, "advice_hidden": true, "flaky_tries": 7,
    });
    assert_eq!(*shown.is(200), expected);
    assert_eq!(*client.get("/faults").await.is(200), expected);
    // Advice is each order process's own; the firms are the same to all.
    for process in fleet.of(Role::Order) {
        let own = Client::of(&process.url).get("/faults").await;
        assert_eq!(own.is(200)["advice_hidden"], true);
    }
    for process in fleet.of(Role::Payment) {
        let own = Client::of(&process.url).get("/faults").await;
        assert_eq!(own.is(200)["gateway_down"], true);
    }
    let audit = client.get("/admin/audit?service=payment").await;
    let first = audit.is(200)["entries"][0].clone();
    assert_eq!(
        (&first["action"], &first["reason"]),
        (&json!("set-fault"), &json!("a test"))
    );

    // An order waits for the gateway, and is paid when it answers again.
    let kim = json!({ "name": "Kim", "email": "kim@example.org" });
    let kim = client.post("/users", &kim).await.is(201)["user_id"].clone();
    client
        .post("/stock/tea/receive", &json!({ "qty": 9 }))
        .await
        .is(202);
    let order = json!({ "user_id": kim, "items": [{ "sku": "tea", "qty": 1, "price": 500 }] });
    let placed = client.post("/orders", &order).await.is(201).clone();
    let parked = client
        .until("/admin/parked?service=payment", |list| {
            list["parked"].as_array().is_some_and(|all| !all.is_empty())
        })
        .await;
    let why = parked["parked"][0]["failure"]["message"].to_string();
    assert!(why.contains("switched off"), "{why}");
    client
        .post("/faults", &json!({ "gateway_down": false }))
        .await
        .is(200);
    // It may have died meanwhile: redriven, it goes through.
    let path = format!("/orders/{}", placed["order_id"].as_str().unwrap());
    client
        .post("/admin/parked/redrive", &json!({ "all": true }))
        .await
        .is(200);
    client
        .until(&path, |order| order["status"] == "confirmed")
        .await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_a_process_never_meets_is_refused_there() {
    let fleet = Fleet::start().await;
    let stock = Client::of(&fleet.of(Role::Stock)[0].url);
    let refused = stock
        .post("/faults", &json!({ "gateway_down": true }))
        .await;
    let error = &refused.is(422)["errors"][0];
    assert_eq!(error["field"], "gateway_down");
    assert!(error["detail"].to_string().contains("`payment`"), "{error}");
    // What is no fault at all is refused by whoever speaks for all, before anybody is asked.
    let refused = fleet
        .client
        .post("/faults", &json!({ "gateway": true }))
        .await;
    assert_eq!(refused.is(422)["errors"][0]["field"], "gateway");
    fleet.stop().await;
}
