//! Backups of a data directory, and what is lost and what is not when one is put back.

use std::{fs, path::Path, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Served, fails, orders, succeeds};

async fn post(url: &str, path: &str, body: &Value) -> Value {
    let client = reqwest::Client::new();
    let response = client.post(format!("{url}{path}")).json(body).send().await;
    let response = response.unwrap();
    assert!(response.status().is_success(), "{path}: {response:?}");
    response.json().await.unwrap()
}

/// Orders as soon as the order service knows of enough on the shelf: until then it advises against it.
async fn place(url: &str, order: &Value) -> Value {
    let client = reqwest::Client::new();
    let placed = tokio::time::timeout(Duration::from_mins(1), async {
        loop {
            let response = client.post(format!("{url}/orders")).json(order).send();
            let response = response.await.unwrap();
            if response.status() != 409 {
                assert!(response.status().is_success(), "{response:?}");
                break response.json().await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    placed.await.expect("the order service hears of the shelf")
}

/// Asks until the answer is as wanted.
async fn until(url: &str, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let looked = tokio::time::timeout(Duration::from_mins(1), async {
        loop {
            let response = reqwest::get(format!("{url}{path}")).await.unwrap();
            last = response.json().await.unwrap();
            if wanted(&last) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(looked.await.is_ok(), "{path} still answers {last:#}");
    last
}

async fn receive(url: &str, qty: u64) {
    post(url, "/stock/tea/receive", &json!({ "qty": qty })).await;
}

async fn on_hand(url: &str, qty: u64) {
    until(url, "/stock/tea", |shelf| shelf["on_hand"] == qty).await;
}

fn store(data: &Path, args: &[&str]) -> std::process::Output {
    let mut command = orders();
    command.args(["store", args[0], "--data"]).arg(data);
    command.args(&args[1..]).output().unwrap()
}

/// There was no way to make a backup, nor to put one back, without writing Rust.
#[tokio::test]
async fn a_backup_is_made_and_put_back_and_the_platform_goes_on_from_there() {
    let (data, aside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let to = aside.path().join("monday");
    let to = to.to_str().unwrap();
    fails(
        &store(&data.path().join("none"), &["backup", "--to", to]),
        1,
    );
    let served = Served::start(&data);
    receive(&served.url, 3).await;
    on_hand(&served.url, 3).await;
    // While it is served, it says whom to ask.
    let error = fails(&store(data.path(), &["backup", "--to", to]), 1);
    assert!(
        error.contains("in use") && error.contains("POST /admin/services/{name}/backup"),
        "{error}"
    );
    let made = post(&served.url, "/admin/services/stock/backup", &json!({})).await;
    assert!(
        Path::new(made["file"].as_str().unwrap()).is_file(),
        "{made}"
    );
    served.terminate();

    let said = succeeds(&store(data.path(), &["backup", "--to", to]));
    assert_eq!(said.lines().count(), 5, "{said}");
    let error = fails(&store(data.path(), &["backup", "--to", to]), 1);
    assert!(
        error.contains("choose another directory") && !error.contains("while it is served"),
        "{error}"
    );
    fails(
        &store(data.path(), &["backup", "--to", to, "--service", "none"]),
        2,
    );

    // What came after the backup is lost, and told as lost; all goes on in a new epoch.
    let served = Served::start(&data);
    receive(&served.url, 4).await;
    on_hand(&served.url, 7).await;
    let file = format!("{to}/stock.backup");
    let restore = ["restore", "--from", &file, "--reason", "a wrong delivery"];
    let error = fails(&store(data.path(), &restore), 1);
    assert!(error.contains("in use"), "{error}");
    served.terminate();
    fails(&store(data.path(), &restore[..3]), 2);
    let said = succeeds(&store(data.path(), &restore));
    assert!(said.contains("stock: restored from"), "{said}");
    let served = Served::start(&data);
    on_hand(&served.url, 3).await;
    receive(&served.url, 5).await;
    on_hand(&served.url, 8).await;
    let user = json!({ "name": "Kim", "email": "kim@example.org" });
    let user = post(&served.url, "/users", &user).await;
    let items = json!([{ "sku": "tea", "qty": 8, "price": 500 }]);
    let order = json!({ "user_id": user["user_id"], "items": items });
    // All eight are sold as soon as the order service has heard of them, and not of the seven that are lost.
    let order = place(&served.url, &order).await;
    let order = format!("/orders/{}", order["order_id"].as_str().unwrap());
    until(&served.url, &order, |order| order["status"] == "confirmed").await;
    until(&served.url, "/health", |health| health["status"] == "ok").await;
    served.terminate();
}

/// Without their topics, groups stood behind the end of the new ones: nothing was delivered to them any more.
#[tokio::test]
async fn a_lost_directory_is_remade_from_backups_and_nothing_happens_twice_or_never() {
    let (data, aside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let served = Served::start(&data);
    receive(&served.url, 100).await;
    let user = json!({ "name": "Kim", "email": "kim@example.org" });
    let user = post(&served.url, "/users", &user).await;
    let items = json!([{ "sku": "tea", "qty": 1, "price": 500 }]);
    let order = json!({ "user_id": user["user_id"], "items": items });
    let placed = (0..30).map(|_| place(&served.url, &order));
    let placed = futures_util::future::join_all(placed).await;
    // Dropped, it is killed, in the middle of what follows from the orders.
    drop(served);
    let to = aside.path().to_str().unwrap();
    succeeds(&store(data.path(), &["backup", "--to", to]));
    // The firms outside keep their own books.
    let anew = TempDir::new().unwrap();
    fs::create_dir(anew.path().join("outside")).unwrap();
    for book in fs::read_dir(data.path().join("outside")).unwrap() {
        let book = book.unwrap();
        let copy = anew.path().join("outside").join(book.file_name());
        fs::copy(book.path(), copy).unwrap();
    }
    data.close().unwrap();

    let files: Vec<String> = ["users", "order", "payment", "stock", "notification"]
        .iter()
        .map(|service| format!("{to}/{service}.backup"))
        .collect();
    let mut args = vec!["restore", "--reason", "a lost disk"];
    for file in &files {
        args.extend(["--from", file]);
    }
    let said = succeeds(&store(anew.path(), &args));
    assert_eq!(said.matches(": restored from").count(), 5, "{said}");
    let served = Served::start(&anew);
    let found = until(&served.url, "/invariants", |found| found["quiet"] == true).await;
    assert_eq!(
        (&found["broken"], &found["orders"]),
        (&json!([]), &30.into()),
        "{found:#}"
    );
    until(&served.url, "/stock/tea", |shelf| shelf["available"] == 70).await;
    let more = place(&served.url, &order).await;
    for order in placed.iter().chain([&more]) {
        let order = format!("/orders/{}", order["order_id"].as_str().unwrap());
        until(&served.url, &order, |order| order["status"] == "confirmed").await;
    }
    let found = until(&served.url, "/invariants", |found| found["quiet"] == true).await;
    assert_eq!(
        (&found["broken"], &found["orders"]),
        (&json!([]), &31.into()),
        "{found:#}"
    );
    until(&served.url, "/health", |health| health["status"] == "ok").await;
    served.terminate();
    let said = succeeds(
        &orders()
            .args(["store", "verify", "--data"])
            .arg(anew.path())
            .output()
            .unwrap(),
    );
    // A new time line, behind all that was ever used.
    let epochs = said.split("epoch ").skip(1);
    let epochs = epochs.map(|rest| {
        let digits = rest.chars().take_while(char::is_ascii_digit);
        digits.collect::<String>().parse::<u64>().unwrap()
    });
    let epochs: Vec<_> = epochs.collect();
    assert!(
        !epochs.is_empty() && epochs.iter().all(|epoch| *epoch > 1),
        "{said}"
    );
}

/// It made five stores there, and told of five backups, of nothing.
#[test]
fn a_directory_without_data_is_not_backed_up_and_left_as_it_is() {
    let (empty, aside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let to = aside.path().join("backup");
    let error = fails(
        &store(empty.path(), &["backup", "--to", to.to_str().unwrap()]),
        1,
    );
    assert!(error.contains("there is no data file"), "{error}");
    assert!(!to.exists());
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0);
}

/// The first was restored, in a new epoch, when the second was refused.
#[tokio::test]
async fn backups_are_restored_all_or_none() {
    let (data, aside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let served = Served::start(&data);
    receive(&served.url, 3).await;
    served.terminate();
    let to = aside.path().to_str().unwrap();
    succeeds(&store(data.path(), &["backup", "--to", to]));
    let file = |name: &str| format!("{to}/{name}");
    let mut bytes = fs::read(file("order.backup")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0x5a);
    fs::write(file("damaged.backup"), bytes).unwrap();
    fs::write(file("text.backup"), "no backup").unwrap();
    fs::copy(file("users.backup"), file("again.backup")).unwrap();

    let anew = aside.path().join("anew");
    let before = fs::read(data.path().join("factum.db")).unwrap();
    for (second, wanted) in [
        ("none.backup", "there is no backup at"),
        ("damaged.backup", "damaged"),
        ("text.backup", "is not a data file"),
        ("again.backup", "a second backup of service `users`"),
    ] {
        let (first, second) = (file("users.backup"), file(second));
        let args = [
            "restore",
            "--from",
            &first,
            "--from",
            &second,
            "--reason",
            "a lost disk",
        ];
        let error = fails(&store(&anew, &args), 1);
        assert!(
            error.contains("nothing was restored") && error.contains(wanted),
            "{error}"
        );
        assert!(!anew.exists(), "{second}");
        fails(&store(data.path(), &args), 1);
    }
    assert_eq!(before, fs::read(data.path().join("factum.db")).unwrap());
}
