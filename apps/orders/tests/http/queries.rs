//! Queries: what is shown, how fresh, and page by page.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::json;

use crate::shop::{Shop, order};

#[tokio::test(flavor = "multi_thread")]
async fn a_query_with_the_token_of_a_command_shows_what_it_did() {
    let shop = Shop::open().await;
    let kim = shop.register("Kim").await;
    for _ in 0..20 {
        let placed = shop.post("/orders", &order(&kim, "unheard-of", 1)).await;
        placed.is(201);
        let token = placed.token.clone().unwrap();
        let path = format!("/orders/{}", placed.id("order_id"));
        shop.send(
            shop.request(Method::GET, &path)
                .header("Factum-Token", &token),
        )
        .await
        .is(200);
    }
    // In another service: the registry's token, asked of the orders, waits for their import of users.
    let answer = shop
        .post(
            "/users",
            &json!({ "name": "Lee", "email": "lee@example.org" }),
        )
        .await;
    let path = format!("/users/{}/orders", answer.id("user_id"));
    let token = answer.token.unwrap();
    shop.send(
        shop.request(Method::GET, &path)
            .header("Factum-Token", &token),
    )
    .await
    .is(200);
    for wrong in ["nonsense", "ft1.AAAA", &"x".repeat(5_000)] {
        let request = shop
            .request(Method::GET, &path)
            .header("Factum-Token", wrong);
        shop.send(request).await.refuses(422, "Factum-Token");
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_orders_come_newest_first_twenty_a_page_and_by_status() {
    let shop = Shop::open().await;
    let (kim, lee) = (shop.register("Kim").await, shop.register("Lee").await);
    shop.receive("tea", 100).await;
    let mut placed = Vec::new();
    for number in 0..23 {
        let mut body = order(&kim, "tea", 1);
        body["card"] = json!(if number < 3 {
            "card:declined"
        } else {
            "card:ok"
        });
        let answer = shop.post("/orders", &body).await;
        answer.is(201);
        placed.push(answer.id("order_id"));
    }
    shop.post("/orders", &order(&lee, "tea", 1)).await.is(201);
    shop.must_be_whole().await;
    let path = format!("/users/{kim}/orders");
    let first = shop.get(&path).await;
    let second = shop.get(&format!("{path}?page=2")).await;
    assert_eq!(
        (&first.is(200)["next_page"], second.is(200).get("next_page")),
        (&json!(2), None)
    );
    let pages = [&first.body["orders"], &second.body["orders"]];
    let ids: Vec<_> = pages
        .iter()
        .flat_map(|page| page.as_array().unwrap())
        .map(|one| one["order_id"].as_str().unwrap())
        .collect();
    assert_eq!(pages[0].as_array().unwrap().len(), 20);
    placed.reverse();
    assert_eq!(ids, placed);
    assert_eq!(first.body["orders"][0]["user"]["email"], "kim@example.org");

    let cancelled = shop.get(&format!("{path}?status=cancelled")).await;
    let cancelled: BTreeSet<_> = cancelled.is(200)["orders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["order_id"].as_str().unwrap())
        .collect();
    assert_eq!(cancelled, placed[20..].iter().map(String::as_str).collect());
    assert_eq!(
        shop.get(&format!("{path}?page=3")).await.is(200)["orders"],
        json!([])
    );
    assert_eq!(
        shop.get("/users/nobody/orders").await.is(200)["orders"],
        json!([])
    );
    for (query, field) in [
        ("page=0", "page"),
        ("page=1001", "page"),
        ("page=x", "page"),
        ("status=sad", "status"),
        ("size=9", "size"),
    ] {
        shop.get(&format!("{path}?{query}"))
            .await
            .refuses(422, field);
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orders_history_has_its_state_at_any_version() {
    let shop = Shop::open().await;
    let kim = shop.register("Kim").await;
    shop.receive("tea", 10).await;
    let placed = shop.post("/orders", &order(&kim, "tea", 1)).await;
    placed.is(201);
    let id = placed.id("order_id");
    shop.until_status(&id, "confirmed").await;
    let path = format!("/orders/{id}/history");
    let whole = shop.get(&path).await;
    let types: Vec<_> = whole.is(200)["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["OrderCreated", "OrderPaid", "OrderConfirmed"]);
    assert_eq!(
        (&whole.body["last_version"], &whole.body["state"]["status"]),
        (&json!(3), &json!("confirmed"))
    );
    for (version, status) in [(1, "created"), (2, "paid"), (3, "confirmed")] {
        let then = shop.get(&format!("{path}?version={version}")).await;
        assert_eq!(then.is(200)["state"]["status"], status);
        assert_eq!(then.body["events"].as_array().unwrap().len(), version);
    }
    for version in ["0", "4", "-1", "x"] {
        shop.get(&format!("{path}?version={version}"))
            .await
            .refuses(422, "version");
    }
    shop.get("/orders/none/history").await.is(404);
    shop.get("/orders/none").await.is(404);
    shop.get(&format!("/orders/{}", "x".repeat(2_000)))
        .await
        .is(404);
    shop.get("/users/none").await.is(404);
    shop.get("/stock/none").await.is(404);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_found_by_words_where_the_views_can() {
    let shop = Shop::in_memory().await;
    let (kim, lee) = (shop.register("Kim").await, shop.register("Lee").await);
    shop.receive("tea", 100).await;
    shop.receive("pot", 100).await;
    let mut placed = Vec::new();
    for (user, sku) in [(&kim, "tea"), (&lee, "tea"), (&kim, "pot"), (&kim, "tea")] {
        let answer = shop.post("/orders", &order(user, sku, 1)).await;
        answer.is(201);
        placed.push(answer.id("order_id"));
    }
    shop.must_be_whole().await;
    let found = async |query: &str| {
        let answer = shop.get(&format!("/orders/search?{query}")).await;
        let orders = answer.is(200)["orders"].as_array().unwrap();
        assert!(orders.iter().all(|one| one["user"]["name"].is_string()));
        let ids = orders.iter().map(|one| {
            let id = one["order_id"].as_str();
            placed
                .iter()
                .position(|placed| Some(&**placed) == id)
                .unwrap()
        });
        ids.collect::<Vec<_>>()
    };
    assert_eq!(
        found(&format!("q=TEA%20{kim}")).await,
        [3, 0],
        "newest first"
    );
    assert_eq!(found("q=TEA").await, [3, 1, 0]);
    assert_eq!(found(&format!("q={}", placed[2])).await, [2]);
    assert_eq!(found("q=tea%20pot").await, Vec::<usize>::new());
    assert_eq!(found("q=tea&page=2").await, Vec::<usize>::new());
    for (query, field) in [("page=1", "q"), ("q=", "q"), ("q=tea&page=0", "page")] {
        shop.get(&format!("/orders/search?{query}"))
            .await
            .refuses(422, field);
    }
    shop.close().await;

    let shop = Shop::open().await;
    let answer = shop.get("/orders/search?q=tea").await;
    let problem = answer.is(501);
    assert_eq!(problem["type"], "urn:factum:problem:no-full-text");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("OpenSearch"), "{detail}");
    shop.close().await;
}
