//! The data directory as an operator meets it: copied, damaged, and on a disk that fails.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;

use super::{Served, fails, orders, succeeds};

/// Registers a user, and gives the id if that was acknowledged.
async fn register(url: &str, number: usize) -> Option<String> {
    let user =
        json!({ "name": format!("Kim {number}"), "email": format!("kim-{number}@example.org") });
    let sent = reqwest::Client::new()
        .post(format!("{url}/users"))
        .json(&user)
        .send()
        .await;
    let response = sent
        .ok()
        .filter(|response| response.status().is_success())?;
    let body = response.json::<serde_json::Value>().await.ok()?;
    Some(body["user_id"].as_str()?.to_owned())
}

/// Waits until a query shows the user: rows may trail what was acknowledged before the process ended.
async fn shows(url: &str, id: &str) {
    until(&format!("user {id} is shown"), async || {
        let found = reqwest::get(format!("{url}/users/{id}")).await;
        found.is_ok_and(|response| response.status() == 200)
    })
    .await;
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn on(data: &TempDir) -> Command {
    let mut command = orders();
    command.arg("--data").arg(data.path());
    command
}

#[tokio::test]
async fn a_copied_directory_is_refused_until_it_is_said_what_it_is() {
    let data = TempDir::new().unwrap();
    let served = Served::start(&data);
    let user = register(&served.url, 1).await.unwrap();
    served.terminate();
    for flag in ["--moved", "--new-epoch"] {
        let other = TempDir::new().unwrap();
        copy(data.path(), other.path());
        let refused = on(&other)
            .args(["--listen", "127.0.0.1:0"])
            .output()
            .unwrap();
        let error = fails(&refused, 1);
        let file = other.path().join("factum.db");
        assert!(
            error.contains(&*file.to_string_lossy()) && error.contains(flag),
            "{error}"
        );
        // Said once, it is known.
        let served = Served::spawn(on(&other).arg(flag));
        shows(&served.url, &user).await;
        served.terminate();
        let served = Served::start(&other);
        shows(&served.url, &user).await;
        register(&served.url, 2).await.unwrap();
        served.terminate();
    }
    fails(
        &on(&data)
            .args(["serve", "--moved", "--new-epoch"])
            .output()
            .unwrap(),
        2,
    );
    Served::start(&data).terminate();
}

#[tokio::test]
async fn verification_names_what_is_damaged() {
    let data = TempDir::new().unwrap();
    let served = Served::start(&data);
    register(&served.url, 1).await.unwrap();
    let verify = |format: &str| {
        let mut command = on(&data);
        command
            .args(["store", "verify", "--format", format])
            .output()
            .unwrap()
    };
    let error = fails(&verify("text"), 1);
    assert!(error.contains("in use"), "{error}");
    served.terminate();
    let said = succeeds(&verify("text"));
    assert!(
        said.contains("factum.db` is whole") && said.contains("store users was read up to 1-1"),
        "{said}"
    );
    let found: serde_json::Value = serde_json::from_str(&succeeds(&verify("json"))).unwrap();
    assert_eq!(found["damages"], json!([]));
    assert_eq!(found["stores"].as_array().unwrap().len(), 5);

    // A letter that flips wherever it is.
    let file = data.path().join("factum.db");
    let mut bytes = fs::read(&file).unwrap();
    let places: Vec<_> = (0..bytes.len())
        .filter(|at| bytes[*at..].starts_with(b"Kim 1"))
        .collect();
    for at in places {
        bytes[at + 2] = b'n';
    }
    fs::write(&file, bytes).unwrap();
    let output = verify("text");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("damaged: the record at position 1 of"),
        "{said}"
    );
    let error = fails(&output, 1);
    assert!(error.contains("restore the newest backup"), "{error}");
    let error = fails(
        &on(&data)
            .args(["--listen", "127.0.0.1:0"])
            .output()
            .unwrap(),
        1,
    );
    assert!(error.contains("the record at position 1 of"), "{error}");
}

/// A snapshot that is mounted so that nothing can be written was refused, since its lock could not be taken.
#[tokio::test]
async fn a_directory_that_is_mounted_read_only_is_verified() {
    let data = TempDir::new().unwrap();
    let served = Served::start(&data);
    register(&served.url, 1).await.unwrap();
    served.terminate();
    let mounted = |then: &str| {
        let script =
            format!("mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && {then}");
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", &script, "sh"]);
        command.arg(data.path()).arg(env!("CARGO_BIN_EXE_orders"));
        command.output()
    };
    if !mounted("true").is_ok_and(|output| output.status.success()) {
        factum_testkit::engines::skipped("nothing can be mounted here");
        return;
    }
    let verify = || mounted("exec \"$2\" store verify --data \"$1\"").unwrap();
    for has_lock in [true, false] {
        if !has_lock {
            fs::remove_file(data.path().join("factum.lock")).unwrap();
        }
        let said = succeeds(&verify());
        assert!(said.contains("factum.db` is whole"), "{said}");
    }

    // One that is in use, and one whose process was killed, so that the log is not in the file.
    let served = Served::start(&data);
    register(&served.url, 2).await.unwrap();
    let error = fails(&verify(), 1);
    assert!(error.contains("in use"), "{error}");
    drop(served);
    let error = fails(&verify(), 1);
    assert!(error.contains("verify the copy"), "{error}");
}

