//! What the test kit finds in reactors, and how it says so.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use factum_core::{Aggregate, Decision, Failure, FailureClass, Reaction, Reactor, Recorded};
use factum_macros::Event;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{given_event, given_stored_event, when_event};
use crate::given::failure_of;

#[derive(Event, Clone, Debug, PartialEq)]
#[event(topic = "orders", crate = "factum_core")]
#[event(split("OrderPlacedAndClosed", 1 => [("OrderPlaced", 1), ("OrderClosed", 1)], with = both))]
enum OrderEvent {
    #[event(name = "OrderPlaced", version = 1)]
    Placed { order: String, total: u64 },
    #[event(name = "OrderClosed", version = 1)]
    Closed,
    #[event(name = "OrderLost", version = 1)]
    Lost,
}

fn both(old: serde_json::Value) -> Vec<(&'static str, serde_json::Value)> {
    vec![("OrderPlaced", old), ("OrderClosed", json!({}))]
}

#[derive(Event, Clone, Debug, PartialEq)]
#[event(
    name = "PaymentFailed",
    version = 1,
    topic = "payments",
    crate = "factum_core"
)]
struct PaymentFailed {
    order: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Charge(u64);

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("the card is declined")]
struct Declined;

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
struct Payment;

impl Aggregate for Payment {
    const CATEGORY: &'static str = "payment";
    type Id = String;
    type Command = Charge;
    type Event = PaymentFailed;
    type Error = Declined;

    fn handle(&self, _: Charge, _: &Decision) -> Result<Vec<PaymentFailed>, Declined> {
        Err(Declined)
    }

    fn apply(&mut self, _: &PaymentFailed) {}
}

/// Does something of each kind.
#[derive(Default)]
struct Busy {
    calls: AtomicU64,
}

impl Reactor for Busy {
    type Event = OrderEvent;

    fn name(&self) -> &'static str {
        "busy"
    }

    async fn react(&self, event: &Recorded<OrderEvent>, cx: &mut Reaction) -> Result<(), Failure> {
        match &event.data {
            OrderEvent::Placed { order, total } => {
                let failed = PaymentFailed {
                    order: order.clone(),
                };
                cx.execute::<Payment>(order, Charge(*total))?
                    .on_rejected(move |_: &Declined, cx| cx.send("key", &failed));
                cx.import("order", order, &event.data, event.timestamp)?;
                cx.set_timer("late", cx.now() + Duration::from_secs(30), "why");
            }
            OrderEvent::Closed => cx.cancel_timer("late"),
            OrderEvent::Lost if self.calls.fetch_add(1, Ordering::Relaxed) == 0 => {
                return Err(Failure::transient("not found yet"));
            }
            OrderEvent::Lost => cx.cancel_timer(cx.new_id().to_string()),
        }
        Ok(())
    }
}

fn placed() -> OrderEvent {
    OrderEvent::Placed {
        order: "1".into(),
        total: 7,
    }
}

#[test]
fn each_kind_of_effect_can_be_expected_and_a_rejection_be_played() {
    let at = "2026-03-02T10:00:00Z".parse().unwrap();
    given_event(placed())
        .at(at)
        .when(Busy::default())
        .then_timer("late", at + Duration::from_secs(30), "why")
        .then_imports("order", "1", &placed(), at)
        .then_executes::<Payment>("1", Charge(7))
        .then_nothing()
        .when_rejected(Declined)
        .then_sends("key", &PaymentFailed { order: "1".into() })
        .then_nothing()
        .is_idempotent();
    when_event(Busy::default(), OrderEvent::Closed)
        .then_cancels_timer("late")
        .then_nothing();
}

#[test]
fn the_parts_of_a_split_event_are_all_handled() {
    given_stored_event(
        "OrderPlacedAndClosed",
        1,
        &json!({ "order": "1", "total": 7 }),
    )
    .when(Busy::default())
    .then_executes::<Payment>("1", Charge(7))
    .then_cancels_timer("late");
}

#[test]
fn an_effect_that_is_missing_is_shown_beside_those_that_are_there() {
    let told = failure_of(|| {
        let _ = when_event(Busy::default(), placed()).then_executes::<Payment>("1", Charge(8));
    });
    assert!(
        told.contains("busy: expected and not there:\n    execute payment/1 <- Charge(8)"),
        "{told}"
    );
    assert!(told.contains("when\n    OrderPlaced v1 {\"order\":\"1\",\"total\":7}\nthen\n    execute payment/1 <- Charge(7)"), "{told}");
}

#[test]
fn what_happens_unexpectedly_is_not_passed_over() {
    let told = failure_of(|| {
        let _ = when_event(Busy::default(), placed())
            .then_executes::<Payment>("1", Charge(7))
            .then_nothing();
    });
    assert!(
        told.contains("something happens that was not expected"),
        "{told}"
    );
    assert!(
        told.contains("execute payment/1 <- Charge(7) (expected)\n    import order/1"),
        "{told}"
    );
    let told = failure_of(|| {
        let _ = when_event(Busy::default(), OrderEvent::Lost).then_nothing();
    });
    assert!(
        told.contains("busy: fails as transient: not found yet"),
        "{told}"
    );
}

#[test]
fn a_failure_can_be_expected_and_is_not_the_same_when_the_event_works_the_second_time() {
    let reacted = when_event(Busy::default(), OrderEvent::Lost).then_fails(FailureClass::Transient);
    let told = failure_of(|| {
        let _ = reacted.is_idempotent();
    });
    assert!(
        told.contains("the same event leads to something else when it comes again"),
        "{told}"
    );
}

#[test]
fn a_drawn_id_in_an_effect_is_found() {
    let busy = Busy::default();
    busy.calls.store(1, Ordering::Relaxed);
    let told = failure_of(|| {
        let _ = when_event(busy, OrderEvent::Lost).is_idempotent();
    });
    assert!(told.contains("-         \"cancel timer "), "{told}");
}

#[test]
fn an_event_that_the_reactor_does_not_read_is_a_mistake_in_the_test() {
    let told = failure_of(|| {
        drop(given_event(PaymentFailed { order: "1".into() }).when(Busy::default()));
    });
    assert!(
        told.contains(
            "`PaymentFailed v1` is void for handler `busy`: it reads OrderClosed, OrderLost"
        ),
        "{told}"
    );
}

#[test]
fn idempotency_keys_are_made_of_what_the_test_says() {
    struct Keyed;
    impl Reactor for Keyed {
        type Event = OrderEvent;

        fn name(&self) -> &'static str {
            "keyed"
        }
        async fn react(&self, _: &Recorded<OrderEvent>, cx: &mut Reaction) -> Result<(), Failure> {
            cx.cancel_timer(cx.idempotency_key("charge"));
            Ok(())
        }
    }
    given_event(OrderEvent::Closed)
        .in_group("payment")
        .with_id("event-1")
        .when(Keyed)
        .then_cancels_timer("payment/keyed/event-1/charge")
        .is_idempotent();
}
