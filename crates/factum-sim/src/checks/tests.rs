//! Each law is broken once, by one change of a history in which all of them hold.

use std::sync::Arc;

use factum_core::{
    At, Codec, CommitId, Destination, Draft, Fence, Group, Headers, InboxId, Key, Message,
    MessageId, Metadata, OwnerEpoch, ParkedId, Position, ProjectionName, Record, RecordKind,
    RecordState, ServiceName, StoreId, StreamId, Timestamp, Topic, TopicPartition, TypeName,
    Version,
};
use uuid::Uuid;

use super::*;
use crate::{Book, Done, History, Step, What};

const PAYMENTS: StoreId = StoreId(Uuid::from_u128(1));

/// The place of the one partition that messages come from.
fn place() -> TopicPartition {
    TopicPartition::new(Topic::of("orders"), 0)
}

fn inbox() -> InboxId {
    InboxId {
        group: Group::of("payment"),
        topic: Topic::of("orders"),
        partition: 0,
    }
}

fn key(name: &str) -> Key {
    Key::from(name)
}

/// A record of the payment service, which the event `cause` led to.
fn record(position: u64, cause: &str) -> Record {
    let stream: StreamId = "payment/1".parse().unwrap();
    Record {
        at: At::new(1, position),
        version: Version(position),
        state: RecordState::Live,
        draft: Arc::new(Draft {
            kind: RecordKind::Event,
            stream: Some(stream),
            event_id: format!("paid-{position}").into(),
            event_type: TypeName::new("Paid", 1),
            destination: Some(Destination {
                topic: Topic::of("payments"),
                partition: 0,
                key: Some(key("k")),
            }),
            timestamp: Timestamp::UNIX_EPOCH,
            correlation_id: "story".into(),
            causation_id: Some(cause.into()),
            metadata: Metadata::new(),
            tags: Vec::new(),
            codec: Codec::Json,
            protection: None,
            data: format!(r#"{{"number":{position}}}"#).into(),
        }),
    }
}

fn message(
    topic: &'static str,
    offset: u64,
    key: Key,
    value: String,
    chain: &[(&str, String)],
) -> Message {
    let mut headers = Headers::new();
    for (name, text) in chain {
        headers.push(*name, text.clone());
    }
    Message {
        topic: Topic::of(topic),
        partition: 0,
        offset,
        timestamp: Timestamp::UNIX_EPOCH,
        key: Some(key),
        headers,
        value: Some(value.into()),
    }
}

/// The message that a record of the payment service becomes, behind that of `previous`.
fn published(offset: u64, record: &Record, previous: u64) -> Message {
    let at = |at: At| at.to_string();
    let previous = if previous == 0 {
        At::ZERO
    } else {
        At::new(1, previous)
    };
    let value = format!(
        r#"{{"event_id":"{}","data":{}}}"#,
        record.draft.event_id,
        str::from_utf8(&record.draft.data).unwrap()
    );
    let chain = [
        ("factum-source", PAYMENTS.to_string()),
        ("factum-at", at(record.at)),
        ("factum-previous", at(previous)),
    ];
    message("payments", offset, key("k"), value, &chain)
}

fn fence(owner: u64) -> Fence {
    Fence {
        owner: OwnerEpoch(owner),
        ..Fence::default()
    }
}

fn step(number: u128, what: What, records: &[u64]) -> Step {
    Step {
        commit: CommitId(Uuid::from_u128(number)),
        what,
        first: records.first().map(|first| Position(*first)),
        records: records
            .iter()
            .map(|position| format!("paid-{position}").into())
            .collect(),
    }
}

fn handled(offset: u64, owner: u64, done: Done) -> What {
    What::Message {
        inbox: inbox(),
        fence: fence(owner),
        offset,
        foreign: Some(event(offset)),
        done,
    }
}

fn retried(offset: u64, settled: bool) -> What {
    What::Retry {
        id: ParkedId {
            inbox: inbox(),
            offset,
        },
        fence: fence(1),
        settled,
    }
}

fn projected(fence_of: u64, from: u64, to: u64) -> What {
    let at = |position| {
        if position == 0 {
            At::ZERO
        } else {
            At::new(1, position)
        }
    };
    What::Projection {
        projection: ProjectionName::of("payments"),
        generation: 1,
        fence: fence(fence_of),
        from: at(from),
        to: at(to),
    }
}

fn event(offset: u64) -> MessageId {
    format!("order-{offset}").into()
}

/// Three foreign orders, of which two share a key, led to a payment each; the second was parked for a while, and the
/// third waited behind it.
fn history() -> History {
    let order = |offset: u64| {
        let of = key(if offset == 0 { "a" } else { "b" });
        message("orders", offset, of, format!("order-{offset}"), &[])
    };
    let records: Vec<_> = (1..4)
        .map(|at| record(at, &format!("order-{}", at - 1)))
        .collect();
    let payments = [(0, 0, 0), (1, 1, 1), (2, 1, 1), (3, 2, 2)];
    let payments =
        payments.map(|(offset, index, previous)| published(offset, &records[index], previous));
    let steps = vec![
        step(1, handled(0, 1, Done::Applied), &[1]),
        step(2, handled(1, 1, Done::Parked), &[]),
        step(3, handled(2, 1, Done::Waits), &[]),
        step(4, projected(1, 0, 1), &[]),
        step(5, retried(1, true), &[2]),
        step(6, retried(2, true), &[3]),
        step(7, projected(1, 1, 3), &[]),
    ];
    let book = Book {
        service: ServiceName::of("payment"),
        store: PAYMENTS,
        records,
        steps,
        published: At::new(1, 3),
    };
    let payments_place = TopicPartition::new(Topic::of("payments"), 0);
    History {
        books: vec![book],
        partitions: [
            (place(), (0..3).map(order).collect()),
            (payments_place, payments.to_vec()),
        ]
        .into(),
    }
}

fn check(history: &History) -> Vec<Broken> {
    let book = &history.books[0];
    let groups = [(Group::of("payment"), vec![Topic::of("orders")])];
    let expects = |_: &Group, message: &Message| {
        let value = message.value.as_deref().unwrap_or_default();
        Expected::Handled(String::from_utf8_lossy(value).into_owned().into())
    };
    let mut broken = log(book);
    broken.extend(publishing(book, history));
    broken.extend(effects(book, history, &groups, expects));
    broken.extend(projections(book));
    broken
}

/// The laws that are broken when `doctor` has changed the history.
#[track_caller]
fn breaks(doctor: impl FnOnce(&mut Book), laws: &[&str]) {
    doctored(|history| doctor(&mut history.books[0]), laws);
}

#[track_caller]
fn doctored(doctor: impl FnOnce(&mut History), laws: &[&str]) {
    let mut history = history();
    doctor(&mut history);
    let broken = check(&history);
    let found: std::collections::BTreeSet<_> = broken.iter().map(|broken| broken.law).collect();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), laws, "{broken:#?}");
}

