//! The logs of the services as anybody reads them over HTTP: nothing is missing in them, nothing is there twice, and what
//! was read once stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use orders::platform::Role;

use crate::fleet::Client;

/// The logs of all services, as far as they were read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Logs(BTreeMap<Role, Log>);

/// The log of a service.
#[derive(Debug, Default, PartialEq, Eq)]
struct Log {
    /// Where to go on.
    next: String,
    /// The ids of all records, in their order.
    records: Vec<String>,
    known: BTreeSet<String>,
    versions: BTreeMap<(String, String), u64>,
    /// The streams that began with an order.
    orders: BTreeSet<String>,
}

/// A record of a log.
#[derive(Debug, serde::Deserialize)]
struct Entry {
    position: u64,
    #[serde(default)]
    category: String,
    #[serde(default)]
    stream: String,
    version: u64,
    event_id: String,
    #[serde(rename = "type")]
    event_type: String,
}

/// A part of a log.
#[derive(Debug, serde::Deserialize)]
struct Page {
    events: Vec<Entry>,
    next: String,
    end: bool,
}

impl Logs {
    /// Reads on where it ended the last time.
    pub(crate) async fn read(&mut self, client: &Client) {
        for role in Role::EVERY {
            let log = self.0.entry(role).or_default();
            loop {
                let after = match log.next.as_str() {
                    "" => String::new(),
                    next => format!("&after={next}"),
                };
                let path = format!("/admin/events?service={role}&limit=500{after}");
                let page = client.get(&path).await.is(200).clone();
                let page: Page = serde_json::from_value(page).unwrap();
                for entry in page.events {
                    log.take(role, entry);
                }
                log.next = page.next;
                if page.end {
                    break;
                }
            }
        }
    }

    /// How many records there are in all.
    pub(crate) fn records(&self) -> usize {
        self.0.values().map(|log| log.records.len()).sum()
    }

    /// The orders that the order service knows of.
    pub(crate) fn orders(&self) -> Vec<String> {
        let log = &self.0[&Role::Order];
        log.orders.iter().cloned().collect()
    }
}

impl Log {
    fn take(&mut self, role: Role, entry: Entry) {
        let expected = self.records.len() as u64 + 1;
        assert_eq!(
            entry.position, expected,
            "the log of `{role}` has a gap: {entry:?}"
        );
        assert!(
            self.known.insert(entry.event_id.clone()),
            "the log of `{role}` has a record twice: {entry:?}"
        );
        if !entry.stream.is_empty() {
            if entry.event_type == "OrderCreated" && role == Role::Order {
                self.orders.insert(entry.stream.clone());
            }
            let stream = (entry.category, entry.stream);
            let version = self.versions.entry(stream).or_insert(0);
            *version += 1;
            assert_eq!(
                entry.version, *version,
                "a stream of `{role}` at {expected}, by version"
            );
        }
        self.records.push(entry.event_id);
    }
}
