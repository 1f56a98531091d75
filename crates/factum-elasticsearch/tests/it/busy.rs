//! A cluster that has too much to do, refuses a row, or doesn't answer.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use factum_core::{ErrorClass, Query};
use serde_json::{Value, json};

use crate::{
    front::{Asked, Front, Verdict},
    support::{Place, Process, activate, options_at, orders, put},
};

async fn behind(place: &Place, patience: Duration) -> (Front, Process) {
    let front = Front::of(&place.url, None).await;
    let options = options_at(&format!("http://{}/{}", front.host(), place.prefix));
    let process = Process::of(place, options.patience(patience)).await;
    (front, process)
}

/// The rows of a request: two lines each.
fn rows(asked: &Asked) -> Vec<String> {
    let text = std::str::from_utf8(&asked.body).expect("it is text");
    let lines: Vec<_> = text.lines().collect();
    lines
        .chunks(2)
        .map(|row| format!("{}\n", row.join("\n")))
        .collect()
}

fn refused(status: u16, kind: &str) -> Value {
    json!({ "index": { "status": status, "error": { "type": kind, "reason": "so it is" } } })
}

const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_rows_that_were_not_taken_are_given_again() {
    let Some(place) = Place::new() else {
        return;
    };
    let (front, process) = behind(&place, MINUTE).await;
    let mut owner = process.claim().await;
    let turn = AtomicU32::new(0);
    front.rule(move |asked| {
        if !asked.path.contains("_bulk") {
            return Verdict::Pass;
        }
        match turn.fetch_add(1, Ordering::SeqCst) {
            // The second of three is not taken.
            0 => {
                let rows = rows(asked);
                let taken = json!({ "index": { "status": 201 } });
                let busy = refused(429, "rejected_execution_exception");
                let answer = json!({ "errors": true, "items": [taken, busy, taken] });
                Verdict::Change(format!("{}{}", rows[0], rows[2]), answer.to_string())
            }
            // Then the cluster takes nothing at all.
            1 => Verdict::Answer(
                429,
                json!({ "error": { "type": "circuit_breaking_exception" } }).to_string(),
            ),
            2 => Verdict::Answer(503, String::new()),
            _ => Verdict::Pass,
        }
    });
    let writes = ["a", "b", "c"].map(|id| put(id, 1, r#"{"total":1}"#));
    owner
        .apply(1, writes.into_iter().chain([activate()]).collect())
        .await
        .expect("all is taken in the end");
    let counts: Vec<_> = front
        .asked("_bulk")
        .iter()
        .map(|asked| rows(asked).len())
        .collect();
    assert_eq!(counts, [3, 1, 1, 1]);
    assert_eq!(process.ids(&Query::all()).await, ["a", "b", "c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_takes_nothing_is_given_up_and_tried_again_later() {
    let Some(place) = Place::new() else {
        return;
    };
    let (front, process) = behind(&place, Duration::from_millis(200)).await;
    let mut owner = process.claim().await;
    front.rule(|asked| {
        if !asked.path.contains("_bulk") {
            return Verdict::Pass;
        }
        let answer = json!({ "error": { "type": "x", "reason": "the queue is full" } });
        Verdict::Answer(429, answer.to_string())
    });
    let row = || vec![put("a", 1, "{}")];
    let error = owner.apply(1, row()).await.expect_err("nothing is taken");
    assert_eq!(error.class(), ErrorClass::Unknown);
    assert!(error.to_string().contains("the queue is full"), "{error}");
    process
        .try_claim()
        .await
        .map(|_| ())
        .expect_err("what was begun can't be finished");
    front.rule(|_| Verdict::Pass);
    let owner = process.claim().await;
    assert_eq!(owner.claim.checkpoint, owner.at(1));
    assert!(process.get("a").await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_refused_is_named() {
    let Some(place) = Place::new() else {
        return;
    };
    let (front, process) = behind(&place, MINUTE).await;
    let mut owner = process.claim().await;
    front.rule(|asked| {
        if !asked.path.contains("_bulk") {
            return Verdict::Pass;
        }
        let stale = refused(409, "version_conflict_engine_exception");
        let answer =
            json!({ "errors": true, "items": [stale, refused(400, "mapper_parsing_exception")] });
        Verdict::Answer(200, answer.to_string())
    });
    let writes = vec![put("known", 1, "{}"), put("odd", 1, "{}")];
    let error = owner.apply(1, writes).await.expect_err("a row is refused");
    assert_eq!(error.class(), ErrorClass::Poison);
    assert!(error.to_string().contains("`odd`"), "{error}");
    // Whoever would go on with it is told the same. Who drops it, or builds another, is not held up.
    let claimed = process.try_claim().await.map(drop);
    assert!(claimed.expect_err("it can't be finished").is_poison());
    let claimed = process.views.claim(&orders(), 2, "f").await;
    claimed.expect("another generation has nothing to do with it");
    let claimed = process.views.claim(&orders(), 1, "dropped").await;
    let checkpoint = claimed.expect("it starts over").checkpoint;
    assert_eq!(checkpoint, factum_core::At::ZERO);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_waited_for_long() {
    let Some(place) = Place::new() else {
        return;
    };
    let front = Front::of(&place.url, None).await;
    let options = options_at(&format!("http://{}/{}", front.host(), place.prefix));
    let process = Process::of(&place, options).await;
    let mut owner = process.claim().await;
    owner
        .apply(1, vec![put("a", 1, "{}")])
        .await
        .expect("it is the owner");
    let options = options_at(&format!("http://{}/{}", front.host(), place.prefix));
    let hasty = Process::of(&place, options.request_max(Duration::from_millis(100))).await;
    front.rule(|_| Verdict::Hold);
    let error = hasty
        .views
        .get(&crate::support::view(), Some(1), "a")
        .await
        .expect_err("nobody answers");
    assert_eq!(error.class(), ErrorClass::Transient, "{error}");
    let error = hasty
        .try_claim()
        .await
        .map(|_| ())
        .expect_err("nobody answers");
    assert!(
        matches!(error.class(), ErrorClass::Transient | ErrorClass::Unknown),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_away_is_no_failure_until_it_is_asked() {
    let Some(place) = Place::new() else {
        return;
    };
    let options = options_at(&format!("http://127.0.0.1:1/{}", place.prefix));
    let process = Process::of(&place, options).await;
    let error = process
        .try_claim()
        .await
        .map(|_| ())
        .expect_err("nobody is there");
    assert_eq!(error.class(), ErrorClass::Transient, "{error}");
}
