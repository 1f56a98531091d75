//! What the platform shows of itself over HTTP when all is quiet.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use reqwest::Method;
use serde_json::Value;

use crate::{
    http::Client,
    ledger::{Answer, Ledger},
    load::resend,
};

/// All services. Clients give commands to three of them; what the others do follows from that.
pub(crate) const SERVICES: [&str; 5] = ["users", "order", "payment", "stock", "notification"];
/// How many of the older commands are given again each time, and how many orders are looked at.
const SAMPLE: usize = 100;

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The whole log of each service.
    pub(crate) logs: BTreeMap<String, Vec<Entry>>,
    /// Where orders stand, as their view shows them.
    pub(crate) orders: BTreeMap<String, String>,
    /// How many of each thing are in the house, and how many of them are put aside.
    pub(crate) shelves: BTreeMap<String, (u64, u64)>,
    /// What was answered to commands that were given again, and whether from memory.
    pub(crate) again: Vec<(String, Answer, bool)>,
    /// What the platform itself finds broken.
    pub(crate) broken: Vec<String>,
}

/// A record of a log.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct Entry {
    pub(crate) position: u64,
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) category: String,
    #[serde(default)]
    pub(crate) stream: String,
    pub(crate) version: u64,
    pub(crate) event_id: String,
    #[serde(rename = "type")]
    pub(crate) event_type: String,
    #[serde(default)]
    pub(crate) data: Value,
}

impl Seen {
    /// Looks at everything; gives again all commands from `fresh` on and some of those before. The invariants were
    /// looked at already: `broken` is what was found.
    pub(crate) async fn by(
        client: &Client,
        ledger: &Ledger,
        fresh: usize,
        broken: Vec<String>,
        rng: &mut Rng,
    ) -> Self {
        let mut seen = Self {
            broken,
            ..Self::default()
        };
        let older = (0..SAMPLE.min(fresh)).map(|_| rng.usize(..fresh));
        let older: BTreeSet<_> = older.collect();
        for number in older.into_iter().chain(fresh..ledger.0.len()) {
            let command = &ledger.0[number];
            let (answer, repeated) = resend(client, command).await.unwrap();
            seen.again.push((command.key.clone(), answer, repeated));
        }
        let mut orders: Vec<_> = ledger.orders().into_keys().collect();
        rng.shuffle(&mut orders);
        for order in orders.into_iter().take(SAMPLE) {
            let path = format!("/orders/{order}");
            let reply = client.ask(Method::GET, &path, None, None).await.unwrap();
            let shown = match reply.status {
                200 => reply.json()["status"].as_str().unwrap().to_owned(),
                status => status.to_string(),
            };
            seen.orders.insert(order, shown);
        }
        for service in SERVICES {
            let log = read_log(client, service).await;
            seen.logs.insert(service.into(), log);
        }
        let skus = seen.logs["stock"]
            .iter()
            .filter(|entry| entry.event_type == "ItemReceived");
        let skus: BTreeSet<_> = skus.map(|entry| entry.stream.clone()).collect();
        for sku in skus {
            let shelf = client.get(&format!("/stock/{sku}")).await;
            let number = |member: &str| shelf[member].as_u64().unwrap();
            let shown = (number("on_hand"), number("reserved"));
            seen.shelves.insert(sku, shown);
        }
        seen
    }

    /// The events of one type, and how often each happened to its stream.
    pub(crate) fn happened<'a>(
        &'a self,
        service: &str,
        event_type: &'a str,
    ) -> BTreeMap<&'a str, u64> {
        let mut happened = BTreeMap::new();
        for entry in self.events(service, event_type) {
            *happened.entry(entry.stream.as_str()).or_default() += 1;
        }
        happened
    }

    /// The events of one type.
    pub(crate) fn events<'a>(
        &'a self,
        service: &str,
        event_type: &'a str,
    ) -> impl Iterator<Item = &'a Entry> {
        let log = self.logs.get(service).map_or(&[][..], Vec::as_slice);
        log.iter()
            .filter(move |entry| entry.kind == "event" && entry.event_type == event_type)
    }
}

async fn read_log(client: &Client, service: &str) -> Vec<Entry> {
    let mut log = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/admin/events?service={service}&limit=500{after}");
        let mut page = client.get(&path).await;
        let events: Vec<Entry> = serde_json::from_value(page["events"].take()).unwrap();
        log.extend(events);
        if page["end"] == true {
            return log;
        }
        after = format!("&after={}", page["next"].as_str().unwrap());
    }
}
