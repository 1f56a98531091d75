//! Who is let in, and what comes in.

use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::world::World;

#[tokio::test]
async fn a_page_that_made_its_name_point_here_is_misdirected() {
    let world = World::start().await;
    let request = world
        .request(Method::GET, "/admin/services")
        .header("host", "evil.example");
    world.send(request).await.refuses(421, None);
    let request = world
        .request(Method::GET, "/nothing")
        .header("host", "evil.example");
    world.send(request).await.refuses(421, None);
    world.stop().await;
}

/// Whoever tried tokens one after another was seen by nobody.
#[tokio::test]
async fn refused_tokens_are_counted() {
    let world = World::with_tokens(&["ada=0123456789abcdef"]).await;
    world.get("/metrics").await.refuses(401, None);
    let guess = world.request(Method::GET, "/metrics");
    let guess = guess.bearer_auth("fedcba9876543210");
    world.send(guess).await.refuses(401, None);
    // Those who need none are not refused.
    world.get("/health").await.is(200);
    let world = world.with_bearer("0123456789abcdef");
    let metrics = world.get("/metrics").await.text;
    assert!(
        metrics.ends_with("factum_http_tokens_refused_total 2\n# EOF\n"),
        "{metrics}"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let world = World::start().await;
    let path = "/admin/services/accounts/stop";
    for (header, value) in [
        ("origin", "http://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let request = world.request(Method::POST, path).header(header, value);
        world.send(request).await.refuses(403, None);
    }
    assert!(world.running.service("accounts").unwrap().is_running());
    // A form can't say that it is JSON, even where a browser sent neither header.
    let request = world
        .request(Method::POST, "/admin/parked/redrive")
        .header("content-type", "text/plain");
    world
        .send(request.body(r#"{"all":true}"#))
        .await
        .refuses(415, None);
    world.stop().await;
}

#[tokio::test]
async fn with_a_token_nothing_but_the_health_is_told_to_strangers_and_the_audit_knows_who() {
    let world = World::with_tokens(&["ada=first-secret", "second-secret"]).await;
    for path in [
        "/admin/services",
        "/metrics",
        "/admin/openapi.json",
        "/nothing",
    ] {
        world.get(path).await.refuses(401, None);
    }
    assert_eq!(
        world.get("/health").await.is(200),
        json!({ "status": "ok" })
    );
    world.get("/ready").await.is(200);
    let world = world.with_bearer("wrong-secret");
    world.get("/admin/services").await.refuses(401, None);
    let world = world.with_bearer("first-secret");
    world
        .post("/admin/services/receipts/stop", &json!({}))
        .await
        .is(200);
    let world = world.with_bearer("second-secret");
    world
        .post("/admin/services/receipts/start", &json!({}))
        .await
        .is(200);
    let audit = world.get("/admin/audit").await.is(200);
    assert_eq!(
        (&audit["entries"][0]["actor"], &audit["entries"][1]["actor"]),
        (&json!("operator"), &json!("ada"))
    );
    world.stop().await;
}

#[tokio::test]
async fn methods_that_a_path_does_not_take_are_problems_and_say_which_it_takes() {
    let world = World::start().await;
    let response = world
        .request(Method::DELETE, "/admin/services")
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["allow"], "GET,HEAD");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert_eq!(response.headers()["cache-control"], "no-store");
    world
        .send(world.request(Method::DELETE, "/admin/services"))
        .await
        .refuses(405, None);
    world.stop().await;
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused_and_not_believed() {
    let world = World::start().await;
    let path = "/admin/parked/redrive";
    for (body, status) in [
        ("{", 400),
        ("", 400),
        ("[]", 422),
        ("{\"all\":1}", 422),
        (&"[".repeat(200_000), 400),
        (&format!("{{\"x\":{}", "[".repeat(200_000)), 400),
    ] {
        let request = world
            .request(Method::POST, path)
            .header("content-type", "application/json");
        world
            .send(request.body(body.to_owned()))
            .await
            .refuses(status, None);
    }
    world.stop().await;
}

#[tokio::test]
async fn requests_that_are_no_http_end_their_connection_only() {
    let world = World::start().await;
    for text in [
        "\u{0}\u{1}\u{2}\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{text:?}: {answer}");
    }
    world.get("/health").await.is(200);
    world.stop().await;
}

#[tokio::test]
async fn a_body_without_a_length_is_counted_as_it_comes() {
    let world = World::start().await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = "POST /admin/parked/redrive HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut answers, mut requests) = stream.into_split();
    let writing = tokio::spawn(async move {
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
        // The server stops reading when it has had enough, so not all of this may get through.
        for _ in 0..1_000 {
            if requests.write_all(chunk.as_bytes()).await.is_err() {
                break;
            }
        }
    });
    let mut answer = vec![0; 12];
    answers.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 413");
    drop(answers);
    writing.await.unwrap();
    world.stop().await;
}
