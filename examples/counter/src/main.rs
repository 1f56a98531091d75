//! The smallest service: counters that count, a reactor that adds up all of them, and a view to look at.

use std::error::Error;

use factum::{
    Aggregate, App, Decision, Event, Failure, GroupSpec, Projection, Reaction, Recorded, RowSet,
    Service, View, ViewDefinition, reactor,
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
        (by <= 100 - self.total)
            .then(|| vec![CounterEvent::Counted { by }])
            .ok_or(Full)
    }

    fn apply(&mut self, CounterEvent::Counted { by }: &CounterEvent) {
        self.total += by;
    }
}

/// Counts on `all` whatever any other counter counts: once, however often the event comes.
fn add_up(event: &Recorded<CounterEvent>, cx: &mut Reaction) -> Result<(), Failure> {
    let CounterEvent::Counted { by } = event.data;
    if event.aggregate_id()? != "all" {
        cx.execute::<Counter>("all", by)?;
    }
    Ok(())
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
        let id = event.aggregate_id()?;
        let mut counter = rows.get(COUNTERS, id).await?.unwrap_or_default();
        counter.apply(&event.data);
        rows.put(COUNTERS, id, &counter)
    }
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "what it counted is what it is run for")]
async fn main() -> Result<(), Box<dyn Error>> {
    let service = Service::new("counter")
        .aggregate::<Counter>()
        .group(GroupSpec::new("add-up").on(reactor("add-up", add_up)))
        .projection(Counters);
    let directory = tempfile::tempdir()?;
    let app = App::embedded(directory.path()).await?.service(service);
    let app = app.start().await?;

    let counter = app.service("counter").expect("it was added above");
    let (commands, queries) = (counter.commands(), counter.queries());
    let counted = commands.execute::<Counter>("tea", 3).await?;
    let tea = queries.get(COUNTERS, "tea", Some(&counted.token)).await?;
    println!("tea: {}", tea.value.unwrap_or_default().total);

    commands.execute::<Counter>("milk", 4).await?;
    // Adding up happens later, so its row is waited for.
    let all = queries.wait_for(COUNTERS, "all", |all| all.total == 7);
    println!("all: {}", all.await?.value.total);
    app.stop().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use factum_testkit::{given, given_event, project};

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
        given_event(COUNTED)
            .of("counter/tea", 1)
            .when(reactor("add-up", add_up))
            .then_executes::<Counter>("all", 60)
            .is_idempotent();
        project(Counters).events("counter/tea", [COUNTED]).then_row(
            COUNTERS,
            "tea",
            &Counter { total: 60 },
        );
    }
}
