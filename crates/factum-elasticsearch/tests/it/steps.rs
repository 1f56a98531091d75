//! A write is several requests, and may end between any two of them.

use factum_core::{CommitError, ErrorClass, Query};

use crate::{
    front::{Asked, Front, Verdict},
    support::{Place, Process, activate, options_at, orders, put},
};

/// Whether a request is the one of a step.
type Step = fn(&Asked) -> bool;

/// Two processes: one by way of a front, and one without.
async fn two(place: &Place) -> (Front, Process, Process) {
    let front = Front::of(&place.url, None).await;
    let address = format!("http://{}/{}", front.host(), place.prefix);
    let options = options_at(&address);
    let stopped = Process::of(place, options).await;
    let next = Process::of(place, place.options()).await;
    (front, stopped, next)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_in_the_middle_is_finished_by_whoever_claims() {
    let Some(place) = Place::new() else {
        return;
    };
    // Before the rows, before readers see them, before the checkpoint moves.
    let steps: [(&str, Step); 3] = [
        ("rows", |asked| asked.path.contains("_bulk")),
        ("aliases", |asked| asked.path.starts_with("/_aliases")),
        ("checkpoint", |asked| {
            asked.path.contains("_doc/state")
                && asked.method == "PUT"
                && !asked.body.windows(6).any(|part| part == b"\"plan\"")
        }),
    ];
    let (front, stopped, next) = two(&place).await;
    for (number, (step, ends)) in (1..).zip(steps) {
        front.rule(|_| Verdict::Pass);
        let mut old = stopped.claim().await;
        let from = old.claim.checkpoint.position.0;
        front.rule(move |asked| {
            if ends(asked) {
                Verdict::Cut
            } else {
                Verdict::Pass
            }
        });
        let rows = vec![
            put("a", from + 1, r#"{"total":1}"#),
            put("b", from + 1, r#"{"total":2}"#),
            activate(),
        ];
        let error = old.apply(from + 1, rows).await.expect_err("it was cut off");
        assert_eq!(error.class(), ErrorClass::Unknown, "{step}: {error}");
        front.rule(|_| Verdict::Pass);
        // The same again is known not to be right any more, since it is not known how far it came.
        let again = old.apply(from + 1, vec![put("a", from + 1, "{}")]).await;
        let again = again.expect_err("the checkpoint moves when it is finished");
        assert!(
            matches!(again, CommitError::CheckpointMoved { .. }),
            "{step}: {again}"
        );
        let new = next.claim().await;
        assert_eq!(
            new.claim.checkpoint,
            new.at(from + 1),
            "{step}: it is finished"
        );
        for id in ["a", "b"] {
            let version = next.get(id).await.map(|row| row.version.0);
            assert_eq!(version, Some(number), "{step}: row `{id}`");
        }
        let active = next.views.active(&orders()).await.expect("it reads");
        assert_eq!(active, Some(1), "{step}");
        let late = old.apply(from + 9, vec![put("a", from + 9, "{}")]).await;
        let late = late.expect_err("another one has claimed it");
        assert_eq!(late.class(), ErrorClass::Fenced, "{step}: {late}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_former_owner_that_come_late_change_nothing() {
    let Some(place) = Place::new() else {
        return;
    };
    let (front, stopped, next) = two(&place).await;
    let mut old = stopped.claim().await;
    front.rule(|asked| {
        if asked.path.contains("_bulk") {
            Verdict::Cut
        } else {
            Verdict::Pass
        }
    });
    let row = vec![put("a", 1, r#"{"total":1}"#)];
    old.apply(1, row).await.expect_err("it was cut off");
    let mut new = next.claim().await;
    new.apply(2, vec![put("a", 2, r#"{"total":2}"#)])
        .await
        .expect("it is the owner");
    // The same bytes as were cut off, now.
    let bulk = r#"{"index":{"_id":"KEY","version":1,"version_type":"external_gte"}}"#;
    let state = next.get("a").await.expect("it is there");
    assert_eq!(state.version.0, 2);
    let index = place.indexes().await.remove(0);
    let found = place
        .ask("GET", &format!("/{index}/_search?q=id:a"), "")
        .await;
    let found = place.ask("POST", &format!("/{index}/_refresh"), "").await["_shards"]
        .is_object()
        .then_some(found);
    assert!(found.is_some());
    let found = place
        .ask("GET", &format!("/{index}/_search?q=id:a"), "")
        .await;
    let key = found["hits"]["hits"][0]["_id"]
        .as_str()
        .expect("it has a key");
    let source = r#"{"id":"a","view":"orders","document":"{\"total\":1}"}"#;
    let lines = format!("{}\n{source}\n", bulk.replace("KEY", key));
    let answer = place.ask("POST", &format!("/{index}/_bulk"), &lines).await;
    assert_eq!(answer["items"][0]["index"]["status"], 409);
    assert_eq!(next.get("a").await, Some(state));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rows_go_in_requests_of_bounded_size() {
    let Some(place) = Place::new() else {
        return;
    };
    let (front, process, _) = two(&place).await;
    let mut owner = process.claim().await;
    let large = format!("{{\"total\":7,\"note\":\"{}\"}}", "x".repeat(400_000));
    let rows = (0..40).map(|id| put(&format!("{id:02}"), 1, &large));
    owner
        .apply(1, rows.chain([activate()]).collect())
        .await
        .expect("it is the owner");
    let bulks = front.asked("_bulk");
    assert!(bulks.len() >= 4, "{} requests for 16 MB", bulks.len());
    assert!(bulks.iter().all(|bulk| bulk.body.len() <= 5 << 20));
    assert_eq!(process.ids(&Query::all().equal("total", 7)).await.len(), 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_too_large_for_one_document_is_finished_as_well() {
    let Some(place) = Place::new() else {
        return;
    };
    let (front, stopped, next) = two(&place).await;
    let mut old = stopped.claim().await;
    front.rule(|asked| {
        if asked.path.contains("_bulk") {
            Verdict::Cut
        } else {
            Verdict::Pass
        }
    });
    let large = format!("{{\"total\":7,\"note\":\"{}\"}}", "x".repeat(400_000));
    let rows = (0..40).map(|id| put(&format!("{id:02}"), 1, &large));
    let cut = old.apply(1, rows.chain([activate()]).collect()).await;
    cut.expect_err("it was cut off");
    let largest = front
        .asked("_doc/")
        .iter()
        .map(|asked| asked.body.len())
        .max();
    assert!(
        largest < Some(10 << 20),
        "{largest:?} bytes of 16 MB in one document"
    );
    let new = next.claim().await;
    assert_eq!(new.claim.checkpoint, new.at(1));
    assert_eq!(next.ids(&Query::all()).await.len(), 40);
    let index = place.indexes().await.remove(0);
    place.ask("POST", &format!("/{index}/_refresh"), "").await;
    let left = place.ask("GET", &format!("/{index}/_count"), "").await;
    assert_eq!(left["count"], 42, "40 rows, a definition and the state");
}
