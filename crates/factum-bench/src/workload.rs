//! The workload: orders that are created, paid and shipped, each step one command and one event of about 200 bytes.

#[cfg(feature = "engines")]
pub(crate) mod announced;

use factum::{
    Aggregate, Decision, Event, Failure, FieldKind, Projection, Recorded, RowSet, View,
    ViewDefinition,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A step in the life of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Create,
    Pay,
    Ship,
}

impl Step {
    /// All of them, in order.
    pub(crate) const ALL: [Self; 3] = [Self::Create, Self::Pay, Self::Ship];

    /// The version that the order has behind it.
    pub(crate) fn version(self) -> i64 {
        match self {
            Self::Create => 1,
            Self::Pay => 2,
            Self::Ship => 3,
        }
    }

    /// The event that it leads to.
    pub(crate) fn event(self, number: u64) -> OrderEvent {
        match self {
            Self::Create => OrderEvent::Created {
                customer: format!("customer-{:06}", number % 100_000),
                currency: "KRW".into(),
                total: 12_500 + number % 1_000,
                address: "17 Gwanghwamun-ro, Jongno-gu, Seoul, third floor, ring twice".into(),
                note: "please leave it at the door if nobody answers".into(),
            },
            Self::Pay => OrderEvent::Paid {
                method: "card".into(),
                reference: format!("gateway/2026/charges/{number:020}"),
                total: 12_500 + number % 1_000,
                note: "captured at once; the receipt was sent to the address on file, no further action is needed".into(),
            },
            Self::Ship => OrderEvent::Shipped {
                carrier: "Hanjin Express".into(),
                tracking: format!("HJ-{number:020}"),
                note: "two parcels, handed over at the depot in Icheon; expected within two working days, no signature needed".into(),
            },
        }
    }
}

/// What happens to an order. It is not published: what topics cost shows in the saga.
#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum OrderEvent {
    #[event(name = "OrderCreated", version = 1)]
    Created {
        customer: String,
        currency: String,
        total: u64,
        address: String,
        note: String,
    },
    #[event(name = "OrderPaid", version = 1)]
    Paid {
        method: String,
        reference: String,
        total: u64,
        note: String,
    },
    #[event(name = "OrderShipped", version = 1)]
    Shipped {
        carrier: String,
        tracking: String,
        note: String,
    },
}

/// An order.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Order {
    status: String,
    total: u64,
}

/// What an order can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Take {
    pub(crate) step: Step,
    pub(crate) number: u64,
}

/// An order refuses a step out of order.
#[derive(Debug, thiserror::Error)]
#[error("an order that is `{0}` can't take this step")]
pub(crate) struct OutOfOrder(String);

impl Aggregate for Order {
    const CATEGORY: &'static str = "order";
    type Id = String;
    type Command = Take;
    type Event = OrderEvent;
    type Error = OutOfOrder;

    fn handle(&self, take: Take, _: &Decision) -> Result<Vec<OrderEvent>, OutOfOrder> {
        let wanted = match take.step {
            Step::Create => "",
            Step::Pay => "created",
            Step::Ship => "paid",
        };
        if self.status == wanted {
            Ok(vec![take.step.event(take.number)])
        } else {
            Err(OutOfOrder(self.status.clone()))
        }
    }

    fn apply(&mut self, event: &OrderEvent) {
        match event {
            OrderEvent::Created { total, .. } => {
                self.status = "created".into();
                self.total = *total;
            }
            OrderEvent::Paid { .. } => self.status = "paid".into(),
            OrderEvent::Shipped { .. } => self.status = "shipped".into(),
        }
    }
}

/// A movement on an account.
#[derive(Event, Clone, Debug, PartialEq)]
pub(crate) enum AccountEvent {
    #[event(name = "Moved", version = 1)]
    Moved {
        amount: i64,
        reference: String,
        note: String,
    },
}

/// An account: an aggregate with a long life, which is always replayed as a whole.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Account {
    balance: i64,
    movements: u64,
}

impl Account {
    /// How many movements it has seen.
    pub(crate) fn movements(&self) -> u64 {
        self.movements
    }
}

/// For what refuses nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Never {}

impl Aggregate for Account {
    const CATEGORY: &'static str = "account";
    /// No snapshots: what is measured is the replay.
    const SNAPSHOT_EVERY: u64 = 0;
    type Id = String;
    type Command = i64;
    type Event = AccountEvent;
    type Error = Never;

    fn handle(&self, amount: i64, _: &Decision) -> Result<Vec<AccountEvent>, Never> {
        Ok(vec![AccountEvent::Moved {
            amount,
            reference: format!("transfer/2026/11/{:020}", self.movements),
            note: "standing order of the first of the month; the receipt was sent to the address on file by post".into(),
        }])
    }

    fn apply(&mut self, AccountEvent::Moved { amount, .. }: &AccountEvent) {
        self.balance += amount;
        self.movements += 1;
    }
}

/// Orders as queries see them.
pub(crate) const ORDERS: View<OrderRow> = View::new("orders");

/// An order as queries see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OrderRow {
    pub(crate) customer: String,
    pub(crate) status: String,
    pub(crate) total: u64,
    pub(crate) tracking: Option<String>,
}

/// Keeps [`ORDERS`], with an index by customer and one by status.
pub(crate) struct KeepOrders;

impl Projection for KeepOrders {
    const NAME: &'static str = "orders";
    type Event = OrderEvent;

    fn views(&self) -> Vec<ViewDefinition> {
        let orders = ORDERS
            .kept_by::<Self>()
            .field("customer", FieldKind::Text)
            .field("status", FieldKind::Text)
            .field("total", FieldKind::Integer);
        vec![
            orders
                .index(["customer", "total"])
                .index(["status", "total"]),
        ]
    }

    async fn project(
        &self,
        event: &Recorded<OrderEvent>,
        rows: &mut RowSet<'_>,
    ) -> Result<(), Failure> {
        let Some(order) = &event.aggregate_id else {
            return Ok(());
        };
        match &event.data {
            OrderEvent::Created {
                customer, total, ..
            } => rows.put(
                ORDERS,
                order,
                &OrderRow {
                    customer: customer.clone(),
                    status: "created".into(),
                    total: *total,
                    tracking: None,
                },
            ),
            OrderEvent::Paid { .. } => {
                rows.update(ORDERS, order, |row| row.status = "paid".into())
                    .await
            }
            OrderEvent::Shipped { tracking, .. } => {
                rows.update(ORDERS, order, |row| {
                    row.status = "shipped".into();
                    row.tracking = Some(tracking.clone());
                })
                .await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_about_200_bytes() {
        for step in Step::ALL {
            let bytes = step.event(7).encode().unwrap().len();
            assert!((160..=240).contains(&bytes), "{step:?}: {bytes}");
        }
        let moved = Account::default().handle(
            5,
            &Decision::new(
                &factum::system_env(),
                factum::Version::ZERO,
                std::sync::Arc::default(),
            ),
        );
        let bytes = moved.unwrap()[0].encode().unwrap().len();
        assert!((160..=240).contains(&bytes), "movement: {bytes}");
    }
}