fn change(record: &mut Record, change: impl FnOnce(&mut Draft)) {
    change(Arc::make_mut(&mut record.draft));
}

fn payments(history: &mut History) -> &mut Vec<Message> {
    let place = TopicPartition::new(Topic::of("payments"), 0);
    history.partitions.get_mut(&place).unwrap()
}

#[test]
fn a_whole_history_breaks_no_law() {
    breaks(|_| {}, &[]);
}

#[test]
fn a_log_with_a_hole_a_double_or_another_order_is_found_out() {
    breaks(
        |book| {
            book.records.remove(1);
        },
        &[
            "commits whole",
            "dense positions",
            "dense versions",
            "published as recorded",
        ],
    );
    breaks(
        |book| book.records[2].at = At::new(0, 3),
        &["epochs grow", "published as recorded", "published whole"],
    );
    breaks(
        |book| book.records[2].version = Version(7),
        &["dense versions"],
    );
    breaks(
        |book| {
            let first = book.records[0].draft.event_id.clone();
            change(&mut book.records[1], |draft| draft.event_id = first);
        },
        &["commits whole", "published as recorded", "records once"],
    );
}

#[test]
fn a_commit_that_was_stored_in_part_or_not_in_its_place_is_found_out() {
    breaks(
        |book| book.steps[0].records.push("paid-9".into()),
        &["commits whole"],
    );
    breaks(
        |book| book.steps[0].first = Some(Position(2)),
        &["commits whole", "effects of messages"],
    );
    breaks(|book| drop(book.steps.pop_if(|_| true)), &[]);
    breaks(
        |book| {
            let more = record(4, "order-2");
            book.records.push(more);
            book.published = At::new(1, 4);
        },
        &["commits whole", "effects of messages", "published whole"],
    );
}

