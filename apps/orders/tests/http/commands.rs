//! Commands: what is taken, what is refused, and what is taken once.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::shop::{Shop, order};

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_paid_reserved_shipped_and_its_user_is_told() {
    let shop = Shop::open().await;
    let kim = shop.register("Kim").await;
    shop.receive("tea", 10).await;
    let placed = shop.post("/orders", &order(&kim, "tea", 2)).await;
    let body = placed.is(201);
    assert_eq!(
        (&body["status"], &body["total_amount"], &body["currency"]),
        (&json!("created"), &json!(1000), &json!("KRW"))
    );
    let id = placed.id("order_id");
    assert_eq!(placed.location, Some(format!("/orders/{id}")));
    shop.until_status(&id, "confirmed").await;
    shop.post(&format!("/orders/{id}/ship"), &json!({ "tracking": "1Z" }))
        .await
        .is(202);
    let shipped = shop.until_status(&id, "shipped").await;
    assert_eq!(
        (&shipped["tracking"], &shipped["user"]["name"]),
        (&json!("1Z"), &json!("Kim"))
    );
    shop.until("/stock/tea", |shelf| {
        shelf["on_hand"] == 8 && shelf["reserved"] == 0
    })
    .await;
    shop.must_be_whole().await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_gives_the_same_answer_and_no_second_order() {
    let shop = Shop::open().await;
    let kim = shop.register("Kim").await;
    shop.receive("tea", 2).await;
    let body = order(&kim, "tea", 2);
    let first = shop.post_keyed("/orders", "k-1", &body).await;
    let (first_id, first_body) = (first.id("order_id"), first.is(201).clone());
    // The shelf is empty by now, so that the same order under another key would be refused.
    shop.until_status(&first_id, "confirmed").await;
    let again = shop.post_keyed("/orders", "k-1", &body).await;
    assert_eq!(*again.is(201), first_body);
    assert!(again.replayed && !first.replayed);
    assert!(again.token.is_some());
    shop.post_keyed("/orders", "k-1", &order(&kim, "tea", 1))
        .await
        .refuses(422, "Idempotency-Key");
    let orders = shop.get(&format!("/users/{kim}/orders")).await;
    assert_eq!(orders.is(200)["orders"].as_array().unwrap().len(), 1);
    for key in ["", &"k".repeat(201)] {
        shop.post_keyed("/orders", key, &body)
            .await
            .refuses(422, "Idempotency-Key");
    }
    shop.close().await;
}

/// Keys were everybody's: who sent what another had sent, under the same key, got the other's answer.
#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_is_its_senders_own() {
    let (ada, bob) = ("0123456789abcdef-ada", "0123456789abcdef-bob");
    let shop = Shop::with_tokens(&[&format!("ada={ada}"), &format!("bob={bob}")]).await;
    let post = async |who: &str, path: &str, body: &Value| {
        let request = shop.request(Method::POST, path).bearer_auth(who);
        let request = request.header("Idempotency-Key", "1").json(body);
        shop.send(request).await
    };
    let kim = json!({ "name": "Kim", "email": "kim@example.org" });
    let kim = post(ada, "/users", &kim).await.id("user_id");
    let body = order(&kim, "unheard-of", 1);
    let first = post(ada, "/orders", &body).await.id("order_id");
    let other = post(bob, "/orders", &body).await;
    assert!(
        !other.replayed && other.id("order_id") != first,
        "{other:?}"
    );
    let again = post(ada, "/orders", &body).await;
    assert!(again.replayed && again.id("order_id") == first, "{again:?}");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_sent_many_times_at_once_is_one_order() {
    let shop = Shop::open().await;
    let kim = shop.register("Kim").await;
    let body = order(&kim, "unheard-of", 1);
    let sent = (0..8).map(|_| shop.post_keyed("/orders", "same", &body));
    let answers = futures_util::future::join_all(sent).await;
    for answer in &answers {
        assert_eq!(answer.is(201), answers[0].is(201));
    }
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plainly_short_stock_is_refused_at_once_and_hidden_shortage_is_refunded() {
    let shop = Shop::open().await;
    let kim = shop.register("Kim").await;
    shop.receive("rare", 3).await;
    let body = json!({ "user_id": kim, "items": [
        { "sku": "other", "qty": 1, "price": 1 }, { "sku": "rare", "qty": 4, "price": 500 },
    ] });
    // The order service hears of the shelf in its own time, and takes what it doesn't know of.
    let refused = loop {
        let answer = shop.post("/orders", &body).await;
        if answer.status != 201 {
            break answer;
        }
    };
    refused.refuses(409, "items[1].qty");
    shop.post("/faults", &json!({ "advice_hidden": true }))
        .await
        .is(200);
    let placed = shop.post("/orders", &body).await;
    placed.is(201);
    let cancelled = shop.until_status(&placed.id("order_id"), "cancelled").await;
    assert!(
        cancelled["cancel_reason"]
            .as_str()
            .is_some_and(|reason| !reason.is_empty()),
        "{cancelled}"
    );
    shop.must_be_whole().await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_paid_by_hand_waits_for_it() {
    let shop = Shop::open().await;
    let kim = shop.register("Kim").await;
    shop.receive("tea", 10).await;
    let mut body = order(&kim, "tea", 1);
    body["payment"] = json!("manual");
    let placed = shop.post("/orders", &body).await;
    placed.is(201);
    let path = format!("/orders/{}", placed.id("order_id"));
    shop.post(&format!("{path}/ship"), &json!({ "tracking": "1Z" }))
        .await
        .is(409);
    shop.send(shop.request(Method::POST, &format!("{path}/pay")))
        .await
        .is(202);
    shop.until_status(&placed.id("order_id"), "confirmed").await;
    let again = shop
        .post(&format!("{path}/pay"), &json!({ "card": "card:ok" }))
        .await;
    assert_eq!(again.is(409)["type"], "urn:factum:problem:wrong-status");
    shop.post(
        &format!("{path}/cancel"),
        &json!({ "reason": "changed my mind" }),
    )
    .await
    .is(202);
    shop.until_status(&placed.id("order_id"), "cancelled").await;
    shop.until("/stock/tea", |shelf| shelf["reserved"] == 0)
        .await;
    shop.must_be_whole().await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_request_names_the_field() {
    let shop = Shop::open().await;
    let kim = shop.register("Kim").await;
    let with = |change: fn(&mut Value)| {
        let mut body = order(&kim, "tea", 1);
        change(&mut body);
        body
    };
    for (body, field) in [
        (
            with(|body| body["items"][0]["qty"] = json!(0)),
            "items[0].qty",
        ),
        (
            with(|body| body["items"][0]["qty"] = json!(-1)),
            "items[0].qty",
        ),
        (
            with(|body| body["items"][0]["qty"] = json!(1.5)),
            "items[0].qty",
        ),
        (
            with(|body| body["items"][0]["price"] = json!(u64::MAX)),
            "items[0].price",
        ),
        (
            with(|body| body["items"][0]["sku"] = json!("x".repeat(300))),
            "items[0].sku",
        ),
        (
            with(|body| body["items"][0]["sku"] = json!("\u{0}")),
            "items[0].sku",
        ),
        (
            with(|body| body["items"][0]["sku"] = Value::Null),
            "items[0].sku",
        ),
        (with(|body| body["items"] = json!([])), "items"),
        (with(|body| body["items"] = json!("tea")), "items"),
        (
            with(|body| body["items"][0] = json!(["tea", null, 1, 500])),
            "items[0]",
        ),
        (
            with(|body| {
                body["items"] = json!(vec![json!({ "sku": "a", "qty": 1, "price": 1 }); 101]);
            }),
            "items",
        ),
        (with(|body| body["currency"] = json!("won")), "currency"),
        (with(|body| body["card"] = json!("x".repeat(101))), "card"),
        (with(|body| body["payment"] = json!("later")), "payment"),
        (with(|body| body["colour"] = json!("red")), "colour"),
        (with(|body| body["user_id"] = json!("nobody")), "user_id"),
        (
            with(|body| body["user_id"] = json!("x".repeat(10_000))),
            "user_id",
        ),
        (with(|body| body["user_id"] = json!("")), "user_id"),
    ] {
        shop.post("/orders", &body).await.refuses(422, field);
    }
    for (body, field) in [
        (json!(["Kim", "kim@example.org"]), "body"),
        (json!({ "name": "Kim" }), "email"),
        (json!({ "name": "Kim", "email": "kim" }), "email"),
        (json!({ "name": " ", "email": "kim@example.org" }), "name"),
    ] {
        shop.post("/users", &body).await.refuses(422, field);
    }
    shop.post("/stock/tea/receive", &json!({ "qty": 0 }))
        .await
        .refuses(422, "qty");
    shop.post("/stock/tea/receive", &json!({ "qty": u64::MAX }))
        .await
        .refuses(422, "qty");
    shop.post("/faults", &json!({ "flaky_tries": 101 }))
        .await
        .refuses(422, "flaky_tries");
    for path in [
        "/orders/none/ship",
        "/orders/none/pay",
        "/orders/none/cancel",
    ] {
        shop.post(
            path,
            &if path.ends_with("ship") {
                json!({ "tracking": "1Z" })
            } else {
                json!({})
            },
        )
        .await
        .is(404);
    }
    shop.close().await;
}

/// A customer was told one field at a time, in the words of the language that this is written in: "missing field `qty`
/// at line 1 column 7".
#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_wrong_with_a_request_is_named_at_once_in_the_words_of_the_api() {
    let shop = Shop::open().await;
    let told = async |path: &str, body: Value| {
        let answer = shop.post_keyed(path, "no key", &body).await;
        let errors = answer.is(422)["errors"].as_array().unwrap().iter();
        let errors = errors.map(|one| {
            let text = |name: &str| one[name].as_str().unwrap().to_owned();
            format!("{} {}", text("field"), text("detail"))
        });
        errors.collect::<BTreeSet<_>>()
    };
    let order = json!({
        "items": [{ "price": -1 }, { "sku": "tea", "qty": "two", "price": 1, "colour": "red" }],
        "currency": "won", "payment": "later", "card": " ",
    });
    let wrong = told("/orders", order).await;
    assert_eq!(
        wrong.iter().collect::<Vec<_>>(),
        [
            "Idempotency-Key must be 1 to 200 visible ASCII characters",
            "card must have 1 to 100 printable characters",
            "currency must be three capital letters, such as `KRW`",
            "items[0].price must be a whole number from 0 to 1000000000000",
            "items[0].qty is missing",
            "items[0].sku is missing: one of `sku` and `name` is needed",
            "items[1].colour is not known here (known: `name`, `price`, `qty`, `sku`)",
            "items[1].qty must be a whole number from 1 to 4294967295",
            "payment must be `auto` or `manual`",
            "user_id is missing",
        ]
    );
    let wrong = told("/stock/%00/receive", json!({ "qty": 0 })).await;
    assert_eq!(
        wrong.iter().collect::<Vec<_>>(),
        [
            "Idempotency-Key must be 1 to 200 visible ASCII characters",
            "qty must be a whole number from 1 to 1000000000",
            "sku must have 1 to 128 printable characters",
        ]
    );
    let wrong = told("/users", json!({ "name": "", "email": "kim" })).await;
    assert_eq!(
        wrong.iter().skip(1).collect::<Vec<_>>(),
        [
            "email must be an e-mail address, such as `kim@example.org`",
            "name must have 1 to 200 printable characters",
        ]
    );
    shop.close().await;
}

/// What was put out of order left nothing in the audit record.
#[tokio::test(flavor = "multi_thread")]
async fn who_puts_something_out_of_order_is_on_record() {
    let shop = Shop::open().await;
    let faults = json!({ "gateway_down": true, "flaky_tries": 3, "reason": "a rehearsal" });
    shop.post("/faults", &faults).await.is(200);
    let back = json!({ "gateway_down": false });
    shop.post("/faults", &back).await.is(200);
    let audit = shop.get("/admin/audit").await;
    let entries: Vec<_> = audit.is(200)["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let text = |field: &str| entry[field].as_str().unwrap().to_owned();
            [
                text("service"),
                text("actor"),
                text("action"),
                text("subject"),
                text("reason"),
            ]
            .join(" ")
        })
        .collect();
    assert_eq!(
        entries,
        [
            "payment local set-fault gateway_down=false ",
            "payment local set-fault flaky_tries=3 a rehearsal",
            "payment local set-fault gateway_down=true a rehearsal",
        ]
    );
    shop.close().await;
}
