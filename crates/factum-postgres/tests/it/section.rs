//! Attacks on the section in which positions are given: several processes, snapshots held for long, slow commits, failing
//! ones, backends that are killed in each of its statements, and a process that stops inside it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use factum_core::{
    At, Begin, Commit, ExpectedVersion, InboxId, Input, LogFilter, Record, Start, Store,
    TimerWrite, Version, VoidInput,
};
use factum_postgres::PostgresStore;
use tokio::time::timeout;

use crate::{
    proxy::Proxy,
    support::{Place, WAIT_MAX, appending, eventually, log, process, session, stream, topic},
};
use ExpectedVersion::{Any, Exact};

/// Reads the log as it grows until it has `total` records, a few at a time.
async fn follow(store: Arc<PostgresStore>, total: usize) -> Vec<Record> {
    let mut seen: Vec<Record> = Vec::new();
    while seen.len() < total {
        let after = seen.last().map_or(At::ZERO, |record| record.at);
        let page = store
            .read_log(after, &LogFilter::default(), 7)
            .await
            .expect("the log reads");
        if page.records.is_empty() {
            // The poll behind the notification wakes too; the limit is for the test's own end.
            drop(
                timeout(
                    Duration::from_millis(50),
                    store.wait(factum_core::Signal::Head, after.position.0),
                )
                .await,
            );
        }
        seen.extend(page.records);
    }
    seen
}

const WRITERS: usize = 4;
const COMMITS: usize = 40;

/// How often, and after which pause, it is looked whether a stopped process is inside: for less than a server bears it.
const LOOKS: u32 = 40;
const LOOK_EVERY: Duration = Duration::from_millis(25);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_sees_each_position_once_while_processes_race_and_commits_are_slow_or_fail() {
    let Some(place) = Place::new() else { return };
    let (one, two, reader) = (
        place.process().await,
        place.process().await,
        place.process().await,
    );
    one.store
        .pin_topic(&topic(), 4)
        .await
        .expect("it is pinned");
    // At COMMIT, within the section: slow, and for some events a failure.
    let other = session(&place.url).await;
    let schema = place.schema();
    other
        .batch_execute(&format!(
            "CREATE FUNCTION {schema}.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               PERFORM pg_sleep(0.002); \
               IF new.type_name = 'Bad' THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON {schema}.records DEFERRABLE INITIALLY DEFERRED \
               FOR EACH ROW EXECUTE FUNCTION {schema}.slow()"
        ))
        .await
        .expect("commits are slow");
    other
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        .await
        .expect("a transaction begins");
    other
        .batch_execute(&format!("SELECT count(*) FROM {schema}.records"))
        .await
        .expect("a snapshot is held");

    let total = 2 * WRITERS * COMMITS;
    let readers =
        [one.store.clone(), reader.store.clone()].map(|store| tokio::spawn(follow(store, total)));
    let mut writers = Vec::new();
    for (number, store) in [&one.store, &two.store].into_iter().enumerate() {
        for writer in 0..WRITERS {
            let store = store.clone();
            writers.push(tokio::spawn(async move {
                let own = format!("{number}-{writer}");
                for commit in 0..COMMITS as u64 {
                    let (to, expected) = if commit % 2 == 0 {
                        ("hot", Any)
                    } else {
                        (&*own, Exact(Version(commit / 2)))
                    };
                    store
                        .commit(appending(to, expected))
                        .await
                        .expect("it fits");
                    if commit % 8 == 3 {
                        let mut bad = appending("bad", Any);
                        bad.appends[0].drafts[0].event_type.name = "Bad".into();
                        store.commit(bad).await.expect_err("the trigger refuses it");
                        store
                            .commit(appending(&own, Exact(Version(1_000))))
                            .await
                            .expect_err("nobody is there");
                    }
                }
            }));
        }
    }
    for writer in writers {
        writer.await.expect("a writer ends");
    }
    let records = log(&*two.store).await;
    assert_eq!(records.len(), total);
    for reader in readers {
        let seen = timeout(WAIT_MAX, reader)
            .await
            .expect("a reader ends")
            .expect("it does not panic");
        assert_eq!(
            seen, records,
            "what was seen at a position is there for ever"
        );
    }
    let events: BTreeSet<_> = records
        .iter()
        .map(|record| record.draft.event_id.clone())
        .collect();
    assert_eq!(events.len(), total);
    assert!(
        other.query_one("SELECT 1", &[]).await.is_ok(),
        "the snapshot was held all the time"
    );
}

