//! Faults that are planted into a real platform's data, each of which the torture has to notice: when the process
//! starts, or when all is looked at.

use std::{fs, path::Path, time::Duration};

use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    ledger::{Answer, What},
    rounds::{Target, Torture, copy},
};

/// How long it may take until all is quiet: with some faults it never is, which is noticed as well.
const PATIENCE: Duration = Duration::from_secs(15);

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
async fn notices(mut torture: Torture) -> String {
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
