//! Families of families: what a reactor or projection takes that handles several.

use factum_core::{Catalog, Event};
use factum_macros::Event;
use serde_json::{Value, json};

use super::support::{read, stored};

#[derive(Event, Clone, Debug, PartialEq)]
#[event(crate = "factum_core", topic = "orders")]
enum OrderEvent {
    #[event(name = "OrderCreated", version = 2, upcast(1 => with_total))]
    Created { total: u64 },
}

#[derive(Event, Clone, Debug, PartialEq)]
#[event(
    crate = "factum_core",
    topic = "payments",
    name = "PaymentFailed",
    version = 1
)]
struct PaymentFailed {
    reason: String,
}

#[derive(Event, Clone, Debug, PartialEq)]
#[event(crate = "factum_core", drop("HourPassed", 1))]
enum Handled {
    #[event(family)]
    Order(OrderEvent),
    #[event(family)]
    Payment(PaymentFailed),
    #[event(name = "DayPassed", version = 1)]
    DayPassed,
}

fn with_total(mut data: Value) -> Value {
    data["total"] = json!(0);
    data
}

#[test]
fn a_family_variant_is_stored_as_the_event_that_it_holds() {
    let event = Handled::Order(OrderEvent::Created { total: 3 });
    assert_eq!(stored(&event), json!({"total": 3}));
    assert_eq!(event.stored_type(), ("OrderCreated", 2));
    let event = Handled::Payment(PaymentFailed {
        reason: "declined".into(),
    });
    assert_eq!(stored(&event), json!({"reason": "declined"}));
    assert_eq!(stored(&Handled::DayPassed), json!({}));
}

#[test]
fn an_event_becomes_the_variant_of_its_family() {
    let failed = PaymentFailed {
        reason: "declined".into(),
    };
    assert_eq!(Handled::from(failed.clone()), Handled::Payment(failed));
}

#[test]
fn a_family_of_families_has_the_types_of_all_with_their_topics() {
    let types = Handled::types();
    let mut topics: Vec<_> = types
        .iter()
        .map(|stored| (stored.name, stored.topic))
        .collect();
    topics.sort_unstable();
    let expected = [
        ("DayPassed", None),
        ("OrderCreated", Some("orders")),
        ("PaymentFailed", Some("payments")),
    ];
    assert_eq!(topics, expected);
    assert_eq!(Handled::TOPIC, None);
    assert_eq!(Handled::DAY_PASSED, "DayPassed");
}

#[test]
fn a_family_of_families_has_the_upcasters_of_all() {
    let expected = Handled::Order(OrderEvent::Created { total: 0 });
    assert_eq!(read::<Handled>("OrderCreated", 1, &json!({})), [expected]);
    assert_eq!(read::<Handled>("HourPassed", 1, &json!({})), []);
}

#[test]
fn data_that_a_family_refuses_is_not_tried_on_another() {
    let error = Handled::decode("OrderCreated", b"{}").unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "missing field `total` at line 1 column 2"
    );
}

#[derive(Event, Clone, Debug, PartialEq)]
#[event(crate = "factum_core")]
enum Twice {
    #[event(family)]
    Order(OrderEvent),
    #[event(family)]
    Other(OrderEvent),
}

#[test]
fn a_type_in_two_families_is_found_at_start_up() {
    let error = Catalog::<Twice>::new().unwrap_err();
    assert_eq!(error.to_string(), "event `OrderCreated` is declared twice");
}
