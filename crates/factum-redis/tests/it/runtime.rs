//! A whole application whose views are on a server that loses what it had acknowledged.

use std::{sync::Arc, time::Duration};

use factum::{
    Aggregate, App, By, Decision, Event, Failure, Projection, QueryError, Recorded, RowSet,
    Running, RunningService, Service, Token, View, ViewDefinition, system_env,
};
use factum_core::Store;
use factum_testkit::MemoryTopicsDisk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    server::Server,
    shelf::{LOOK_EVERY, WAIT_MAX},
    support::{Place, Process, redis_at},
};

#[derive(Event, Clone, Debug, PartialEq)]
enum CounterEvent {
    #[event(name = "Counted", version = 1)]
    Counted { by: u32 },
}

#[derive(Default, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Counter {
    total: u32,
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("a counter always counts")]
struct Never;

impl Aggregate for Counter {
    const CATEGORY: &'static str = "counter";
    type Id = String;
    type Command = u32;
    type Event = CounterEvent;
    type Error = Never;

    fn handle(&self, by: u32, _: &Decision) -> Result<Vec<CounterEvent>, Never> {
        Ok(vec![CounterEvent::Counted { by }])
    }

    fn apply(&mut self, CounterEvent::Counted { by }: &CounterEvent) {
        self.total += by;
    }
}

const COUNTERS: View<Counter> = View::new("counters");

/// A row for each counter, which adds up: an event that is taken twice, or not at all, is seen for ever.
struct Counters;

impl Projection for Counters {
    const NAME: &'static str = "orders";
    type Event = CounterEvent;

    fn views(&self) -> Vec<ViewDefinition> {
        vec![COUNTERS.kept_by::<Self>().integer("total").index(["total"])]
    }

    async fn project(
        &self,
        event: &Recorded<CounterEvent>,
        rows: &mut RowSet<'_>,
    ) -> Result<(), Failure> {
        let id = event.aggregate_id()?;
        let mut counter = rows.get(COUNTERS, id).await?.unwrap_or_default();
        counter.apply(&event.data);
        rows.put(COUNTERS, id, &counter)
    }
}

async fn start(store: Arc<dyn Store>) -> Running {
    let env = system_env();
    let service = Service::new("order")
        .aggregate::<Counter>()
        .projection(Counters);
    App::new(env.clone(), Arc::new(MemoryTopicsDisk::new().open(env)))
        .service_on(store, service)
        .start()
        .await
        .expect("the application starts")
}

fn order(running: &Running) -> &RunningService {
    running.service("order").expect("it was started")
}

async fn count(running: &Running, id: &str) -> Token {
    let counted = order(running).commands().execute::<Counter>(id, 1).await;
    counted.expect("commands need no views").token
}

/// Asks until there is an answer, which has to be right. Whatever else is said meanwhile, a fresh answer is never wrong.
async fn assert_total(running: &Running, id: &str, token: &Token, total: u32) {
    let asked = async {
        loop {
            match order(running)
                .queries()
                .get(COUNTERS, id, Some(token))
                .await
            {
                Ok(fresh) => {
                    assert_eq!(fresh.value, Some(Counter { total }), "at {}", fresh.at);
                    return;
                }
                Err(QueryError::Stale(_)) => {}
                Err(QueryError::Failed(error)) => assert!(
                    error.is_transient() || error.is_conflict(),
                    "it would not pass: {error:#}"
                ),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(WAIT_MAX, asked)
        .await
        .unwrap_or_else(|_| panic!("`{id}` comes to {total} before long"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_server_lost_comes_again_and_is_never_missed_in_an_answer() {
    let Some(mut server) = Server::start(&[]) else {
        return;
    };
    let place = Place::on(&server.url());
    let Process { store, .. } = place.process().await;
    let running = start(store).await;
    let mut total = 0;
    for _ in 0..3 {
        for _ in 0..10 {
            count(&running, "a").await;
        }
        total += 10;
        let token = count(&running, "b").await;
        assert_total(&running, "a", &token, total).await;
        let files = server.files();
        for _ in 0..10 {
            count(&running, "a").await;
        }
        total += 10;
        let token = count(&running, "b").await;
        assert_total(&running, "a", &token, total).await;
        server.kill();
        server.set_back(&files);
        server.up();
        // Nothing is appended from here on: the loss is found out all the same.
        assert_total(&running, "a", &token, total).await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_flushed_is_built_anew_while_commands_go_on() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let place = Place::on(&server.url());
    let Process { store, .. } = place.process().await;
    let running = start(store).await;
    for round in 1..=3 {
        for _ in 0..10 {
            count(&running, "a").await;
        }
        redis::cmd("FLUSHALL")
            .exec(&mut server.connect())
            .expect("it can be flushed");
        let token = count(&running, "b").await;
        assert_total(&running, "a", &token, round * 10).await;
        assert_total(&running, "b", &token, round).await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn old_rows_are_served_while_new_ones_are_built_and_then_they_go() {
    let Some(place) = Place::new() else { return };
    let Process { store, .. } = place.process().await;
    let running = start(store.clone()).await;
    let mut token = count(&running, "a").await;
    assert_total(&running, "a", &token, 1).await;
    let by = By::new("local", "a test");
    for round in 2..=4 {
        order(&running)
            .operator()
            .rebuild("orders", &by)
            .await
            .expect("it can be asked for");
        token = count(&running, "a").await;
        assert_total(&running, "a", &token, round).await;
        let built = async {
            loop {
                let states = store.projections().await.expect("they are listed");
                if states.len() == 1 && states[0].generation == round {
                    return;
                }
                assert_total(&running, "a", &token, round).await;
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(WAIT_MAX, built)
            .await
            .expect("it is built, and the old one is dropped");
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg(format!("{}:*orders*", place.prefix))
            .query(&mut redis_at(&place.url))
            .expect("keys are listed");
        assert_eq!(keys.len(), 4, "state, rows and two indexes: {keys:?}");
    }
    running.stop().await;
}

/// One process dies, the other takes over, each with its own connection and memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_share_a_store_take_over_its_views_from_each_other() {
    let Some(place) = Place::new() else { return };
    let mut running = start(place.process().await.store).await;
    let mut total = 0;
    for _ in 0..2 {
        let other = start(place.process().await.store).await;
        for _ in 0..20 {
            count(&running, "a").await;
            count(&other, "a").await;
        }
        total += 40;
        let token = count(&other, "b").await;
        assert_total(&other, "a", &token, total).await;
        // As a process that is killed: nothing is released.
        drop(running);
        running = other;
        let token = count(&running, "a").await;
        total += 1;
        assert_total(&running, "a", &token, total).await;
    }
    let stopped = tokio::time::timeout(Duration::from_mins(1), running.stop()).await;
    stopped.expect("it stops");
}
