//! Older stored types become present ones: by functions between serde's types, chained by the core's catalog.

use std::num::ParseIntError;

use factum_core::{Catalog, ErrorClass, Event, TypeName};
use factum_macros::Event;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::support::read;

#[derive(Event, Clone, Debug, PartialEq)]
#[event(
    crate = "factum_core",
    split("OrderPlacedAndPaid", 1 => [("OrderCreated", 2), ("OrderPaid", 1)], with = split::payment),
    split("OrderImported", 1 => [("OrderPaid", 1)], with = split::imported),
    split("OrderPaid", 2 => [("OrderPaid", 3), ("OrderClosed", 1)], with = split::close),
    drop("OrderNoted", 1),
    drop("OrderNoted", 2)
)]
enum OrderEvent {
    #[event(
        name = "OrderCreated", version = 3,
        upcast(1 => with_currency, 2 => with_number_total),
        renamed_from("OrderPlaced", 1 => 1),
        renamed_from("OrderPlaced", 2 => 3, with = from_placed),
    )]
    Created {
        id: String,
        total: u64,
        currency: String,
    },
    #[event(name = "OrderPaid", version = 3, upcast(1 => unchanged))]
    Paid { id: String },
    #[event(name = "OrderClosed", version = 1)]
    Closed { id: String },
}

#[derive(Deserialize)]
struct CreatedV1 {
    id: String,
    total: String,
}

#[derive(Serialize, Deserialize)]
struct CreatedV2 {
    id: String,
    total: String,
    currency: String,
}

#[derive(Serialize)]
struct CreatedV3 {
    id: String,
    total: u64,
    currency: String,
}

#[derive(Serialize, Deserialize)]
struct OfOrder {
    id: String,
}

/// Between two types, and it can't fail.
fn with_currency(old: CreatedV1) -> CreatedV2 {
    CreatedV2 {
        id: old.id,
        total: old.total,
        currency: "KRW".into(),
    }
}

/// Between two types, and it can fail.
fn with_number_total(old: CreatedV2) -> Result<CreatedV3, ParseIntError> {
    let total = old.total.parse()?;
    Ok(CreatedV3 {
        id: old.id,
        total,
        currency: old.currency,
    })
}

/// Between JSON values.
fn unchanged(old: Value) -> Value {
    old
}

/// Between JSON values, and it can fail.
fn from_placed(mut old: Value) -> Result<Value, &'static str> {
    let fields = old.as_object_mut().ok_or("an order is an object")?;
    let order = fields.remove("order").ok_or("an order has an id")?;
    fields.insert("id".into(), order);
    Ok(old)
}

mod split {
    //! One event into several.

    use super::{OfOrder, Value, json};

    pub(super) fn payment(old: OfOrder) -> Result<Vec<(&'static str, Value)>, String> {
        let OfOrder { id } = old;
        if id.is_empty() {
            return Err("an order has an id".into());
        }
        Ok(vec![
            (
                "OrderCreated",
                json!({"id": id, "total": "12", "currency": "EUR"}),
            ),
            ("OrderPaid", json!({"id": id})),
        ])
    }

    pub(super) fn imported(old: Vec<String>) -> Vec<(&'static str, OfOrder)> {
        old.into_iter()
            .map(|id| ("OrderPaid", OfOrder { id }))
            .collect()
    }

    pub(super) fn close(old: Value) -> [(&'static str, Value); 2] {
        [("OrderPaid", old.clone()), ("OrderClosed", old)]
    }
}

fn created(total: u64, currency: &str) -> OrderEvent {
    OrderEvent::Created {
        id: "a".into(),
        total,
        currency: currency.into(),
    }
}

fn paid(id: &str) -> OrderEvent {
    OrderEvent::Paid { id: id.into() }
}

fn closed(id: &str) -> OrderEvent {
    OrderEvent::Closed { id: id.into() }
}

#[test]
fn versions_are_chained_up_to_the_present_one() {
    assert_eq!(
        read::<OrderEvent>("OrderCreated", 1, &json!({"id": "a", "total": "7"})),
        [created(7, "KRW")]
    );
    let data = json!({"id": "a", "total": "7", "currency": "EUR"});
    assert_eq!(
        read::<OrderEvent>("OrderCreated", 2, &data),
        [created(7, "EUR")]
    );
    let data = json!({"id": "a", "total": 7, "currency": "EUR"});
    assert_eq!(
        read::<OrderEvent>("OrderCreated", 3, &data),
        [created(7, "EUR")]
    );
}

#[test]
fn an_older_name_joins_the_chain_at_the_version_that_it_says() {
    assert_eq!(
        read::<OrderEvent>("OrderPlaced", 1, &json!({"id": "a", "total": "7"})),
        [created(7, "KRW")]
    );
    let data = json!({"order": "a", "total": 7, "currency": "EUR"});
    assert_eq!(
        read::<OrderEvent>("OrderPlaced", 2, &data),
        [created(7, "EUR")]
    );
}

#[test]
fn a_split_event_becomes_its_parts_in_order_and_each_goes_on_to_its_present_version() {
    let events = read::<OrderEvent>("OrderPlacedAndPaid", 1, &json!({"id": "a"}));
    assert_eq!(events, [created(12, "EUR"), paid("a"), closed("a")]);
}

#[test]
fn a_split_event_may_become_any_number_of_events() {
    assert_eq!(read::<OrderEvent>("OrderImported", 1, &json!([])), []);
    let events = read::<OrderEvent>("OrderImported", 1, &json!(["a", "b"]));
    assert_eq!(events, [paid("a"), closed("a"), paid("b"), closed("b")]);
}

#[test]
fn a_dropped_event_becomes_nothing() {
    assert_eq!(
        read::<OrderEvent>("OrderNoted", 1, &json!({"text": "x"})),
        []
    );
    assert_eq!(read::<OrderEvent>("OrderNoted", 2, &json!(17)), []);
}

#[test]
fn what_an_upcaster_refuses_is_poison_and_says_why() {
    let catalog = Catalog::<OrderEvent>::new().unwrap();
    let refused = |name, version, data: Value| {
        let error = catalog
            .read(&TypeName::new(name, version), data.to_string().as_bytes())
            .unwrap_err();
        assert_eq!(error.class(), ErrorClass::Poison);
        error.to_string()
    };
    assert_eq!(
        refused("OrderCreated", 1, json!({"id": "a", "total": "much"})),
        "`OrderCreated v1` can't be upcast from OrderCreated v2: invalid digit found in string"
    );
    assert_eq!(
        refused("OrderCreated", 1, json!({"id": "a"})),
        "`OrderCreated v1` can't be upcast from OrderCreated v1: missing field `total`"
    );
    assert_eq!(
        refused("OrderPlacedAndPaid", 1, json!({"id": ""})),
        "`OrderPlacedAndPaid v1` can't be upcast from OrderPlacedAndPaid v1: an order has an id"
    );
}

#[test]
fn every_step_says_what_it_reads() {
    let mut froms: Vec<_> = OrderEvent::upcasts()
        .iter()
        .map(|upcast| (upcast.name, upcast.version))
        .collect();
    froms.sort_unstable();
    let expected = [
        ("OrderCreated", 1),
        ("OrderCreated", 2),
        ("OrderImported", 1),
        ("OrderNoted", 1),
        ("OrderNoted", 2),
        ("OrderPaid", 1),
        ("OrderPaid", 2),
        ("OrderPlaced", 1),
        ("OrderPlaced", 2),
        ("OrderPlacedAndPaid", 1),
    ];
    assert_eq!(froms, expected);
}
