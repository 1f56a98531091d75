//! Snapshots whose bytes or version are not what was written.
//!
//! A snapshot only saves time: one that can't be right is left aside, the aggregate is what its events say, and goes
//! on taking commands.

use std::sync::Arc;

use bytes::Bytes;
use factum::{
    Aggregate, AggregateKind as _, App, Decision, Event, Kind, Service, ServiceName, Snapshot,
    Store as _, StoreId, StreamId, Version, system_env,
};
use factum_testkit::{MemoryDisk, MemoryStore, MemoryTopicsDisk};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::world::runtime;

/// How many events the aggregate has had.
const EVENTS: u64 = 3;

#[derive(Event, Clone, Debug, PartialEq)]
enum Counted {
    #[event(name = "Counted", version = 1)]
    Up { by: u8 },
}

#[derive(Default, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Counter {
    total: u64,
    label: Option<String>,
    parts: Vec<Counter>,
}

impl Aggregate for Counter {
    const CATEGORY: &'static str = "counter";
    const SNAPSHOT_EVERY: u64 = 0;
    type Id = String;
    type Command = u8;
    type Event = Counted;
    type Error = std::convert::Infallible;

    fn handle(&self, by: u8, _: &Decision) -> Result<Vec<Counted>, Self::Error> {
        Ok(vec![Counted::Up { by }])
    }

    fn apply(&mut self, Counted::Up { by }: &Counted) {
        self.total = self.total.wrapping_add(u64::from(*by));
    }
}

/// The version in the first eight bytes, the state in the rest.
pub(crate) fn snapshot(bytes: &[u8]) {
    let (version, state) = match bytes.split_first_chunk::<8>() {
        Some((version, state)) => (u64::from_be_bytes(*version), state),
        None => (EVENTS, bytes),
    };
    runtime().block_on(loaded_with(version, Bytes::copy_from_slice(state)));
}

async fn loaded_with(version: u64, state: Bytes) {
    let env = system_env();
    let disk = MemoryDisk::new(StoreId(env.uuid()), ServiceName::of("counters"), env.now());
    let start = async || {
        let store = Arc::new(MemoryStore::open(disk.clone()));
        let broker = Arc::new(MemoryTopicsDisk::new().open(env.clone()));
        let service = Service::new("counters").aggregate::<Counter>();
        let app = App::new(env.clone(), broker).service_on(store, service);
        app.start().await.expect("it starts")
    };
    let id = "c-1".to_string();
    let first = start().await;
    let commands = first.service("counters").expect("it is there").commands();
    for _ in 0..EVENTS {
        commands
            .execute::<Counter>(&id, 1)
            .await
            .expect("it counts");
    }
    first.stop().await;

    let kind = Kind::<Counter>::new().expect("its events are in order");
    let stream: StreamId = "counter/c-1".parse().expect("it is one");
    let believed = serde_json::from_slice::<Counter>(&state).ok();
    let store = MemoryStore::open(disk.clone());
    let page = store.read_stream(&stream, Version(version.max(1)), 1).await;
    let page = page.expect("a stream reads");
    let event = page.records.first().filter(|_| version > 0);
    let snapshot = Snapshot {
        version: Version(version),
        event_id: event.map_or("no event".into(), |event| event.draft.event_id.clone()),
        state,
    };
    let kept = store
        .save_snapshot(&stream, kind.fingerprint(), snapshot)
        .await;
    kept.expect("a snapshot is kept");

    let running = start().await;
    let commands = running.service("counters").expect("it is there").commands();
    let (counter, loaded) = commands.load::<Counter>(&id).await.expect("it loads");
    assert_eq!(loaded, Version(EVENTS), "a snapshot of version {version}");
    // A state that reads well, of an event that was, can't be told from the right one here.
    let expected = match believed.filter(|_| (1..=EVENTS).contains(&version)) {
        Some(mut believed) => {
            believed.total = believed.total.wrapping_add(EVENTS - version);
            believed
        }
        None => Counter {
            total: EVENTS,
            ..Counter::default()
        },
    };
    assert_eq!(counter, expected);
    let executed = commands.execute::<Counter>(&id, 1).await;
    executed.expect("it goes on counting");
    running.stop().await;
}
