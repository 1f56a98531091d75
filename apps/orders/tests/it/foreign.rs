//! Messages of producers in other languages: each service works alone on what they say.

use orders::platform::Role;
use serde_json::{Value, json};

use crate::harness::{Fixture, until};

/// The least that a producer says.
pub(crate) fn message(event_type: &str, event_id: &str, data: &Value) -> Value {
    json!({ "event_type": event_type, "event_id": event_id, "timestamp": "2026-03-02T10:00:00.123456", "data": data })
}

fn order(event_id: &str, order_id: &str) -> Value {
    let items = json!([{ "name": "tea", "qty": 2, "price": 600 }]);
    let data = json!({ "order_id": order_id, "user_id": "u-9", "items": items, "total": 1200 });
    message("OrderCreated", event_id, &data)
}

#[tokio::test(start_paused = true)]
async fn a_minimal_order_of_version_1_is_charged_in_won_reserved_and_told() {
    let fixture = Fixture::new().await;
    fixture.publish("orders", "u-9", &order("f-1", "F-1")).await;
    fixture.settle().await;
    let charges = fixture.platform.outside().gateway.charges().unwrap();
    assert_eq!(charges.len(), 1);
    assert_eq!(
        (charges[0].amount, charges[0].currency.to_string()),
        (1200, "KRW".to_string())
    );
    assert_eq!(
        fixture.events(Role::Stock, "reservation", "F-1").await,
        ["StockReserved"]
    );
    assert_eq!(fixture.told("F-1"), ["your order is confirmed"]);
    assert_eq!(
        fixture.status("F-1").await,
        None,
        "the order service never took it"
    );
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_foreign_order_without_stock_is_refunded() {
    let fixture = Fixture::new().await;
    let mut order = order("f-1", "F-1");
    order["data"]["items"][0]["qty"] = json!(11);
    fixture.publish("orders", "u-9", &order).await;
    fixture.settle().await;
    assert_eq!(
        fixture.platform.outside().gateway.refunds().unwrap().len(),
        1
    );
    assert_eq!(
        fixture.events(Role::Stock, "reservation", "F-1").await,
        ["StockRejected"]
    );
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_said_twice_is_charged_once() {
    let fixture = Fixture::new().await;
    // The same message twice; and the same order under another id.
    for event_id in ["f-1", "f-1", "f-2"] {
        fixture
            .publish("orders", "u-9", &order(event_id, "F-1"))
            .await;
    }
    fixture.settle().await;
    assert_eq!(
        fixture.platform.outside().gateway.charges().unwrap().len(),
        1
    );
    assert_eq!(fixture.told("F-1"), ["your order is confirmed"]);
    let audit = fixture
        .platform
        .service(Role::Payment)
        .operator()
        .audit(None, 10)
        .await
        .unwrap();
    assert_eq!(
        audit
            .iter()
            .filter(|audited| audited.entry.action == "skip")
            .count(),
        1,
        "{audit:?}"
    );
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_order_without_an_id_is_the_one_that_its_envelope_names() {
    let fixture = Fixture::new().await;
    let mut order = order("f-1", "");
    order["data"].as_object_mut().unwrap().remove("order_id");
    order["aggregate_id"] = json!("F-7");
    fixture.publish("orders", "u-9", &order).await;
    fixture.settle().await;
    assert_eq!(
        fixture.events(Role::Stock, "reservation", "F-7").await,
        ["StockReserved"]
    );
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_order_that_nothing_names_is_a_dead_letter_of_each_group_that_needs_to_know() {
    let fixture = Fixture::new().await;
    let mut nameless = order("f-1", "");
    nameless["data"].as_object_mut().unwrap().remove("order_id");
    fixture.publish("orders", "u-9", &nameless).await;
    // Payment, and stock's import.
    assert_eq!(fixture.settle_with_dead().await, 2);
    let parked = fixture.platform.service(Role::Payment).operator();
    let parked = parked
        .parked(&factum::ParkedFilter::default(), 10)
        .await
        .unwrap();
    let failure = parked[0].failure.as_ref().unwrap();
    assert!(
        failure.message.contains("the event names no order"),
        "{}",
        failure.message
    );
    // Others flow on.
    fixture.publish("orders", "u-8", &order("f-2", "F-2")).await;
    until(1, async || fixture.told("F-2").len()).await;
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_payment_without_items_waits_until_stock_knows_the_order() {
    let fixture = Fixture::new().await;
    let paid = json!({ "order_id": "F-1", "amount": 1200 });
    fixture
        .publish(
            "payments",
            "F-1",
            &message("PaymentCompleted", "f-1", &paid),
        )
        .await;
    until(true, async || {
        fixture
            .platform
            .quiet()
            .await
            .unwrap()
            .to_string()
            .contains("again")
    })
    .await;
    assert!(
        fixture
            .events(Role::Stock, "reservation", "F-1")
            .await
            .is_empty()
    );
    // Payment already made: it must not be charged again, so it is to be paid by hand.
    let mut order = order("f-2", "F-1");
    order["data"]["payment"] = json!("manual");
    fixture.publish("orders", "u-9", &order).await;
    fixture.settle().await;
    assert_eq!(
        fixture.events(Role::Stock, "reservation", "F-1").await,
        ["StockReserved"]
    );
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_json_is_a_dead_letter_and_its_key_alone_waits() {
    let fixture = Fixture::new().await;
    fixture
        .publish("orders", "u-9", &json!("not an envelope"))
        .await;
    fixture.publish("orders", "u-9", &order("f-1", "F-1")).await;
    fixture.publish("orders", "u-8", &order("f-2", "F-2")).await;
    until(1, async || fixture.told("F-2").len()).await;
    assert!(fixture.settle_with_dead().await > 0);
    assert!(
        fixture.told("F-1").is_empty(),
        "it waits behind the dead letter of its key"
    );

    give_up(&fixture).await;
    fixture.settle().await;
    assert_eq!(fixture.told("F-1"), ["your order is confirmed"]);
    fixture.stop().await;
}

/// Discards all that is dead.
async fn give_up(fixture: &Fixture) {
    let by = factum::By::new("local", "it is good for nothing");
    for service in fixture.platform.running().services() {
        let operator = service.operator();
        let dead = factum::ParkedFilter {
            state: Some(factum::ParkedState::Dead),
            ..Default::default()
        };
        for parked in operator.parked(&dead, 100).await.unwrap() {
            operator
                .discard(&parked.id, parked.revision, &by)
                .await
                .unwrap();
        }
    }
}

/// Money was charged for these. Then payment could not say so, or stock not hear it; with the message discarded, nobody
/// was left to give it back.
#[tokio::test(start_paused = true)]
async fn an_order_that_can_never_be_served_is_not_charged() {
    let long = |length: usize| "x".repeat(length);
    let mut all = Vec::new();
    for id in [String::new(), "a\u{0}b".into(), long(513)] {
        let mut bad = order("", "F");
        bad["data"]["order_id"] = json!(id);
        all.push(bad);
        let mut bad = order("", "F");
        bad["data"].as_object_mut().unwrap().remove("order_id");
        bad["aggregate_id"] = json!(id);
        all.push(bad);
        let mut bad = order("", "F");
        bad["data"]["user_id"] = json!(id);
        all.push(bad);
    }
    for name in [String::new(), "a\nb".into(), long(600)] {
        let mut bad = order("", "F");
        bad["data"]["items"][0]["name"] = json!(name);
        all.push(bad);
    }
    let line = |name: String| json!({ "name": name, "qty": 1, "price": 1 });
    for (lines, name) in [
        (7_000, long(100)),
        (1_001, "tea".into()),
        (1_000, "\"".repeat(128)),
    ] {
        let mut bad = order("", "F");
        bad["data"]["items"] = json!(vec![line(name); lines]);
        all.push(bad);
    }
    let mut bad = order("", "F");
    bad["data"]["items"][0] = json!({ "sku": "tea", "name": long(800_000), "qty": 1, "price": 1 });
    all.push(bad);
    let mut bad = order("", "F");
    bad["data"]["order_id"] = json!("F-note");
    bad["note"] = json!(long(800_000));
    all.push(bad);

    let fixture = Fixture::new().await;
    for (number, bad) in all.iter_mut().enumerate() {
        bad["event_id"] = json!(format!("f-{number}"));
        let key = format!("k-{number}");
        fixture.publish("orders", &key, bad).await;
    }
    let dead = fixture.settle_with_dead().await;
    assert!(dead >= all.len() as u64, "{dead} of {}", all.len());
    assert_eq!(fixture.charges(), 0);
    give_up(&fixture).await;
    fixture.settle().await;
    fixture.stop().await;
}

/// The most that is taken goes all the way.
#[tokio::test(start_paused = true)]
async fn an_order_of_many_things_is_refunded_when_one_of_them_does_not_exist() {
    let fixture = Fixture::new().await;
    let lines = |name: &str| {
        let line = |number| json!({ "name": format!("{name}-{number}"), "qty": 1, "price": 1 });
        (0..1_000).map(line).collect::<Vec<_>>()
    };
    let mut unknown = order("f-1", "F-1");
    unknown["data"]["items"] = json!(lines("unknown"));
    unknown["note"] = json!("x".repeat(15_000));
    fixture.publish("orders", "u-9", &unknown).await;
    fixture.settle().await;
    assert_eq!(
        fixture.events(Role::Stock, "reservation", "F-1").await,
        ["StockRejected"]
    );
    let gateway = &fixture.platform.outside().gateway;
    assert_eq!(gateway.refunds().unwrap().len(), 1);
    fixture.stop().await;
}
