//! Servers that lose what they had acknowledged: the last second, a key, everything.

use std::sync::Arc;

use factum_core::{ErrorClass, Position, Query, Store};

use crate::{
    server::Server,
    shelf::{Owner, count_of, orders, standing, until_it_works, view, views},
    support::Place,
};

async fn claim_again(store: &Arc<dyn Store>, generation: u32) -> Owner {
    until_it_works(async || Owner::claim(store, generation).await).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lost_its_last_writes_goes_on_from_where_it_stands() {
    let Some(mut server) = Server::start(&[]) else {
        return;
    };
    let place = Place::on(&server.url());
    let process = place.process().await;
    let store = &process.store;
    let mut owner = Owner::claim(store, 1).await.expect("it is free");
    owner
        .apply(vec![owner.activate()])
        .await
        .expect("it is ours");
    for _ in 0..10 {
        owner.count_one("a").await.expect("it is ours");
    }
    let files = server.files();
    for _ in 0..10 {
        owner.count_one("a").await.expect("it is ours");
    }
    let reached = owner.input.from;
    let lineage = views(&**store).lineage();
    server.kill();
    server.set_back(&files);
    server.up();
    // Whoever was told of all 20 is not shown 10 of them as if that was all.
    let shown = until_it_works(async || {
        views(&**store)
            .shown(&orders(), 1, reached, Some(reached))
            .await
    });
    let shown = shown.await;
    assert_eq!(shown.position, Position(11));
    assert_ne!(views(&**store).lineage(), lineage);
    // The owner may have read rows that are not there any more.
    let error = owner.count_one("a").await.expect_err("they may be lost");
    assert_eq!(error.class(), ErrorClass::Fenced, "{error}");
    let mut owner = claim_again(store, 1).await;
    assert_eq!(owner.input.from.position, Position(11));
    for _ in 0..10 {
        owner.count_one("a").await.expect("it is ours");
    }
    assert_eq!(
        standing(&**store, 1).await.expect("it reads"),
        (Position(21), 20)
    );
}

/// Cut at any byte, the log of the server has the rows of a batch and its checkpoint, or neither.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_the_servers_log_is_cut_rows_and_checkpoint_fit_together() {
    let Some(mut server) = Server::start(&[]) else {
        return;
    };
    let place = Place::on(&server.url());
    let process = place.process().await;
    let store = &process.store;
    let mut owner = Owner::claim(store, 1).await.expect("it is free");
    owner.apply(Vec::new()).await.expect("it is ours");
    let before = server.files();
    for number in 0..20 {
        owner
            .count_one(&format!("row {}", number % 3))
            .await
            .expect("it is ours");
    }
    let whole = server.files();
    let incremental = |files: &[(std::path::PathBuf, Vec<u8>)]| {
        files
            .iter()
            .position(|(path, _)| path.to_string_lossy().contains(".incr."))
            .expect("it is written to")
    };
    let file = incremental(&whole);
    let (least, most) = (before[incremental(&before)].1.len(), whole[file].1.len());
    let seed = 20_260_302;
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..15 {
        let length = random.usize(least..=most);
        server.kill();
        let mut cut = whole.clone();
        cut[file].1.truncate(length);
        server.set_back(&cut);
        server.up();
        let (checkpoint, sum) = until_it_works(async || standing(&**store, 1).await).await;
        assert_eq!(
            i64::try_from(checkpoint.0).expect("it is small") - 1,
            sum,
            "cut at {length} of {most}, seed {seed}"
        );
        let query = Query::all().equal("user", "u").sort("count");
        let found = views(&**store).query(&view(), Some(1), &query).await;
        let found = found.expect("rows are found").rows.len();
        assert_eq!(found, usize::try_from(sum).expect("it is small").min(3));
    }
}

