//! What users are told, and when.

use factum::{Failure, Reaction, Reactor, Recorded};

use super::{Notification, Record};
use crate::{
    contracts::{
        OrderCancelled, OrderId, OrderShipped, PaymentFailed, PaymentRefunded, StockRejected,
        StockReserved, UserId, order_of,
    },
    outside::{Notice, Notifier},
};

/// Tells users one thing.
pub(super) struct Tell {
    notifier: Notifier,
    what: &'static str,
}

impl Tell {
    pub(super) fn new(notifier: &Notifier, what: &'static str) -> Self {
        Self {
            notifier: notifier.clone(),
            what,
        }
    }

    async fn tell<E: Sync>(
        &self,
        event: &Recorded<E>,
        order_id: Option<&OrderId>,
        user_id: Option<UserId>,
        why: &str,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        let order_id = order_of(event, order_id)?;
        let key = cx.idempotency_key("tell");
        let text = format!("{}{why}", self.what);
        let notice = Notice {
            key: key.clone(),
            user_id,
            order_id,
            text,
        };
        self.notifier.tell(&notice).await?;
        cx.execute::<Notification>(&key, Record(notice))?;
        Ok(())
    }
}

/// Who placed an order: its events are keyed by user.
fn user<E>(event: &Recorded<E>) -> Option<UserId> {
    event.key.as_ref()?.as_text().map(UserId::from)
}

pub(super) struct OnReserved(pub(super) Tell);

impl Reactor for OnReserved {
    const NAME: &'static str = "tell-confirmed";
    type Event = StockReserved;

    async fn react(
        &self,
        event: &Recorded<StockReserved>,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        let StockReserved {
            order_id, user_id, ..
        } = &event.data;
        self.0
            .tell(event, order_id.as_ref(), user_id.clone(), "", cx)
            .await
    }
}

pub(super) struct OnOutOfStock(pub(super) Tell);

impl Reactor for OnOutOfStock {
    const NAME: &'static str = "tell-out-of-stock";
    type Event = StockRejected;

    async fn react(
        &self,
        event: &Recorded<StockRejected>,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        let StockRejected {
            order_id,
            user_id,
            reason,
        } = &event.data;
        self.0
            .tell(
                event,
                order_id.as_ref(),
                user_id.clone(),
                &format!(": {reason}"),
                cx,
            )
            .await
    }
}

pub(super) struct OnUnpaid(pub(super) Tell);

impl Reactor for OnUnpaid {
    const NAME: &'static str = "tell-unpaid";
    type Event = PaymentFailed;

    async fn react(
        &self,
        event: &Recorded<PaymentFailed>,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        let PaymentFailed {
            order_id,
            user_id,
            reason,
        } = &event.data;
        self.0
            .tell(
                event,
                order_id.as_ref(),
                user_id.clone(),
                &format!(": {reason}"),
                cx,
            )
            .await
    }
}

pub(super) struct OnRefunded(pub(super) Tell);

impl Reactor for OnRefunded {
    const NAME: &'static str = "tell-refunded";
    type Event = PaymentRefunded;

    async fn react(
        &self,
        event: &Recorded<PaymentRefunded>,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        let PaymentRefunded {
            order_id,
            user_id,
            amount,
            currency,
        } = &event.data;
        let money = format!(": {amount} {currency}");
        self.0
            .tell(event, order_id.as_ref(), user_id.clone(), &money, cx)
            .await
    }
}

pub(super) struct OnShipped(pub(super) Tell);

impl Reactor for OnShipped {
    const NAME: &'static str = "tell-shipped";
    type Event = OrderShipped;

    async fn react(
        &self,
        event: &Recorded<OrderShipped>,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        let OrderShipped { order_id, tracking } = &event.data;
        self.0
            .tell(
                event,
                order_id.as_ref(),
                user(event),
                &format!(": {tracking}"),
                cx,
            )
            .await
    }
}

pub(super) struct OnCancelled(pub(super) Tell);

impl Reactor for OnCancelled {
    const NAME: &'static str = "tell-cancelled";
    type Event = OrderCancelled;

    async fn react(
        &self,
        event: &Recorded<OrderCancelled>,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        let OrderCancelled { order_id, reason } = &event.data;
        self.0
            .tell(
                event,
                order_id.as_ref(),
                user(event),
                &format!(": {reason}"),
                cx,
            )
            .await
    }
}
