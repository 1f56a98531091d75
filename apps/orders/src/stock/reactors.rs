//! What the stock service does about payments and orders, and about its own promises to put things back.

use factum::{Failure, Reaction, Reactor, Recorded};

use super::{
    Reservation, ReservationCommand, Shelf, ShelfCommand, ShelfError,
    known::{ORDER, Orders},
    reservation::Ended,
};
use crate::contracts::{
    Item, OrderCancelled, OrderCreated, OrderId, OrderShipped, PaymentCompleted, Sku,
    StockReleased, StockTaken, order_of, quantities,
};

/// A paid order: all its items are put aside, or none is.
pub(super) struct OnPaid(pub(super) Orders);

impl Reactor for OnPaid {
    const NAME: &'static str = "reserve";
    type Event = PaymentCompleted;

    async fn react(
        &self,
        event: &Recorded<PaymentCompleted>,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        let order_id = order_of(event, event.data.order_id.as_ref())?;
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

pub(super) struct OnCancelled;

impl Reactor for OnCancelled {
    const NAME: &'static str = "stock-cancelled";
    type Event = OrderCancelled;

    async fn react(
        &self,
        event: &Recorded<OrderCancelled>,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        let order_id = order_of(event, event.data.order_id.as_ref())?;
        cx.execute::<Reservation>(
            &order_id,
            ReservationCommand::Release {
                order_id: order_id.clone(),
            },
        )?;
        Ok(())
    }
}

pub(super) struct OnShipped;

impl Reactor for OnShipped {
    const NAME: &'static str = "stock-shipped";
    type Event = OrderShipped;

    async fn react(
        &self,
        event: &Recorded<OrderShipped>,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        let order_id = order_of(event, event.data.order_id.as_ref())?;
        cx.execute::<Reservation>(
            &order_id,
            ReservationCommand::Take {
                order_id: order_id.clone(),
            },
        )?;
        Ok(())
    }
}

/// Orders are kept here too: a payment may come without its items.
pub(super) struct ImportOrder;

impl Reactor for ImportOrder {
    const NAME: &'static str = "import-order";
    type Event = OrderCreated;

    async fn react(
        &self,
        event: &Recorded<OrderCreated>,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        let order_id = order_of(event, event.data.order_id.as_ref())?;
        cx.import(ORDER, order_id.as_str(), &event.data, event.timestamp)
    }
}

pub(super) struct OnReleased;

impl Reactor for OnReleased {
    const NAME: &'static str = "put-back";
    type Event = StockReleased;

    async fn react(
        &self,
        event: &Recorded<StockReleased>,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        let order_id = order_of(event, event.data.order_id.as_ref())?;
        put_back(&order_id, &event.data.items, cx)
    }
}

pub(super) struct OnTaken;

impl Reactor for OnTaken {
    const NAME: &'static str = "take-away";
    type Event = StockTaken;

    async fn react(&self, event: &Recorded<StockTaken>, cx: &mut Reaction) -> Result<(), Failure> {
        let order_id = order_of(event, event.data.order_id.as_ref())?;
        let skus: Vec<Sku> = quantities(&event.data.items).into_keys().collect();
        for sku in skus {
            cx.execute::<Shelf>(
                &sku,
                ShelfCommand::Take {
                    order_id: order_id.clone(),
                },
            )?;
        }
        Ok(())
    }
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