/// A commit with something for every part of the section.
async fn whole(store: &PostgresStore, inbox: &InboxId, to: &str) -> Commit {
    let row = store
        .inbox(inbox)
        .await
        .expect("a row reads")
        .expect("it was claimed");
    Commit {
        input: Input::Void(VoidInput {
            inbox: inbox.clone(),
            fence: row.fence,
            advance: Arc::new([]),
            trying: None,
            release: false,
            accept: None,
        }),
        timers: vec![TimerWrite::Set {
            id: "t".into(),
            due: crate::support::AT,
            payload: bytes::Bytes::new(),
        }],
        ..appending(to, Any)
    }
}

fn an_inbox() -> InboxId {
    InboxId {
        group: factum_core::Group::of("payment"),
        topic: topic(),
        partition: 0,
    }
}

/// A lock on the table stops the section at the statement that uses it, and there its backend is killed. The lock's mode
/// decides which of several statements it is: writing ones wait for `SHARE`, reading ones too for `ACCESS EXCLUSIVE`.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backend_killed_in_any_statement_of_the_section_loses_nothing_and_doubles_nothing() {
    let Some(place) = Place::new() else { return };
    let process = place.process().await;
    let store = &process.store;
    store.pin_topic(&topic(), 4).await.expect("it is pinned");
    let inbox = an_inbox();
    store
        .claim_inbox(&inbox, &Begin::at(Start::Beginning, 0))
        .await
        .expect("it is claimed");
    store.commit(appending("0", Any)).await.expect("it fits");
    let (lock, killer) = (session(&place.url).await, session(&place.url).await);
    let schema = place.schema();
    let mut expected = 1;
    for (table, mode) in [
        ("epochs", "ACCESS EXCLUSIVE"),
        ("records", "ACCESS EXCLUSIVE"),
        ("batches", "SHARE"),
        ("records", "SHARE"),
        ("inboxes", "SHARE"),
        ("timers", "SHARE"),
    ] {
        for many in [false, true] {
            if !many && matches!(table, "inboxes" | "timers") {
                continue;
            }
            let attack = format!(
                "{mode} on {table}, {}",
                if many {
                    "a transaction"
                } else {
                    "one statement"
                }
            );
            let commit = if many {
                whole(store, &inbox, "a").await
            } else {
                appending("a", Any)
            };
            let event = commit.appends[0].drafts[0].event_id.clone();
            lock.batch_execute(&format!(
                "BEGIN; LOCK TABLE {schema}.{table} IN {mode} MODE"
            ))
            .await
            .expect("the lock is taken");
            let given = {
                let store = store.clone();
                tokio::spawn(async move { store.commit(commit).await })
            };
            let blocked = format!(
                "SELECT l.pid FROM pg_locks l WHERE NOT l.granted AND l.relation = '{schema}.{table}'::regclass"
            );
            let pid: i32 = eventually(&attack, async || {
                killer
                    .query_opt(&blocked, &[])
                    .await
                    .ok()
                    .flatten()
                    .map(|row| row.get(0))
            })
            .await;
            killer
                .execute("SELECT pg_terminate_backend($1)", &[&pid])
                .await
                .expect("it is killed");
            lock.batch_execute("COMMIT")
                .await
                .expect("the lock is given back");
            let committed = timeout(WAIT_MAX, given)
                .await
                .expect("it is answered")
                .expect("it does not panic");
            let committed = committed.unwrap_or_else(|error| panic!("{attack}: {error:?}"));
            expected += 1;
            let records = log(&**store).await;
            assert_eq!(records.len(), expected, "{attack}");
            assert_eq!(
                committed.first.map(|first| first.0),
                Some(expected as u64),
                "{attack}"
            );
            assert_eq!(records[expected - 1].draft.event_id, event, "{attack}");
        }
    }
}

