//! What the order service makes of what payment and stock say.

use factum::{Failure, Reaction, Reactor, Recorded};

use super::{Order, OrderCommand};
use crate::contracts::{PaymentCompleted, PaymentFailed, StockRejected, StockReserved, order_of};

pub(super) struct OnPaid;

impl Reactor for OnPaid {
    const NAME: &'static str = "order-paid";
    type Event = PaymentCompleted;

    async fn react(
        &self,
        event: &Recorded<PaymentCompleted>,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        let order = order_of(event, event.data.order_id.as_ref())?;
        cx.execute::<Order>(&order, OrderCommand::Paid)?;
        Ok(())
    }
}

pub(super) struct OnUnpaid;

impl Reactor for OnUnpaid {
    const NAME: &'static str = "order-unpaid";
    type Event = PaymentFailed;

    async fn react(
        &self,
        event: &Recorded<PaymentFailed>,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        let order = order_of(event, event.data.order_id.as_ref())?;
        let reason = format!("payment failed: {}", event.data.reason);
        cx.execute::<Order>(&order, OrderCommand::GiveUp { reason })?;
        Ok(())
    }
}

pub(super) struct OnReserved;

impl Reactor for OnReserved {
    const NAME: &'static str = "order-reserved";
    type Event = StockReserved;

    async fn react(
        &self,
        event: &Recorded<StockReserved>,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        let order = order_of(event, event.data.order_id.as_ref())?;
        cx.execute::<Order>(&order, OrderCommand::Reserved)?;
        Ok(())
    }
}

pub(super) struct OnOutOfStock;

impl Reactor for OnOutOfStock {
    const NAME: &'static str = "order-out-of-stock";
    type Event = StockRejected;

    async fn react(
        &self,
        event: &Recorded<StockRejected>,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        let order = order_of(event, event.data.order_id.as_ref())?;
        let reason = format!("out of stock: {}", event.data.reason);
        cx.execute::<Order>(&order, OrderCommand::GiveUp { reason })?;
        Ok(())
    }
}
