//! Each thing that must hold, broken once, is found.

use serde_json::json;

use super::*;
use crate::ledger::{Command, End};

fn command(number: u32, what: What, answer: &serde_json::Value) -> Command {
    Command {
        key: format!("key-{number}"),
        path: format!("/{number}"),
        body: json!({}),
        what,
        answer: Answer::Acknowledged(answer.to_string()),
    }
}

fn entry(position: u64, stream: &str, version: u64, event_type: &str) -> Entry {
    Entry {
        position,
        kind: "event".into(),
        category: "category".into(),
        stream: stream.into(),
        version,
        event_id: format!("{stream}-{version}"),
        event_type: event_type.into(),
        data: json!({ "qty": 10 }),
    }
}

/// A user, ten of tea, an order of two that was shipped, and one of three that was cancelled.
fn good() -> (Ledger, Seen) {
    let tea = |qty| What::Place {
        items: vec![("tea".into(), qty)],
        end: End::Confirmed,
    };
    let order = |order: &str| json!({ "order_id": order });
    let receive = What::Receive {
        sku: "tea".into(),
        qty: 10,
    };
    let ship = What::Ship { order: "a".into() };
    let cancel = What::Cancel { order: "b".into() };
    let ledger = Ledger(vec![
        command(0, What::Register, &json!({ "user_id": "kim" })),
        command(1, receive, &json!({})),
        command(2, tea(2), &order("a")),
        command(3, tea(3), &order("b")),
        command(4, ship, &order("a")),
        command(5, cancel, &order("b")),
    ]);
    let again = |command: &Command| (command.key.clone(), command.answer.clone(), true);
    let seen = Seen {
        logs: [
            ("users", vec![entry(1, "kim", 1, "UserRegistered")]),
            (
                "stock",
                vec![
                    entry(1, "tea", 1, "ItemReceived"),
                    entry(2, "a", 1, "StockReserved"),
                ],
            ),
            ("payment", vec![entry(1, "a", 1, "PaymentCompleted")]),
            ("notification", vec![entry(1, "n", 1, "NotificationSent")]),
            (
                "order",
                vec![
                    entry(1, "a", 1, "OrderCreated"),
                    entry(2, "b", 1, "OrderCreated"),
                    entry(3, "a", 2, "OrderShipped"),
                    entry(4, "b", 2, "OrderCancelled"),
                ],
            ),
        ]
        .map(|(service, log)| (service.to_owned(), log))
        .into(),
        orders: [("a", "shipped"), ("b", "cancelled")]
            .map(|(order, status)| (order.to_owned(), status.to_owned()))
            .into(),
        shelves: [("tea".to_owned(), (8, 0))].into(),
        again: ledger.0.iter().map(again).collect(),
        broken: Vec::new(),
    };
    (ledger, seen)
}

#[track_caller]
fn finds(what: &str, plant: impl FnOnce(&mut Ledger, &mut Seen)) {
    let (mut ledger, mut seen) = good();
    let before = seen.clone();
    plant(&mut ledger, &mut seen);
    let wrong = check(&ledger, &before, &seen);
    assert!(
        wrong.iter().any(|wrong| wrong.contains(what)),
        "no {what:?} in {wrong:#?}"
    );
}

fn log<'a>(seen: &'a mut Seen, service: &str) -> &'a mut Vec<Entry> {
    seen.logs.get_mut(service).unwrap()
}

#[test]
fn what_is_well_is_not_blamed() {
    let (ledger, seen) = good();
    assert_eq!(check(&ledger, &Seen::default(), &seen), [""; 0]);
    assert_eq!(check(&ledger, &seen, &seen), [""; 0]);
}

#[test]
fn an_acknowledged_command_that_is_lost_is_found() {
    for (service, event) in [
        ("users", "UserRegistered"),
        ("order", "OrderCreated"),
        ("order", "OrderShipped"),
        ("order", "OrderCancelled"),
    ] {
        finds(
            &format!("{event} was acknowledged 1 times and happened 0"),
            |_, seen| {
                log(seen, service).retain(|entry| entry.event_type != event);
            },
        );
    }
    finds("receipts of things", |_, seen| log(seen, "stock").clear());
}

