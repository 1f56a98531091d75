//! Clients that are slow, greedy or no clients at all, on real sockets, while tokio's clock is held: it goes on when
//! nobody has anything to do, so that limits of time are met at once and exactly.

use std::time::Duration;

use axum::{
    Json, Router,
    routing::{get, post},
};
use factum_admin::web::{
    ANSWER_STALL_MAX, Access, BODY_BYTES_MAX, BODY_READ_MAX, FromBody, HEAD_BYTES_MAX,
    HEADERS_READ_MAX, guarded, serve,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// An answer that fits into no socket's buffers.
const LONG_BYTES: usize = 64 * 1024 * 1024;
/// Longer than anything here may take, on the clock that is held.
const FOREVER: Duration = Duration::from_hours(1);
const HEAD: &str = "Host: localhost\r\nContent-Type: application/json\r\n";

struct Server {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/long", get(|| async { "x".repeat(LONG_BYTES) }))
            .route("/", post(|FromBody(_): FromBody<Value>| async { "taken" }));
        let router = guarded(router, Access::new(address, Vec::new(), [], Vec::new()));
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, router, stop.clone()));
        Self {
            address,
            stop,
            serving,
        }
    }

    /// One without limits of its own, as frameworks serve by default.
    async fn plain() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/long", get(|| async { "x".repeat(LONG_BYTES) }))
            .route("/", post(|Json(_): Json<Value>| async { "taken" }));
        let serving = tokio::spawn(async { axum::serve(listener, router).await });
        Self {
            address,
            stop: CancellationToken::new(),
            serving,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Whether it still answers those who ask as they should.
    async fn serves(&self) -> bool {
        let mut stream = self.connect().await;
        let request = format!("GET / HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        rest(&mut stream).await.ends_with("here")
    }

    async fn stop(self) {
        assert!(self.serves().await);
        self.stop.cancel();
        self.serving.await.unwrap().unwrap();
    }
}

/// All that the server says until it hangs up.
async fn rest(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    // What was said before a reset was said. A server that waits for ever would hang the test, too.
    let _ended = timeout(FOREVER, stream.read_to_end(&mut said)).await;
    String::from_utf8(said).unwrap()
}

/// Sends one byte of `bytes` a second, until the server hangs up, and gives what it said.
async fn trickle(stream: &mut TcpStream, bytes: &[u8]) -> String {
    let (mut answers, mut requests) = stream.split();
    let mut said = Vec::new();
    let sending = async {
        for byte in bytes {
            if requests.write_all(&[*byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        sleep(FOREVER).await;
    };
    tokio::select! {
        _ended = answers.read_to_end(&mut said) => {}
        () = sending => {}
    }
    String::from_utf8(said).unwrap()
}

/// Asserts that this took `limit`, and no more than two seconds over it.
#[track_caller]
fn took(begun: Instant, limit: Duration) {
    let took = begun.elapsed();
    let right = limit..limit + Duration::from_secs(2);
    assert!(right.contains(&took), "{took:?}, expected {limit:?}");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_byte_by_byte_is_not_waited_for() {
    let server = Server::start().await;
    let mut stream = server.connect().await;
    let begun = Instant::now();
    trickle(&mut stream, "GET / HTTP/1.1\r\nX: ".repeat(9).as_bytes()).await;
    took(begun, HEADERS_READ_MAX);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_is_asked_is_closed_before_and_after_a_request() {
    let server = Server::start().await;
    let mut stream = server.connect().await;
    let begun = Instant::now();
    assert_eq!(rest(&mut stream).await, "");
    took(begun, HEADERS_READ_MAX);

    let mut stream = server.connect().await;
    let request = format!("GET / HTTP/1.1\r\n{HEAD}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let begun = Instant::now();
    assert!(rest(&mut stream).await.ends_with("here"));
    took(begun, HEADERS_READ_MAX);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_comes_byte_by_byte_is_refused_in_words() {
    let server = Server::start().await;
    for body in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let mut stream = server.connect().await;
        let head = format!("POST / HTTP/1.1\r\n{HEAD}{body}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let begun = Instant::now();
        let said = trickle(&mut stream, b"1\r\n[\r\n".repeat(20).as_slice()).await;
        assert!(said.starts_with("HTTP/1.1 408"), "{body}: {said}");
        assert!(said.contains("urn:factum:problem:body-too-slow"), "{said}");
        took(begun, BODY_READ_MAX);
    }
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_asked_for_is_not_waited_for() {
    let server = Server::start().await;
    let mut stream = server.connect().await;
    let request = format!("GET / HTTP/1.1\r\n{HEAD}Content-Length: 1000000\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let begun = Instant::now();
    assert!(rest(&mut stream).await.contains("here"));
    assert!(begun.elapsed() <= HEADERS_READ_MAX);
    server.stop().await;
}

/// Such a client kept its connection and its answer for ever, and five hundred of them kept everybody out.
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_answer_is_given_up() {
    let server = Server::start().await;
    let mut stream = server.connect().await;
    let request = format!("GET /long HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    sleep(ANSWER_STALL_MAX + Duration::from_secs(5)).await;
    let said = rest(&mut stream).await;
    assert!(said.starts_with("HTTP/1.1 200"), "{said:.100}");
    assert!(said.len() < LONG_BYTES, "all of it was kept");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_is_refused_before_it_is_there() {
    let server = Server::start().await;
    let long = "x".repeat(2 * HEAD_BYTES_MAX);
    let stated = format!("Content-Length: {}", BODY_BYTES_MAX + 1);
    let huge = "Content-Length: 18446744073709551615";
    for (head, status) in [
        (format!("GET / HTTP/1.1\r\n{HEAD}X: {long}\r\n\r\n"), "431"),
        (format!("GET /{long} HTTP/1.1\r\n{HEAD}\r\n"), "4"),
        (
            format!("GET / HTTP/1.1\r\n{HEAD}{}\r\n", "x: y\r\n".repeat(200)),
            "431",
        ),
        (format!("POST / HTTP/1.1\r\n{HEAD}{stated}\r\n\r\n"), "413"),
        (
            format!("POST / HTTP/1.1\r\n{HEAD}{stated}\r\nExpect: 100-continue\r\n\r\n"),
            "413",
        ),
        (format!("POST / HTTP/1.1\r\n{HEAD}{huge}\r\n\r\n"), "4"),
    ] {
        let mut stream = server.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let said = rest(&mut stream).await;
        let expected = format!("HTTP/1.1 {status}");
        assert!(said.starts_with(&expected), "{head:.80}: {said:.200}");
    }
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn garbage_behind_a_request_leaves_its_answer_whole_and_ends_the_connection() {
    let server = Server::start().await;
    let good = format!("GET / HTTP/1.1\r\n{HEAD}\r\n");
    let smuggled = format!(
        "POST / HTTP/1.1\r\n{HEAD}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{{}}"
    );
    for (garbage, least) in [
        ("\0\u{1}\u{2}\r\n\r\n", 1),
        ("GET / HTTP/9.9\r\n\r\n", 1),
        ("GET /\r\n\r\n", 1),
        ("\u{16}\u{3}\u{1}\u{2}", 1),
        (good.as_str(), 2),
        (smuggled.as_str(), 1),
    ] {
        let mut stream = server.connect().await;
        let text = format!("{good}{garbage}{garbage}");
        stream.write_all(text.as_bytes()).await.unwrap();
        let begun = Instant::now();
        let said = rest(&mut stream).await;
        let answers = said.matches("HTTP/1.1 200").count();
        assert!(answers >= least, "{garbage:?}: {said}");
        assert!(!said.contains("HTTP/1.1 5"), "{garbage:?}: {said}");
        assert!(begun.elapsed() <= HEADERS_READ_MAX + Duration::from_secs(1));
    }
    server.stop().await;
}

/// The same clients before a server that limits nothing: each is still waited for when ours would have hung up, and the
/// one that doesn't read keeps its answer.
#[tokio::test(start_paused = true)]
async fn a_server_without_limits_waits_for_all_of_them() {
    let server = Server::plain().await;
    let longer = |limit| limit + Duration::from_secs(5);

    let mut head = server.connect().await;
    let bytes = "GET / HTTP/1.1\r\nX: ".repeat(9);
    let said = timeout(
        longer(HEADERS_READ_MAX),
        trickle(&mut head, bytes.as_bytes()),
    );
    assert!(said.await.is_err(), "a head that comes byte by byte");

    let mut idle = server.connect().await;
    let said = timeout(longer(HEADERS_READ_MAX), rest(&mut idle));
    assert!(
        said.await.is_err(),
        "a connection on which nothing is asked"
    );

    let mut body = server.connect().await;
    let request = format!("POST / HTTP/1.1\r\n{HEAD}Content-Length: 1000\r\n\r\n");
    body.write_all(request.as_bytes()).await.unwrap();
    let said = timeout(longer(BODY_READ_MAX), trickle(&mut body, &[b'['; 100]));
    assert!(said.await.is_err(), "a body that comes byte by byte");

    let mut deaf = server.connect().await;
    let request = format!("GET /long HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n");
    deaf.write_all(request.as_bytes()).await.unwrap();
    sleep(longer(ANSWER_STALL_MAX)).await;
    let said = rest(&mut deaf).await;
    assert!(said.len() > LONG_BYTES, "{} bytes were kept", said.len());
    server.serving.abort();
}