/// The server kills backends all the time, and each commit is answered rightly all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn backends_killed_at_random_lose_nothing_and_double_nothing() {
    let Some(place) = Place::new() else { return };
    let (one, two) = (place.process().await, place.process().await);
    one.store
        .pin_topic(&topic(), 4)
        .await
        .expect("it is pinned");
    let killer = session(&place.url).await;
    let schema = place.schema();
    let find = format!(
        "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND position('{}' IN query) > 0 \
         AND application_name = 'factum' AND (query LIKE '%append%' OR query LIKE 'COMMIT%') LIMIT 1",
        schema.trim_matches('"')
    );
    let mut writers = Vec::new();
    for (number, store) in [one.store.clone(), two.store.clone()]
        .into_iter()
        .enumerate()
    {
        for writer in 0..2 {
            let store = store.clone();
            writers.push(tokio::spawn(async move {
                let mut events = Vec::new();
                for version in 0..30 {
                    let commit = appending(&format!("{number}-{writer}"), Exact(Version(version)));
                    events.push(commit.appends[0].drafts[0].event_id.clone());
                    store
                        .commit(commit)
                        .await
                        .expect("nobody else writes there");
                }
                events
            }));
        }
    }
    let mut killed = 0;
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        if killed < 25
            && let Ok(Some(row)) = killer.query_opt(&find, &[]).await
        {
            killer
                .execute("SELECT pg_terminate_backend($1)", &[&row.get::<_, i32>(0)])
                .await
                .expect("it is killed");
            killed += 1;
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let mut given = BTreeSet::new();
    for writer in writers {
        given.extend(writer.await.expect("each of its commits was applied"));
    }
    let stored: Vec<_> = log(&*one.store)
        .await
        .iter()
        .map(|record| record.draft.event_id.clone())
        .collect();
    assert_eq!(stored.len(), given.len(), "{killed} were killed");
    assert_eq!(stored.into_iter().collect::<BTreeSet<_>>(), given);
    assert!(killed > 0, "somebody was killed");
}

/// To the server a process that is stopped is one whose bytes no longer come. Wherever that happens, others go on as soon as
/// the server gives up the transaction; and the process, when it wakes, finds out what became of its commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_that_stops_inside_the_section_holds_up_nobody_for_long_and_wakes_without_harm() {
    let Some(place) = Place::new() else { return };
    let proxy = Proxy::to(&place.url).await;
    let idle = Duration::from_millis(500);
    let options = factum_postgres::PostgresOptions::new(&proxy.url)
        .schema_prefix(&place.prefix)
        .idle_max(idle)
        .poll(WAIT_MAX)
        .patience(WAIT_MAX);
    let stopping = process(&options).await;
    let other = place.process().await;
    other
        .store
        .pin_topic(&topic(), 4)
        .await
        .expect("it is pinned");
    let inbox = an_inbox();
    stopping
        .store
        .claim_inbox(&inbox, &Begin::at(Start::Beginning, 0))
        .await
        .expect("it is claimed");
    // Everything is prepared, and how many bytes such a commit takes is known.
    for _ in 0..2 {
        let commit = whole(&other.store, &inbox, "warm").await;
        stopping.store.commit(commit).await.expect("it fits");
    }
    let commit = whole(&other.store, &inbox, "warm").await;
    let before = proxy.sent();
    stopping.store.commit(commit).await.expect("it fits");
    let bytes = proxy.sent() - before;
    assert!(bytes > 500, "a commit takes {bytes} bytes");
    let mut expected = 3;
    let mut inside = 0;
    for part in 1..=8 {
        let commit = whole(&other.store, &inbox, &format!("stopped-{part}")).await;
        proxy.stop_after(bytes * part / 9);
        let given = {
            let store = stopping.store.clone();
            tokio::spawn(async move { store.commit(commit).await })
        };
        eventually("the process stops", async || {
            proxy.is_stopped().then_some(())
        })
        .await;
        let held = session(&place.url).await;
        // What was sent is on its way: it is looked for until the server would give up the client.
        let mut is_inside = false;
        for _ in 0..LOOKS {
            let locks = held
                .query(
                    "SELECT 1 FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid \
                     WHERE l.locktype = 'advisory' AND l.granted AND a.state LIKE 'idle in transaction%'",
                    &[],
                )
                .await
                .expect("locks are listed");
            is_inside = !locks.is_empty();
            if is_inside {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        inside += usize::from(is_inside);
        timeout(WAIT_MAX, other.store.commit(appending("other", Any)))
            .await
            .expect("nobody is held up for long")
            .expect("it fits");
        proxy.go_on();
        timeout(WAIT_MAX, given)
            .await
            .expect("it is answered")
            .expect("it does not panic")
            .unwrap_or_else(|error| panic!("stopped at {part} ninths: {error:?}"));
        expected += 2;
        assert_eq!(
            log(&*other.store).await.len(),
            expected,
            "stopped at {part} ninths"
        );
        let page = other
            .store
            .read_stream(&stream(&format!("stopped-{part}")), Version(1), 10)
            .await;
        assert_eq!(page.expect("a stream reads").version, Version(1));
    }
    assert!(
        inside > 0,
        "the process was never stopped inside the section"
    );
}