#[test]
fn a_command_that_was_carried_out_twice_is_found() {
    finds("acknowledged 0 times and happened 1", |_, seen| {
        log(seen, "order").push(entry(5, "c", 1, "OrderCreated"));
    });
    finds("acknowledged 1 times and happened 2", |_, seen| {
        log(seen, "order").push(entry(5, "a", 3, "OrderShipped"));
    });
    finds("receipts of things", |_, seen| {
        log(seen, "stock").push(entry(3, "tea", 2, "ItemReceived"));
    });
    finds("was carried out again", |_, seen| seen.again[2].2 = false);
}

#[test]
fn a_consequence_that_is_missing_or_doubled_is_found() {
    for (service, event) in [("payment", "PaymentCompleted"), ("stock", "StockReserved")] {
        finds(&format!("{event} never happened"), |_, seen| {
            log(seen, service).retain(|entry| entry.event_type != event);
        });
    }
    for (service, stream, event) in [
        ("payment", "a", "PaymentCompleted"),
        ("stock", "a", "StockReserved"),
        ("notification", "n", "NotificationSent"),
    ] {
        finds(&format!("{event} happened 2 times"), |_, seen| {
            let log = log(seen, service);
            log.push(entry(log.len() as u64 + 1, stream, 2, event));
        });
    }
}

#[test]
fn a_start_that_says_nothing_or_has_found_less_than_was_there_is_found() {
    let known: BTreeMap<_, _> = SERVICES.map(|service| (service.to_owned(), 7)).into();
    let good = Found {
        pages: Some((3, 0)),
        stores: SERVICES.map(|service| (service.to_owned(), (7, 7))).into(),
    };
    assert_eq!(start(&good, &known), [""; 0]);
    assert_eq!(start(&good, &BTreeMap::new()), [""; 0]);
    let finds = |what: &str, plant: fn(&mut Found)| {
        let mut found = good.clone();
        plant(&mut found);
        let wrong = start(&found, &known);
        assert!(wrong.len() == 1 && wrong[0].contains(what), "{wrong:?}");
    };
    finds("nothing of the write-ahead log", |found| found.pages = None);
    finds("nothing of the store of `payment`", |found| {
        found.stores.remove("payment");
    });
    finds(
        "of `notification` up to 6, and it was seen up to 7",
        |found| {
            found.stores.insert("notification".into(), (6, 6));
        },
    );
}

#[test]
fn an_answer_that_changes_is_found() {
    finds("and again", |_, seen| {
        seen.again[2].1 = Answer::Acknowledged("{}".into());
    });
    finds("and again", |_, seen| {
        seen.again[4].1 = Answer::Refused(409, String::new());
    });
}

#[test]
fn a_command_that_is_refused_or_never_answered_is_found() {
    for answer in [Answer::Unknown, Answer::Refused(409, String::new())] {
        finds("was asked for until", |ledger, _| {
            ledger.0[4].answer = answer;
        });
    }
}

#[test]
fn a_log_that_is_torn_changed_or_doubled_is_found() {
    finds("has 3 where 2 should be", |_, seen| {
        drop(log(seen, "order").remove(1));
    });
    finds("has changed", |_, seen| drop(log(seen, "order").pop()));
    for service in SERVICES {
        finds("has changed", |_, seen| {
            log(seen, service)[0].event_id = "another".into();
        });
    }
    finds("version 2 of a stream", |_, seen| {
        log(seen, "order")[2].version = 3;
    });
    finds("is there twice", |_, seen| {
        log(seen, "order")[3].event_id = "a-1".into();
    });
}

#[test]
fn a_view_that_shows_something_else_is_found() {
    finds("is shown as confirmed", |_, seen| {
        seen.orders.insert("a".into(), "confirmed".into());
    });
    finds("shelves hold", |_, seen| {
        seen.shelves.insert("tea".into(), (10, 0));
    });
}

#[test]
fn what_the_platform_finds_broken_is_passed_on() {
    finds("invariant: money", |_, seen| {
        seen.broken.push("money".into());
    });
}
