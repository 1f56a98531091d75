//! A small model of every aggregate: which event may follow which, and what each must say.

use std::collections::BTreeMap;

use factum_sim::{Book, checks::Broken};

use super::raw::Raw;

/// The state of one aggregate, in the words of its events.
#[derive(Default)]
struct Model {
    /// The last event that moved it.
    stands: String,
    /// Whether its payment was asked for.
    requested: bool,
    /// What it costs, or how much there is.
    amount: u64,
    /// What is put aside, and for whom.
    held: BTreeMap<String, u64>,
    items: Vec<(String, u64, u64)>,
}

/// What is wrong with the aggregates in a log.
pub(super) fn check(book: &Book) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut models: BTreeMap<(&str, &str), Model> = BTreeMap::new();
    for raw in book.records.iter().filter_map(Raw::of).filter(Raw::is_own) {
        let model = models.entry((raw.category, raw.id)).or_default();
        let result = match raw.category {
            "user" | "notification" => model.once(&raw),
            "order" => model.order(&raw),
            "payment" => model.payment(&raw),
            "reservation" => model.reservation(&raw),
            "shelf" => model.shelf(&raw),
            other => Err(format!("nobody knows what a {other} is")),
        };
        if let Err(what) = result {
            let (category, id, at) = (raw.category, raw.id, raw.record.at);
            let what = format!(
                "{category}/{id} at {at} of {}: {}: {what}",
                book.service, raw.name
            );
            broken.push(Broken::new("aggregates", what));
        }
    }
    broken
}

/// Refuses what does not hold.
fn must(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

impl Model {
    /// Goes on to what the event says, if it stands at one of these.
    fn moves(&mut self, raw: &Raw<'_>, from: &[&str]) -> Result<(), String> {
        let before = std::mem::replace(&mut self.stands, raw.name.to_string());
        must(from.contains(&before.as_str()), || {
            format!("it stood at `{before}`")
        })
    }

    fn once(&mut self, raw: &Raw<'_>) -> Result<(), String> {
        self.moves(raw, &[""])
    }

    fn order(&mut self, raw: &Raw<'_>) -> Result<(), String> {
        match raw.name {
            "OrderCreated" => {
                self.moves(raw, &[""])?;
                self.amount = raw.number("total_amount");
                self.items = raw.items();
                let sum: u64 = self.items.iter().map(|(_, qty, price)| qty * price).sum();
                let amount = self.amount;
                must(sum == amount, || {
                    format!("its items cost {sum}, and it says {amount}")
                })
            }
            "OrderPaymentRequested" => {
                let (requested, stands) = (self.requested, &self.stands);
                must(!requested && stands == "OrderCreated", || {
                    format!("it stood at `{stands}`, asked for before: {requested}")
                })?;
                self.requested = true;
                let said = raw.number("total_amount");
                must(said == self.amount, || {
                    format!("it says {said}, and costs {}", self.amount)
                })
            }
            "OrderPaid" => self.moves(raw, &["OrderCreated"]),
            "OrderConfirmed" => self.moves(raw, &["OrderPaid"]),
            "OrderShipped" => self.moves(raw, &["OrderConfirmed"]),
            "OrderCancelled" => self.moves(raw, &["OrderCreated", "OrderPaid", "OrderConfirmed"]),
            _ => Err("nobody knows it".into()),
        }
    }

    fn payment(&mut self, raw: &Raw<'_>) -> Result<(), String> {
        let said = raw.number("amount");
        match raw.name {
            "PaymentCompleted" => {
                self.amount = said;
                self.moves(raw, &[""])
            }
            "PaymentFailed" | "PaymentVoided" => self.moves(raw, &[""]),
            "RefundRequested" => {
                let paid = self.stands == "PaymentCompleted";
                let before = std::mem::replace(&mut self.amount, said);
                self.moves(raw, &["PaymentCompleted", "PaymentVoided"])?;
                must(!paid || before == said, || {
                    format!("{before} was paid, and it says {said}")
                })
            }
            "PaymentRefunded" => {
                self.moves(raw, &["RefundRequested"])?;
                let promised = self.amount;
                must(promised == said, || {
                    format!("{promised} was promised, and it says {said}")
                })
            }
            _ => Err("nobody knows it".into()),
        }
    }

    fn reservation(&mut self, raw: &Raw<'_>) -> Result<(), String> {
        match raw.name {
            "StockReserved" => {
                self.items = raw.items();
                self.moves(raw, &[""])
            }
            "StockRejected" => self.moves(raw, &[""]),
            "StockReleased" | "StockTaken" => {
                let from: &[&str] = if raw.name == "StockTaken" {
                    &["StockReserved"]
                } else {
                    &["", "StockReserved"]
                };
                self.moves(raw, from)?;
                must(raw.items() == self.items, || "its items are others".into())
            }
            _ => Err("nobody knows it".into()),
        }
    }

    fn shelf(&mut self, raw: &Raw<'_>) -> Result<(), String> {
        let (qty, order) = (raw.number("qty"), raw.text("order_id").to_string());
        match raw.name {
            "ItemReceived" => self.amount += qty,
            "ItemReserved" => {
                let left = self.amount;
                must(qty <= left, || format!("only {left} are left"))?;
                self.amount -= qty;
                let before = self.held.insert(order, qty);
                must(before.is_none(), || "it was put aside already".into())?;
            }
            "ItemReleased" | "ItemTaken" => {
                let held = self.held.remove(&order);
                must(held == Some(qty), || format!("{held:?} was put aside"))?;
                if raw.name == "ItemReleased" {
                    self.amount += qty;
                }
            }
            _ => return Err("nobody knows it".into()),
        }
        let (said, left) = (raw.number("available"), self.amount);
        must(said == left, || {
            format!("it says that {said} are left, and {left} are")
        })
    }
}
