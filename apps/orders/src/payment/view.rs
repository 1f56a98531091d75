//! The payment service's own view: payments as rows.

use factum::{Failure, Projection, Recorded, RowSet, View, ViewDefinition};
use serde::{Deserialize, Serialize};

use super::PaymentStatus;
use crate::contracts::{Currency, OrderId, PaymentEvent, order_or};

/// Payments by order.
pub const PAYMENTS: View<PaymentRow> = View::new("payments");

/// A payment as queries show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentRow {
    /// The order.
    pub order_id: OrderId,
    /// Where it stands.
    pub status: PaymentStatus,
    /// How much, in minor units.
    pub amount: u64,
    /// In which currency.
    pub currency: Currency,
    /// Why it failed, was voided or is given back.
    pub reason: Option<String>,
}

pub(super) struct KeepPayments;

impl Projection for KeepPayments {
    const NAME: &'static str = "payments";
    type Event = PaymentEvent;

    fn views(&self) -> Vec<ViewDefinition> {
        vec![PAYMENTS.kept_by::<Self>().text("status")]
    }

    async fn project(
        &self,
        event: &Recorded<PaymentEvent>,
        rows: &mut RowSet<'_>,
    ) -> Result<(), Failure> {
        let (order_id, status, money, reason) = match &event.data {
            PaymentEvent::Completed(event) => (
                &event.order_id,
                PaymentStatus::Completed,
                Some((event.amount, &event.currency)),
                None,
            ),
            PaymentEvent::Failed(event) => (
                &event.order_id,
                PaymentStatus::Failed,
                None,
                Some(&event.reason),
            ),
            PaymentEvent::Voided(event) => (
                &event.order_id,
                PaymentStatus::Voided,
                None,
                Some(&event.reason),
            ),
            PaymentEvent::RefundRequested(event) => {
                let money = Some((event.amount, &event.currency));
                (
                    &event.order_id,
                    PaymentStatus::Refunding,
                    money,
                    Some(&event.reason),
                )
            }
            PaymentEvent::Refunded(event) => (&event.order_id, PaymentStatus::Refunded, None, None),
        };
        let order_id = order_or(order_id.as_ref(), event)?;
        let before = rows.get(PAYMENTS, order_id.as_str()).await?;
        let mut row = before.unwrap_or_else(|| PaymentRow {
            order_id: order_id.clone(),
            status,
            amount: 0,
            currency: Currency::default(),
            reason: None,
        });
        row.status = status;
        if let Some((amount, currency)) = money {
            (row.amount, row.currency) = (amount, currency.clone());
        }
        row.reason = reason.cloned().or(row.reason);
        rows.put(PAYMENTS, order_id.as_str(), &row)
    }
}
