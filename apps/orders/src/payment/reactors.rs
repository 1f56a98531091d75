//! What the payment service does about orders, and about its own promises to give money back.

use factum::{Event, Failure, GroupSpec, Reaction, Reactor, Recorded, reactor};

use super::{Payment, PaymentCommand};
use crate::{
    contracts::{
        Currency, Item, OfOrder, OrderCancelled, OrderCreated, OrderId, OrderPaymentRequested,
        PaymentCompleted, PaymentFailed, PaymentMode, RefundRequested, StockRejected, UserId,
        order_of,
    },
    outside::{Charge, Charged, Gateway, GatewayError, Refund},
};

/// How much of a message's metadata is passed on with what follows from it: the events of all of an order's shelves
/// carry it, at most a thousand of them.
const METADATA_BYTES_MAX: usize = 16_000;

/// How much of a reason is passed on: it stands in events beside what others said.
const REASON_CHARS_MAX: usize = 1_000;

/// What is to be charged.
struct Bill {
    order_id: OrderId,
    user_id: UserId,
    items: Vec<Item>,
    amount: u64,
    currency: Currency,
    card: Option<String>,
}

impl Bill {
    async fn charge(self, gateway: &Gateway, cx: &mut Reaction) -> Result<(), Failure> {
        let Self {
            order_id,
            user_id,
            items,
            amount,
            currency,
            card,
        } = self;
        let key = cx.idempotency_key("charge");
        let card = card.unwrap_or_else(|| "card:on-file".into());
        let charge = Charge {
            key,
            order_id: order_id.clone(),
            amount,
            currency: currency.clone(),
            card,
        };
        let (id, user_id) = (Some(order_id.clone()), Some(user_id));
        let outcome = match gateway.charge(charge).await.map_err(failure)? {
            Charged::Approved => {
                let items = Some(items);
                PaymentCommand::Complete(PaymentCompleted {
                    order_id: id,
                    user_id,
                    amount,
                    currency,
                    items,
                })
            }
            Charged::Declined(reason) => PaymentCommand::Fail(PaymentFailed {
                order_id: id,
                user_id,
                reason,
            }),
        };
        cx.execute::<Payment>(&order_id, outcome)?;
        Ok(())
    }
}

/// What an error of the gateway means for the message that led to it.
#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn failure(error: GatewayError) -> Failure {
    match error {
        GatewayError::Down(_) => Failure::transient(error.to_string()),
        // A producer said the same under two ids. The order was served by the first.
        GatewayError::Repeated(_) => Failure::skip(error.to_string()),
        GatewayError::KeyReused(_) | GatewayError::NotCharged { .. } => {
            Failure::poison(error.to_string())
        }
    }
}

/// Follows orders, and what becomes of them.
pub(super) fn orders(gateway: &Gateway) -> GroupSpec {
    GroupSpec::new("payment-service")
        .on(charge_placed(gateway))
        .on(charge_requested(gateway))
        .on(undo("payment-cancelled", |event: &OrderCancelled| {
            &event.reason
        }))
        .on(undo("payment-out-of-stock", |event: &StockRejected| {
            &event.reason
        }))
}

/// Keeps the service's own promises to give money back.
pub(super) fn refunds(gateway: &Gateway) -> GroupSpec {
    GroupSpec::new("payment-refunds").on(GiveBack(gateway.clone()))
}

/// Charges an order when an event says that it is to be paid.
struct ChargeOrder<E> {
    name: &'static str,
    gateway: Gateway,
    /// What is to be charged for the order; nothing, when the event doesn't say so.
    bill: fn(E, OrderId) -> Option<Bill>,
}

impl<E: Event + OfOrder> Reactor for ChargeOrder<E> {
    type Event = E;

    fn name(&self) -> &'static str {
        self.name
    }

    async fn react(&self, event: &Recorded<E>, cx: &mut Reaction) -> Result<(), Failure> {
        let bill = (self.bill)(event.data.clone(), order_of(event)?);
        can_be_served(event)?;
        match bill {
            Some(bill) => bill.charge(&self.gateway, cx).await,
            None => Ok(()),
        }
    }
}

/// Refuses what could be charged and then not be told to anybody: with so much beside them, the events that follow weigh
/// more than a record may. What the order itself may weigh is checked when it is read.
fn can_be_served<E>(event: &Recorded<E>) -> Result<(), Failure> {
    let members = event.metadata.iter();
    let weight: usize = members
        .map(|(name, value)| name.len() + value.as_str().len())
        .sum();
    if weight <= METADATA_BYTES_MAX {
        return Ok(());
    }
    Err(Failure::poison(format!(
        "the envelope has {weight} bytes of metadata, and an order is charged with at most {METADATA_BYTES_MAX}"
    )))
}

/// Charges an order as soon as it is placed, unless it is to be paid by hand.
fn charge_placed(gateway: &Gateway) -> ChargeOrder<OrderCreated> {
    ChargeOrder {
        name: "charge",
        gateway: gateway.clone(),
        bill: |placed, order_id| {
            (placed.payment == PaymentMode::Auto).then_some(Bill {
                order_id,
                user_id: placed.user_id,
                items: placed.items,
                amount: placed.total_amount,
                currency: placed.currency,
                card: placed.card,
            })
        },
    }
}

