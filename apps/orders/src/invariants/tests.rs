//! Each invariant has a run that breaks it: a check that can't fail checks nothing.

use super::*;
use crate::contracts::{
    Item, ItemReceived, ItemReleased, ItemReserved, OrderCancelled, OrderConfirmed, OrderCreated,
    OrderEvent, OrderPaid, OrderShipped, PaymentCompleted, PaymentEvent, PaymentMode,
    PaymentRefunded, RefundRequested, ShelfEvent, StockEvent, StockRejected, StockReserved,
};

fn id() -> OrderId {
    "o-1".into()
}

fn items() -> Vec<Item> {
    vec![Item {
        sku: "tea".into(),
        name: "tea".into(),
        qty: 2,
        price: 250,
    }]
}

fn won(amount: u64) -> Money {
    Money {
        amount,
        currency: Currency::won(),
    }
}

fn created(payment: PaymentMode) -> OrderEvent {
    OrderEvent::Created(OrderCreated {
        order_id: Some(id()),
        user_id: "u-1".into(),
        items: items(),
        total_amount: 500,
        currency: Currency::won(),
        payment,
        card: None,
    })
}

fn paid() -> OrderEvent {
    OrderEvent::Paid(OrderPaid {
        order_id: Some(id()),
        payment_method: "card".into(),
    })
}

fn confirmed() -> OrderEvent {
    OrderEvent::Confirmed(OrderConfirmed {
        order_id: Some(id()),
    })
}

fn cancelled() -> OrderEvent {
    OrderEvent::Cancelled(OrderCancelled {
        order_id: Some(id()),
        reason: "no tea".into(),
    })
}

fn completed() -> PaymentEvent {
    PaymentEvent::Completed(PaymentCompleted {
        order_id: Some(id()),
        user_id: None,
        amount: 500,
        currency: Currency::won(),
        items: Some(items()),
    })
}

fn refund_requested() -> PaymentEvent {
    let (order_id, currency, reason) = (Some(id()), Currency::won(), "no tea".into());
    PaymentEvent::RefundRequested(RefundRequested {
        order_id,
        amount: 500,
        currency,
        reason,
    })
}

fn refunded() -> PaymentEvent {
    let (order_id, currency) = (Some(id()), Currency::won());
    PaymentEvent::Refunded(PaymentRefunded {
        order_id,
        user_id: None,
        amount: 500,
        currency,
    })
}

fn reserved() -> StockEvent {
    StockEvent::Reserved(StockReserved {
        order_id: Some(id()),
        user_id: None,
        items: items(),
    })
}

fn rejected() -> StockEvent {
    StockEvent::Rejected(StockRejected {
        order_id: Some(id()),
        user_id: None,
        reason: "no tea".into(),
    })
}

fn received(qty: u64) -> ShelfEvent {
    ShelfEvent::Received(ItemReceived {
        sku: "tea".into(),
        qty,
        available: qty,
    })
}

fn put_aside(available: u64) -> ShelfEvent {
    ShelfEvent::Reserved(ItemReserved {
        sku: "tea".into(),
        order_id: id(),
        qty: 2,
        available,
    })
}

/// A run in which one order went well.
fn happy() -> Facts {
    let mut facts = Facts::default();
    for event in [created(PaymentMode::Auto), paid(), confirmed()] {
        facts.order(id(), &event);
    }
    facts.payment(id(), &completed());
    facts.stock(id(), &reserved());
    facts.shelf(&received(5));
    facts.shelf(&put_aside(3));
    facts.charged.insert(id(), vec![won(500)]);
    facts.told.insert("k".into(), 1);
    facts.recorded.insert("k".into(), 1);
    facts.recorded_for.insert(id(), 1);
    facts.placed.insert(id(), vec!["orders:0:7".into()]);
    facts
}

/// A run in which one order was paid and came to nothing.
fn compensated() -> Facts {
    let mut facts = Facts::default();
    for event in [created(PaymentMode::Auto), paid(), cancelled()] {
        facts.order(id(), &event);
    }
    for event in [completed(), refund_requested(), refunded()] {
        facts.payment(id(), &event);
    }
    facts.stock(id(), &rejected());
    facts.charged.insert(id(), vec![won(500)]);
    facts.refunded.insert(id(), vec![won(500)]);
    // That it can't be fulfilled, that it is cancelled, and that the money comes back.
    facts.recorded_for.insert(id(), 3);
    facts
}

#[track_caller]
fn breaks(facts: &Facts, expected: &str) {
    let broken: Vec<_> = check(facts).iter().map(ToString::to_string).collect();
    assert!(
        broken.iter().any(|broken| broken.contains(expected)),
        "{expected:?} is not among {broken:#?}"
    );
}

#[test]
fn nothing_is_broken_when_an_order_went_well_or_was_compensated() {
    assert_eq!(check(&Facts::default()), []);
    assert_eq!(check(&happy()), []);
    assert_eq!(check(&compensated()), []);
}

#[test]
fn money_that_was_not_charged_or_charged_twice_is_noticed() {
    let mut facts = happy();
    facts.charged.clear();
    breaks(
        &facts,
        "0 KRW was charged, and 500 is kept by confirmed orders and 0 was refunded",
    );
    breaks(
        &facts,
        "order `o-1` keeps 500 KRW, was charged nothing and refunded nothing",
    );
    facts.charged.insert(id(), vec![won(500), won(500)]);
    breaks(
        &facts,
        "order `o-1` keeps 500 KRW, was charged 500 KRW and 500 KRW and refunded nothing",
    );
}

