//! Faults that are planted into a real platform's data, each of which the torture has to notice: when the process
//! starts, or when all is looked at.

use std::{fs, path::Path, time::Duration};

use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    ledger::{Answer, What},
    process::Phase,
    rounds::{Target, Torture, copy},
};

/// How long it may take until all is quiet: with some faults it never is, which is noticed as well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// A platform that has been killed once, and of which all was well.
#[expect(
    clippy::disallowed_methods,
    reason = "the seed itself, which is printed"
)]
async fn well() -> Torture {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut torture = Torture::begin(seed).await;
    assert_eq!(torture.round(Target::Load).await, [""; 0]);
    torture.patience = PATIENCE;
    torture
}

/// What is noticed after a fault was planted into the data of a platform that has died.
pub(crate) async fn notices(mut torture: Torture) -> String {
    if let Err(refused) = torture.start().await {
        return refused;
    }
    torture.settle().await;
    torture.look().await.join("\n")
}

fn empty(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }
}

/// As if acknowledged had not meant on the disk, and the power had failed.
#[tokio::test]
async fn a_tail_that_is_lost_is_noticed() {
    let mut torture = well().await;
    torture.stop();
    let before = TempDir::new().unwrap();
    copy(torture.data(), before.path());
    torture.start().await.unwrap();
    torture.die_under_load(Target::Load).await;
    empty(torture.data());
    copy(before.path(), torture.data());
    let noticed = notices(torture).await;
    let lost = ["happened 0 times", "receipts of things", "does not start"];
    assert!(lost.iter().any(|lost| noticed.contains(lost)), "{noticed}");
}

#[tokio::test]
async fn one_record_that_is_lost_is_noticed() {
    let mut torture = well().await;
    torture.die_under_load(Target::Load).await;
    let file = Connection::open(torture.data().join("factum.db")).unwrap();
    let deleted = file.execute(
        "DELETE FROM records WHERE key = (SELECT max(key) FROM records JOIN types ON number = type \
         WHERE name = 'OrderCreated' AND kind = 1)",
        [],
    );
    assert_eq!(deleted, Ok(1));
    drop(file);
    assert_ne!(notices(torture).await, "");
}

#[tokio::test]
async fn an_order_that_was_placed_twice_is_noticed() {
    let mut torture = well().await;
    // The same order without its key is another one, and no client knows of it.
    let order = {
        let book = torture.book.lock().unwrap();
        let placed = |what: &What| matches!(what, What::Place { .. });
        let order = book.0.iter().find(|command| placed(&command.what));
        order.unwrap().body.clone()
    };
    torture.client.post("/orders", &order).await;
    torture.die_under_load(Target::Load).await;
    let noticed = notices(torture).await;
    assert!(
        noticed.contains("OrderCreated was acknowledged 0 times and happened 1 times"),
        "{noticed}"
    );
}

/// As if the answers had been sent before the commits were durable: what was under way at the death is taken for done.
#[tokio::test]
async fn an_answer_that_came_too_early_is_noticed() {
    let mut torture = well().await;
    for _ in 0..10 {
        torture.die_under_load(Target::Load).await;
        let mut early = 0;
        for command in &mut torture.book.lock().unwrap().0 {
            if command.answer == Answer::Unknown {
                early += 1;
                let answer = json!({ "user_id": "u", "order_id": "o" });
                command.answer = Answer::Acknowledged(answer.to_string());
            }
        }
        if early > 0 {
            break;
        }
        torture.start().await.unwrap();
    }
    let noticed = notices(torture).await;
    assert!(
        noticed.contains("and happened 0 times") || noticed.contains("and again"),
        "{noticed}"
    );
}

/// How many records there are in what lies in a directory, with or without its write-ahead log.
fn records(directory: &Path, with_log: bool) -> i64 {
    let looked_at = TempDir::new().unwrap();
    for name in ["factum.db", "factum.db-wal"] {
        if with_log || name == "factum.db" {
            fs::copy(directory.join(name), looked_at.path().join(name)).unwrap();
        }
    }
    let file = Connection::open(looked_at.path().join("factum.db")).unwrap();
    file.query_row("SELECT count(*) FROM records", [], |row| row.get(0))
        .unwrap()
}

/// As if a checkpoint began the log anew before all of it was in the file, and was killed there.
#[tokio::test]
async fn a_checkpoint_that_drops_the_log_too_early_is_noticed() {
    let mut torture = well().await;
    loop {
        torture
            .die_under_load(Target::Phase(Phase::Checkpoint))
            .await;
        // Where all was moved already, there is nothing to lose.
        if records(torture.data(), false) < records(torture.data(), true) {
            break;
        }
        torture.start().await.unwrap();
    }
    fs::remove_file(torture.data().join("factum.db-wal")).unwrap();
    let noticed = notices(torture).await;
    assert!(
        noticed.contains("does not start") && noticed.contains("does not hold all"),
        "{noticed}"
    );
}

/// As if retention dropped what a group has not finished, and was killed before it could be seen.
#[tokio::test]
async fn a_retention_that_drops_what_is_not_finished_is_noticed() {
    let mut torture = well().await;
    // Payment does not look, so that there is something to lose.
    let stop = "/admin/services/payment/stop";
    torture.client.post(stop, &json!({})).await;
    torture
        .die_under_load(Target::Phase(Phase::Retention))
        .await;
    let file = Connection::open(torture.data().join("factum.db")).unwrap();
    let dropped = file.execute(
        "DELETE FROM chunks WHERE place >> 40 IN (SELECT number FROM partitions WHERE topic = 'orders')",
        [],
    );
    assert!(dropped.unwrap() > 0, "nothing was in the topic");
    file.execute(
        "UPDATE partitions SET first_offset = end_offset, bytes = 0 WHERE topic = 'orders'",
        [],
    )
    .unwrap();
    drop(file);
    assert_ne!(notices(torture).await, "");
}

/// As if rows that are built anew were seen before all of them were there.
#[tokio::test]
async fn a_rebuild_that_is_seen_too_early_is_noticed() {
    let mut torture = well().await;
    torture.die_under_load(Target::Phase(Phase::Rebuild)).await;
    // It is built to its end, and every other row of it goes.
    torture.start().await.unwrap();
    torture.settle().await;
    assert_eq!(torture.look().await, [""; 0]);
    torture.stop();
    let file = Connection::open(torture.data().join("factum.db")).unwrap();
    let name: String = file
        .query_row(
            "SELECT 'view_' || store || '_' || (number & 1099511627775) FROM views WHERE view = 'orders' \
             ORDER BY generation DESC LIMIT 1",
            [],
            |row| row.get(0),
        )
        .unwrap();
    let lost = file.execute(&format!("DELETE FROM {name} WHERE rowid % 2 = 0"), []);
    assert!(lost.unwrap() > 0, "no order is shown");
    drop(file);
    let noticed = notices(torture).await;
    assert!(noticed.contains("is shown as 404"), "{noticed}");
}
