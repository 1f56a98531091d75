//! What no run of the platform may break.
//!
//! [`Facts`] are gathered from the logs of the services and the books of the firms outside, not from views: they are
//! what happened. [`check`] is one pure function over them, and the demo, the load and the tests all use it.

mod facts;
pub use facts::{Facts, Money, OrderFacts, PaymentFacts, ReservationFacts, ShelfFacts};

use std::collections::{BTreeMap, BTreeSet};

use crate::contracts::{Currency, OrderId, Sku};

/// The group that charges orders.
const PAYMENT_GROUP: &str = "payment-service";
/// The group that reserves what was paid.
const STOCK_GROUP: &str = "stock-service";
/// The group that tells users.
const NOTIFICATION_GROUP: &str = "notification-service";

/// An invariant that was broken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Broken {
    /// Money taken is not money kept and money given back.
    #[error(
        "{charged} {currency} was charged, and {kept} is kept by confirmed orders and {refunded} was refunded"
    )]
    Money {
        /// In which currency.
        currency: Currency,
        /// How much was charged.
        charged: u128,
        /// How much confirmed orders cost.
        kept: u128,
        /// How much was refunded.
        refunded: u128,
    },
    /// An order's money is not what its end asks for.
    #[error("order `{order_id}` {what}")]
    OrderMoney {
        /// The order.
        order_id: OrderId,
        /// What is wrong.
        what: String,
    },
    /// An order has no end, or several.
    #[error("order `{order_id}` {what}")]
    OrderEnd {
        /// The order.
        order_id: OrderId,
        /// What is wrong.
        what: String,
    },
    /// The services disagree on what became of an order.
    #[error("order `{order_id}` {what}")]
    Disagreement {
        /// The order.
        order_id: OrderId,
        /// What is wrong.
        what: String,
    },
    /// A shelf holds less than nothing, or does not add up.
    #[error("shelf `{sku}` {what}")]
    Stock {
        /// The thing.
        sku: Sku,
        /// What is wrong.
        what: String,
    },
    /// An order was placed or paid, and whoever had to serve it knows nothing of it.
    #[error("order `{order_id}` {what}")]
    Vanished {
        /// The order.
        order_id: OrderId,
        /// Who lost it.
        what: String,
    },
    /// The user of an order was not told all that became of it.
    #[error("the user of order `{order_id}` was told {told} of {due} things that became of it")]
    Untold {
        /// The order.
        order_id: OrderId,
        /// What was told.
        told: u32,
        /// What had to be.
        due: u32,
    },
    /// A notification was not counted once.
    #[error("notification `{key}` {what}")]
    Notification {
        /// Its key.
        key: String,
        /// What is wrong.
        what: String,
    },
}

/// All that is broken; nothing, when all is well. The facts are of a time when all was quiet: no message on its way,
/// none parked.
pub fn check(facts: &Facts) -> Vec<Broken> {
    let mut broken = Vec::new();
    money(facts, &mut broken);
    orders(facts, &mut broken);
    agreement(facts, &mut broken);
    shelves(facts, &mut broken);
    notifications(facts, &mut broken);
    vanished(facts, &mut broken);
    untold(facts, &mut broken);
    broken
}

/// What an order keeps when all is done: its money if it is confirmed, nothing if it is not. An order that our order
/// service never saw is confirmed when its goods are reserved.
fn kept(facts: &Facts, order_id: &OrderId) -> Option<Money> {
    if let Some(order) = facts.orders.get(order_id) {
        return (order.confirmed > 0 && order.cancelled == 0).then(|| order.money.clone());
    }
    // What was paid elsewhere is none of our gateway's business.
    let payment = facts
        .payments
        .get(order_id)
        .filter(|payment| payment.completed > 0)?;
    let reservation = facts.reservations.get(order_id)?;
    (reservation.reserved > 0 && reservation.released == 0).then(|| payment.money.clone())
}

