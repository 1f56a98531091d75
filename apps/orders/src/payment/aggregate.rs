//! The payment of an order: made at most once, given back at most once.

use std::convert::Infallible;

use factum::{Aggregate, Decision};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contracts::{
    Currency, OrderId, PaymentCompleted, PaymentEvent, PaymentFailed, PaymentRefunded,
    PaymentVoided, RefundRequested, UserId,
};

/// The payment of an order as far as it decides on itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Payment {
    /// Where it stands.
    pub status: PaymentStatus,
    /// Who pays.
    pub user_id: Option<UserId>,
    /// How much, in minor units.
    pub amount: u64,
    /// In which currency.
    pub currency: Currency,
}

/// Where a payment stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// Nothing happened yet.
    #[default]
    Open,
    /// The money was taken.
    Completed,
    /// The card was declined.
    Failed,
    /// The order was given up before anything was charged.
    Voided,
    /// The money will be given back.
    Refunding,
    /// The money was given back.
    Refunded,
}

/// What a payment can be told. It takes what means something where it stands; all else is old news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaymentCommand {
    /// The gateway took the money.
    Complete(PaymentCompleted),
    /// The gateway declined the card.
    Fail(PaymentFailed),
    /// The order came to nothing.
    Undo {
        /// The order.
        order_id: OrderId,
        /// Why.
        reason: String,
    },
    /// The gateway gave the money back.
    Refunded {
        /// The order.
        order_id: OrderId,
    },
}

impl Aggregate for Payment {
    const CATEGORY: &'static str = "payment";
    type Id = OrderId;
    type Command = PaymentCommand;
    type Event = PaymentEvent;
    type Error = Infallible;

    fn handle(
        &self,
        command: PaymentCommand,
        _: &Decision,
    ) -> Result<Vec<PaymentEvent>, Infallible> {
        let Self {
            status,
            user_id,
            amount,
            currency,
        } = self.clone();
        let refund = |order_id, amount, currency, reason| RefundRequested {
            order_id,
            amount,
            currency,
            reason,
        };
        let event: PaymentEvent = match (command, status) {
            (PaymentCommand::Complete(completed), PaymentStatus::Open) => completed.into(),
            // The order was given up while the card was charged.
            (PaymentCommand::Complete(charged), PaymentStatus::Voided) => {
                let reason = "the order was given up before it was paid".into();
                refund(charged.order_id, charged.amount, charged.currency, reason).into()
            }
            (PaymentCommand::Fail(failed), PaymentStatus::Open) => failed.into(),
            (PaymentCommand::Undo { order_id, reason }, PaymentStatus::Open) => PaymentVoided {
                order_id: Some(order_id),
                reason,
            }
            .into(),
            (PaymentCommand::Undo { order_id, reason }, PaymentStatus::Completed) => {
                refund(Some(order_id), amount, currency, reason).into()
            }
            (PaymentCommand::Refunded { order_id }, PaymentStatus::Refunding) => PaymentRefunded {
                order_id: Some(order_id),
                user_id,
                amount,
                currency,
            }
            .into(),
            _ => return Ok(Vec::new()),
        };
        Ok(vec![event])
    }

    fn apply(&mut self, event: &PaymentEvent) {
        self.status = match event {
            PaymentEvent::Completed(completed) => {
                self.user_id.clone_from(&completed.user_id);
                self.amount = completed.amount;
                self.currency.clone_from(&completed.currency);
                PaymentStatus::Completed
            }
            PaymentEvent::Failed(_) => PaymentStatus::Failed,
            PaymentEvent::Voided(_) => PaymentStatus::Voided,
            PaymentEvent::RefundRequested(requested) => {
                self.amount = requested.amount;
                self.currency.clone_from(&requested.currency);
                PaymentStatus::Refunding
            }
            PaymentEvent::Refunded(_) => PaymentStatus::Refunded,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use factum_testkit::given;

    fn id() -> OrderId {
        "o-1".into()
    }

    fn completed() -> PaymentCompleted {
        let (user_id, currency) = (Some("u-1".into()), Currency::won());
        PaymentCompleted {
            order_id: Some(id()),
            user_id,
            amount: 500,
            currency,
            items: None,
        }
    }

    fn failed() -> PaymentFailed {
        PaymentFailed {
            order_id: Some(id()),
            user_id: None,
            reason: "declined".into(),
        }
    }

    fn refund(reason: &str) -> PaymentEvent {
        let (amount, currency) = (500, Currency::won());
        PaymentEvent::RefundRequested(RefundRequested {
            order_id: Some(id()),
            amount,
            currency,
            reason: reason.into(),
        })
    }

    fn undo() -> PaymentCommand {
        PaymentCommand::Undo {
            order_id: "o-1".into(),
            reason: "no tea".into(),
        }
    }

    #[test]
    fn what_the_gateway_says_twice_is_recorded_once() {
        let done = PaymentEvent::Completed(completed());
        given::<Payment>([])
            .when(PaymentCommand::Complete(completed()))
            .then([done])
            .and(PaymentCommand::Complete(completed()))
            .then_nothing();
        given::<Payment>([])
            .when(PaymentCommand::Fail(failed()))
            .then([PaymentEvent::Failed(failed())])
            .and(PaymentCommand::Fail(failed()))
            .then_nothing();
    }

    #[test]
    fn a_payment_is_given_back_once() {
        let refunded = PaymentRefunded {
            order_id: Some(id()),
            user_id: Some("u-1".into()),
            amount: 500,
            currency: Currency::won(),
        };
        let tell = || PaymentCommand::Refunded {
            order_id: "o-1".into(),
        };
        given::<Payment>([PaymentEvent::Completed(completed())])
            .when(undo())
            .then([refund("no tea")])
            .and(undo())
            .then_nothing()
            .and(tell())
            .then([PaymentEvent::Refunded(refunded)])
            .and(tell())
            .then_nothing();
    }

    #[test]
    fn what_was_not_paid_is_not_given_back() {
        given::<Payment>([PaymentEvent::Failed(failed())])
            .when(undo())
            .then_nothing();
    }

    #[test]
    fn what_is_paid_after_the_order_was_given_up_is_given_back_at_once() {
        let voided = PaymentVoided {
            order_id: Some(id()),
            reason: "no tea".into(),
        };
        given::<Payment>([])
            .when(undo())
            .then([PaymentEvent::Voided(voided)])
            .and(PaymentCommand::Complete(completed()))
            .then([refund("the order was given up before it was paid")]);
    }
}
