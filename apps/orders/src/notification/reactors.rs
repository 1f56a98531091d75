//! What users are told, and when.

use factum::{Event, Failure, GroupSpec, Reaction, Reactor, Recorded};

use super::{Notification, Record};
use crate::{
    contracts::{
        OfOrder, OrderCancelled, OrderShipped, PaymentFailed, PaymentRefunded, StockRejected,
        StockReserved, UserId, order_of,
    },
    outside::{Notice, Notifier},
};

/// Tells users what becomes of their orders.
pub(super) fn group(notifier: &Notifier) -> GroupSpec {
    GroupSpec::new("notification-service")
        .on(Tell {
            name: "tell-confirmed",
            notifier: notifier.clone(),
            text: |_: &StockReserved| "your order is confirmed".into(),
            user: |event| event.data.user_id.clone(),
        })
        .on(Tell {
            name: "tell-out-of-stock",
            notifier: notifier.clone(),
            text: |event: &StockRejected| {
                format!("your order can't be fulfilled: {}", event.reason)
            },
            user: |event| event.data.user_id.clone(),
        })
        .on(Tell {
            name: "tell-unpaid",
            notifier: notifier.clone(),
            text: |event: &PaymentFailed| format!("your payment failed: {}", event.reason),
            user: |event| event.data.user_id.clone(),
        })
        .on(Tell {
            name: "tell-refunded",
            notifier: notifier.clone(),
            text: |PaymentRefunded {
                       amount, currency, ..
                   }| {
                format!("your money is on its way back: {amount} {currency}")
            },
            user: |event| event.data.user_id.clone(),
        })
        .on(Tell {
            name: "tell-shipped",
            notifier: notifier.clone(),
            text: |event: &OrderShipped| format!("your order is on its way: {}", event.tracking),
            user: placed_by,
        })
        .on(Tell {
            name: "tell-cancelled",
            notifier: notifier.clone(),
            text: |event: &OrderCancelled| format!("your order was cancelled: {}", event.reason),
            user: placed_by,
        })
}

/// Who placed an order: its events are keyed by user.
fn placed_by<E>(event: &Recorded<E>) -> Option<UserId> {
    UserId::try_from(event.key.as_ref()?.as_text()?.to_owned()).ok()
}

/// Tells a user one thing, and records that it was told.
struct Tell<E> {
    name: &'static str,
    notifier: Notifier,
    text: fn(&E) -> String,
    user: fn(&Recorded<E>) -> Option<UserId>,
}

impl<E: Event + OfOrder> Reactor for Tell<E> {
    type Event = E;

    fn name(&self) -> &'static str {
        self.name
    }

    async fn react(&self, event: &Recorded<E>, cx: &mut Reaction) -> Result<(), Failure> {
        let notice = Notice {
            key: cx.idempotency_key("tell"),
            user_id: (self.user)(event),
            order_id: order_of(event)?,
            text: (self.text)(&event.data),
        };
        self.notifier.tell(&notice).await?;
        cx.execute::<Notification>(&notice.key.clone(), Record(notice))?;
        Ok(())
    }
}
