//! Each service alone: the other four are stopped, and producers in other languages say what they would have said, in
//! the least words that the contract asks for.

use factum::{Query, Topic, TopicPartition};
use orders::{
    contracts::{Currency, OrderId, PaymentMode, UserId},
    order::{LEVELS, OrderCommand, PlaceOrder, Status},
    payment::PAYMENTS,
    platform::Role,
    users::{RegisterUser, USERS, User},
};
use serde_json::{Value, json};

use crate::{
    foreign::message,
    harness::{Fixture, tea, until},
};

/// What another producer says, one after another.
struct Foreign {
    fixture: Fixture,
    said: usize,
}

impl Foreign {
    /// A platform of which one service runs.
    async fn beside(role: Role) -> Self {
        let fixture = Fixture::new().await;
        for other in Role::ALL.into_iter().filter(|other| *other != role) {
            fixture.platform.service(other).stop().await;
            assert!(!fixture.platform.service(other).is_running(), "{other}");
        }
        Self { fixture, said: 0 }
    }

    async fn says(&mut self, topic: &'static str, key: &str, event_type: &str, data: Value) {
        self.said += 1;
        let event_id = format!("f-{}", self.said);
        let message = message(event_type, &event_id, &data);
        self.fixture.publish(topic, key, &message).await;
    }

    /// Waits until this is all that a log of the service says of something.
    async fn logs(&self, role: Role, stream: (&str, &str), expected: &[&str]) {
        let (category, id) = stream;
        let expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
        until(expected, async || {
            self.fixture.events(role, category, id).await
        })
        .await;
    }
}

fn items() -> Value {
    json!([{ "name": "tea", "qty": 2, "price": 600 }])
}

