//! What the stock service says: of reservations, which are of orders, and of shelves, which are of things.

use factum::Event;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Item, OrderId, Sku, UserId};

/// What can happen to the reservation of an order's items. On topic `stock`, keyed by order.
#[derive(Event, Clone, Debug, PartialEq, Eq)]
#[event(topic = "stock")]
#[expect(missing_docs, reason = "each variant is its event, documented there")]
pub enum StockEvent {
    #[event(family)]
    Reserved(StockReserved),
    #[event(family)]
    Rejected(StockRejected),
    #[event(family)]
    Released(StockReleased),
    #[event(family)]
    Taken(StockTaken),
}

/// What can happen on the shelf of one thing. On topic `stock`, keyed by SKU. Each says what is available
/// afterwards, so that who keeps a copy needs to know nothing else.
#[derive(Event, Clone, Debug, PartialEq, Eq)]
#[event(topic = "stock")]
#[expect(missing_docs, reason = "each variant is its event, documented there")]
pub enum ShelfEvent {
    #[event(family)]
    Received(ItemReceived),
    #[event(family)]
    Reserved(ItemReserved),
    #[event(family)]
    Released(ItemReleased),
    #[event(family)]
    Taken(ItemTaken),
}

impl ShelfEvent {
    /// The thing that it is about, and how many of it can be reserved afterwards.
    pub fn level(&self) -> (&Sku, u64) {
        match self {
            Self::Received(event) => (&event.sku, event.available),
            Self::Reserved(event) => (&event.sku, event.available),
            Self::Released(event) => (&event.sku, event.available),
            Self::Taken(event) => (&event.sku, event.available),
        }
    }
}

/// All items of an order were reserved.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[event(name = "StockReserved", version = 1, topic = "stock")]
pub struct StockReserved {
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// Whose order it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// What was reserved.
    #[serde(default)]
    pub items: Vec<Item>,
}

/// The items of an order are not all there, so none was reserved.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[event(name = "StockRejected", version = 1, topic = "stock")]
pub struct StockRejected {
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// Whose order it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// Why.
    pub reason: String,
}

/// The items of an order are not needed any more.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[event(name = "StockReleased", version = 1, topic = "stock")]
pub struct StockReleased {
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// What was reserved; nothing, when the order was cancelled before.
    #[serde(default)]
    pub items: Vec<Item>,
}

/// The items of an order left the house.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[event(name = "StockTaken", version = 1, topic = "stock")]
pub struct StockTaken {
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// What was reserved.
    #[serde(default)]
    pub items: Vec<Item>,
}

/// Things came in.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[event(name = "ItemReceived", version = 1, topic = "stock")]
pub struct ItemReceived {
    /// What.
    pub sku: Sku,
    /// How many.
    pub qty: u64,
    /// How many can be reserved from now on.
    pub available: u64,
}

/// Things were put aside for an order.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[event(name = "ItemReserved", version = 1, topic = "stock")]
pub struct ItemReserved {
    /// What.
    pub sku: Sku,
    /// For which order.
    pub order_id: OrderId,
    /// How many.
    pub qty: u64,
    /// How many can be reserved from now on.
    pub available: u64,
}

/// Things that were put aside for an order are free again.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[event(name = "ItemReleased", version = 1, topic = "stock")]
pub struct ItemReleased {
    /// What.
    pub sku: Sku,
    /// For which order.
    pub order_id: OrderId,
    /// How many.
    pub qty: u64,
    /// How many can be reserved from now on.
    pub available: u64,
}

/// Things that were put aside for an order left the house.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[event(name = "ItemTaken", version = 1, topic = "stock")]
pub struct ItemTaken {
    /// What.
    pub sku: Sku,
    /// For which order.
    pub order_id: OrderId,
    /// How many.
    pub qty: u64,
    /// How many can be reserved from now on.
    pub available: u64,
}
