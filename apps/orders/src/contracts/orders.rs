//! What the order service says. A producer in any language may say the same: `docs/guide/wire.md` has the table.

use factum::Event;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Currency, Item, OrderId, UserId, items::lines};

/// What can happen to an order. On topic `orders`, keyed by user.
#[derive(Event, Clone, Debug, PartialEq, Eq)]
#[event(topic = "orders")]
#[expect(missing_docs, reason = "each variant is its event, documented there")]
pub enum OrderEvent {
    #[event(family)]
    Created(OrderCreated),
    #[event(family)]
    PaymentRequested(OrderPaymentRequested),
    #[event(family)]
    Paid(OrderPaid),
    #[event(family)]
    Confirmed(OrderConfirmed),
    #[event(family)]
    Shipped(OrderShipped),
    #[event(family)]
    Cancelled(OrderCancelled),
}

/// An order was placed.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[event(name = "OrderCreated", version = 2, topic = "orders", upcast(1 => with_currency))]
pub struct OrderCreated {
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// Who placed it.
    pub user_id: UserId,
    /// What was ordered.
    #[serde(deserialize_with = "lines")]
    pub items: Vec<Item>,
    /// What it costs, in minor units.
    #[serde(alias = "total")]
    pub total_amount: u64,
    /// In which currency.
    pub currency: Currency,
    /// When it is paid.
    #[serde(default)]
    pub payment: PaymentMode,
    /// The token of the card to charge; absent: the one that the gateway knows of this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<String>,
}

/// Version 1 had no currency: all orders were in won. Some of its producers wrote the total under both of its names.
fn with_currency(mut old: Map<String, Value>) -> Map<String, Value> {
    if old.get("currency").is_none_or(Value::is_null) {
        old.insert("currency".into(), json!(Currency::won()));
    }
    if old.contains_key("total_amount") && old.get("total_amount") == old.get("total") {
        old.remove("total");
    }
    old
}

/// When an order is paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaymentMode {
    /// At once.
    #[default]
    Auto,
    /// When the user asks for it.
    Manual,
}

/// The user asks to pay an order that is not paid at once. It says all that a charge needs.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[event(name = "OrderPaymentRequested", version = 1, topic = "orders")]
pub struct OrderPaymentRequested {
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// Who pays.
    pub user_id: UserId,
    /// What was ordered.
    #[serde(deserialize_with = "lines")]
    pub items: Vec<Item>,
    /// What it costs, in minor units.
    #[serde(alias = "total")]
    pub total_amount: u64,
    /// In which currency.
    pub currency: Currency,
    /// The token of the card to charge; absent: the one that the gateway knows of this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<String>,
}

/// An order was paid.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[event(name = "OrderPaid", version = 1, topic = "orders")]
pub struct OrderPaid {
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// How.
    pub payment_method: String,
}

/// An order is paid and its goods are reserved: it will be shipped.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[event(name = "OrderConfirmed", version = 1, topic = "orders")]
pub struct OrderConfirmed {
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
}

/// An order left the house.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[event(name = "OrderShipped", version = 1, topic = "orders")]
pub struct OrderShipped {
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// The carrier's number.
    pub tracking: String,
}

/// An order was cancelled. What was paid is given back.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[event(name = "OrderCancelled", version = 1, topic = "orders")]
pub struct OrderCancelled {
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// Why.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use factum::{Catalog, Part, Read, TypeName};

    use super::*;

    fn read(version: u32, data: &Value) -> Result<OrderCreated, factum::Error> {
        let catalog = Catalog::<OrderCreated>::new()?;
        match catalog.read(
            &TypeName::new("OrderCreated", version),
            data.to_string().as_bytes(),
        )? {
            Read::Events(mut events) => {
                let (event, part) = events.remove(0);
                assert_eq!(part, Part::WHOLE);
                Ok(event)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn version_1_is_in_won_and_may_call_the_amount_total() {
        let items = json!([{ "name": "tea", "qty": 2, "price": 600 }]);
        let created = read(
            1,
            &json!({ "user_id": "u-1", "items": items, "total": 1200 }),
        )
        .unwrap();
        assert_eq!(
            (created.total_amount, created.currency),
            (1200, Currency::won())
        );
        assert_eq!(
            (created.order_id, created.payment),
            (None, PaymentMode::Auto)
        );
    }

    #[test]
    fn a_currency_that_version_1_says_all_the_same_is_kept() {
        let created =
            json!({ "user_id": "u-1", "items": [], "total_amount": 5, "currency": "USD" });
        assert_eq!(read(1, &created).unwrap().currency.to_string(), "USD");
    }

    #[test]
    fn version_1_may_say_the_total_under_both_names_and_no_currency_as_null() {
        let created = json!({
            "user_id": "u-1", "items": [], "total": 5, "total_amount": 5, "currency": null,
        });
        let read_one = read(1, &created).unwrap();
        assert_eq!(
            (read_one.total_amount, read_one.currency),
            (5, Currency::won())
        );
        let created = json!({ "user_id": "u-1", "items": [], "total": 5, "total_amount": 6 });
        assert!(read(1, &created).unwrap_err().is_poison());
    }

    #[test]
    fn a_list_of_its_fields_is_no_order() {
        let list = json!(["o-1", "u-1", [], 5, "KRW"]);
        for version in [1, 2] {
            let error = read(version, &list).unwrap_err();
            assert!(error.to_string().contains("has to be an object"), "{error}");
        }
    }

    #[test]
    fn version_2_without_a_currency_is_poison() {
        let error = read(
            2,
            &json!({ "user_id": "u-1", "items": [], "total_amount": 5 }),
        )
        .unwrap_err();
        assert!(error.is_poison(), "{error:?}");
    }
}
