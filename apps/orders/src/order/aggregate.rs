//! An order: what may happen to it, and when.

use std::fmt;

use factum::{Aggregate, Decision, Key};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contracts::{
    Currency, Item, OrderCancelled, OrderConfirmed, OrderCreated, OrderEvent, OrderId, OrderPaid,
    OrderPaymentRequested, OrderShipped, PaymentMode, SKU_CHARS_MAX, UserId,
};

/// How many lines an order may have: with all names at their longest it stays far below what a message may weigh.
pub(crate) const ITEMS_MAX: usize = 100;

/// The most that one order may cost, in minor units: sums of many orders still fit 64 bits.
pub(crate) const TOTAL_MAX: u64 = 1_000_000_000_000;

/// The longest text in an order, in characters.
pub(crate) const TEXT_CHARS_MAX: usize = 200;

/// An order as far as it decides on itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Order {
    /// What was ordered, by whom.
    pub created: Option<OrderCreated>,
    /// Where it stands.
    pub status: Status,
    /// Whether its payment was asked for.
    pub payment_requested: bool,
}

/// Where an order stands.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Placed, and neither paid nor cancelled.
    #[default]
    Created,
    /// Paid; the goods are not reserved yet.
    Paid,
    /// Paid and reserved.
    Confirmed,
    /// On its way.
    Shipped,
    /// Given up.
    Cancelled,
}