/// The library of faults, built from the store's own tests.
fn faults(directory: &Path) -> PathBuf {
    let library = directory.join("libfaults.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../crates/factum-sqlite/tests/faults/faults.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .args(["-ldl", "-lpthread"])
        .status();
    assert!(built.unwrap().success());
    library
}

/// The first sync that the disk does not confirm is the last: the process says so and ends, and a new one finds all
/// that was acknowledged.
#[tokio::test]
async fn after_a_failed_sync_the_process_ends_and_says_why() {
    let (data, aside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let broken = aside.path().join("broken");
    let mut served = Served::spawn(
        on(&data)
            .env("LD_PRELOAD", faults(aside.path()))
            .env("FACTUM_FAULTS", "factum.db-wal:sync:1:EIO:1")
            .env("FACTUM_FAULTS_WHILE", &broken)
            .stderr(Stdio::piped()),
    );
    let mut acknowledged = Vec::new();
    for number in 0..20 {
        acknowledged.push(register(&served.url, number).await.unwrap());
    }
    fs::write(&broken, "").unwrap();
    // Its next commit may be one of its own services'.
    let mut number = 20;
    while let Some(user) = register(&served.url, number).await {
        acknowledged.push(user);
        number += 1;
    }
    let status = served.child.wait().unwrap();
    assert_eq!(status.code(), Some(1));
    let mut error = String::new();
    let mut stderr = served.child.stderr.take().unwrap();
    std::io::Read::read_to_string(&mut stderr, &mut error).unwrap();
    assert!(
        error.contains("did not confirm a sync")
            && error.contains("factum.db")
            && error.contains("check the disk"),
        "{error}"
    );
    let served = Served::start(&data);
    for user in &acknowledged {
        shows(&served.url, user).await;
    }
}

/// Asks until the answer is as wanted.
async fn until(what: &str, mut wanted: impl AsyncFnMut() -> bool) {
    let looked = tokio::time::timeout(Duration::from_mins(1), async {
        while !wanted().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(looked.await.is_ok(), "not within a minute: {what}");
}

/// Nobody had looked at what is answered between a failed sync and the end, which is as far away as what is under way.
#[tokio::test]
async fn between_a_failed_sync_and_the_end_health_and_readiness_name_the_cause() {
    let (data, aside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (broken, held) = (aside.path().join("broken"), aside.path().join("held"));
    let log = aside.path().join("log");
    let mut served = Served::spawn(
        on(&data)
            .env("LD_PRELOAD", faults(aside.path()))
            .env("FACTUM_FAULTS", "factum.db-wal:sync:1:EIO:1")
            .env("FACTUM_FAULTS_WHILE", &broken)
            .env(
                "FACTUM_FAULTS_HOLD",
                format!("gateway.jsonl:{}", held.display()),
            )
            .env("FACTUM_FAULTS_LOG", &log)
            .stderr(Stdio::piped()),
    );
    let url = served.url.clone();
    let get = async |path: &str| {
        let response = reqwest::get(format!("{url}{path}")).await.unwrap();
        let status = response.status().as_u16();
        (status, response.json::<serde_json::Value>().await.unwrap())
    };
    assert_eq!(get("/ready").await.0, 200);
    // A payment that the gateway does not answer yet.
    let user = register(&url, 1).await.unwrap();
    fs::write(&held, "").unwrap();
    let order = json!({ "user_id": user, "items": [{ "sku": "tea", "qty": 1, "price": 500 }] });
    let placed = reqwest::Client::new()
        .post(format!("{url}/orders"))
        .json(&order);
    assert!(placed.send().await.unwrap().status().is_success());
    until("the gateway is asked", async || {
        let log = fs::read_to_string(&log).unwrap_or_default();
        log.contains("gateway.jsonl held")
    })
    .await;
    assert_eq!(get("/health").await.1["status"], "ok");

    fs::write(&broken, "").unwrap();
    let mut number = 2;
    while register(&url, number).await.is_some() {
        number += 1;
    }
    until("health knows", async || {
        get("/health").await.1["status"] == "failed"
    })
    .await;
    let (_, health) = get("/health").await;
    let (status, refused) = get("/ready").await;
    assert_eq!(status, 503, "{refused:#}");
    for role in ["users", "order", "payment", "stock", "notification"] {
        let part = format!("{role}/store");
        let parts = health["services"][role].as_array().unwrap();
        let store = parts.iter().find(|known| known["part"] == *part);
        let store = store.unwrap_or_else(|| panic!("no `{part}` in {health:#}"));
        assert_eq!(store["status"], "failed", "{health:#}");
        let reason = store["reason"].as_str().unwrap();
        assert!(
            reason.contains("did not confirm a sync") && reason.contains("check the disk"),
            "{reason}"
        );
        let errors = refused["errors"].as_array().unwrap();
        let told = errors
            .iter()
            .any(|error| error["field"] == *part && error["detail"].as_str() == Some(reason));
        assert!(told, "`{part}` is not in {refused:#}");
    }
    assert!(
        served.child.try_wait().unwrap().is_none(),
        "it still serves"
    );

    fs::remove_file(&held).unwrap();
    let status = served.child.wait().unwrap();
    assert_eq!(status.code(), Some(1));
    let mut error = String::new();
    let mut stderr = served.child.stderr.take().unwrap();
    std::io::Read::read_to_string(&mut stderr, &mut error).unwrap();
    assert!(error.contains("did not confirm a sync"), "{error}");
}
