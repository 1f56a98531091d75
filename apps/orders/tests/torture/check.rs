//! What must hold after every death, as pure functions: every acknowledged command is there, none twice, and a start
//! says what it has found.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    ledger::{Answer, Ledger, What},
    process::Found,
    seen::{Entry, SERVICES, Seen},
};

/// All that is wrong with what was `seen`, given what clients know and what was seen the time before.
pub(crate) fn check(ledger: &Ledger, before: &Seen, seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    for command in &ledger.0 {
        if !matches!(command.answer, Answer::Acknowledged(_)) {
            let (path, answer) = (&command.path, &command.answer);
            wrong.push(format!(
                "{path} was asked for until it was answered: {answer:?}"
            ));
        }
    }
    commands(ledger, seen, &mut wrong);
    answers(ledger, seen, &mut wrong);
    places(ledger, seen, &mut wrong);
    consequences(ledger, seen, &mut wrong);
    for (service, log) in &seen.logs {
        whole(service, log, &mut wrong);
        let known = before.logs.get(service).map_or(&[][..], Vec::as_slice);
        if let Some((old, new)) = known
            .iter()
            .zip(log.iter().map(Some).chain(std::iter::repeat(None)))
            .find(|(old, new)| Some(*old) != *new)
        {
            wrong.push(format!(
                "the log of `{service}` has changed: {old:?} is {new:?}"
            ));
        }
    }
    let broken = seen.broken.iter();
    wrong.extend(broken.map(|broken| format!("invariant: {broken}")));
    wrong
}

/// What was acknowledged happened once, and nothing else did.
fn commands(ledger: &Ledger, seen: &Seen, wrong: &mut Vec<String>) {
    let (mut users, mut orders) = (BTreeMap::new(), BTreeMap::new());
    let mut acted = BTreeMap::<&str, BTreeMap<String, u64>>::new();
    let mut received = Vec::new();
    for command in ledger.acknowledged() {
        match &command.what {
            What::Register => *users.entry(command.answered("user_id")).or_insert(0) += 1,
            What::Place { .. } => *orders.entry(command.answered("order_id")).or_insert(0) += 1,
            What::Receive { sku, qty } => received.push((sku.as_str(), *qty)),
            What::Pay { order } => once(&mut acted, "OrderPaymentRequested", order),
            What::Ship { order } => once(&mut acted, "OrderShipped", order),
            What::Cancel { order } => once(&mut acted, "OrderCancelled", order),
        }
    }
    // Orders whose card is declined are cancelled by the platform.
    for (order, known) in ledger.orders() {
        if known.status() == "cancelled" && !known.cancelled {
            once(&mut acted, "OrderCancelled", &order);
        }
    }
    same(
        &users,
        &seen.happened("users", "UserRegistered"),
        "UserRegistered",
        wrong,
    );
    same(
        &orders,
        &seen.happened("order", "OrderCreated"),
        "OrderCreated",
        wrong,
    );
    for event in ["OrderPaymentRequested", "OrderShipped", "OrderCancelled"] {
        let expected = acted.remove(event).unwrap_or_default();
        same(&expected, &seen.happened("order", event), event, wrong);
    }
    let receipts = seen.events("stock", "ItemReceived");
    let mut receipts: Vec<_> = receipts
        .map(|entry| {
            (
                entry.stream.as_str(),
                entry.data["qty"].as_u64().unwrap_or(0),
            )
        })
        .collect();
    receipts.sort_unstable();
    received.sort_unstable();
    if receipts != received {
        wrong.push(format!(
            "{} receipts of things were acknowledged, and {} others are in the log",
            received.len(),
            receipts.len()
        ));
    }
}

/// What services do because of orders is done once, for those that it is due for.
fn consequences(ledger: &Ledger, seen: &Seen, wrong: &mut Vec<String>) {
    for (service, event) in [
        ("payment", "PaymentCompleted"),
        ("stock", "StockReserved"),
        ("notification", "NotificationSent"),
    ] {
        for (stream, times) in seen.happened(service, event) {
            if times > 1 {
                wrong.push(format!("`{stream}`: {event} happened {times} times"));
            }
        }
    }
    for (order, known) in ledger.orders() {
        if !matches!(known.status(), "confirmed" | "shipped") {
            continue;
        }
        for (service, event) in [("payment", "PaymentCompleted"), ("stock", "StockReserved")] {
            if !seen.happened(service, event).contains_key(&*order) {
                wrong.push(format!(
                    "`{order}` is confirmed, and {event} never happened"
                ));
            }
        }
    }
}