#[test]
fn what_the_topics_lack_change_or_turn_round_is_found_out() {
    doctored(
        |history| {
            // The duplicate of the second goes as well.
            payments(history).drain(1..3);
        },
        &["published whole"],
    );
    doctored(
        |history| {
            let payments = payments(history);
            payments.truncate(1);
            let late = history.books[0].records[2].clone();
            let early = history.books[0].records[1].clone();
            let swapped = [published(1, &late, 1), published(2, &early, 1)];
            self::payments(history).extend(swapped);
        },
        &["published whole"],
    );
    doctored(
        |history| payments(history)[0].key = Some(key("other")),
        &["published as recorded"],
    );
    doctored(
        |history| payments(history)[0].value = Some("paid-1".into()),
        &["published as recorded"],
    );
    breaks(|book| book.published = At::new(1, 2), &["published whole"]);
}

#[test]
fn effects_that_are_missing_or_happen_twice_are_found_out() {
    breaks(
        |book| drop(book.steps.remove(5)),
        &["commits whole", "effects of messages", "nothing left out"],
    );
    breaks(
        |book| book.steps.push(step(8, handled(0, 1, Done::Applied), &[])),
        &["effects once"],
    );
    // Under another id, at another place.
    doctored(
        |history| {
            let orders = history.partitions.get_mut(&place()).unwrap();
            let mut again = orders[0].clone();
            again.offset = 3;
            orders.push(again);
            let steps = &mut history.books[0].steps;
            steps.push(step(8, handled(3, 1, Done::Applied), &[]));
        },
        &["effects once"],
    );
    // Both of two are taken for the duplicate of the other.
    breaks(
        |book| {
            book.steps[0].what = handled(0, 1, Done::Duplicate);
        },
        &["effects of messages", "nothing left out"],
    );
    breaks(
        |book| {
            change(&mut book.records[0], |draft| {
                draft.causation_id = Some("order-2".into());
            });
        },
        &["effects of messages"],
    );
}

#[test]
fn a_key_whose_effects_are_turned_round_is_found_out() {
    breaks(
        |book| {
            book.steps[4].what = retried(2, true);
            book.steps[5].what = retried(1, true);
            change(&mut book.records[1], |draft| {
                draft.causation_id = Some(event(2));
            });
            change(&mut book.records[2], |draft| {
                draft.causation_id = Some(event(1));
            });
        },
        &["key order of effects"],
    );
}

#[test]
fn two_owners_at_a_time_are_found_out() {
    breaks(
        |book| {
            book.steps[0].what = handled(0, 2, Done::Applied);
        },
        &["one owner"],
    );
    breaks(
        |book| book.steps[3].what = projected(2, 0, 1),
        &["one owner"],
    );
}

#[test]
fn a_projection_that_leaves_records_out_is_found_out() {
    breaks(
        |book| book.steps[6].what = projected(1, 2, 3),
        &["projections whole"],
    );
}

#[test]
fn a_projection_that_is_built_anew_begins_again() {
    breaks(
        |book| {
            book.steps.push(step(8, projected(2, 0, 2), &[]));
            book.steps.push(step(9, projected(2, 2, 3), &[]));
        },
        &[],
    );
}

/// What came before its time is void, however it was handled.
#[test]
fn a_message_before_its_time_may_have_no_effect() {
    doctored(
        |history| {
            let orders = history.partitions.get_mut(&place()).unwrap();
            let at = |name, at: &str| (name, at.to_string());
            let chain = [
                at("factum-source", "other"),
                at("factum-at", "1-9"),
                at("factum-previous", "1-8"),
            ];
            orders[0] = message("orders", 0, key("a"), "order-0".into(), &chain);
        },
        &["effects once"],
    );
}
