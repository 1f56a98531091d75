//! What the test kit finds in projections, and how it says so.

use std::sync::atomic::{AtomicU64, Ordering};

use factum_core::{
    Failure, FailureClass, Projection, Query, Recorded, RowSet, View, ViewDefinition,
};
use factum_macros::Event;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::project;
use crate::given::failure_of;

#[derive(Event, Clone, Debug, PartialEq)]
#[event(crate = "factum_core")]
enum Counted {
    #[event(name = "Counted", version = 2, upcast(1 => one_by_one))]
    By { count: u64 },
    #[event(name = "Drawn", version = 1)]
    Drawn,
    #[event(name = "Broken", version = 1)]
    Broken,
    #[event(name = "Forgotten", version = 1)]
    Forgotten,
}

fn one_by_one(_: serde_json::Value) -> serde_json::Value {
    json!({ "count": 1 })
}

#[derive(Event, Clone, Debug, PartialEq)]
#[event(name = "Foreign", version = 1, crate = "factum_core")]
struct Foreign;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Total {
    total: u64,
    by: Option<String>,
}

const TOTALS: View<Total> = View::new("totals");

#[derive(Default)]
struct Totals {
    draws: AtomicU64,
}

impl Projection for Totals {
    const NAME: &'static str = "totals";
    type Event = Counted;

    fn views(&self) -> Vec<ViewDefinition> {
        vec![TOTALS.kept_by::<Self>().integer("total")]
    }

    async fn project(
        &self,
        event: &Recorded<Counted>,
        rows: &mut RowSet<'_>,
    ) -> Result<(), Failure> {
        let id = event.aggregate_id.as_deref().unwrap_or_default();
        let mut row = rows.get(TOTALS, id).await?.unwrap_or_default();
        row.by = event
            .metadata
            .get("actor")
            .and_then(|actor| actor.read().ok());
        match event.data {
            Counted::By { count } => row.total += count,
            Counted::Drawn => row.total = self.draws.fetch_add(1, Ordering::Relaxed),
            Counted::Broken => return Err(Failure::poison("it is broken")),
            Counted::Forgotten => {
                rows.delete(TOTALS, id);
                return Ok(());
            }
        }
        rows.put(TOTALS, id, &row)
    }
}

fn total(total: u64) -> Total {
    Total { total, by: None }
}

#[test]
fn rows_follow_events_of_several_streams_and_rows_that_were_there() {
    project(Totals::default())
        .given_row(TOTALS, "a", &total(10))
        .events(
            "counter/a",
            [Counted::By { count: 1 }, Counted::By { count: 2 }],
        )
        .stored("counter/b", [("Counted", 1, json!({}))])
        .events("counter/c", [Counted::By { count: 5 }, Counted::Forgotten])
        .events("else/c", [Foreign])
        .then_row(TOTALS, "a", &total(13))
        .then_row(TOTALS, "b", &total(1))
        .then_no_row(TOTALS, "c")
        .with("actor", "ada")
        .events("counter/b", [Counted::By { count: 1 }])
        .then_row(
            TOTALS,
            "b",
            &Total {
                total: 2,
                by: Some("ada".into()),
            },
        )
        .rebuilt_is_the_same();
}

#[test]
fn a_row_that_is_another_or_missing_is_shown_beside_what_is_there() {
    let counted = || project(Totals::default()).events("counter/a", [Counted::By { count: 1 }]);
    let told = failure_of(|| drop(counted().then_row(TOTALS, "a", &total(2))));
    assert!(
        told.contains("row `a` of view `totals` is another than expected"),
        "{told}"
    );
    assert!(
        told.contains("-     total: 2,\n  +     total: 1,"),
        "{told}"
    );
    let told = failure_of(|| drop(counted().then_row(TOTALS, "b", &total(2))));
    assert!(
        told.contains("no row `b`\n    totals `a`: {\"total\":1,\"by\":null}"),
        "{told}"
    );
    let told = failure_of(|| drop(counted().then_no_row(TOTALS, "a")));
    assert!(told.contains("has a row `a`, and should not"), "{told}");
}

#[test]
fn counting_is_the_same_when_built_anew_and_not_when_applied_twice() {
    let counted = project(Totals::default())
        .events("counter/a", [Counted::By { count: 1 }])
        .rebuilt_is_the_same();
    let told = failure_of(|| drop(counted.applied_twice_is_the_same()));
    assert!(
        told.contains("makes other rows when the same events come twice"),
        "{told}"
    );
    project(Totals::default())
        .events("counter/a", [Counted::By { count: 0 }, Counted::Forgotten])
        .applied_twice_is_the_same();
}

#[test]
fn rows_that_depend_on_chance_are_found() {
    let told = failure_of(|| {
        drop(
            project(Totals::default())
                .events("counter/a", [Counted::Drawn])
                .rebuilt_is_the_same(),
        );
    });
    assert!(
        told.contains("are others when they are built anew event by event"),
        "{told}"
    );
}

#[test]
fn a_failure_can_be_expected_and_is_not_passed_over() {
    let broken = || project(Totals::default()).events("counter/a", [Counted::Broken]);
    let _ = broken().then_fails(FailureClass::Poison);
    let told = failure_of(|| drop(broken().then_no_row(TOTALS, "a")));
    assert!(
        told.contains("projection `totals` fails as poison: it is broken"),
        "{told}"
    );
    let told = failure_of(|| drop(broken().then_fails(FailureClass::Transient)));
    assert!(
        told.contains("fails as poison, and should fail as transient"),
        "{told}"
    );
}

/// Says of each event that it touches the row of its stream alone, which is so for a count of one only.
struct Strays;

impl Projection for Strays {
    const NAME: &'static str = "totals";
    type Event = Counted;

    fn views(&self) -> Vec<ViewDefinition> {
        vec![TOTALS.kept_by::<Self>().integer("total")]
    }

    fn row(&self, event: &Recorded<Counted>) -> Option<String> {
        event.aggregate_id.as_deref().map(Into::into)
    }

    async fn project(
        &self,
        event: &Recorded<Counted>,
        rows: &mut RowSet<'_>,
    ) -> Result<(), Failure> {
        let id = event.aggregate_id.as_deref().unwrap_or_default();
        match event.data {
            Counted::By { count: 1 } => rows.put(TOTALS, id, &total(1)),
            // What a projection makes of the refusal doesn't matter.
            Counted::By { count: 2 } => {
                drop(rows.get(TOTALS, "other").await);
                Ok(())
            }
            Counted::By { .. } => rows.put(TOTALS, "other", &total(1)),
            Counted::Drawn => rows.find(TOTALS, Query::all()).await.map(drop),
            Counted::Broken => {
                rows.sql("DELETE FROM totals", Vec::new());
                Ok(())
            }
            Counted::Forgotten => {
                rows.delete(TOTALS, "other");
                Ok(())
            }
        }
    }
}

#[test]
fn an_event_that_touches_other_rows_than_it_says_is_poison() {
    let _ = project(Strays)
        .events("counter/a", [Counted::By { count: 1 }])
        .then_row(TOTALS, "a", &total(1));
    let stray = [
        Counted::By { count: 2 },
        Counted::By { count: 3 },
        Counted::Drawn,
        Counted::Broken,
        Counted::Forgotten,
    ];
    for event in stray {
        let strayed = project(Strays).events("counter/a", [event]);
        let strayed = strayed.then_fails(FailureClass::Poison);
        let told = failure_of(|| drop(strayed.then_no_row(TOTALS, "other")));
        assert!(
            told.contains("this event touches row `a` alone, and it wants"),
            "{told}"
        );
    }
}
