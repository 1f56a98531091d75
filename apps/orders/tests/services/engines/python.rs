//! A service in another language: Python's Kafka client places orders, and reads our events and our dead letters.

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use factum_testkit::engines::skipped;
use serde_json::{Value, json};

use super::process::{Engines, Platform};

/// What it is written in, and what it speaks Kafka by.
const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/services/engines/shop.py"
);
const PACKAGE: &str = "confluent_kafka==2.6.1";

fn ran(command: &mut Command) -> Result<Output, String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<_> = said.lines().rev().take(5).collect();
    Err(said.into_iter().rev().collect::<Vec<_>>().join(" / "))
}

/// A Python that has the client: the system's, or one of our own, which is made once.
fn python() -> Result<PathBuf, String> {
    let knows =
        |python: &PathBuf| ran(Command::new(python).args(["-c", "import confluent_kafka"])).is_ok();
    let system = PathBuf::from("python3");
    if knows(&system) {
        return Ok(system);
    }
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("interop-python");
    let own = place.join("bin/python");
    if !knows(&own) {
        ran(Command::new(&system).args(["-m", "venv"]).arg(&place))?;
        let install = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            PACKAGE,
        ];
        ran(Command::new(&own).args(install))?;
    }
    Ok(own)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_in_python_takes_part_with_plain_json_and_cloud_events() {
    let Some(engines) = Engines::of_the_tests() else {
        return;
    };
    let python = match tokio::task::spawn_blocking(python).await.unwrap() {
        Ok(python) => python,
        Err(why) => return skipped(&format!("there is no Python with `confluent_kafka`: {why}")),
    };
    let platform = Platform::start(&engines);
    let client = &platform.client;
    let mut users = Vec::new();
    for name in ["Kim", "Lee"] {
        let user = json!({ "name": name, "email": "user@example.org" });
        let user = client.post("/users", &user).await;
        users.push(user.is(201)["user_id"].as_str().unwrap().to_owned());
    }
    client
        .post("/stock/tea/receive", &json!({ "qty": 10 }))
        .await
        .is(202);

    let bootstrap = engines.broker.trim_start_matches("kafka://").to_owned();
    let mut shop = Command::new(python);
    shop.args([SCRIPT, &bootstrap, &platform.prefix])
        .args(&users);
    let sold = tokio::task::spawn_blocking(move || ran(&mut shop))
        .await
        .unwrap();
    let sold = sold.unwrap_or_else(|why| panic!("{why}\n{}", platform.logs()));
    let seen: Value = serde_json::from_slice(&sold.stdout).unwrap();

    // What Python was told is what all services have: paid, put aside, and shown.
    for order in seen["paid"].as_array().unwrap() {
        let path = format!(
            "/admin/streams/stock/reservation/{}",
            order.as_str().unwrap()
        );
        client
            .until(&path, |stream| {
                stream["events"][0]["type"] == "StockReserved"
            })
            .await;
    }
    client
        .until("/stock/tea", |shelf| shelf["reserved"] == 3)
        .await;
    platform.terminate();
}
