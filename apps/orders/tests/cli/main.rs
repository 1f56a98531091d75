//! The real program: its help, its tour, and how it begins and ends.

#![expect(clippy::unwrap_used, reason = "a test ends at an error")]

#[cfg(target_os = "linux")]
mod disk;
mod ending;
#[cfg(unix)]
mod store;
mod surface;

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use tempfile::TempDir;

fn orders() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orders"));
    command
        .env_remove("FACTUM_TOKEN")
        .env_remove("RUST_LOG")
        .env("COLUMNS", "100")
        .stdin(Stdio::null());
    command
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    out.into_owned()
}

#[track_caller]
fn fails(output: &Output, code: i32) -> String {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
    err.into_owned()
}

/// A server, killed when a test fails.
struct Served {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    url: String,
}

impl Served {
    fn start(data: &TempDir) -> Self {
        Self::start_with_files(data, None)
    }

    /// The same in a process that may open so many files only.
    fn start_with_files(data: &TempDir, files_max: Option<u32>) -> Self {
        let mut command = match files_max {
            None => orders(),
            Some(files) => {
                let mut shell = Command::new("sh");
                let limited = format!("ulimit -n {files} && exec \"$0\" \"$@\"");
                shell.args(["-c", &limited, env!("CARGO_BIN_EXE_orders")]);
                shell.env_remove("FACTUM_TOKEN").stdin(Stdio::null());
                shell
            }
        };
        Self::spawn(command.arg("--data").arg(data.path()))
    }

    /// What the command serves, on a free port.
    fn spawn(command: &mut Command) -> Self {
        Self::spawn_logging(command, "off")
    }

    fn spawn_logging(command: &mut Command, log: &str) -> Self {
        let mut child = command
            .args(["--listen", "127.0.0.1:0"])
            .env("RUST_LOG", log)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        out.read_line(&mut first).unwrap();
        let url = first
            .split_whitespace()
            .find(|word| word.starts_with("http://"));
        let url = url
            .unwrap_or_else(|| panic!("no URL in {first:?}"))
            .trim_end_matches(',')
            .to_owned();
        Self { child, out, url }
    }