/// Money charged = money of confirmed orders + refunds, in sum and order by order.
fn money(facts: &Facts, broken: &mut Vec<Broken>) {
    let mut sums: BTreeMap<&Currency, (u128, u128, u128)> = BTreeMap::new();
    let names = facts
        .orders
        .keys()
        .chain(facts.payments.keys())
        .chain(facts.charged.keys());
    let names: BTreeSet<_> = names.chain(facts.refunded.keys()).collect();
    let kept: BTreeMap<_, _> = names
        .iter()
        .filter_map(|order| Some((*order, kept(facts, order)?)))
        .collect();
    for money in facts.charged.values().flatten() {
        sums.entry(&money.currency).or_default().0 += u128::from(money.amount);
    }
    for money in kept.values() {
        sums.entry(&money.currency).or_default().1 += u128::from(money.amount);
    }
    for money in facts.refunded.values().flatten() {
        sums.entry(&money.currency).or_default().2 += u128::from(money.amount);
    }
    for (currency, (charged, kept, refunded)) in sums {
        if charged != kept + refunded {
            broken.push(Broken::Money {
                currency: currency.clone(),
                charged,
                kept,
                refunded,
            });
        }
    }
    for order_id in names {
        let charged = facts.charged.get(order_id).map_or(&[][..], Vec::as_slice);
        let refunded = facts.refunded.get(order_id).map_or(&[][..], Vec::as_slice);
        let what = match (charged, refunded, kept.get(order_id)) {
            ([], [], None) => continue,
            ([charged], [], Some(kept)) if charged == kept => continue,
            ([charged], [refunded], None) if charged == refunded => continue,
            _ => {
                let end = kept
                    .get(order_id)
                    .map_or("is not confirmed".to_string(), |kept| {
                        format!("keeps {kept}")
                    });
                format!(
                    "{end}, was charged {} and refunded {}",
                    list(charged),
                    list(refunded)
                )
            }
        };
        broken.push(Broken::OrderMoney {
            order_id: order_id.clone(),
            what,
        });
    }
}

fn list(money: &[Money]) -> String {
    if money.is_empty() {
        return "nothing".into();
    }
    money
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" and ")
}

/// Every order ends in exactly one final state.
fn orders(facts: &Facts, broken: &mut Vec<Broken>) {
    for (order_id, order) in &facts.orders {
        let OrderFacts {
            created,
            paid,
            confirmed,
            shipped,
            cancelled,
            ..
        } = *order;
        let what = if created != 1 {
            format!("was created {created} times")
        } else if paid > 1 || confirmed > 1 || shipped > 1 || cancelled > 1 {
            format!(
                "was paid {paid}, confirmed {confirmed}, shipped {shipped} and cancelled {cancelled} times"
            )
        } else if shipped + cancelled > 1 {
            "was shipped and cancelled".into()
        } else if confirmed + cancelled == 0 && !order.waits_for_user {
            "is neither confirmed nor cancelled".into()
        } else if confirmed > 0 && paid == 0 {
            "was confirmed and never paid".into()
        } else {
            continue;
        };
        broken.push(Broken::OrderEnd {
            order_id: order_id.clone(),
            what,
        });
    }
}

/// What the order service, payment and stock say of an order fits together.
fn agreement(facts: &Facts, broken: &mut Vec<Broken>) {
    let mut say = |order_id: &OrderId, what: &str| {
        broken.push(Broken::Disagreement {
            order_id: order_id.clone(),
            what: what.into(),
        });
    };
    for (order_id, reservation) in &facts.reservations {
        let ReservationFacts {
            reserved,
            rejected,
            released,
            taken,
        } = *reservation;
        if reserved > 1 || rejected > 1 || released > 1 || taken > 1 {
            say(
                order_id,
                "was reserved, rejected, released or taken more than once",
            );
        }
        if reserved + rejected > 1 {
            say(order_id, "was both reserved and rejected");
        }
        if released + taken > 1 {
            say(order_id, "was both released and taken");
        }
    }
    for (order_id, payment) in &facts.payments {
        let PaymentFacts {
            completed,
            failed,
            refund_requested,
            refunded,
            ..
        } = *payment;
        if completed + failed > 1 || refund_requested > 1 || refunded > 1 {
            say(order_id, "was paid, refused or refunded more than once");
        }
        if refund_requested != refunded {
            say(order_id, "was promised its money back and did not get it");
        }
    }
    for (order_id, order) in &facts.orders {
        let reservation = facts
            .reservations
            .get(order_id)
            .copied()
            .unwrap_or_default();
        let held = reservation.reserved > 0 && reservation.released == 0;
        if order.cancelled > 0 && held {
            say(order_id, "was cancelled, and its goods are still reserved");
        }
        if order.confirmed > 0 && order.cancelled == 0 && !held {
            say(order_id, "is confirmed, and its goods are not reserved");
        }
        if order.shipped > 0 && reservation.taken == 0 {
            say(order_id, "was shipped, and its goods never left the shelf");
        }
    }
}

