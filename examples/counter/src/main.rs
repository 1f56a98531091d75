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
    total: u64,
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("a counter counts something")]
struct Nothing;

impl Aggregate for Counter {
    const CATEGORY: &'static str = "counter";
    type Id = String;
    type Command = u32;
    type Event = CounterEvent;
    type Error = Nothing;

    fn handle(&self, by: u32, _: &Decision) -> Result<Vec<CounterEvent>, Nothing> {
        let counted = (by > 0).then_some(CounterEvent::Counted { by });
        Ok(vec![counted.ok_or(Nothing)?])
    }

    fn apply(&mut self, CounterEvent::Counted { by }: &CounterEvent) {
        self.total += u64::from(*by);
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
    fn counts_whatever_is_something() {
        given::<Counter>([]).when(60).then([COUNTED]);
        given::<Counter>([COUNTED]).when(0).then_error(Nothing);
    }

    /// Each counter counted to 100, and so did `all`: the first event that took it further was poison.
    #[test]
    fn what_any_counters_have_counted_can_be_added_up() {
        let all = given::<Counter>([COUNTED, COUNTED]);
        all.when(u32::MAX)
            .then([CounterEvent::Counted { by: u32::MAX }]);
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