#[test]
fn money_that_was_not_given_back_or_given_back_twice_is_noticed() {
    let mut facts = compensated();
    facts.refunded.clear();
    breaks(
        &facts,
        "order `o-1` is not confirmed, was charged 500 KRW and refunded nothing",
    );
    facts.refunded.insert(id(), vec![won(500), won(500)]);
    breaks(
        &facts,
        "500 KRW was charged, and 0 is kept by confirmed orders and 1000 was refunded",
    );
}

#[test]
fn two_orders_whose_faults_cancel_out_are_both_noticed() {
    let mut facts = happy();
    facts.charged.insert(id(), vec![won(300)]);
    facts.charged.insert("o-2".into(), vec![won(200)]);
    assert_eq!(check(&facts).len(), 2, "{:#?}", check(&facts));
}

#[test]
fn a_foreign_order_keeps_its_money_when_its_goods_are_reserved() {
    let mut facts = happy();
    facts.orders.clear();
    assert_eq!(check(&facts), []);
    facts.charged.clear();
    breaks(&facts, "order `o-1` keeps 500 KRW, was charged nothing");
}

#[test]
fn an_order_without_an_end_or_with_two_is_noticed() {
    let facts = |events: &[OrderEvent]| {
        let mut facts = Facts::default();
        for event in events {
            facts.order(id(), event);
        }
        facts
    };
    let shipped = OrderEvent::Shipped(OrderShipped {
        order_id: Some(id()),
        tracking: "T".into(),
    });
    let auto = || created(PaymentMode::Auto);
    breaks(&facts(&[auto()]), "is neither confirmed nor cancelled");
    breaks(
        &facts(&[auto(), paid()]),
        "is neither confirmed nor cancelled",
    );
    breaks(
        &facts(&[auto(), auto(), cancelled()]),
        "was created 2 times",
    );
    breaks(
        &facts(&[auto(), cancelled(), cancelled()]),
        "cancelled 2 times",
    );
    breaks(
        &facts(&[auto(), paid(), confirmed(), shipped, cancelled()]),
        "was shipped and cancelled",
    );
    breaks(
        &facts(&[auto(), confirmed()]),
        "was confirmed and never paid",
    );
    assert_eq!(
        check(&facts(&[created(PaymentMode::Manual)])),
        [],
        "the user may never pay"
    );
}

#[test]
fn services_that_disagree_are_noticed() {
    let mut facts = happy();
    facts.stock(id(), &reserved());
    breaks(&facts, "more than once");
    let mut facts = happy();
    facts.reservations.clear();
    breaks(&facts, "is confirmed, and its goods are not reserved");
    let mut facts = compensated();
    facts.reservations.clear();
    facts.stock(id(), &reserved());
    breaks(&facts, "was cancelled, and its goods are still reserved");
    let mut facts = happy();
    facts.payment(id(), &refund_requested());
    breaks(&facts, "was promised its money back and did not get it");
}

#[test]
fn a_shelf_that_goes_below_nothing_or_reserves_twice_is_noticed() {
    let mut facts = happy();
    facts.shelf(&put_aside(1));
    breaks(
        &facts,
        "put things aside for order `o-1` that were put aside already",
    );
    let mut facts = Facts::default();
    facts.shelf(&received(1));
    facts.shelf(&put_aside(0));
    breaks(&facts, "shelf `tea` held -1");
    breaks(&facts, "says another number of things");
    breaks(
        &facts,
        "holds things for order `o-1`, which has no reservation",
    );
    let mut facts = happy();
    facts.shelf(&ShelfEvent::Released(ItemReleased {
        sku: "tea".into(),
        order_id: id(),
        qty: 2,
        available: 5,
    }));
    breaks(&facts, "holds 0 for order `o-1`, which reserved 2");
}

#[test]
fn a_notification_that_is_not_counted_once_is_noticed() {
    for (told, recorded) in [(0, 1), (1, 0), (1, 2), (2, 1)] {
        let mut facts = happy();
        facts.told.insert("k".into(), told);
        facts.recorded.insert("k".into(), recorded);
        breaks(
            &facts,
            &format!("was told {told} times and recorded {recorded} times"),
        );
    }
}

/// Payment lost a foreign order, and nobody noticed: our order service doesn't know it, and no money was missing.
#[test]
fn an_order_that_vanishes_is_noticed_whoever_placed_it() {
    let mut facts = Facts::default();
    facts.placed.insert(id(), vec!["orders:0:7".into()]);
    breaks(
        &facts,
        "order `o-1` was placed, and payment knows nothing of it",
    );
    facts.given_up.insert("stock-service:orders:0:7".into());
    breaks(&facts, "payment knows nothing of it");
    facts.given_up.insert("payment-service:orders:0:7".into());
    assert_eq!(check(&facts), [], "a person gave it up");
    facts
        .placed
        .insert(id(), vec!["orders:0:7".into(), "orders:0:9".into()]);
    breaks(&facts, "payment knows nothing of it");

    let mut facts = happy();
    facts.orders.clear();
    facts.reservations.clear();
    breaks(
        &facts,
        "order `o-1` was paid, and stock knows nothing of it",
    );
}

/// What was neither told nor recorded had no key to be missed by.
#[test]
fn a_notification_that_was_lost_before_it_was_told_is_noticed() {
    let mut facts = happy();
    facts.told.clear();
    facts.recorded.clear();
    facts.recorded_for.clear();
    breaks(
        &facts,
        "the user of order `o-1` was told 0 of 1 things that became of it",
    );
    facts
        .given_up
        .insert("notification-service:stock:0:1".into());
    assert_eq!(check(&facts), [], "a person gave it up");
    let mut facts = compensated();
    facts.recorded_for.insert(id(), 2);
    breaks(&facts, "was told 2 of 3 things");
    facts.recorded_for.insert(id(), 4);
    assert_eq!(check(&facts), [], "others may tell more of it");
}
