//! What users were answered is so: what was acknowledged is there, once, and what was refused is not.

use std::collections::BTreeMap;

use factum::RecordKind;
use factum_sim::{What, checks::Broken};
use orders::platform::Role;

use super::Evidence;
use crate::{deeds, script::Deed};

/// What is wrong with the answers.
pub(super) fn check(evidence: &Evidence) -> Vec<Broken> {
    let mut broken = Vec::new();
    for (number, deed, answered) in &evidence.deeds {
        let (role, event, times) = match deed {
            Deed::Register { .. } => (Role::Users, "UserRegistered", 1),
            Deed::Receive { .. } => (Role::Stock, "ItemReceived", 1),
            Deed::Flood { times, .. } => (Role::Stock, "ItemReceived", *times),
            Deed::Place { .. } => (Role::Order, "OrderCreated", 1),
            Deed::Pay { .. } => (Role::Order, "OrderPaymentRequested", 1),
            Deed::Cancel { .. } => (Role::Order, "OrderCancelled", 1),
            Deed::Ship { .. } => (Role::Order, "OrderShipped", 1),
            Deed::Poison { .. } | Deed::Foreign { .. } => continue,
        };
        let mut say = |what: String| {
            broken.push(Broken::new(
                "acknowledged is there once",
                format!("deed {number} ({deed}) {what}"),
            ));
        };
        let keys: Vec<String> = match deed {
            Deed::Flood { times, .. } => {
                (0..*times).map(|part| deeds::part(*number, part)).collect()
            }
            _ => vec![deeds::name(*number)],
        };
        let book = evidence.book(role);
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for record in &book.records {
            let draft = &record.draft;
            if draft.kind == RecordKind::Event && *draft.event_type.name == *event {
                *counts.entry(draft.correlation_id.to_string()).or_default() += 1;
            }
        }
        let found: usize = keys.iter().filter_map(|key| counts.get(key)).sum();
        let doubled = keys
            .iter()
            .find(|key| counts.get(*key).is_some_and(|count| *count > 1));
        match answered {
            _ if doubled.is_some() => say(format!("led to {event} more than once")),
            Some(true) if found != times => {
                say(format!(
                    "was acknowledged, and {event} is there {found} times of {times}"
                ));
            }
            Some(false) if found > 0 => say(format!("was refused, and {event} is there")),
            _ => {}
        }
        let commands = book.steps.iter().filter_map(|step| match &step.what {
            What::Command { key: (_, key) } => Some(key),
            _ => None,
        });
        if answered == &Some(true) && commands.filter(|key| keys.contains(key)).count() != times {
            say("was not one commit for each command".into());
        }
    }
    broken
}
