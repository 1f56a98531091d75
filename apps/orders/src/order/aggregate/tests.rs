//! What an order does, given what happened to it.

use super::*;
use crate::contracts::Sku;
use factum_testkit::given;

fn id() -> OrderId {
    "o-1".into()
}

fn item(sku: &str, qty: u32, price: u64) -> Item {
    Item {
        sku: sku.into(),
        name: sku.into(),
        qty,
        price,
    }
}

fn place_order(items: Vec<Item>, payment: PaymentMode) -> OrderCommand {
    OrderCommand::Place(PlaceOrder {
        order_id: "o-1".into(),
        user_id: "u-1".into(),
        items,
        currency: Currency::won(),
        payment,
        card: Some("card:ok".into()),
    })
}

fn created(payment: PaymentMode) -> OrderEvent {
    OrderCreated {
        order_id: Some(id()),
        user_id: "u-1".into(),
        items: vec![item("tea", 2, 600)],
        total_amount: 1200,
        currency: Currency::won(),
        payment,
        card: Some("card:ok".into()),
    }
    .into()
}

fn auto() -> OrderEvent {
    created(PaymentMode::Auto)
}

fn paid() -> OrderEvent {
    OrderPaid {
        order_id: Some(id()),
        payment_method: "card:ok".into(),
    }
    .into()
}

fn confirmed() -> OrderEvent {
    OrderConfirmed {
        order_id: Some(id()),
    }
    .into()
}

fn shipped() -> OrderEvent {
    OrderShipped {
        order_id: Some(id()),
        tracking: "T1".into(),
    }
    .into()
}

fn cancelled() -> OrderEvent {
    OrderCancelled {
        order_id: Some(id()),
        reason: "changed my mind".into(),
    }
    .into()
}

fn ship() -> OrderCommand {
    OrderCommand::Ship {
        tracking: "T1".into(),
    }
}

fn cancel() -> OrderCommand {
    OrderCommand::Cancel {
        reason: "changed my mind".into(),
    }
}

#[test]
fn an_order_is_placed_with_the_sum_of_its_items_and_keyed_by_its_user() {
    given::<Order>([])
        .when(place_order(vec![item("tea", 2, 600)], PaymentMode::Auto))
        .then([auto()])
        .then_state(|order| assert_eq!(order.partition_key(), Some("u-1".into())));
    given::<Order>([auto()])
        .when(place_order(vec![item("tea", 2, 600)], PaymentMode::Auto))
        .then_error(OrderError::Exists("o-1".into()));
}

#[test]
fn a_refused_order_names_the_field() {
    let field = |items| match given::<Order>([])
        .when(place_order(items, PaymentMode::Auto))
        .error()
    {
        Some(OrderError::Invalid { field, .. }) => field.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(field(vec![]), "items");
    assert_eq!(field(vec![item("tea", 1, 1); 101]), "items");
    assert_eq!(
        field(vec![item("tea", 1, 1), item("cup", 0, 1)]),
        "items[1].qty"
    );
    assert_eq!(field(vec![item(" ", 1, 1)]), "items[0].sku");
    assert_eq!(
        field(vec![item("tea", u32::MAX, u64::MAX)]),
        "items[0].price"
    );
    assert_eq!(
        field(vec![item("tea", 1, TOTAL_MAX), item("cup", 1, 1)]),
        "items[1].price"
    );
}

/// Each SKU names a shelf. Orders of one that was longer than any name were taken and paid, and then stock could not
/// handle them.
#[test]
fn what_no_shelf_can_be_named_after_is_no_sku() {
    let longest_sku = "차".repeat(SKU_CHARS_MAX);
    let placed = given::<Order>([]).when(place_order(
        vec![item(&longest_sku, 1, 1)],
        PaymentMode::Auto,
    ));
    assert!(placed.error().is_none());
    Sku::try_from(longest_sku + "차").unwrap_err();
    let longest = "😀".repeat(SKU_CHARS_MAX);
    factum::StreamId::new(factum::Category::of("shelf"), longest).unwrap();
}

#[test]
fn an_order_goes_from_created_over_paid_and_confirmed_to_shipped() {
    given::<Order>([auto()])
        .when(OrderCommand::Paid)
        .then([paid()])
        .and(OrderCommand::Reserved)
        .then([confirmed()])
        .and(ship())
        .then([shipped()])
        .and(cancel())
        .then_error(OrderError::WrongStatus {
            status: Status::Shipped,
            asked: "cancelled",
        });
}

#[test]
fn stock_may_be_heard_before_payment() {
    given::<Order>([auto()])
        .when(OrderCommand::Reserved)
        .then([paid(), confirmed()])
        .and(OrderCommand::Paid)
        .then_nothing();
}

#[test]
fn what_is_reported_twice_happens_once() {
    given::<Order>([auto(), paid()])
        .when(OrderCommand::Paid)
        .then_nothing();
    given::<Order>([auto(), paid(), confirmed()])
        .when(OrderCommand::Reserved)
        .then_nothing();
    let give_up = OrderCommand::GiveUp {
        reason: "no".into(),
    };
    given::<Order>([auto(), cancelled()])
        .when(give_up)
        .then_nothing();
}

#[test]
fn a_cancelled_order_stays_cancelled() {
    for report in [OrderCommand::Paid, OrderCommand::Reserved] {
        given::<Order>([auto(), cancelled()])
            .when(report)
            .then_nothing();
    }
    let wrong = |asked| OrderError::WrongStatus {
        status: Status::Cancelled,
        asked,
    };
    given::<Order>([auto(), cancelled()])
        .when(cancel())
        .then_error(wrong("cancelled"));
    given::<Order>([auto(), cancelled()])
        .when(ship())
        .then_error(wrong("shipped"));
}

#[test]
fn refuses_to_ship_what_is_not_confirmed() {
    let wrong = OrderError::WrongStatus {
        status: Status::Paid,
        asked: "shipped",
    };
    given::<Order>([auto(), paid()])
        .when(ship())
        .then_error(wrong);
}

#[test]
fn a_manual_order_is_paid_when_asked_for_and_once() {
    let pay = || OrderCommand::Pay {
        card: Some("card:flaky".into()),
    };
    let requested = OrderPaymentRequested {
        order_id: Some(id()),
        user_id: "u-1".into(),
        items: vec![item("tea", 2, 600)],
        total_amount: 1200,
        currency: Currency::won(),
        card: Some("card:flaky".into()),
    };
    let requested = given::<Order>([created(PaymentMode::Manual)])
        .when(pay())
        .then([requested.into()]);
    requested
        .and(pay())
        .then_error(OrderError::PaymentRequested);
    given::<Order>([auto()])
        .when(pay())
        .then_error(OrderError::PaymentRequested);
}

#[test]
fn orders_that_were_never_placed_here_are_left_to_the_others() {
    for report in [
        OrderCommand::Paid,
        OrderCommand::Reserved,
        OrderCommand::GiveUp {
            reason: "no".into(),
        },
    ] {
        given::<Order>([]).when(report).then_nothing();
    }
    given::<Order>([])
        .when(ship())
        .then_error(OrderError::Unknown);
}
