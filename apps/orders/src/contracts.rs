//! The contracts: the events on the wire that the services share, and nothing else is shared.
//!
//! Each service publishes one family of them and reads single ones of the others. What a foreign producer may leave
//! out is optional here: an event without `order_id` is about the aggregate that its envelope names, and
//! [`order_of`] knows the rule. Money is whole minor units (won, cents) with a currency, never a float.

mod ids;
pub use ids::{Currency, InvalidCurrency, OrderId, Sku, UserId};
mod items;
pub use items::{Item, quantities};
mod orders;
pub use orders::{
    OrderCancelled, OrderConfirmed, OrderCreated, OrderEvent, OrderPaid, OrderPaymentRequested,
    OrderShipped, PaymentMode,
};
mod payments;
pub use payments::{
    PaymentCompleted, PaymentEvent, PaymentFailed, PaymentRefunded, PaymentVoided, RefundRequested,
};
mod stock;
pub use stock::{
    ItemReceived, ItemReleased, ItemReserved, ItemTaken, ShelfEvent, StockEvent, StockRejected,
    StockReleased, StockReserved, StockTaken,
};
mod users;
pub use users::UserRegistered;

use factum::{Failure, Recorded};

/// The topic of the user registry's events; keyed by user.
pub const USERS: &str = "users";
/// The topic of the order service's events; keyed by user, so that a user's orders keep their order.
pub const ORDERS: &str = "orders";
/// The topic of the payment service's events; keyed by order.
pub const PAYMENTS: &str = "payments";
/// The topic of the stock service's events; those of reservations keyed by order, those of shelves by SKU.
pub const STOCK: &str = "stock";

/// The order that an event is about: the one that its data names, or else the one that its envelope names.
///
/// # Errors
///
/// A poison failure when neither names one: nobody can tell what the event is about, however often it is tried.
pub fn order_of<E>(event: &Recorded<E>, said: Option<&OrderId>) -> Result<OrderId, Failure> {
    let named = said
        .cloned()
        .or_else(|| event.aggregate_id.as_deref().map(OrderId::from));
    named.ok_or_else(|| {
        Failure::poison("the event names no order: it needs `order_id` in its data or `aggregate_id` in its envelope")
    })
}