/// Stock is never negative, and reserved once: what shelves hold for orders is what reservations say.
fn shelves(facts: &Facts, broken: &mut Vec<Broken>) {
    for (sku, shelf) in &facts.shelves {
        let mut say = |what: String| {
            broken.push(Broken::Stock {
                sku: sku.clone(),
                what,
            });
        };
        if shelf.lowest < 0 {
            say(format!("held {}", shelf.lowest));
        }
        if !shelf.adds_up {
            say("says another number of things than came in and went out".into());
        }
        for order_id in &shelf.twice {
            say(format!(
                "put things aside for order `{order_id}` that were put aside already"
            ));
        }
        for order_id in shelf.held.keys() {
            let reservation = facts
                .reservations
                .get(order_id)
                .copied()
                .unwrap_or_default();
            if reservation.reserved == 0 || reservation.released + reservation.taken > 0 {
                say(format!(
                    "holds things for order `{order_id}`, which has no reservation"
                ));
            }
        }
    }
    for (order_id, wanted) in &facts.wanted {
        let reservation = facts
            .reservations
            .get(order_id)
            .copied()
            .unwrap_or_default();
        if reservation.released + reservation.taken > 0 {
            continue;
        }
        for (sku, qty) in wanted {
            let held = facts
                .shelves
                .get(sku)
                .and_then(|shelf| shelf.held.get(order_id))
                .copied();
            if held.unwrap_or(0) != *qty {
                let what = format!(
                    "holds {} for order `{order_id}`, which reserved {qty}",
                    held.unwrap_or(0)
                );
                broken.push(Broken::Stock {
                    sku: sku.clone(),
                    what,
                });
            }
        }
    }
}

/// Every notification is counted once by its key: what was told is what was recorded.
fn notifications(facts: &Facts, broken: &mut Vec<Broken>) {
    let keys: BTreeSet<_> = facts.told.keys().chain(facts.recorded.keys()).collect();
    for key in keys {
        let (told, recorded) = (
            facts.told.get(key).unwrap_or(&0),
            facts.recorded.get(key).unwrap_or(&0),
        );
        if (told, recorded) != (&1, &1) {
            let what = format!("was told {told} times and recorded {recorded} times");
            broken.push(Broken::Notification {
                key: key.clone(),
                what,
            });
        }
    }
}

/// No order vanishes, whoever placed it: payment has an answer to each that is to be paid at once, and stock to each
/// that is paid. What is only in the topic, or in payment's books, no other check would miss.
fn vanished(facts: &Facts, broken: &mut Vec<Broken>) {
    let mut say = |order_id: &OrderId, what: &str| {
        broken.push(Broken::Vanished {
            order_id: order_id.clone(),
            what: what.into(),
        });
    };
    for (order_id, places) in &facts.placed {
        let given_up =
            |place: &String| facts.given_up.contains(&format!("{PAYMENT_GROUP}:{place}"));
        if !facts.payments.contains_key(order_id) && !places.iter().all(given_up) {
            say(order_id, "was placed, and payment knows nothing of it");
        }
    }
    let left_out = gives_up(facts, STOCK_GROUP);
    for (order_id, payment) in &facts.payments {
        if payment.completed > 0 && !facts.reservations.contains_key(order_id) && left_out == 0 {
            say(order_id, "was paid, and stock knows nothing of it");
        }
    }
}

/// How many messages a group has given up or left out.
fn gives_up(facts: &Facts, group: &str) -> usize {
    let own = |subject: &&String| subject.split(':').next() == Some(group);
    facts.given_up.iter().filter(own).count()
}

/// Each end that an order, its payment or its reservation comes to is told to its user. Of foreign orders others may
/// tell more. What was given up can't be told: as many may be missing.
fn untold(facts: &Facts, broken: &mut Vec<Broken>) {
    let mut due: BTreeMap<&OrderId, u32> = BTreeMap::new();
    for (order_id, order) in &facts.orders {
        *due.entry(order_id).or_default() += order.shipped + order.cancelled;
    }
    for (order_id, payment) in &facts.payments {
        *due.entry(order_id).or_default() += payment.failed + payment.refunded;
    }
    for (order_id, reservation) in &facts.reservations {
        *due.entry(order_id).or_default() += reservation.reserved + reservation.rejected;
    }
    let told = |order_id| facts.recorded_for.get(order_id).copied().unwrap_or(0);
    let untold: Vec<_> = due
        .into_iter()
        .filter(|(order_id, due)| told(*order_id) < *due)
        .collect();
    let missing: usize = untold
        .iter()
        .map(|(order_id, due)| (due - told(*order_id)) as usize)
        .sum();
    if missing <= gives_up(facts, NOTIFICATION_GROUP) {
        return;
    }
    broken.extend(untold.into_iter().map(|(order_id, due)| Broken::Untold {
        order_id: order_id.clone(),
        told: told(order_id),
        due,
    }));
}

#[cfg(test)]
mod tests;
