//! A log is what was committed to it: each record once, densely, in the order of the commits.

use std::collections::{BTreeMap, BTreeSet};

use factum_core::{Epoch, StreamId, Version};

use super::Broken;
use crate::Book;

/// What is wrong with the log of a service.
pub fn log(book: &Book) -> Vec<Broken> {
    let mut broken = Vec::new();
    let service = &book.service;
    let mut say = |law, what: String| broken.push(Broken::new(law, format!("{service}: {what}")));
    let (mut position, mut epoch) = (0, Epoch::ZERO);
    let mut versions: BTreeMap<&StreamId, Version> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for record in &book.records {
        position += 1;
        if record.at.position.0 != position {
            say(
                "dense positions",
                format!("{} stands where {position} is expected", record.at),
            );
            position = record.at.position.0;
        }
        if record.at.epoch < epoch {
            say(
                "epochs grow",
                format!("{} was written in an epoch before {epoch}", record.at),
            );
        }
        epoch = record.at.epoch;
        if let Some(stream) = &record.draft.stream {
            let version = versions.entry(stream).or_default();
            *version = version.next();
            if record.version != *version {
                say(
                    "dense versions",
                    format!(
                        "{stream} has version {} at {}, expected {version}",
                        record.version, record.at
                    ),
                );
                *version = record.version;
            }
        }
        if !ids.insert(&record.draft.event_id) {
            say(
                "records once",
                format!(
                    "event {} is recorded a second time at {}",
                    record.draft.event_id, record.at
                ),
            );
        }
    }
    committed(book, &mut say);
    broken
}

/// The records are those of the commits, and no others.
fn committed(book: &Book, say: &mut impl FnMut(&'static str, String)) {
    const LAW: &str = "commits whole";
    let mut next = 1;
    for step in book.steps.iter().filter(|step| !step.records.is_empty()) {
        if step.first.map(|first| first.0) != Some(next) {
            let found = step
                .first
                .map_or("no place".into(), |first| first.to_string());
            say(
                LAW,
                format!("commit {} got {found}, expected {next}", step.commit),
            );
        }
        for id in &step.records {
            let index = usize::try_from(next - 1).unwrap_or(usize::MAX);
            let found = book.records.get(index).map(|record| &record.draft.event_id);
            if found != Some(id) {
                let found = found.map_or("nothing".into(), ToString::to_string);
                return say(
                    LAW,
                    format!(
                        "at {next} is {found}, and commit {} wrote {id}",
                        step.commit
                    ),
                );
            }
            next += 1;
        }
    }
    let wrote = next - 1;
    if book.records.len() as u64 != wrote {
        let count = book.records.len();
        say(
            LAW,
            format!("there are {count} records, and {wrote} were committed"),
        );
    }
}