/// Charges an order when its user says so.
fn charge_requested(gateway: &Gateway) -> ChargeOrder<OrderPaymentRequested> {
    ChargeOrder {
        name: "charge-on-request",
        gateway: gateway.clone(),
        bill: |requested, order_id| {
            Some(Bill {
                order_id,
                user_id: requested.user_id,
                items: requested.items,
                amount: requested.total_amount,
                currency: requested.currency,
                card: requested.card,
            })
        },
    }
}

/// Undoes the payment of an order that comes to nothing, for the reason that the event gives.
fn undo<E: Event + OfOrder>(
    name: &'static str,
    reason: fn(&E) -> &String,
) -> impl Reactor<Event = E> {
    reactor(name, move |event: &Recorded<E>, cx| {
        let order_id = order_of(event)?;
        let undo = PaymentCommand::Undo {
            order_id: order_id.clone(),
            reason: reason(&event.data).chars().take(REASON_CHARS_MAX).collect(),
        };
        cx.execute::<Payment>(&order_id, undo)?;
        Ok(())
    })
}

/// Tells the gateway to give money back that was promised.
struct GiveBack(Gateway);

impl Reactor for GiveBack {
    type Event = RefundRequested;

    fn name(&self) -> &'static str {
        "give-back"
    }

    async fn react(
        &self,
        event: &Recorded<RefundRequested>,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        let order_id = order_of(event)?;
        let RefundRequested {
            amount, currency, ..
        } = event.data.clone();
        let refund = Refund {
            key: cx.idempotency_key("refund"),
            order_id: order_id.clone(),
            amount,
            currency,
        };
        self.0.refund(refund).await.map_err(failure)?;
        let refunded = PaymentCommand::Refunded {
            order_id: order_id.clone(),
        };
        cx.execute::<Payment>(&order_id, refunded)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use factum::FailureClass;
    use factum_testkit::{given_event, when_event};

    use super::*;
    use crate::outside::Outside;

    fn placed(card: &str, payment: PaymentMode) -> OrderCreated {
        OrderCreated {
            order_id: Some("o-1".into()),
            user_id: "u-1".into(),
            items: Vec::new(),
            total_amount: 500,
            currency: Currency::won(),
            payment,
            card: Some(card.into()),
        }
    }

    fn completed() -> PaymentCommand {
        PaymentCommand::Complete(PaymentCompleted {
            order_id: Some("o-1".into()),
            user_id: Some("u-1".into()),
            amount: 500,
            currency: Currency::won(),
            items: Some(Vec::new()),
        })
    }

    #[test]
    fn an_order_is_charged_once_however_often_it_is_handled() {
        let outside = Outside::in_memory();
        when_event(
            charge_placed(&outside.gateway),
            placed("card:ok", PaymentMode::Auto),
        )
        .then_executes::<Payment>("o-1", completed())
        .then_nothing()
        .is_idempotent();
        assert_eq!(outside.gateway.charges().unwrap().len(), 1);
    }

    #[test]
    fn an_order_that_is_to_be_paid_by_hand_is_not_charged() {
        let outside = Outside::in_memory();
        when_event(
            charge_placed(&outside.gateway),
            placed("card:ok", PaymentMode::Manual),
        )
        .then_nothing();
        assert!(outside.gateway.charges().unwrap().is_empty());
    }

    #[test]
    fn a_declined_card_fails_the_payment_and_not_the_handler() {
        let failed = PaymentFailed {
            order_id: Some("o-1".into()),
            user_id: Some("u-1".into()),
            reason: "the card was declined".into(),
        };
        let gateway = Outside::in_memory().gateway;
        when_event(
            charge_placed(&gateway),
            placed("card:declined", PaymentMode::Auto),
        )
        .then_executes::<Payment>("o-1", PaymentCommand::Fail(failed))
        .then_nothing();
    }

    #[test]
    fn a_gateway_that_is_down_is_tried_again() {
        let outside = Outside::in_memory();
        outside.faults.set_gateway_down(true);
        when_event(
            charge_placed(&outside.gateway),
            placed("card:ok", PaymentMode::Auto),
        )
        .then_fails(FailureClass::Transient);
    }

    #[test]
    fn the_same_order_under_another_event_id_is_left_out_and_not_charged_again() {
        let outside = Outside::in_memory();
        let charge = || charge_placed(&outside.gateway);
        when_event(charge(), placed("card:ok", PaymentMode::Auto))
            .then_executes::<Payment>("o-1", completed());
        let again = given_event(placed("card:ok", PaymentMode::Auto))
            .with_id("another")
            .when(charge());
        let failure = again.failure().expect("it is left out");
        assert!(
            matches!(failure.outcome(), factum::Outcome::Skip(_)),
            "{failure:?}"
        );
        assert_eq!(outside.gateway.charges().unwrap().len(), 1);
    }

    #[test]
    fn an_order_that_nothing_names_is_poison() {
        let nameless = OrderCreated {
            order_id: None,
            ..placed("card:ok", PaymentMode::Auto)
        };
        when_event(charge_placed(&Outside::in_memory().gateway), nameless)
            .then_fails(FailureClass::Poison);
    }
}
