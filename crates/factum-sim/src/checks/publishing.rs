//! What a consumer may take of the topics is the log: all of it, once, each key in the log's order.

use std::collections::{BTreeMap, BTreeSet};

use factum_core::{At, Record, RecordKind, TopicPartition};

use super::{
    Broken,
    fold::{Class, fold, link},
};
use crate::{Book, History};

/// What is wrong with what the service of `book` has published.
pub fn publishing(book: &Book, history: &History) -> Vec<Broken> {
    let mut broken = Vec::new();
    let service = &book.service;
    let mut say = |law, what: String| broken.push(Broken::new(law, format!("{service}: {what}")));
    let head = book.records.last().map_or(At::ZERO, |record| record.at);
    if book.published != head {
        let reached = book.published;
        say(
            "published whole",
            format!("the relay has published up to {reached}, the head is {head}"),
        );
    }
    let mut wanted: BTreeMap<TopicPartition, Vec<&Record>> = BTreeMap::new();
    for record in &book.records {
        if let Some(to) = &record.draft.destination {
            let partition = TopicPartition::new(to.topic.clone(), to.partition);
            wanted.entry(partition).or_default().push(record);
        }
    }
    let source = book.store.to_string();
    let places: BTreeSet<_> = wanted.keys().chain(history.partitions.keys()).collect();
    for place in places {
        let messages = history.partitions.get(place).map_or(&[][..], Vec::as_slice);
        let records = wanted.get(place).map_or(&[][..], Vec::as_slice);
        let mut taken: BTreeSet<At> = BTreeSet::new();
        for (message, class) in messages.iter().zip(fold(messages)) {
            let Some((from, at, _)) = link(message).filter(|(from, ..)| *from == source) else {
                continue;
            };
            // In the order of their places.
            let record = records.binary_search_by_key(&at, |record| record.at);
            let Ok(record) = record.map(|index| records[index]) else {
                say(
                    "published as recorded",
                    format!("{place} has {from} {at}, which the log doesn't send there"),
                );
                continue;
            };
            if let Some(what) = differs(record, message) {
                say(
                    "published as recorded",
                    format!("{place}:{} ({at}) {what}", message.offset),
                );
            }
            if let Class::Taken(_) = class {
                taken.insert(at);
            }
        }
        order(place, records, &taken, &mut say);
    }
    broken
}

/// What is taken of one partition, against what was recorded for it. The fold takes nothing out of the source's order,
/// so that whoever gets all gets each key in the log's order, and nothing twice.
fn order(
    place: &TopicPartition,
    records: &[&Record],
    taken: &BTreeSet<At>,
    say: &mut impl FnMut(&'static str, String),
) {
    let missing = records.iter().find(|record| !taken.contains(&record.at));
    if let Some(missing) = missing {
        let at = missing.at;
        say(
            "published whole",
            format!("{place} will never give {at} to a consumer, or not in its order"),
        );
    }
}

/// How a message differs from its record.
fn differs(record: &Record, message: &factum_core::Message) -> Option<String> {
    let draft = &record.draft;
    if draft.kind == RecordKind::Message {
        // Copies of dead letters have a form of their own.
        return None;
    }
    let key = draft.destination.as_ref().and_then(|to| to.key.as_ref());
    if key != message.key.as_ref() {
        return Some("has another key than its record".into());
    }
    let text = |bytes| str::from_utf8(bytes).unwrap_or_default();
    let value = text(message.value.as_deref().unwrap_or_default());
    let id = draft.event_id.to_string();
    if !value.contains(&id) {
        return Some(format!("doesn't say its event id {id}"));
    }
    (!value.contains(text(&draft.data))).then(|| "doesn't hold its record's data".into())
}