#[tokio::test(start_paused = true)]
async fn the_order_service_alone_brings_its_orders_to_an_end_by_what_others_say() {
    let mut foreign = Foreign::beside(Role::Order).await;
    for order in ["o-1", "o-2", "o-3"] {
        let place = OrderCommand::Place(PlaceOrder {
            order_id: OrderId::of(order),
            user_id: UserId::of("u-7"),
            items: tea(2),
            currency: Currency::won(),
            payment: PaymentMode::Auto,
            card: None,
        });
        foreign.fixture.order(order, place).await;
    }
    let user = json!({ "user_id": "u-7", "name": "Lee", "email": "lee@example.org" });
    foreign.says("users", "u-7", "UserRegistered", user).await;
    let received = json!({ "sku": "cup", "qty": 3, "available": 3 });
    foreign.says("stock", "cup", "ItemReceived", received).await;
    let paid = json!({ "order_id": "o-1", "amount": 1200 });
    foreign
        .says("payments", "o-1", "PaymentCompleted", paid)
        .await;
    let reserved = json!({ "order_id": "o-1" });
    foreign
        .says("stock", "o-1", "StockReserved", reserved)
        .await;
    let failed = json!({ "order_id": "o-2", "reason": "no money" });
    foreign
        .says("payments", "o-2", "PaymentFailed", failed)
        .await;
    let rejected = json!({ "order_id": "o-3", "reason": "no tea" });
    foreign
        .says("stock", "o-3", "StockRejected", rejected)
        .await;

    let row = async |order: &'static str| {
        let row = foreign.fixture.row(order, None).await?;
        let buyer = foreign.fixture.buyer(row.user_id.as_str()).await?;
        Some((row.status, buyer.name, row.cancel_reason))
    };
    let of_lee = |status, reason| Some((status, "Lee".to_string(), reason));
    until(of_lee(Status::Confirmed, None), async || row("o-1").await).await;
    let reason = Some("payment failed: no money".into());
    until(of_lee(Status::Cancelled, reason), async || row("o-2").await).await;
    let reason = Some("out of stock: no tea".into());
    until(of_lee(Status::Cancelled, reason), async || row("o-3").await).await;
    foreign
        .logs(
            Role::Order,
            ("order", "o-1"),
            &["OrderCreated", "OrderPaid", "OrderConfirmed"],
        )
        .await;
    let queries = foreign.fixture.platform.queries(Role::Order);
    until(Some(3), async || {
        let cups = queries.get(LEVELS, "cup", None).await.unwrap().value;
        cups.map(|cups| cups.available)
    })
    .await;
    foreign.fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_payment_service_alone_charges_and_gives_back_by_what_others_say() {
    let mut foreign = Foreign::beside(Role::Payment).await;
    let order = |order: &str, payment: &str| {
        json!({
            "order_id": order, "user_id": "u-9", "items": items(), "total": 1200, "payment": payment,
        })
    };
    for (id, payment) in [
        ("F-1", "auto"),
        ("F-2", "auto"),
        ("F-3", "manual"),
        ("F-4", "auto"),
    ] {
        foreign
            .says("orders", "u-9", "OrderCreated", order(id, payment))
            .await;
    }
    let mut request = order("F-3", "manual");
    request["currency"] = json!("KRW");
    request.as_object_mut().unwrap().remove("payment");
    foreign
        .says("orders", "u-9", "OrderPaymentRequested", request)
        .await;
    let cancelled = json!({ "order_id": "F-1", "reason": "changed my mind" });
    foreign
        .says("orders", "u-9", "OrderCancelled", cancelled)
        .await;
    foreign
        .logs(Role::Payment, ("payment", "F-2"), &["PaymentCompleted"])
        .await;
    let rejected = json!({ "order_id": "F-2", "reason": "no tea" });
    foreign
        .says("stock", "F-2", "StockRejected", rejected)
        .await;

    for order in ["F-1", "F-2"] {
        foreign
            .logs(
                Role::Payment,
                ("payment", order),
                &["PaymentCompleted", "RefundRequested", "PaymentRefunded"],
            )
            .await;
    }
    for order in ["F-3", "F-4"] {
        foreign
            .logs(Role::Payment, ("payment", order), &["PaymentCompleted"])
            .await;
    }
    let gateway = &foreign.fixture.platform.outside().gateway;
    assert_eq!(gateway.charges().unwrap().len(), 4);
    assert_eq!(gateway.refunds().unwrap().len(), 2);
    let queries = foreign.fixture.platform.queries(Role::Payment);
    until(4, async || {
        let count = queries.count(PAYMENTS, &Query::all(), 100, None).await;
        count.unwrap().value
    })
    .await;
    foreign.fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_stock_service_alone_reserves_puts_back_and_takes_away_by_what_others_say() {
    let mut foreign = Foreign::beside(Role::Stock).await;
    let paid = |order: &str, items: Option<Value>| match items {
        Some(items) => json!({ "order_id": order, "amount": 1200, "items": items }),
        None => json!({ "order_id": order, "amount": 1200 }),
    };
    // One says what was paid for, one names an order that is known, and one asks for more than there is.
    let order = json!({ "order_id": "F-2", "user_id": "u-9", "items": items(), "total": 1200 });
    foreign.says("orders", "u-9", "OrderCreated", order).await;
    let much = json!([{ "name": "tea", "qty": 11, "price": 600 }]);
    for (id, items) in [("F-1", Some(items())), ("F-2", None), ("F-3", Some(much))] {
        foreign
            .says("payments", id, "PaymentCompleted", paid(id, items))
            .await;
    }
    let reservation = |id| ("reservation", id);
    foreign
        .logs(Role::Stock, reservation("F-1"), &["StockReserved"])
        .await;
    foreign
        .logs(Role::Stock, reservation("F-2"), &["StockReserved"])
        .await;
    foreign
        .logs(Role::Stock, reservation("F-3"), &["StockRejected"])
        .await;
    let cancelled = json!({ "order_id": "F-1", "reason": "changed my mind" });
    foreign
        .says("orders", "u-9", "OrderCancelled", cancelled)
        .await;
    let shipped = json!({ "order_id": "F-2", "tracking": "T-1" });
    foreign.says("orders", "u-9", "OrderShipped", shipped).await;

    foreign
        .logs(
            Role::Stock,
            reservation("F-1"),
            &["StockReserved", "StockReleased"],
        )
        .await;
    foreign
        .logs(
            Role::Stock,
            reservation("F-2"),
            &["StockReserved", "StockTaken"],
        )
        .await;
    until((8, 0, 8), async || {
        let shelf = foreign.fixture.shelf("tea").await.unwrap();
        (shelf.on_hand, shelf.reserved, shelf.available)
    })
    .await;
    foreign.fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_notification_service_alone_tells_what_others_say() {
    let mut foreign = Foreign::beside(Role::Notification).await;
    let order = |order: &str, more: Value| {
        let mut data = json!({ "order_id": order });
        let more = more.as_object().unwrap().clone();
        data.as_object_mut().unwrap().extend(more);
        data
    };
    for (topic, event_type, id, more, told) in [
        (
            "stock",
            "StockReserved",
            "F-1",
            json!({}),
            "your order is confirmed",
        ),
        (
            "stock",
            "StockRejected",
            "F-2",
            json!({ "reason": "no tea" }),
            "your order can't be fulfilled: no tea",
        ),
        (
            "payments",
            "PaymentFailed",
            "F-3",
            json!({ "reason": "no money" }),
            "your payment failed: no money",
        ),
        (
            "payments",
            "PaymentRefunded",
            "F-4",
            json!({ "amount": 1200 }),
            "your money is on its way back: 1200 KRW",
        ),
        (
            "orders",
            "OrderShipped",
            "F-5",
            json!({ "tracking": "T-1" }),
            "your order is on its way: T-1",
        ),
        (
            "orders",
            "OrderCancelled",
            "F-6",
            json!({ "reason": "why not" }),
            "your order was cancelled: why not",
        ),
    ] {
        foreign
            .says(topic, "u-9", event_type, order(id, more))
            .await;
        until(vec![told.to_string()], async || foreign.fixture.told(id)).await;
    }
    let store = foreign.fixture.platform.service(Role::Notification).store();
    until(6, async || {
        let category = factum::Category::of("notification");
        store
            .streams(Some(&category), None, 100)
            .await
            .unwrap()
            .len()
    })
    .await;
    foreign.fixture.stop().await;
}

/// It reads nothing, so others may be silent: it takes its commands, answers its queries, and says what it has to say.
#[tokio::test(start_paused = true)]
async fn the_user_registry_alone_registers_users_answers_for_them_and_says_so() {
    let foreign = Foreign::beside(Role::Users).await;
    let platform = &foreign.fixture.platform;
    let lee = RegisterUser {
        user_id: UserId::of("u-7"),
        name: "Lee".into(),
        email: "lee@example.org".into(),
    };
    let commands = platform.commands(Role::Users);
    let registered = commands
        .execute::<User>(&UserId::of("u-7"), lee)
        .await
        .unwrap();
    let queries = platform.queries(Role::Users);
    let found = queries.get(USERS, "u-7", Some(&registered.token)).await;
    assert_eq!(found.unwrap().value.unwrap().name, "Lee");
    foreign
        .logs(Role::Users, ("user", "u-7"), &["UserRegistered"])
        .await;
    // With `u-1`, who was there before.
    until(2, async || {
        let mut messages = 0;
        for partition in 0..8 {
            let partition = TopicPartition::new(Topic::of("users"), partition);
            let marks = platform.running().broker().watermarks(&partition).await;
            messages += marks.unwrap().end;
        }
        messages
    })
    .await;
    foreign.fixture.stop().await;
}