/// All that is wrong with what a start has said of what it found, given how long each log was known to be.
pub(crate) fn start(found: &Found, known: &BTreeMap<String, u64>) -> Vec<String> {
    let mut wrong = Vec::new();
    if found.pages.is_none() {
        wrong.push("a start has said nothing of the write-ahead log".to_owned());
    }
    for service in SERVICES {
        let Some((head, _)) = found.stores.get(service) else {
            wrong.push(format!(
                "a start has said nothing of the store of `{service}`"
            ));
            continue;
        };
        let known = known.get(service).copied().unwrap_or(0);
        if *head < known {
            wrong.push(format!(
                "a start has found the log of `{service}` up to {head}, and it was seen up to {known}"
            ));
        }
    }
    wrong
}

fn once<'a>(acted: &mut BTreeMap<&'a str, BTreeMap<String, u64>>, event: &'a str, order: &str) {
    let streams = acted.entry(event).or_default();
    *streams.entry(order.to_owned()).or_default() += 1;
}

/// Compares how often something was acknowledged with how often it happened.
fn same(
    acknowledged: &BTreeMap<String, u64>,
    happened: &BTreeMap<&str, u64>,
    event: &str,
    wrong: &mut Vec<String>,
) {
    let names = acknowledged.keys().map(String::as_str);
    let names: BTreeSet<_> = names.chain(happened.keys().copied()).collect();
    for name in names {
        let (said, done) = (acknowledged.get(name), happened.get(name));
        if said != done {
            let (said, done) = (said.unwrap_or(&0), done.unwrap_or(&0));
            wrong.push(format!(
                "`{name}`: {event} was acknowledged {said} times and happened {done} times"
            ));
        }
    }
}

/// A command that is given again is answered as before, from memory.
fn answers(ledger: &Ledger, seen: &Seen, wrong: &mut Vec<String>) {
    let known: BTreeMap<_, _> = ledger
        .0
        .iter()
        .map(|command| (command.key.as_str(), command))
        .collect();
    for (key, answer, repeated) in &seen.again {
        let Some(command) = known.get(key.as_str()) else {
            continue;
        };
        let (path, first) = (&command.path, &command.answer);
        if answer != first {
            wrong.push(format!(
                "{path} was answered {first:?}, and again {answer:?}"
            ));
        } else if !repeated {
            wrong.push(format!("{path} was carried out again"));
        }
    }
}

/// Orders and shelves stand where what was acknowledged leaves them.
fn places(ledger: &Ledger, seen: &Seen, wrong: &mut Vec<String>) {
    let orders = ledger.orders();
    for (order, shown) in &seen.orders {
        let expected = orders.get(order).map_or("unknown", |order| order.status());
        if shown != expected {
            wrong.push(format!(
                "order `{order}` is shown as {shown} and not as {expected}"
            ));
        }
    }
    let mut shelves = BTreeMap::<&str, (u64, u64)>::new();
    for command in ledger.acknowledged() {
        if let What::Receive { sku, qty } = &command.what {
            shelves.entry(sku).or_default().0 += qty;
        }
    }
    // What never came can't be on a shelf, so all that orders take is of these.
    let of_orders = orders.values().flat_map(|order| {
        let lines = order.items.iter();
        lines.map(|(sku, qty)| (order.status(), sku.as_str(), *qty))
    });
    for (status, sku, qty) in of_orders {
        let (on_hand, reserved) = shelves.entry(sku).or_default();
        match status {
            "shipped" => *on_hand = on_hand.wrapping_sub(qty),
            "confirmed" => *reserved += qty,
            _ => {}
        }
    }
    let shown: BTreeMap<_, _> = seen
        .shelves
        .iter()
        .map(|(sku, shown)| (sku.as_str(), *shown))
        .collect();
    if shown != shelves {
        wrong.push(format!(
            "shelves hold (and keep aside) {shown:?} and not {shelves:?}"
        ));
    }
}

/// Positions and versions are dense, and no event is there twice.
fn whole(service: &str, log: &[Entry], wrong: &mut Vec<String>) {
    let mut versions = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for (entry, position) in log.iter().zip(1..) {
        if entry.position != position {
            let found = entry.position;
            wrong.push(format!(
                "the log of `{service}` has {found} where {position} should be"
            ));
            return;
        }
        if !entry.stream.is_empty() {
            let version = versions
                .entry((&entry.category, &entry.stream))
                .or_insert(0);
            *version += 1;
            if entry.version != *version {
                wrong.push(format!(
                    "`{service}`: version {version} of a stream is {entry:?}"
                ));
            }
        }
        if !ids.insert(&entry.event_id) {
            wrong.push(format!("`{service}`: an event is there twice: {entry:?}"));
        }
    }
}

#[cfg(test)]
mod tests;