impl Status {
    /// The status as it stands in views and queries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Paid => "paid",
            Self::Confirmed => "confirmed",
            Self::Shipped => "shipped",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status that [`Status::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [
            Self::Created,
            Self::Paid,
            Self::Confirmed,
            Self::Shipped,
            Self::Cancelled,
        ];
        all.into_iter().find(|status| status.as_str() == text)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an order can be asked to do. What users ask for is refused when it can't be; what other services report
/// is taken when it means something, and is nothing otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderCommand {
    /// A user places it.
    Place(PlaceOrder),
    /// A user pays an order that is not paid at once.
    Pay {
        /// The card to charge, if not the one that the order names.
        card: Option<String>,
    },
    /// It leaves the house.
    Ship {
        /// The carrier's number.
        tracking: String,
    },
    /// A user gives it up.
    Cancel {
        /// Why.
        reason: String,
    },
    /// Payment says that it is paid.
    Paid,
    /// Stock says that its goods are reserved.
    Reserved,
    /// Payment or stock say that it can't be fulfilled.
    GiveUp {
        /// Why.
        reason: String,
    },
}

/// An order that a user places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceOrder {
    /// The new order's id.
    pub order_id: OrderId,
    /// Who places it.
    pub user_id: UserId,
    /// What is ordered.
    pub items: Vec<Item>,
    /// In which currency the prices are.
    pub currency: Currency,
    /// When it is paid.
    pub payment: PaymentMode,
    /// The card to charge.
    pub card: Option<String>,
}

/// Why an order refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// There is one with this id.
    #[error("order `{0}` exists already")]
    Exists(OrderId),
    /// There is none.
    #[error("there is no such order")]
    Unknown,
    /// A field can't be as it is.
    #[error("`{field}` {problem}")]
    Invalid {
        /// The field.
        field: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// Where it stands, this can't be done.
    #[error("an order that is {status} can't be {asked}")]
    WrongStatus {
        /// Where it stands.
        status: Status,
        /// What was asked for.
        asked: &'static str,
    },
    /// Its payment was asked for before, or is asked for by itself.
    #[error("the payment of this order was requested already")]
    PaymentRequested,
}

impl Aggregate for Order {
    const CATEGORY: &'static str = "order";
    type Id = OrderId;
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Error = OrderError;

    fn handle(&self, command: OrderCommand, _: &Decision) -> Result<Vec<OrderEvent>, OrderError> {
        let Some(created) = &self.created else {
            return match command {
                OrderCommand::Place(order) => Ok(vec![place(order)?.into()]),
                // A foreign order: payment and stock serve it without us.
                OrderCommand::Paid | OrderCommand::Reserved | OrderCommand::GiveUp { .. } => {
                    Ok(Vec::new())
                }
                _ => Err(OrderError::Unknown),
            };
        };
        let order_id = created.order_id.clone();
        let wrong = |asked| {
            Err(OrderError::WrongStatus {
                status: self.status,
                asked,
            })
        };
        let paid = || {
            let payment_method = created.card.clone().unwrap_or_else(|| "card".into());
            OrderPaid {
                order_id: order_id.clone(),
                payment_method,
            }
        };
        Ok(match (command, self.status) {
            (OrderCommand::Place(order), _) => return Err(OrderError::Exists(order.order_id)),

            (OrderCommand::Pay { .. }, Status::Created) if self.payment_requested => {
                return Err(OrderError::PaymentRequested);
            }
            (OrderCommand::Pay { card }, Status::Created) => {
                let OrderCreated {
                    user_id,
                    items,
                    total_amount,
                    currency,
                    ..
                } = created.clone();
                let card = card.or_else(|| created.card.clone());
                vec![
                    OrderPaymentRequested {
                        order_id,
                        user_id,
                        items,
                        total_amount,
                        currency,
                        card,
                    }
                    .into(),
                ]
            }
            (OrderCommand::Pay { .. }, _) => return wrong("paid"),

            (OrderCommand::Ship { tracking }, Status::Confirmed) => {
                words("tracking", &tracking)?;
                vec![OrderShipped { order_id, tracking }.into()]
            }
            (OrderCommand::Ship { .. }, _) => return wrong("shipped"),

            (OrderCommand::Cancel { .. }, Status::Shipped | Status::Cancelled) => {
                return wrong("cancelled");
            }
            (OrderCommand::Cancel { reason }, _) => {
                words("reason", &reason)?;
                vec![OrderCancelled { order_id, reason }.into()]
            }

            (OrderCommand::Paid, Status::Created) => vec![paid().into()],
            // What is reserved is paid, though payment's own word may come later: its topic is another.
            (OrderCommand::Reserved, Status::Created) => {
                vec![paid().into(), OrderConfirmed { order_id }.into()]
            }
            (OrderCommand::Reserved, Status::Paid) => vec![OrderConfirmed { order_id }.into()],
            (OrderCommand::GiveUp { reason }, Status::Created | Status::Paid) => {
                vec![OrderCancelled { order_id, reason }.into()]
            }
            (OrderCommand::Paid | OrderCommand::Reserved | OrderCommand::GiveUp { .. }, _) => {
                Vec::new()
            }
        })
    }

    fn apply(&mut self, event: &OrderEvent) {
        match event {
            OrderEvent::Created(created) => {
                self.payment_requested = created.payment == PaymentMode::Auto;
                self.created = Some(created.clone());
            }
            OrderEvent::PaymentRequested(requested) => {
                self.payment_requested = true;
                if let Some(created) = &mut self.created {
                    created.card.clone_from(&requested.card);
                }
            }
            OrderEvent::Paid(_) => self.status = Status::Paid,
            OrderEvent::Confirmed(_) => self.status = Status::Confirmed,
            OrderEvent::Shipped(_) => self.status = Status::Shipped,
            OrderEvent::Cancelled(_) => self.status = Status::Cancelled,
        }
    }

    fn partition_key(&self) -> Option<Key> {
        Some(self.created.as_ref()?.user_id.as_str().into())
    }
}

fn place(order: PlaceOrder) -> Result<OrderCreated, OrderError> {
    let PlaceOrder {
        order_id,
        user_id,
        items,
        currency,
        payment,
        card,
    } = order;
    words("user_id", user_id.as_str())?;
    if items.is_empty() || items.len() > ITEMS_MAX {
        return invalid("items", format!("must be 1 to {ITEMS_MAX} items"));
    }
    let mut total_amount = 0_u64;
    for (index, item) in items.iter().enumerate() {
        text(
            &format!("items[{index}].sku"),
            item.sku.as_str(),
            SKU_CHARS_MAX,
        )?;
        words(&format!("items[{index}].name"), &item.name)?;
        if item.qty == 0 {
            return invalid(&format!("items[{index}].qty"), "must be at least 1".into());
        }
        let sum = item
            .price
            .checked_mul(item.qty.into())
            .and_then(|price| total_amount.checked_add(price));
        let Some(sum) = sum.filter(|sum| *sum <= TOTAL_MAX) else {
            let problem =
                format!("takes the total above {TOTAL_MAX}, the most that an order may cost");
            return invalid(&format!("items[{index}].price"), problem);
        };
        total_amount = sum;
    }
    Ok(OrderCreated {
        order_id: Some(order_id),
        user_id,
        items,
        total_amount,
        currency,
        payment,
        card,
    })
}

fn words(field: &str, words: &str) -> Result<(), OrderError> {
    text(field, words, TEXT_CHARS_MAX)
}

fn text(field: &str, text: &str, chars_max: usize) -> Result<(), OrderError> {
    if text.trim().is_empty()
        || text.chars().count() > chars_max
        || text.chars().any(char::is_control)
    {
        return invalid(
            field,
            format!("must have 1 to {chars_max} printable characters"),
        );
    }
    Ok(())
}

fn invalid<T>(field: &str, problem: String) -> Result<T, OrderError> {
    Err(OrderError::Invalid {
        field: field.into(),
        problem,
    })
}

#[cfg(test)]
mod tests;
