//! What the clients know: each command that they gave, and what was answered, if anything was.

use std::collections::BTreeMap;

use serde_json::Value;

/// A command that was given. Its idempotency key is its own, and makes it safe to give again.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) key: String,
    pub(crate) path: String,
    pub(crate) body: Value,
    pub(crate) what: What,
    pub(crate) answer: Answer,
}

/// What a command asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Register,
    Receive { sku: String, qty: u64 },
    Place { items: Vec<(String, u64)>, end: End },
    Pay { order: String },
    Ship { order: String },
    Cancel { order: String },
}

/// What becomes of an order by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Confirmed,
    /// Its card is declined.
    Cancelled,
    /// It waits for its user to pay, and is confirmed then.
    Waits,
}

/// What was answered to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing: it may have been carried out.
    Unknown,
    /// That it was carried out, in these words.
    Acknowledged(String),
    /// That it was not, with this status and in these words.
    Refused(u16, String),
}

impl Command {
    /// What was answered, if it was carried out.
    pub(crate) fn acknowledged(&self) -> Option<&str> {
        match &self.answer {
            Answer::Acknowledged(text) => Some(text),
            _ => None,
        }
    }

    /// A member of the answer; empty when there is none.
    pub(crate) fn answered(&self, member: &str) -> String {
        let answer = self
            .acknowledged()
            .and_then(|text| serde_json::from_str(text).ok());
        let answer: Value = answer.unwrap_or_default();
        answer[member].as_str().unwrap_or_default().to_owned()
    }
}

/// All commands, in the order in which they were given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(pub(crate) Vec<Command>);

/// An order, as far as acknowledged commands say.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) items: Vec<(String, u64)>,
    pub(crate) end: End,
    pub(crate) paid: bool,
    pub(crate) shipped: bool,
    pub(crate) cancelled: bool,
}

impl Order {
    /// Where it stands when all is quiet.
    pub(crate) fn status(&self) -> &'static str {
        match self {
            Self { shipped: true, .. } => "shipped",
            Self {
                cancelled: true, ..
            }
            | Self {
                end: End::Cancelled,
                ..
            } => "cancelled",
            Self {
                end: End::Waits,
                paid: false,
                ..
            } => "created",
            _ => "confirmed",
        }
    }
}

impl Ledger {
    /// Those that were acknowledged.
    pub(crate) fn acknowledged(&self) -> impl Iterator<Item = &Command> {
        self.0
            .iter()
            .filter(|command| command.acknowledged().is_some())
    }

    /// All orders that were acknowledged.
    pub(crate) fn orders(&self) -> BTreeMap<String, Order> {
        let mut orders = BTreeMap::new();
        for command in self.acknowledged() {
            if let What::Place { items, end } = &command.what {
                let order = Order {
                    items: items.clone(),
                    end: *end,
                    paid: false,
                    shipped: false,
                    cancelled: false,
                };
                orders.insert(command.answered("order_id"), order);
            }
        }
        for command in self.acknowledged() {
            let (order, mark): (_, fn(&mut Order)) = match &command.what {
                What::Pay { order } => (order, |order| order.paid = true),
                What::Ship { order } => (order, |order| order.shipped = true),
                What::Cancel { order } => (order, |order| order.cancelled = true),
                _ => continue,
            };
            if let Some(order) = orders.get_mut(order) {
                mark(order);
            }
        }
        orders
    }
}
