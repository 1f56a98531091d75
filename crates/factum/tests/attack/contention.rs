//! Contention: many tasks give commands to one aggregate. None is lost, none is decided on a state that another has
//! changed, and those of one process are decided in the order in which they arrived.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use factum::{
    Aggregate, App, Commands, Commit, CommitError, Committed, Decision, ErrorClass, Event,
    ExpectedVersion, Running, Service, Store, StreamId, Version,
};
use factum_testkit::{Layered, StoreLayer};
use futures_util::FutureExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::Data;

const TASKS: u64 = 16;
const EACH: u64 = 200;
const ALL: u64 = TASKS * EACH;

/// An entry of the ledger. It says how many there were with it, as its decider knew: two of one number are a lost update.
#[derive(Event, Clone, Debug, PartialEq)]
enum LedgerEvent {
    #[event(name = "Entered", version = 1)]
    Entered { ticket: u64, count: u64 },
}

#[derive(Default, Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Ledger {
    count: u64,
}

impl Aggregate for Ledger {
    const CATEGORY: &'static str = "ledger";
    type Id = String;
    type Command = u64;
    type Event = LedgerEvent;
    type Error = std::convert::Infallible;

    fn handle(&self, ticket: u64, _: &Decision) -> Result<Vec<LedgerEvent>, Self::Error> {
        let count = self.count + 1;
        Ok(vec![LedgerEvent::Entered { ticket, count }])
    }

    fn apply(&mut self, LedgerEvent::Entered { count, .. }: &LedgerEvent) {
        self.count = *count;
    }
}

/// Hands out tickets: who has a lower one has arrived before.
#[derive(Clone, Default)]
struct Door(Arc<Mutex<u64>>);

impl Door {
    /// Gives the next ticket's command, and waits for its answer outside of the door. A command has arrived when it
    /// was polled first.
    async fn enter(&self, commands: &Commands, id: &String) {
        let (arrived, command, ticket) = {
            let mut next = self.0.lock().unwrap();
            let ticket = *next;
            *next += 1;
            let mut command = Box::pin(commands.execute::<Ledger>(id, ticket));
            (command.as_mut().now_or_never(), command, ticket)
        };
        let mut executed = match arrived {
            Some(executed) => executed,
            None => command.await,
        };
        // Too many conflicts with another process: nothing of it was done, so it may be given again.
        while matches!(&executed, Err(error) if error.class() == ErrorClass::Conflict) {
            executed = commands.execute::<Ledger>(id, ticket).await;
        }
        executed.unwrap();
    }
}

async fn start(data: &Data, store: &Arc<dyn Store>) -> Running {
    App::new(data.env.clone(), data.broker().await)
        .service_on(store.clone(), Service::new("ledgers").aggregate::<Ledger>())
        .start()
        .await
        .unwrap()
}

/// Has [`TASKS`] tasks give [`EACH`] commands each, in turn to the processes.
async fn storm(processes: &[Running]) {
    let door = Door::default();
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let process = &processes[usize::try_from(task).unwrap() % processes.len()];
        let commands = process.service("ledgers").unwrap().commands();
        let door = door.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..EACH {
                door.enter(&commands, &"the-one".to_string()).await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

/// What is in the ledger: each entry's ticket and count.
async fn entries(store: &dyn Store) -> Vec<(u64, u64)> {
    let stream: StreamId = "ledger/the-one".parse().unwrap();
    let (mut entries, mut from) = (Vec::new(), Version(1));
    loop {
        let page = store.read_stream(&stream, from, 1_000).await.unwrap();
        let Some(last) = page.records.last() else {
            return entries;
        };
        from = Version(last.version.0 + 1);
        entries.extend(page.records.iter().map(|record| {
            let entry: Entered = serde_json::from_slice(&record.draft.data).unwrap();
            (entry.ticket, entry.count)
        }));
    }
}

/// The stored shape of an entry.
#[derive(Deserialize)]
struct Entered {
    ticket: u64,
    count: u64,
}

/// What is wrong with the entries of a storm, if anything is.
fn faults(entries: &[(u64, u64)], ordered: bool) -> Vec<String> {
    let mut faults = Vec::new();
    if entries.len() as u64 != ALL {
        faults.push(format!("{} entries of {ALL}", entries.len()));
    }
    let tickets: BTreeSet<u64> = entries.iter().map(|(ticket, _)| *ticket).collect();
    if tickets != (0..ALL).collect() {
        faults.push(format!("{} different tickets", tickets.len()));
    }
    for (index, (ticket, count)) in entries.iter().enumerate() {
        let index = index as u64;
        if *count != index + 1 {
            faults.push(format!("entry {index} was decided on {} others", count - 1));
        }
        if ordered && *ticket != index {
            faults.push(format!("entry {index} has ticket {ticket}"));
        }
    }
    faults.truncate(5);
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commands_on_one_aggregate_are_decided_one_after_another_in_the_order_of_their_arrival() {
    let data = Data::new();
    let store = data.store("ledgers").await;
    let process = start(&data, &store).await;
    storm(std::slice::from_ref(&process)).await;
    let entries = entries(&*store).await;
    assert_eq!(faults(&entries, true), [""; 0]);
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commands_of_two_processes_on_one_aggregate_lose_no_update() {
    let data = Data::new();
    let store = data.store("ledgers").await;
    let processes = [start(&data, &store).await, start(&data, &store).await];
    storm(&processes).await;
    let entries = entries(&*store).await;
    assert_eq!(faults(&entries, false), [""; 0]);
    for process in processes {
        process.stop().await;
    }
}

/// A store that doesn't compare the versions that commands were decided on.
#[derive(Debug)]
struct AnyVersion(Arc<dyn Store>);

#[async_trait::async_trait]
impl StoreLayer for AnyVersion {
    fn below(&self) -> &Arc<dyn Store> {
        &self.0
    }

    async fn commit(&self, mut commit: Commit) -> Result<Committed, CommitError> {
        for append in &mut commit.appends {
            append.expected = ExpectedVersion::Any;
        }
        self.0.commit(commit).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_compares_no_versions_is_caught() {
    let data = Data::new();
    let store: Arc<dyn Store> = Arc::new(Layered(AnyVersion(data.store("ledgers").await)));
    let processes = [start(&data, &store).await, start(&data, &store).await];
    storm(&processes).await;
    let found = faults(&entries(&*store).await, false);
    assert!(
        found.iter().any(|fault| fault.contains("was decided on")),
        "{found:?}"
    );
}

#[test]
fn the_check_finds_a_lost_update_a_lost_and_a_doubled_command_and_a_broken_order() {
    let good: Vec<_> = (0..ALL).map(|ticket| (ticket, ticket + 1)).collect();
    assert_eq!(faults(&good, true), [""; 0]);
    let with = |change: fn(&mut Vec<(u64, u64)>)| {
        let mut entries = good.clone();
        change(&mut entries);
        faults(&entries, true)
    };
    let told = with(|entries| entries[7].1 = 7);
    assert_eq!(told, ["entry 7 was decided on 6 others"]);
    let told = with(|entries| {
        entries.pop();
    });
    assert_eq!(told, ["3199 entries of 3200", "3199 different tickets"]);
    let told = with(|entries| entries.push((5, 3201)));
    assert_eq!(told, ["3201 entries of 3200", "entry 3200 has ticket 5"]);
    let told = with(|entries| {
        entries[1].0 = 2;
        entries[2].0 = 1;
    });
    assert_eq!(told, ["entry 1 has ticket 2", "entry 2 has ticket 1"]);
}
