//! What the payment service says.

use factum::Event;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Currency, Item, OrderId, UserId, items::lines_if_any};

/// What can happen to the payment of an order. On topic `payments`, keyed by order.
#[derive(Event, Clone, Debug, PartialEq, Eq)]
#[event(topic = "payments")]
#[expect(missing_docs, reason = "each variant is its event, documented there")]
pub enum PaymentEvent {
    #[event(family)]
    Completed(PaymentCompleted),
    #[event(family)]
    Failed(PaymentFailed),
    #[event(family)]
    Voided(PaymentVoided),
    #[event(family)]
    RefundRequested(RefundRequested),
    #[event(family)]
    Refunded(PaymentRefunded),
}

/// An order was paid. It carries what stock needs; a foreign one may leave out the items, and stock waits until it
/// knows the order.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[event(name = "PaymentCompleted", version = 1, topic = "payments")]
pub struct PaymentCompleted {
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// Who paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// How much, in minor units.
    pub amount: u64,
    /// In which currency.
    #[serde(default)]
    pub currency: Currency,
    /// What was paid for.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lines_if_any"
    )]
    pub items: Option<Vec<Item>>,
}

/// An order could not be paid.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[event(name = "PaymentFailed", version = 1, topic = "payments")]
pub struct PaymentFailed {
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// Who tried to pay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// Why.
    pub reason: String,
}

/// An order was given up before it was paid: what is charged for it all the same is given back at once.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[event(name = "PaymentVoided", version = 1, topic = "payments")]
pub struct PaymentVoided {
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// Why.
    pub reason: String,
}

/// A payment shall be given back. It will be: only the gateway still has to be told.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[event(name = "RefundRequested", version = 1, topic = "payments")]
pub struct RefundRequested {
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// How much, in minor units.
    pub amount: u64,
    /// In which currency.
    pub currency: Currency,
    /// Why.
    pub reason: String,
}

/// A payment was given back.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[event(name = "PaymentRefunded", version = 1, topic = "payments")]
pub struct PaymentRefunded {
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// Who gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// How much, in minor units.
    pub amount: u64,
    /// In which currency.
    #[serde(default)]
    pub currency: Currency,
}
