//! Orders that go well, and orders that don't.

use orders::{
    contracts::{PaymentMode, Sku},
    order::{OrderCommand, Status, by_user},
    platform::Role,
};

use crate::harness::{Fixture, tea, until};

#[tokio::test(start_paused = true)]
async fn an_order_is_paid_reserved_confirmed_and_shipped_and_its_user_is_told() {
    let fixture = Fixture::new().await;
    fixture.place("o-1", tea(3), "card:ok").await;
    fixture.settle().await;
    assert_eq!(
        fixture.history("o-1").await,
        ["OrderCreated", "OrderPaid", "OrderConfirmed"]
    );
    fixture
        .order(
            "o-1",
            OrderCommand::Ship {
                tracking: "T1".into(),
            },
        )
        .await;
    fixture.settle().await;

    let row = fixture.row("o-1", None).await.unwrap();
    assert_eq!(
        (row.status, row.total_amount, row.tracking.as_deref()),
        (Status::Shipped, 1800, Some("T1"))
    );
    let buyer = fixture.buyer(row.user_id.as_str()).await.unwrap();
    assert_eq!((&*buyer.name, &*buyer.email), ("Kim", "kim@example.org"));
    assert_eq!(
        fixture.told("o-1"),
        ["your order is confirmed", "your order is on its way: T1"]
    );
    let shelf = fixture.shelf("tea").await;
    assert_eq!(
        shelf.map(|shelf| (shelf.on_hand, shelf.reserved, shelf.available)),
        Some((7, 0, 7))
    );
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_command_is_seen_by_the_query_that_brings_its_token() {
    let fixture = Fixture::new().await;
    let placed = fixture.place("o-1", tea(1), "card:ok").await;
    assert!(fixture.row("o-1", Some(&placed.token)).await.is_some());
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_declined_card_cancels_the_order() {
    let fixture = Fixture::new().await;
    fixture.place("o-1", tea(3), "card:declined").await;
    fixture.settle().await;
    assert_eq!(
        fixture.history("o-1").await,
        ["OrderCreated", "OrderCancelled"]
    );
    let row = fixture.row("o-1", None).await.unwrap();
    assert_eq!(
        row.cancel_reason.as_deref(),
        Some("payment failed: the card was declined")
    );
    let reason = "payment failed: the card was declined";
    assert_eq!(
        fixture.told("o-1"),
        [
            format!("your order was cancelled: {reason}"),
            "your payment failed: the card was declined".into()
        ]
    );
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn missing_stock_refunds_and_cancels_and_leaves_nothing_put_aside() {
    let fixture = Fixture::new().await;
    fixture.receive("cup", 5).await;
    let mut items = tea(11);
    items.extend(["cup", "pot"].map(|sku| orders::contracts::Item {
        sku: Sku::of(sku),
        name: sku.into(),
        qty: 1,
        price: 100,
    }));
    fixture.place("o-1", items, "card:ok").await;
    fixture.settle().await;

    assert_eq!(fixture.status("o-1").await, Some(Status::Cancelled));
    assert_eq!(
        fixture.events(Role::Payment, "payment", "o-1").await,
        ["PaymentCompleted", "RefundRequested", "PaymentRefunded"]
    );
    let refunds = fixture.platform.outside().gateway.refunds().unwrap();
    assert_eq!(
        refunds
            .iter()
            .map(|refund| refund.amount)
            .collect::<Vec<_>>(),
        [6800]
    );
    let cups = fixture.shelf("cup").await;
    assert_eq!(
        cups.map(|shelf| (shelf.reserved, shelf.available)),
        Some((0, 5))
    );
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_flaky_card_is_charged_once_at_the_third_try() {
    let fixture = Fixture::new().await;
    fixture.place("o-1", tea(1), "card:flaky").await;
    fixture.settle().await;
    assert_eq!(fixture.status("o-1").await, Some(Status::Confirmed));
    assert_eq!(fixture.charges(), 1);
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_card_that_fails_too_often_is_a_dead_letter_and_its_users_orders_wait_until_it_is_redriven()
 {
    let fixture = Fixture::new().await;
    fixture.platform.faults().set_flaky_tries(5);
    fixture.place("o-1", tea(1), "card:flaky").await;
    fixture.place("o-2", tea(1), "card:ok").await;
    assert_eq!(fixture.settle_with_dead().await, 1);
    assert_eq!(fixture.status("o-1").await, Some(Status::Created));
    assert_eq!(
        fixture.status("o-2").await,
        Some(Status::Created),
        "it is of the same user, and waits"
    );

    let operator = fixture.platform.service(Role::Payment).operator();
    let by = factum::By::new("local", "the gateway works again");
    fixture.platform.faults().set_flaky_tries(0);
    let redriven = operator
        .redrive_all(&factum::DeadLetters::default(), &by)
        .await
        .unwrap();
    assert_eq!(redriven.redriven, 1);
    fixture.settle().await;
    fixture.all_are(&["o-1", "o-2"], Status::Confirmed).await;
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn orders_are_taken_while_payment_is_stopped_and_finish_when_it_returns() {
    let fixture = Fixture::new().await;
    fixture.platform.service(Role::Payment).stop().await;
    for order in ["o-1", "o-2", "o-3"] {
        fixture.place(order, tea(1), "card:ok").await;
    }
    until(Some(Status::Created), async || fixture.status("o-3").await).await;
    assert_eq!(fixture.charges(), 0);
    fixture.platform.service(Role::Payment).start().await;
    fixture.settle().await;
    fixture
        .all_are(&["o-1", "o-2", "o-3"], Status::Confirmed)
        .await;
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_order_service_that_was_away_catches_up_whichever_topic_it_hears_first() {
    let fixture = Fixture::new().await;
    fixture.place("o-1", tea(1), "card:ok").await;
    // It is gone as soon as it has said so: all answers wait when it returns.
    until(1, async || fixture.charges()).await;
    fixture.platform.service(Role::Order).stop().await;
    until(1, async || {
        fixture
            .events(Role::Stock, "reservation", "o-1")
            .await
            .len()
    })
    .await;
    fixture.platform.service(Role::Order).start().await;
    fixture.settle().await;
    assert_eq!(
        fixture.history("o-1").await,
        ["OrderCreated", "OrderPaid", "OrderConfirmed"]
    );
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_confirmed_order_that_is_cancelled_gives_back_money_and_goods() {
    let fixture = Fixture::new().await;
    fixture.place("o-1", tea(10), "card:ok").await;
    fixture.settle().await;
    fixture.cancel("o-1").await;
    fixture.settle().await;
    assert_eq!(
        fixture.events(Role::Stock, "reservation", "o-1").await,
        ["StockReserved", "StockReleased"]
    );
    assert_eq!(
        fixture.platform.outside().gateway.refunds().unwrap().len(),
        1
    );
    fixture.place("o-2", tea(10), "card:ok").await;
    fixture.settle().await;
    assert_eq!(
        fixture.status("o-2").await,
        Some(Status::Confirmed),
        "the goods are there again"
    );
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_cancelled_at_once_ends_without_money_or_goods_wherever_it_is_met() {
    let fixture = Fixture::new().await;
    for order in ["o-1", "o-2", "o-3"] {
        fixture.place(order, tea(1), "card:ok").await;
        fixture.cancel(order).await;
    }
    fixture.settle().await;
    fixture
        .all_are(&["o-1", "o-2", "o-3"], Status::Cancelled)
        .await;
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_manual_order_is_charged_when_its_user_asks() {
    let fixture = Fixture::new().await;
    fixture
        .place_to_be_paid("o-1", tea(1), "card:ok", PaymentMode::Manual)
        .await;
    fixture.settle().await;
    assert_eq!(fixture.status("o-1").await, Some(Status::Created));
    assert_eq!(fixture.charges(), 0);
    fixture.order("o-1", OrderCommand::Pay { card: None }).await;
    fixture.settle().await;
    assert_eq!(fixture.status("o-1").await, Some(Status::Confirmed));
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_last_goods_go_to_as_many_orders_as_there_are() {
    let fixture = Fixture::new().await;
    for number in 1..=6 {
        fixture
            .place(&format!("o-{number}"), tea(3), "card:ok")
            .await;
    }
    fixture.settle().await;
    let mut confirmed = 0;
    for number in 1..=6 {
        confirmed +=
            u32::from(fixture.status(&format!("o-{number}")).await == Some(Status::Confirmed));
    }
    assert_eq!(confirmed, 3);
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_users_orders_are_found_newest_first_and_by_status() {
    let fixture = Fixture::new().await;
    fixture.receive("tea", 90).await;
    for number in 1..=25 {
        let card = if number % 5 == 0 {
            "card:declined"
        } else {
            "card:ok"
        };
        fixture.place(&format!("o-{number:02}"), tea(1), card).await;
        // The next one is newer.
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
    }
    fixture.settle().await;
    let find = async |status, page| {
        let queries = fixture.platform.queries(Role::Order);
        let found = queries
            .query(orders::order::ORDERS, &by_user("u-1", status, page), None)
            .await
            .unwrap();
        found
            .value
            .rows
            .into_iter()
            .map(|(id, _)| id)
            .collect::<Vec<_>>()
    };
    let newest = |numbers: &[u32]| {
        numbers
            .iter()
            .map(|number| format!("o-{number:02}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        find(None, 1).await,
        newest(&(6..=25).rev().collect::<Vec<_>>())
    );
    assert_eq!(find(None, 2).await, newest(&[5, 4, 3, 2, 1]));
    assert_eq!(
        find(Some(Status::Cancelled), 1).await,
        newest(&[25, 20, 15, 10, 5])
    );
    fixture.stop().await;
}