/// It claimed, was paused, and wakes up on a server that has forgotten who came after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_owner_that_read_what_was_lost_can_not_write_it() {
    let Some(mut server) = Server::start(&[]) else {
        return;
    };
    let place = Place::on(&server.url());
    let (first, second) = (place.process().await, place.process().await);
    let mut old = Owner::claim(&first.store, 1).await.expect("it is free");
    for _ in 0..5 {
        old.count_one("a").await.expect("it is ours");
    }
    let files = server.files();
    let mut new = Owner::claim(&second.store, 1).await.expect("it is free");
    for _ in 0..5 {
        new.count_one("a").await.expect("it is ours");
    }
    // Now the old one reads a row for the next batch, and comes to write it when the server is back in its own time.
    let read = count_of(&*first.store, 1, "a").await.expect("it reads");
    assert_eq!(read, 10);
    let batch = vec![old.put("a", r#"{"user":"u","count":11}"#)];
    server.kill();
    server.set_back(&files);
    server.up();
    let written = until_it_works(
        async || match old.send(old.input.clone(), batch.clone()).await {
            Err(factum_core::CommitError::Failed(error)) if error.is_unknown() => {
                Err(factum_core::Error::transient("no answer"))
            }
            Err(factum_core::CommitError::Failed(error)) => Err(error),
            written => Ok(written),
        },
    );
    let error = written.await.expect_err("it is not the owner of this life");
    assert_eq!(error.class(), ErrorClass::Fenced, "{error}");
    let mut again = claim_again(&second.store, 1).await;
    assert!(
        again.input.fence > new.input.fence,
        "no fence is given twice"
    );
    again.count_one("a").await.expect("it is ours");
    let count = count_of(&*first.store, 1, "a").await;
    assert_eq!(count.expect("it reads"), 6);
}

/// After a loss: nothing is answered wrongly, what is left is not taken for the whole, and it is built anew.
async fn assert_lost_and_built_anew(store: &Arc<dyn Store>, what: &str) {
    let query = Query::all().equal("user", "u");
    let get = views(&**store).get(&view(), Some(1), "0").await;
    let found = views(&**store).query(&view(), Some(1), &query).await;
    let count = views(&**store)
        .count(&view(), Some(1), &Query::all(), 100)
        .await;
    // A key that was not needed for an answer may be missed by it: then the answer is right.
    for (asked, answer) in [
        ("a row", get.map(|row| usize::from(row.is_some()) * 20)),
        ("rows", found.map(|found| found.rows.len())),
        (
            "a count",
            count.map(|count| usize::try_from(count).unwrap_or(0)),
        ),
    ] {
        match answer {
            Ok(right) => assert_eq!(right, 20, "{what}: {asked}"),
            Err(error) => assert!(
                error.class() == ErrorClass::Conflict || error.is_poison(),
                "{what}: {asked}: {error:#}"
            ),
        }
    }
}

async fn filled(store: &Arc<dyn Store>) -> Owner {
    let mut owner = Owner::claim(store, 1).await.expect("it is free");
    let mut writes: Vec<_> = (0..20)
        .map(|id| owner.put(&id.to_string(), r#"{"user":"u","count":1}"#))
        .collect();
    writes.push(owner.activate());
    owner.apply(writes).await.expect("it is ours");
    owner
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_key_was_evicted_the_owner_finds_out_and_nobody_is_told_a_part() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    // The state, the rows, the index by id, by user, and by user and count; and the note of what keeps a view.
    let mut tried = 0;
    for evicted in 0.. {
        let place = Place::on(&server.url());
        let process = place.process().await;
        let store = &process.store;
        let owner = filled(store).await;
        let mut connection = server.connect();
        let mut keys: Vec<String> = redis::cmd("KEYS")
            .arg(format!("{}:*", place.prefix))
            .query(&mut connection)
            .expect("keys are listed");
        keys.sort();
        let Some(key) = keys.get(evicted) else { break };
        tried += 1;
        redis::cmd("DEL")
            .arg(key)
            .exec(&mut connection)
            .expect("it can be deleted");
        assert_lost_and_built_anew(store, key).await;
        // Readers of another process, who never prepared anything.
        let reader = place.process().await;
        assert_lost_and_built_anew(&reader.store, key).await;
        let registry = !key.contains(":orders}");
        let looked = owner.look().await;
        if registry {
            looked.expect("nothing of the projection was lost");
            let rows = views(&*place.process().await.store)
                .query(&view(), Some(1), &Query::all())
                .await;
            assert_eq!(rows.expect("it was noted again").rows.len(), 20);
            continue;
        }
        let error = looked.expect_err("a part is missing");
        assert!(
            matches!(error.class(), ErrorClass::Conflict | ErrorClass::Fenced),
            "{key}: {error}"
        );
        assert_eq!(
            views(&**store).active(&orders()).await.expect("it reads"),
            None,
            "{key}"
        );
        assert!(
            store
                .projections()
                .await
                .expect("they are listed")
                .is_empty(),
            "{key}"
        );
        let error = views(&**store)
            .shown(&orders(), 1, owner.input.from, None)
            .await;
        assert_eq!(error.expect_err("it is gone").class(), ErrorClass::Conflict);
        let mut anew = Owner::claim(store, 1).await.expect("it is made anew");
        assert_eq!(anew.input.from.position, Position(0), "{key}");
        assert!(anew.input.fence > owner.input.fence, "{key}");
        assert_eq!(
            standing(&**store, 1).await.expect("it reads"),
            (Position(0), 0),
            "{key}"
        );
        anew.count_one("a").await.expect("it is ours");
    }
    assert_eq!(tried, 6, "all keys were tried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_flush_everything_is_built_anew() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let place = Place::on(&server.url());
    let process = place.process().await;
    let store = &process.store;
    let owner = filled(store).await;
    redis::cmd("FLUSHALL")
        .exec(&mut server.connect())
        .expect("it can be flushed");
    assert_eq!(
        views(&**store).active(&orders()).await.expect("it reads"),
        None
    );
    for generation in [None, Some(1)] {
        let error = views(&**store)
            .query(&view(), generation, &Query::all())
            .await;
        match error {
            Ok(rows) => assert!(generation.is_none() && rows.rows.is_empty()),
            Err(error) => assert_eq!(error.class(), ErrorClass::Conflict, "{error}"),
        }
    }
    let error = owner.look().await.expect_err("nothing is left");
    assert_eq!(error.class(), ErrorClass::Fenced, "{error}");
    let mut anew = Owner::claim(store, 1).await.expect("it is made anew");
    assert!(
        anew.input.fence > owner.input.fence,
        "no owner gets its fence back"
    );
    anew.count_one("a").await.expect("it is ours");
    let error = owner.look().await.expect_err("it is another's");
    assert_eq!(error.class(), ErrorClass::Fenced, "{error}");
}

/// The server itself throws keys away, as its policy tells it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_evicts_is_told_of_and_no_view_answers_with_a_part() {
    let settings = ["--maxmemory", "4mb", "--maxmemory-policy", "allkeys-random"];
    let Some(server) = Server::start(&settings) else {
        return;
    };
    let place = Place::on(&server.url());
    let process = place.process().await;
    let remarks = process.views.remarks();
    assert!(
        remarks
            .iter()
            .any(|remark| remark.contains("maxmemory-policy allkeys-random")),
        "{remarks:?}"
    );
    let store = &process.store;
    let owner = filled(store).await;
    let mut connection = server.connect();
    let ballast = "x".repeat(20_000);
    let mut lost = None;
    for number in 0..20_000 {
        let set: redis::RedisResult<()> = redis::cmd("SET")
            .arg(format!("ballast {number}"))
            .arg(&ballast)
            .query(&mut connection);
        set.expect("the server makes room");
        if number % 20 == 0 {
            assert_lost_and_built_anew(store, "eviction").await;
            if let Err(error) = owner.look().await {
                lost = Some(error);
                break;
            }
        }
    }
    let error = lost.expect("six keys among two hundred are evicted before long");
    assert!(
        matches!(error.class(), ErrorClass::Conflict | ErrorClass::Fenced),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_is_waited_for() {
    let Some(server) = Server::start(&["--maxmemory-policy", "noeviction"]) else {
        return;
    };
    let place = Place::on(&server.url());
    let process = place.process().await;
    let mut owner = filled(&process.store).await;
    let mut connection = server.connect();
    let mut limit = |limit: &str| {
        let set = redis::cmd("CONFIG")
            .arg("SET")
            .arg("maxmemory")
            .arg(limit)
            .exec(&mut connection);
        set.expect("it is a setting");
    };
    limit("1mb");
    let error = owner.count_one("a").await.expect_err("there is no room");
    assert_eq!(error.class(), ErrorClass::Transient, "{error}");
    assert!(error.to_string().contains("maxmemory"), "{error}");
    let rows = views(&*process.store)
        .count(&view(), Some(1), &Query::all(), 100)
        .await;
    assert_eq!(rows.expect("reading needs no room"), 20);
    limit("0");
    owner.count_one("a").await.expect("there is room");
    assert_eq!(
        count_of(&*process.store, 1, "a").await.expect("it reads"),
        1
    );
}
