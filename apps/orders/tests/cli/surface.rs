//! The program among strangers: what it listens on, and what is left of it when they take all that they can get.

#![cfg(unix)]

use std::{
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{Served, fails, orders};

/// How long anything may take here: idle connections are closed within fifteen seconds, and the machine may be busy.
const PATIENCE: Duration = Duration::from_mins(1);

/// A token that was not given and one that was given empty are none; and nothing is touched before that is known.
#[test]
fn no_public_address_is_listened_on_without_a_token() {
    let data = TempDir::new().unwrap();
    let data = data.path().join("data");
    for address in [
        "0.0.0.0:0",
        "[::]:0",
        "192.0.2.1:7400",
        "[2001:db8::1]:7400",
        "[::ffff:192.0.2.1]:7400",
    ] {
        for token in [None, Some(""), Some(" "), Some(",")] {
            let mut command = orders();
            command.args(["--listen", address, "--data"]).arg(&data);
            if let Some(token) = token {
                command.env("FACTUM_TOKEN", token);
            }
            let error = fails(&command.output().unwrap(), 1);
            if token.is_none() {
                assert!(
                    error.contains(&format!("refusing to listen on {address} without a token")),
                    "{error}"
                );
                assert!(
                    error.contains("127.0.0.1"),
                    "it says what would be right: {error}"
                );
            }
            assert!(!data.exists(), "{address} with {token:?}");
        }
    }
    // A port that is taken is said to be so, whatever the address.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let _holds = TcpListener::bind(&taken);
    let error = fails(
        &orders().args(["--listen", "300.0.0.1:1"]).output().unwrap(),
        2,
    );
    assert!(error.contains("300.0.0.1:1"), "{error}");
}

/// With a token the same address is served, and a directory made: what a server that did not refuse would show above.
#[test]
fn a_public_address_is_listened_on_with_a_token() {
    let data = TempDir::new().unwrap();
    let data = data.path().join("data");
    let mut command = orders();
    command
        .args(["--listen", "0.0.0.0:0", "--data"])
        .arg(&data)
        .env("FACTUM_TOKEN", "ada=0123456789abcdef")
        .env("RUST_LOG", "off")
        .stdout(Stdio::piped());
    let mut served = command.spawn().unwrap();
    let mut said = String::new();
    let out = served.stdout.take().unwrap();
    let read = BufReader::new(out).read_line(&mut said);
    served.kill().unwrap();
    served.wait().unwrap();
    assert!(read.is_ok() && said.contains("http://0.0.0.0:"), "{said}");
    assert!(data.exists());
}

/// A client with one connection, which it keeps.
struct Client(TcpStream);

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// Sends a request, and gives the status and the body of the answer.
    async fn ask(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let asked = tokio::time::timeout(PATIENCE, self.exchange(method, path, body));
        asked
            .await
            .unwrap_or_else(|_| panic!("{method} {path} has no answer"))
    }

    async fn exchange(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.0.write_all(request.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&said);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| {
                    line.to_ascii_lowercase()
                        .strip_prefix("content-length: ")
                        .map(str::to_owned)
                });
                let length: usize = length.unwrap().parse().unwrap();
                if body.len() >= length {
                    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                    return (status, serde_json::from_str(body).unwrap_or_default());
                }
            }
            let read = self.0.read_buf(&mut said).await.unwrap();
            assert_ne!(
                read,
                0,
                "the server hung up: {}",
                String::from_utf8_lossy(&said)
            );
        }
    }
}

/// Five hundred connections took every file of the process: stores could not open theirs, and commands failed.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_take_no_file_that_the_stores_need_and_who_is_served_goes_on_being_served()
{
    let data = TempDir::new().unwrap();
    let served = Served::start_with_files(&data, Some(100));
    let address: SocketAddr = served.url.trim_start_matches("http://").parse().unwrap();
    let mut first = Client::connect(address).await;
    let (status, kim) = first
        .ask(
            "POST",
            "/users",
            &json!({ "name": "Kim", "email": "kim@example.org" }),
        )
        .await;
    assert_eq!(status, 201, "{kim}");
    let (status, tea) = first
        .ask("POST", "/stock/tea/receive", &json!({ "qty": 1_000 }))
        .await;
    assert_eq!(status, 202, "{tea}");

    // Far more than the process may open files. The system takes them; whether the server does is its decision.
    let mut idle = Vec::new();
    for _ in 0..300 {
        match tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => idle.push(stream),
            _ => break,
        }
    }
    assert!(idle.len() > 100, "{}", idle.len());
    let order =
        json!({ "user_id": kim["user_id"], "items": [{ "sku": "tea", "qty": 1, "price": 500 }] });
    for _ in 0..50 {
        let (status, placed) = first.ask("POST", "/orders", &order).await;
        assert_eq!(status, 201, "{placed}");
        let (status, page) = first.ask("GET", "/admin/parked", &Value::Null).await;
        assert_eq!((status, &page["parked"]), (200, &json!([])), "{page}");
    }
    // When they have gone, everybody is served again.
    drop(idle);
    let mut other = Client::connect(address).await;
    let (status, _) = other.ask("GET", "/health", &Value::Null).await;
    assert_eq!(status, 200);
    let quiet = async {
        loop {
            let (_, found) = other.ask("GET", "/invariants", &Value::Null).await;
            if found["quiet"] == true {
                break found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, quiet).await.unwrap();
    assert_eq!(
        (&found["broken"], &found["orders"]),
        (&json!([]), &json!(50))
    );
    drop((first, other));
    served.terminate();
}
