//! What the stock service does about payments and orders, and about its own promises to put things back.

use factum::{Event, Failure, GroupSpec, Reaction, Reactor, Recorded, reactor};

use super::{
    Reservation, ReservationCommand, Shelf, ShelfCommand, ShelfError,
    known::{ORDER, Orders},
    reservation::Ended,
};
use crate::contracts::{
    Item, OfOrder, OrderCancelled, OrderCreated, OrderId, OrderShipped, PaymentCompleted,
    StockReleased, StockTaken, order_of, quantities,
};

/// Follows payments, and what becomes of orders.
pub(super) fn follow(known: Orders) -> GroupSpec {
    GroupSpec::new("stock-service")
        .on(OnPaid(known))
        .on(end("stock-cancelled", |_: &OrderCancelled, order_id| {
            ReservationCommand::Release { order_id }
        }))
        .on(end("stock-shipped", |_: &OrderShipped, order_id| {
            ReservationCommand::Take { order_id }
        }))
}

/// Keeps orders here too: a payment may come without its items.
pub(super) fn imports() -> GroupSpec {
    GroupSpec::new("stock-imports").on(reactor(
        "import-order",
        |event: &Recorded<OrderCreated>, cx| {
            let order_id = order_of(event)?;
            cx.import(ORDER, order_id.as_str(), &event.data, event.timestamp)
        },
    ))
}

/// Moves things on the shelves once the reservation has said so.
pub(super) fn shelves() -> GroupSpec {
    GroupSpec::new("stock-shelves")
        .on(reactor(
            "put-back",
            |event: &Recorded<StockReleased>, cx| {
                put_back(&order_of(event)?, &event.data.items, cx)
            },
        ))
        .on(reactor("take-away", |event: &Recorded<StockTaken>, cx| {
            let order_id = order_of(event)?;
            for (sku, _) in quantities(&event.data.items) {
                let take = ShelfCommand::Take {
                    order_id: order_id.clone(),
                };
                cx.execute::<Shelf>(&sku, take)?;
            }
            Ok(())
        }))
}

/// A paid order: all its items are put aside, or none is.
struct OnPaid(Orders);

impl Reactor for OnPaid {
    type Event = PaymentCompleted;

    fn name(&self) -> &'static str {
        "reserve"
    }

    async fn react(
        &self,
        event: &Recorded<PaymentCompleted>,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        let order_id = order_of(event)?;
        let user_id = event.data.user_id.clone();
        let items = match &event.data.items {
            Some(items) => items.clone(),
            None => self.0.items(&order_id).await?,
        };
        for (sku, qty) in quantities(&items) {
            let reserve = ShelfCommand::Reserve {
                order_id: order_id.clone(),
                qty,
            };
            let (order_id, user_id, short) = (order_id.clone(), user_id.clone(), sku.clone());
            cx.execute::<Shelf>(&sku, reserve)?
                .on_rejected(move |error: &ShelfError, cx| {
                    let (order_id, user_id) = (order_id.clone(), user_id.clone());
                    let reason = format!("`{short}`: {error}");
                    let reject = ReservationCommand::Reject {
                        order_id: order_id.clone(),
                        user_id,
                        reason,
                    };
                    cx.execute::<Reservation>(&order_id, reject).map(drop)
                });
        }
        // The reservation has the last word. It refuses when an item was missing, now or before, and when the order
        // was given up: then whatever was put aside above goes back, in the same commit.
        let reserve = ReservationCommand::Reserve {
            order_id: order_id.clone(),
            user_id,
            items: items.clone(),
        };
        let order = order_id.clone();
        cx.execute::<Reservation>(&order_id, reserve)?
            .on_rejected(move |_: &Ended, cx| put_back(&order, &items, cx));
        Ok(())
    }
}

/// Ends the reservation of the order that an event is about.
fn end<E: Event + OfOrder>(
    name: &'static str,
    how: fn(&E, OrderId) -> ReservationCommand,
) -> impl Reactor {
    reactor(name, move |event: &Recorded<E>, cx| {
        let order_id = order_of(event)?;
        cx.execute::<Reservation>(&order_id, how(&event.data, order_id.clone()))?;
        Ok(())
    })
}

fn put_back(order_id: &OrderId, items: &[Item], cx: &mut Reaction) -> Result<(), Failure> {
    for (sku, _) in quantities(items) {
        cx.execute::<Shelf>(
            &sku,
            ShelfCommand::Release {
                order_id: order_id.clone(),
            },
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use factum::{FailureClass, ServiceName, Store, StoreId, Timestamp};
    use factum_testkit::{MemoryStore, when_event};

    use super::*;
    use crate::contracts::Currency;

    fn reserve() -> OnPaid {
        let id = StoreId("00000000-0000-0000-0000-000000000001".parse().unwrap());
        let store = MemoryStore::new(id, ServiceName::of("stock"), Timestamp::UNIX_EPOCH);
        OnPaid(Orders::of(Arc::new(store) as Arc<dyn Store>))
    }

    fn item(sku: &str, qty: u32) -> Item {
        Item {
            sku: sku.into(),
            name: sku.into(),
            qty,
            price: 1,
        }
    }

    fn paid(items: Option<Vec<Item>>) -> PaymentCompleted {
        PaymentCompleted {
            order_id: Some("o-1".into()),
            user_id: None,
            amount: 500,
            currency: Currency::won(),
            items,
        }
    }

    fn order() -> OrderId {
        "o-1".into()
    }

    #[test]
    fn what_is_short_is_rejected_and_the_rest_is_put_back() {
        let items = vec![item("cup", 1), item("tea", 2)];
        let put_aside = |qty| ShelfCommand::Reserve {
            order_id: order(),
            qty,
        };
        let short = ShelfError::Short {
            wanted: 2,
            available: 1,
        };
        let reason = format!("`tea`: {short}");
        when_event(reserve(), paid(Some(items.clone())))
            .then_executes::<Shelf>("cup", put_aside(1))
            .then_executes::<Shelf>("tea", put_aside(2))
            .when_rejected(short)
            .then_executes::<Reservation>(
                "o-1",
                ReservationCommand::Reject {
                    order_id: order(),
                    user_id: None,
                    reason,
                },
            )
            .then_executes::<Reservation>(
                "o-1",
                ReservationCommand::Reserve {
                    order_id: order(),
                    user_id: None,
                    items,
                },
            )
            .when_rejected(Ended)
            .then_executes::<Shelf>("cup", ShelfCommand::Release { order_id: order() })
            .then_executes::<Shelf>("tea", ShelfCommand::Release { order_id: order() })
            .then_nothing();
    }

    #[test]
    fn a_payment_without_items_of_an_unknown_order_is_tried_again() {
        when_event(reserve(), paid(None)).then_fails(FailureClass::Transient);
    }
}
