//! Evidence of a story that went well, doctored in one place: the law that this breaks is found.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use factum::{Draft, Record};
use orders::platform::Role;
use serde_json::{Value, json};

use super::{Evidence, check};
use crate::{
    script::{Deed, Happening, Life, Script},
    story,
};

/// One order is shipped, another cancelled, and one that is too large rejected.
fn whole() -> Evidence {
    static WHOLE: OnceLock<Evidence> = OnceLock::new();
    let tell = || {
        let place = |order, qty| Deed::Place {
            order,
            user: 0,
            items: vec![(0, qty)],
            card: "card:ok",
            manual: false,
        };
        let deeds = [
            Deed::Register { user: 0 },
            Deed::Receive { sku: 0, qty: 5 },
            place(0, 2),
            place(1, 1),
            place(2, 9),
            Deed::Receive { sku: 0, qty: 1 },
            Deed::Ship { order: 0 },
            Deed::Ship { order: 0 },
            Deed::Cancel { order: 1 },
        ];
        // Time for what follows from the orders.
        let wait = (6, Happening::Wait { seconds: 5 });
        story::evidence(&Script {
            seed: 1,
            plant: None,
            snapshot_every: None,
            deeds: deeds.into_iter().enumerate().collect(),
            lives: vec![Life {
                happenings: vec![wait],
                ..Life::default()
            }],
        })
    };
    WHOLE.get_or_init(tell).clone()
}

/// `law` is found to be broken once `doctor` has changed the evidence.
#[track_caller]
fn breaks(law: &str, doctor: impl FnOnce(&mut Evidence)) {
    let mut evidence = whole();
    doctor(&mut evidence);
    let broken = check(&evidence);
    let laws: BTreeSet<_> = broken.iter().map(|broken| broken.law).collect();
    assert!(laws.contains(law), "{broken:#?}");
}

/// The first event of this name in a service's log.
fn event<'a>(evidence: &'a mut Evidence, role: Role, name: &str) -> &'a mut Record {
    let books = &mut evidence.history.books;
    let book = books
        .iter_mut()
        .find(|book| book.service.as_str() == role.name());
    let mut records = book.unwrap().records.iter_mut();
    records
        .find(|record| *record.draft.event_type.name == *name)
        .unwrap()
}

fn change(record: &mut Record, change: impl FnOnce(&mut Draft)) {
    change(Arc::make_mut(&mut record.draft));
}

fn set(record: &mut Record, field: &str, value: Value) {
    let mut data: Value = serde_json::from_slice(&record.draft.data).unwrap();
    data[field] = value;
    change(record, |draft| draft.data = data.to_string().into());
}

#[test]
fn a_story_that_went_well_breaks_no_law() {
    let evidence = whole();
    assert_eq!(check(&evidence), []);
    assert!(evidence.readings.len() >= 8, "{:#?}", evidence.readings);
    let refused = evidence
        .deeds
        .iter()
        .filter(|(.., answered)| *answered == Some(false));
    assert_eq!(refused.count(), 1);
}

#[test]
fn an_aggregate_that_does_what_it_may_not_is_found_out() {
    let renames = [
        (Role::Order, "OrderPaid", "OrderConfirmed"),
        (Role::Order, "OrderShipped", "OrderPaid"),
        (Role::Payment, "RefundRequested", "PaymentFailed"),
        (Role::Stock, "StockTaken", "StockReserved"),
        (Role::Stock, "ItemTaken", "ItemReserved"),
    ];
    for (role, from, to) in renames {
        breaks("aggregates", |evidence| {
            change(event(evidence, role, from), |draft| {
                draft.event_type.name = to.into();
            });
        });
    }
    let amounts = [
        (Role::Order, "OrderCreated", "total_amount"),
        (Role::Payment, "RefundRequested", "amount"),
        (Role::Payment, "PaymentRefunded", "amount"),
        (Role::Stock, "ItemReserved", "qty"),
        (Role::Stock, "ItemReleased", "available"),
    ];
    for (role, name, field) in amounts {
        breaks("aggregates", |evidence| {
            set(event(evidence, role, name), field, json!(77));
        });
    }
}

#[test]
fn a_row_that_is_wrong_missing_or_too_many_is_found_out() {
    for (role, view, id) in whole().rows.into_keys() {
        let place = (role, view, id);
        breaks("views", |evidence| drop(evidence.rows.remove(&place)));
        breaks("views", |evidence| {
            let row = evidence.rows.get_mut(&place).unwrap();
            *row = json!({ "other": row.clone() });
        });
        breaks("views", |evidence| {
            let (role, view, _) = place.clone();
            evidence
                .rows
                .insert((role, view, "nobody".into()), json!({}));
        });
    }
}

#[test]
fn a_view_that_does_not_show_what_its_reader_wrote_is_found_out() {
    for index in 0..whole().readings.len() {
        breaks("read your writes", |evidence| {
            evidence.readings[index].at = 0;
        });
        breaks("read your writes", |evidence| {
            evidence.readings[index].row = Some(json!({ "status": "unheard of" }));
        });
        // As it was before the first deed.
        breaks("read your writes", |evidence| {
            evidence.readings[index].row = None;
        });
    }
    // As it was when the order was placed.
    breaks("read your writes", |evidence| {
        let rows = evidence
            .readings
            .iter()
            .filter(|reading| reading.id == "order-0");
        let rows: Vec<_> = rows.map(|reading| reading.row.clone()).collect();
        let last = evidence
            .readings
            .iter_mut()
            .rfind(|reading| reading.id == "order-0");
        last.unwrap().row.clone_from(&rows[0]);
    });
}

#[test]
fn an_answer_that_is_not_so_is_found_out() {
    const LAW: &str = "acknowledged is there once";
    for index in 0..whole().deeds.len() {
        // What was done was refused, and the other way round.
        breaks(LAW, |evidence| {
            let answered = &mut evidence.deeds[index].2;
            *answered = answered.map(|accepted| !accepted);
        });
    }
    let names = [
        (Role::Users, "UserRegistered"),
        (Role::Stock, "ItemReceived"),
        (Role::Order, "OrderCreated"),
        (Role::Order, "OrderShipped"),
    ];
    for (role, name) in names {
        breaks(LAW, |evidence| {
            change(event(evidence, role, name), |draft| {
                draft.correlation_id = "lost".into();
            });
        });
    }
    // Once more, for the second delivery.
    breaks(LAW, |evidence| {
        change(event(evidence, Role::Stock, "ItemReceived"), |draft| {
            draft.correlation_id = "deed-5".into();
        });
    });
    breaks(LAW, |evidence| {
        let books = &mut evidence.history.books;
        let book = books
            .iter_mut()
            .find(|book| book.service.as_str() == "order");
        book.unwrap().steps.retain(|step| step.records.is_empty());
    });
}
