//! The contracts: the events on the wire that the services share, and nothing else is shared.
//!
//! Each service publishes one family of them and reads single ones of the others. What a foreign producer may leave
//! out is optional here: an event without `order_id` is about the aggregate that its envelope names, and
//! [`order_of`] knows the rule. Money is whole minor units (won, cents) with a currency, never a float.
//!
//! | topic | whose events | keyed by |
//! |---|---|---|
//! | `users` | the user registry's | user |
//! | `orders` | the order service's | user, so that a user's orders keep their order |
//! | `payments` | the payment service's | order |
//! | `stock` | the stock service's | order for reservations, SKU for shelves |

mod ids;
pub use ids::{Currency, InvalidCurrency, InvalidId, OrderId, SKU_CHARS_MAX, Sku, UserId};
mod items;
pub use items::{Item, LINES_BYTES_MAX, LINES_MAX, quantities};
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

/// An event that is about an order, and may say which.
pub trait OfOrder {
    /// The order that its data names, if it names one.
    fn order_id(&self) -> Option<&OrderId>;
}

/// Events with a field `order_id`.
macro_rules! of_order {
    ($($event:ty),+ $(,)?) => {
        $(impl OfOrder for $event {
            fn order_id(&self) -> Option<&OrderId> {
                self.order_id.as_ref()
            }
        })+
    };
}

of_order! {
    OrderCancelled, OrderCreated, OrderPaymentRequested, OrderShipped,
    PaymentCompleted, PaymentFailed, PaymentRefunded, PaymentVoided, RefundRequested,
    StockRejected, StockReleased, StockReserved, StockTaken,
}

impl OfOrder for OrderEvent {
    fn order_id(&self) -> Option<&OrderId> {
        match self {
            Self::Created(event) => event.order_id.as_ref(),
            Self::PaymentRequested(event) => event.order_id.as_ref(),
            Self::Paid(event) => event.order_id.as_ref(),
            Self::Confirmed(event) => event.order_id.as_ref(),
            Self::Shipped(event) => event.order_id.as_ref(),
            Self::Cancelled(event) => event.order_id.as_ref(),
        }
    }
}

/// The order that an event is about: the one that its data names, or else the one that its envelope names.
///
/// # Errors
///
/// A poison failure when neither names one: nobody can tell what the event is about, however often it is tried.
pub fn order_of<E: OfOrder>(event: &Recorded<E>) -> Result<OrderId, Failure> {
    order_or(event.data.order_id(), event)
}

/// The order that is `named`, or else the one that the envelope names.
///
/// # Errors
///
/// As [`order_of`].
pub fn order_or<E>(named: Option<&OrderId>, event: &Recorded<E>) -> Result<OrderId, Failure> {
    if let Some(named) = named {
        return Ok(named.clone());
    }
    let Some(enveloped) = event.aggregate_id.as_deref() else {
        return Err(Failure::poison(
            "the event names no order: it needs `order_id` in its data or `aggregate_id` in its envelope",
        ));
    };
    OrderId::try_from(enveloped.to_owned())
        .map_err(|error| Failure::poison(format!("`aggregate_id` in the envelope: {error}")))
}

#[cfg(test)]
mod tests;
