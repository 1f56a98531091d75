//! What the order service makes of what payment and stock say.

use factum::{Event, GroupSpec, Reactor, Recorded, reactor};

use super::{Order, OrderCommand};
use crate::contracts::{
    OfOrder, PaymentCompleted, PaymentFailed, StockRejected, StockReserved, order_of,
};

/// Follows the other services.
pub(super) fn group() -> GroupSpec {
    GroupSpec::new("order-service")
        .on(tell("order-paid", |_: &PaymentCompleted| {
            OrderCommand::Paid
        }))
        .on(tell("order-unpaid", |event: &PaymentFailed| {
            let reason = format!("payment failed: {}", event.reason);
            OrderCommand::GiveUp { reason }
        }))
        .on(tell("order-reserved", |_: &StockReserved| {
            OrderCommand::Reserved
        }))
        .on(tell("order-out-of-stock", |event: &StockRejected| {
            let reason = format!("out of stock: {}", event.reason);
            OrderCommand::GiveUp { reason }
        }))
}

/// Tells the order that an event is about what the event means for it.
fn tell<E: Event + OfOrder>(
    name: &'static str,
    means: impl Fn(&E) -> OrderCommand + Send + Sync + 'static,
) -> impl Reactor {
    reactor(name, move |event: &Recorded<E>, cx| {
        cx.execute::<Order>(&order_of(event)?, means(&event.data))?;
        Ok(())
    })
}