    /// Ends it in good order, and gives what else it said.
    #[cfg(unix)]
    fn terminate(mut self) -> String {
        let killed = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(killed.success());
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{rest}");
        rest
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may be gone already, as it should be.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

#[test]
fn help_needs_no_other_page() {
    let help = succeeds(&orders().arg("--help").output().unwrap());
    // What is in the file is what was reviewed: after a change, look at the difference and write the help there.
    let trimmed = |text: &str| {
        text.lines()
            .map(str::trim_end)
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(
        trimmed(&help),
        trimmed(include_str!("help.txt")),
        "see tests/cli/help.txt"
    );
    for line in help.lines() {
        assert!(line.chars().count() <= 100, "too long: {line}");
    }
    let help = succeeds(&orders().args(["load", "--help"]).output().unwrap());
    for wanted in [
        "--rate <N>",
        "--for <TIME>",
        "--target <URL>",
        "[default: 50]",
        "[default: 10s]",
    ] {
        assert!(help.contains(wanted), "no {wanted:?} in:\n{help}");
    }
}

#[test]
fn what_cannot_be_understood_ends_with_2_and_what_cannot_be_done_with_1() {
    for args in [
        &["dance"][..],
        &["load", "--rate", "0"],
        &["load", "--for", "soon"],
        &["--listen", "here"],
        // What meant nothing was taken in silence.
        &["--host", "http://orders.example.org/"],
        &["--host", ""],
        &["--retention-bytes", "0"],
        &["store", "verify", "--new-epoch"],
        &["store", "--listen", "127.0.0.1:0", "verify"],
        &[
            "store",
            "backup",
            "--to",
            "b",
            "--token",
            "ada=0123456789abcdef",
        ],
        &["demo", "--listen", "127.0.0.1:0"],
        &["load", "--host", "orders.example.org", "--for", "1s"],
        // A directory that is made for the run has no former place and no former epoch.
        &["--new-epoch", "demo"],
        &["load", "--moved", "--for", "1s"],
        // Whoever serves at the target has been told all that.
        &["demo", "--target", "http://127.0.0.1:1", "--data", "d"],
        &[
            "load",
            "--target",
            "http://127.0.0.1:1",
            "--snapshot-every",
            "5",
        ],
    ] {
        fails(&orders().args(args).output().unwrap(), 2);
    }
    let mut verify = orders();
    verify.args(["store", "verify", "--retention-bytes", "2000000"]);
    let error = fails(&verify.output().unwrap(), 2);
    assert!(
        error.contains("`--retention-bytes` means nothing to `store verify`"),
        "{error}"
    );
    let mut load = orders();
    load.args(["load", "--target", "http://127.0.0.1:1", "--new-epoch"]);
    let error = fails(&load.output().unwrap(), 2);
    let wanted = "`--new-epoch` means nothing to `load --target`";
    assert!(error.contains(wanted), "{error}");
    let mut outside = orders();
    outside.args(["outside", "--moved"]);
    let error = fails(&outside.output().unwrap(), 2);
    assert!(
        error.contains("`--moved` means nothing to `outside`"),
        "{error}"
    );
    verify = orders();
    verify.args(["store", "verify", "--data", "/nowhere"]);
    // A token in the environment is for whoever serves.
    verify.env("FACTUM_TOKEN", "ada=0123456789abcdef");
    let error = fails(&verify.env("RUST_LOG", "factum=loud").output().unwrap(), 1);
    assert!(error.contains("RUST_LOG is `factum=loud`"), "{error}");
    let error = fails(
        &orders().args(["--listen", "0.0.0.0:0"]).output().unwrap(),
        1,
    );
    assert!(error.contains("without a token"), "{error}");
    let error = fails(&orders().args(["--token", "short"]).output().unwrap(), 1);
    assert!(error.contains("visible ASCII"), "{error}");
    let error = fails(
        &orders()
            .args(["demo", "--target", "http://127.0.0.1:1"])
            .output()
            .unwrap(),
        1,
    );
    assert!(error.contains("refused"), "{error}");
}

#[test]
fn the_demo_plays_the_whole_tour_and_finds_nothing_broken() {
    let shown = succeeds(&orders().arg("demo").output().unwrap());
    for wanted in [
        "1. Two users register",
        "2. An order goes well",
        "3. A card is declined",
        "4. Out of stock",
        "5. A flaky gateway",
        "6. Payment is stopped",
        "7. Poison",
        "8. Poison that is good for nothing",
        "9. What no run may break",
        "every order has come to exactly one end",
    ] {
        assert!(shown.contains(wanted), "no {wanted:?} in:\n{shown}");
    }
    // The story of the happy path was told before its last step had been taken.
    let (_, happy) = shown.split_once("2. An order goes well").unwrap();
    let (happy, _) = happy.split_once("3. A card is declined").unwrap();
    assert!(happy.contains("NotificationSent"), "{happy}");
}

#[test]
fn a_load_is_taken_and_finds_nothing_broken() {
    let args = ["load", "--rate", "40", "--for", "1s", "--format", "json"];
    let summary = succeeds(&orders().args(args).output().unwrap());
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(
        (&summary["orders"], &summary["failed"]),
        (&40.into(), &0.into()),
        "{summary}"
    );
    assert_eq!(summary["broken"], serde_json::json!([]));
}

#[cfg(unix)]
#[test]
fn a_served_platform_says_what_to_try_ends_well_on_sigterm_and_keeps_its_data() {
    let data = TempDir::new().unwrap();
    let served = Served::start(&data);
    // A second one on the same data is refused in words.
    let second = orders()
        .args(["--listen", "127.0.0.1:0", "--data"])
        .arg(data.path())
        .output()
        .unwrap();
    let error = fails(&second, 1);
    assert!(error.contains("in use"), "{error}");
    // The tour may be played on it, again and again.
    for _ in 0..2 {
        succeeds(
            &orders()
                .args(["demo", "--target", &served.url])
                .output()
                .unwrap(),
        );
    }
    let said = served.terminate();
    assert!(
        said.contains("curl -s") && said.contains("stopped"),
        "{said}"
    );

    let served = Served::start(&data);
    succeeds(
        &orders()
            .args(["demo", "--target", &served.url])
            .output()
            .unwrap(),
    );
    served.terminate();
}

/// Whoever got an answer before the kill finds what it said after the restart, and nothing half done stays so.
#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let data = TempDir::new().unwrap();
    let served = Served::start(&data);
    let client = reqwest::Client::new();
    let post = async |url: String, body: serde_json::Value| {
        let response = client.post(url).json(&body).send().await.unwrap();
        assert!(response.status().is_success(), "{response:?}");
        response.json::<serde_json::Value>().await.unwrap()
    };
    let url = served.url.clone();
    let user = serde_json::json!({ "name": "Kim", "email": "kim@example.org" });
    let user = post(format!("{url}/users"), user).await["user_id"].clone();
    post(
        format!("{url}/stock/tea/receive"),
        serde_json::json!({ "qty": 100 }),
    )
    .await;
    let order =
        serde_json::json!({ "user_id": user, "items": [{ "sku": "tea", "qty": 1, "price": 500 }] });
    let placed = (0..30).map(|_| post(format!("{url}/orders"), order.clone()));
    let placed = futures_util::future::join_all(placed).await;
    // Dropped, it is killed, in the middle of what follows from the orders.
    drop(served);

    let served = Served::start(&data);
    let get = async |path: &str| {
        let response = client
            .get(format!("{}{path}", served.url))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200, "{path}");
        response.json::<serde_json::Value>().await.unwrap()
    };
    let quiet = tokio::time::timeout(Duration::from_mins(1), async {
        loop {
            let found = get("/invariants").await;
            if found["quiet"] == true {
                break found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let found = quiet.await.unwrap();
    assert_eq!(
        (&found["broken"], &found["orders"]),
        (&serde_json::json!([]), &30.into())
    );
    for order in placed {
        let order = get(&format!("/orders/{}", order["order_id"].as_str().unwrap())).await;
        assert_eq!(order["status"], "confirmed");
    }
}
