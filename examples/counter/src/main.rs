//! The smallest service: counters that count, a reactor that adds up all of them, and a view to look at.

use std::{error::Error, sync::Arc, time::Duration};

use factum::{
    Aggregate, App, Decision, Event, Failure, GroupSpec, Projection, Reaction, Reactor, Recorded,
    RowSet, Service, ServiceName, Sqlite, SqliteOptions, Topic, TopicSpec, View, ViewDefinition,
    system_env,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Event, Clone, Debug, PartialEq)]
#[event(topic = "counters")]
enum CounterEvent {
    #[event(name = "Counted", version = 1)]
    Counted { by: u32 },
}

#[derive(Default, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Counter {
    total: u32,
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("a counter counts to 100")]
struct Full;

impl Aggregate for Counter {
    const CATEGORY: &'static str = "counter";
    type Id = String;
    type Command = u32;
    type Event = CounterEvent;
    type Error = Full;

    fn handle(&self, by: u32, _: &Decision) -> Result<Vec<CounterEvent>, Full> {
        if self.total + by > 100 {
            Err(Full)
        } else {
            Ok(vec![CounterEvent::Counted { by }])
        }
    }

    fn apply(&mut self, CounterEvent::Counted { by }: &CounterEvent) {
        self.total += by;
    }
}

/// Counts on `all` whatever any other counter counts: once, however often the event comes.
struct AddUp;

impl Reactor for AddUp {
    const NAME: &'static str = "add-up";
    type Event = CounterEvent;

    async fn react(
        &self,
        event: &Recorded<CounterEvent>,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        let CounterEvent::Counted { by } = event.data;
        if event.aggregate_id.as_deref() != Some("all") {
            cx.execute::<Counter>(&"all".into(), by)?;
        }
        Ok(())
    }
}

const COUNTERS: View<Counter> = View::new("counters");

/// A row for each counter.
struct Counters;

impl Projection for Counters {
    const NAME: &'static str = "counters";
    type Event = CounterEvent;

    fn views(&self) -> Vec<ViewDefinition> {
        vec![COUNTERS.kept_by::<Self>()]
    }

    async fn project(
        &self,
        event: &Recorded<CounterEvent>,
        rows: &mut RowSet<'_>,
    ) -> Result<(), Failure> {
        let id = event.aggregate_id.as_deref().unwrap_or_default();
        let mut counter = rows.get(COUNTERS, id).await?.unwrap_or_default();
        counter.apply(&event.data);
        rows.put(COUNTERS, id, &counter)
    }
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "what it counted is what it is run for")]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let (env, sqlite) = (
        system_env(),
        Sqlite::open(&SqliteOptions::new(directory.path()))?,
    );
    let store = sqlite.store(&ServiceName::of("counter"), &env).await?;
    let broker = Arc::new(sqlite.broker(&env).await?);
    let service = Service::new("counter")
        .topic(TopicSpec::new(Topic::of("counters"), 4))
        .aggregate::<Counter>()
        .group(GroupSpec::new("add-up").on("counters", AddUp))
        .projection(Counters);
    let app = App::new(env, broker)
        .service(service, store)
        .start()
        .await?;

    let counter = app.service("counter").expect("it was added above");
    let (commands, queries) = (counter.commands(), counter.queries());
    let counted = commands.execute::<Counter>(&"tea".into(), 3).await?;
    let tea = queries.get(COUNTERS, "tea", Some(&counted.token)).await?;
    println!("tea: {}", tea.value.unwrap_or_default().total);

    commands.execute::<Counter>(&"milk".into(), 4).await?;
    // Adding up happens later, so its row is waited for.
    let mut all = Counter::default();
    while all.total < 7 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let row = queries.get(COUNTERS, "all", None).await?;
        all = row.value.unwrap_or_default();
    }
    println!("all: {}", all.total);
    app.stop().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use factum_testkit::{given, project, when_event};

    use super::*;

    const COUNTED: CounterEvent = CounterEvent::Counted { by: 60 };

    #[test]
    fn counts_to_100_and_no_further() {
        given::<Counter>([COUNTED])
            .when(40)
            .then([CounterEvent::Counted { by: 40 }]);
        given::<Counter>([COUNTED]).when(41).then_error(Full);
    }

    #[test]
    fn adds_up_and_shows_what_was_counted() {
        when_event(AddUp, COUNTED)
            .then_executes::<Counter>("all", 60)
            .is_idempotent();
        project(Counters).events("counter/tea", [COUNTED]).then_row(
            COUNTERS,
            "tea",
            &Counter { total: 60 },
        );
    }
}
