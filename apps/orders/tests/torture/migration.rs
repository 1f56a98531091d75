//! Kills in the middle of a migration: the first start of this program on what an older one has left.

use std::{path::Path, sync::Arc, time::Duration};

use fastrand::Rng;
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    http::Client,
    ledger::Ledger,
    load::{Book, Load},
    planted::PATIENCE,
    process::{Aim, Phase, Process},
    rounds::{Torture, command, copy, fill, settle},
    seen::SERVICES,
};

/// The file's first schema, in which there were no topics.
const FIRST: &str = include_str!("../../../../crates/factum-sqlite/src/migrations/0001_begin.sql");
/// How long clients give commands to the older platform.
const LOAD: Duration = Duration::from_millis(500);
/// How many kills have to fall into the migration, and after how many it is given up.
const INSIDE: u32 = 3;
const KILLS_MAX: u32 = 60;
/// How long after its begin a kill comes, in microseconds at most. The migration takes some milliseconds.
const DELAY_US_MAX: u64 = 1_500;

/// Writes the data of `from` into `to` as a program would have done it that knew the first schema only.
fn as_of_the_first_schema(from: &Path, to: &Path) {
    let file = Connection::open(to.join("factum.db")).unwrap();
    file.execute_batch(FIRST).unwrap();
    let present = from.join("factum.db");
    file.execute("ATTACH ?1 AS present", [present.to_str().unwrap()])
        .unwrap();
    let texts = |sql: &str| -> Vec<String> {
        let mut query = file.prepare(sql).unwrap();
        let rows = query.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    // The tables of views are made as they are needed, and then their indexes.
    for sql in texts(
        "SELECT sql FROM present.sqlite_schema WHERE tbl_name GLOB 'view_*' AND sql IS NOT NULL ORDER BY type DESC",
    ) {
        file.execute_batch(&sql).unwrap();
    }
    for table in texts(
        "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*'",
    ) {
        let columns = texts(&format!("SELECT name FROM pragma_table_info('{table}')")).join(", ");
        file.execute_batch(&format!(
            "INSERT OR REPLACE INTO main.{table} ({columns}) SELECT {columns} FROM present.{table}"
        ))
        .unwrap();
    }
    file.execute_batch(
        "DETACH present; PRAGMA application_id = 0x46414354; PRAGMA user_version = 1",
    )
    .unwrap();
    drop(file);
    std::fs::create_dir(to.join("outside")).unwrap();
    copy(&from.join("outside"), &to.join("outside"));
}

/// The data of an older platform, and what its clients know. Nothing was published: there was nowhere to.
async fn older(rng: &mut Rng) -> (TempDir, Ledger) {
    let data = TempDir::new().unwrap();
    let mut process = Process::start(command(data.path())).unwrap();
    let client = Client::new(&process.url);
    for service in SERVICES {
        let path = format!("/admin/services/{service}/stop");
        client.post(&path, &json!({})).await;
    }
    let book = Book::default();
    fill(&book);
    settle(&client, &book).await;
    let load = Load::begin(&client, &book, rng);
    tokio::time::sleep(LOAD).await;
    process.kill();
    load.end().await;
    let older = TempDir::new().unwrap();
    as_of_the_first_schema(data.path(), older.path());
    let ledger = book.lock().unwrap().clone();
    (older, ledger)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(
    clippy::disallowed_methods,
    reason = "the seed itself, which is printed"
)]
async fn a_migration_that_is_killed_is_done_again_and_nothing_is_lost() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let (older, ledger) = older(&mut rng).await;
    let (mut inside, mut again) = (0, 0);
    for _ in 0..KILLS_MAX {
        let data = TempDir::new().unwrap();
        copy(older.path(), data.path());
        let aim = Aim {
            phase: Phase::Migration,
            delay: Duration::from_micros(rng.u64(..DELAY_US_MAX)),
        };
        let start = Process::start_or_kill(command(data.path()), Duration::from_mins(1), Some(aim));
        let (_, life) = match start {
            Ok(mut process) => process.kill(),
            Err(died) => died,
        };
        assert!(life.began(Phase::Migration), "{:?}", life.last_lines);
        if !life.died_in(Phase::Migration) {
            continue;
        }
        inside += 1;
        // What was begun was undone, or it was done: never anything between.
        let mut process = Process::start(command(data.path())).unwrap();
        let (_, life) = process.kill();
        again += u32::from(life.began(Phase::Migration));
        let process = Process::start(command(data.path())).unwrap();
        let book: Book = Arc::default();
        book.lock().unwrap().clone_from(&ledger);
        let mut torture = Torture::on(data, process, book, rng.u64(..));
        torture.settle().await;
        assert_eq!(torture.look().await, [""; 0]);
        torture.stop();
        if inside >= INSIDE && again > 0 {
            return;
        }
    }
    panic!(
        "of {KILLS_MAX} kills {inside} fell into the migration, and {again} were before its end"
    );
}

/// As if a migration that was killed had moved all but one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(
    clippy::disallowed_methods,
    reason = "the seed itself, which is printed"
)]
async fn a_migration_that_loses_a_record_is_noticed() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let (data, ledger) = older(&mut rng).await;
    let aim = Aim {
        phase: Phase::Migration,
        delay: Duration::ZERO,
    };
    let start = Process::start_or_kill(command(data.path()), Duration::from_mins(1), Some(aim));
    drop(start);
    let file = Connection::open(data.path().join("factum.db")).unwrap();
    let deleted = file.execute(
        "DELETE FROM records WHERE key = (SELECT max(key) FROM records JOIN types ON number = type \
         WHERE name = 'OrderCreated' AND kind = 1)",
        [],
    );
    assert_eq!(deleted, Ok(1));
    drop(file);
    let noticed = match Process::start(command(data.path())) {
        Err((_, life)) => life.last_lines.into(),
        Ok(process) => {
            let book: Book = Arc::default();
            book.lock().unwrap().clone_from(&ledger);
            let mut torture = Torture::on(data, process, book, seed);
            torture.patience = PATIENCE;
            torture.settle().await;
            torture.look().await
        }
    };
    assert_ne!(noticed, [""; 0]);
}
