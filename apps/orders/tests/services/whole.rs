//! The whole, as a client meets it: as if it were one process.

use orders::platform::Role;
use serde_json::{Value, json};

use crate::fleet::{Fleet, orders};

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_is_played_on_services_apart_as_on_one_platform() {
    let fleet = Fleet::start().await;
    for _ in 0..2 {
        let shown = orders(&["demo"], fleet.client.url().to_owned()).await;
        for wanted in [
            "2. An order goes well",
            "6. Payment is stopped",
            "8. Poison that is good for nothing",
            "every order has come to exactly one end",
        ] {
            assert!(shown.contains(wanted), "no {wanted:?} in:\n{shown}");
        }
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_is_taken_by_services_apart_and_nothing_is_broken() {
    let fleet = Fleet::start().await;
    let load = &["load", "--rate", "40", "--for", "1s", "--format", "json"];
    let summary: Value =
        serde_json::from_str(&orders(load, fleet.client.url().to_owned()).await).unwrap();
    assert_eq!(
        (&summary["orders"], &summary["failed"], &summary["broken"]),
        (&json!(40), &json!(0), &json!([])),
        "{summary}"
    );
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_did_is_seen_at_once_by_who_carries_its_token() {
    let fleet = Fleet::start().await;
    let client = &fleet.client;
    for number in 0..20 {
        let kim = json!({ "name": format!("Kim {number}"), "email": "kim@example.org" });
        let kim = client.post("/users", &kim).await;
        let user = kim.is(201)["user_id"].as_str().unwrap().to_owned();
        let token = |answer: &crate::fleet::Answer| answer.token.clone().unwrap();
        let fresh = async |path: String, token: String| {
            let headers = [("factum-token", token.as_str())];
            client
                .ask(reqwest::Method::GET, &path, &headers, None)
                .await
        };
        let seen = fresh(format!("/users/{user}"), token(&kim)).await;
        assert_eq!(seen.is(200)["name"], format!("Kim {number}"));
        // Nobody waits until the order service has heard of the user: it does.
        let order = json!({ "user_id": user, "items": [{ "sku": "tea", "qty": 1, "price": 5 }] });
        let placed = client.post("/orders", &order).await;
        let id = placed.is(201)["order_id"].as_str().unwrap().to_owned();
        let seen = fresh(format!("/orders/{id}"), token(&placed)).await;
        assert_eq!(seen.is(200)["order_id"], id.as_str());
        let page = fresh(format!("/users/{user}/orders"), token(&placed)).await;
        assert_eq!(page.is(200)["orders"][0]["order_id"], id.as_str());
        let received = client
            .post("/stock/tea/receive", &json!({ "qty": 5 }))
            .await;
        received.is(202);
        let shelf = fresh("/stock/tea".into(), token(&received)).await;
        assert!(shelf.is(200)["on_hand"].as_u64() >= Some(5), "{shelf:?}");
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_somebody_who_is_not_registered_is_refused() {
    let fleet = Fleet::start().await;
    let order = json!({ "user_id": "nobody", "items": [{ "sku": "tea", "qty": 1, "price": 5 }] });
    let refused = fleet.client.post("/orders", &order).await;
    assert_eq!(refused.is(422)["errors"][0]["field"], "user_id");
    fleet.stop().await;
}

/// A role with several processes answers as long as one of them does; one that has none says so, and names it.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_gone_is_passed_over_and_a_role_that_is_gone_is_named() {
    let fleet = Fleet::start().await;
    let client = &fleet.client;
    fleet.of(Role::Payment)[0].stop().await;
    for _ in 0..4 {
        client.get("/faults").await.is(200);
    }
    fleet.of(Role::Stock)[0].stop().await;
    let refused = client
        .post("/stock/tea/receive", &json!({ "qty": 1 }))
        .await;
    refused.is(503);
    for path in ["/admin/parked", "/admin/projections?service=stock"] {
        let refused = client.get(path).await;
        let detail = refused.is(503)["detail"].as_str().unwrap_or_default();
        assert!(detail.contains("`stock`"), "{path}: {refused:?}");
    }
    // What the others have to say is said on.
    client.get("/admin/parked?service=order").await.is(200);
    client.get("/users/nobody").await.is(404);
    fleet.stop().await;
}
