//! Lists over all services: whatever the page, together they are the whole, and nothing is shown twice.

use serde_json::{Value, json};

use crate::fleet::{Client, Fleet};

/// All rows of a list, read in pages of `limit`.
async fn paged(client: &Client, path: &str, rows: &str, cursor: &str, limit: usize) -> Vec<Value> {
    let mut all = Vec::new();
    let mut place = String::new();
    loop {
        let page = client.get(&format!("{path}?limit={limit}{place}")).await;
        let page = page.is(200);
        let found = page[rows].as_array().unwrap();
        assert!(found.len() <= limit, "{page}");
        all.extend(found.iter().cloned());
        match page["next"].as_str() {
            Some(next) => place = format!("&{cursor}={next}"),
            None => return all,
        }
        assert!(!found.is_empty(), "{path}: an empty page with a next one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_over_all_services_are_the_whole_whatever_their_size() {
    let fleet = Fleet::start().await;
    let client = &fleet.client;
    for number in 0..4 {
        let kim = json!({ "name": "Kim", "email": "kim@example.org" });
        client.post("/users", &kim).await.is(201);
        let sku = format!("/stock/tea-{number}/receive");
        client.post(&sku, &json!({ "qty": 9 })).await.is(202);
        // Foreign orders that nobody can read: dead letters of four groups in three services.
        let message = json!({ "key": format!("k-{number}"), "value_base64": "/9j/4AAQ" });
        client
            .post("/admin/topics/orders/messages", &message)
            .await
            .is(201);
        for service in ["stock", "order", "users"] {
            let path = format!("/admin/services/{service}/stop");
            client
                .post(&path, &json!({ "reason": format!("{number}") }))
                .await
                .is(200);
            let path = format!("/admin/services/{service}/start");
            client.post(&path, &json!({})).await.is(200);
        }
    }
    // Quiet but for the dead: what is listed changes no more.
    client
        .until("/invariants", |found| {
            found["standing"]
                .as_str()
                .is_some_and(|standing| standing.contains("dead letters"))
        })
        .await;
    for (path, rows, cursor) in [
        ("/admin/streams", "streams", "after"),
        ("/admin/parked", "parked", "after"),
        ("/admin/audit", "entries", "before"),
    ] {
        let whole = client.get(&format!("{path}?limit=500")).await.is(200)[rows].clone();
        let whole = whole.as_array().unwrap();
        assert!(whole.len() > 12, "{path}: {}", whole.len());
        for limit in [1, 2, 3, 7, whole.len() - 1, whole.len()] {
            let pages = paged(client, path, rows, cursor, limit).await;
            assert_eq!(pages, *whole, "{path} in pages of {limit}");
        }
    }
    let counted = client.get("/admin/parked?limit=1").await;
    let counts = counted.is(200)["counts"].as_array().unwrap().clone();
    let services: std::collections::BTreeSet<_> = counts
        .iter()
        .map(|one| one["service"].to_string())
        .collect();
    assert!(
        services.len() >= 3,
        "a page of one still counts all: {services:?}"
    );

    // A group is one service's, whichever that is.
    let parked = async |query: &str| {
        let page = client.get(&format!("/admin/parked?limit=500{query}")).await;
        page.is(200)["parked"].as_array().unwrap().clone()
    };
    let all = parked("").await;
    for group in ["notification-service", "stock-imports"] {
        let its = |one: &&Value| one["group"] == group;
        let its: Vec<_> = all.iter().filter(its).cloned().collect();
        assert!(!its.is_empty(), "{group} in {all:?}");
        assert_eq!(parked(&format!("&group={group}")).await, its);
    }
    client.get("/admin/parked?group=nobodys").await.is(422);
    let redriven = json!({ "group": "stock-imports" });
    client
        .post("/admin/parked/redrive", &redriven)
        .await
        .is(200);
    let redriven = json!({ "group": "nobodys" });
    client
        .post("/admin/parked/redrive", &redriven)
        .await
        .is(422);

    for path in [
        "/admin/audit?limit=0",
        "/admin/parked?after=nonsense",
        "/admin/streams?limit=501",
    ] {
        client.get(path).await.is(422);
    }
    let groups = client.get("/admin/consumers").await.is(200)["groups"].clone();
    let named = |name: &str| {
        let all = groups.as_array().unwrap().iter();
        all.filter(|one| one["group"] == name).count()
    };
    for group in [
        "payment-service",
        "query-imports",
        "stock-imports",
        "notification-service",
    ] {
        assert_eq!(named(group), 1, "{group} in {groups}");
    }
    let services = client.get("/admin/services").await.is(200)["services"].clone();
    assert_eq!(services.as_array().unwrap().len(), 6, "{services}");
    fleet.stop().await;
}
