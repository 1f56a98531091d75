//! HTTP: requests to the platform's own API and to the admin API, and bytes that may be no HTTP at all.
//!
//! Whatever is asked is answered, refusals are problems in few words, and nothing is ever the server's fault. Whatever
//! comes in on a connection, the connection ends and the server lives.

use hyper::{Request, header};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::world::{Answer, PATIENCE, Served, served};

/// The longest problem: it repeats parts of the request, each cut, and names all that is wrong and known.
const PROBLEM_BYTES_MAX: usize = 80_000;

/// How much of what is said on a connection is looked at: one can ask much with few bytes.
const SAID_BYTES_MAX: usize = 64 * 1024;

/// A request: its method and target on the first line, headers on the next, and after an empty line its body.
pub(crate) fn request(bytes: &[u8]) {
    let (head, body) = match bytes.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&bytes[..at], &bytes[at + 2..]),
        None => (bytes, &b""[..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let (method, target) = match first.iter().position(|byte| *byte == b' ') {
        Some(at) => (&first[..at], &first[at + 1..]),
        None => (&b"GET"[..], first),
    };
    let mut builder = Request::builder().method(method).uri(target);
    let mut has_host = false;
    for line in lines {
        let at = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(at.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii();
        has_host |= name.eq_ignore_ascii_case(b"host");
        builder = builder.header(name, value);
    }
    if !has_host {
        builder = builder.header(header::HOST, "localhost");
    }
    // What is no request doesn't come to a router: see `connection`.
    let Ok(request) = builder.body(String::from_utf8_lossy(body).into_owned()) else {
        return;
    };
    let what = format!("{} {:.200}", request.method(), request.uri().to_string());
    let Served { runtime, ask, .. } = &*served();
    let answered = ask(request);
    let answered = runtime.block_on(async { tokio::time::timeout(PATIENCE, answered).await });
    let answer = answered.unwrap_or_else(|_| panic!("{what} has no answer"));
    is_an_answer(&what, &answer);
}

fn is_an_answer(what: &str, (status, media, body): &Answer) {
    let text = String::from_utf8_lossy(body);
    assert!(
        (200..500).contains(status) || *status == 503,
        "{what} is answered with {status}: {text:.1000}"
    );
    if *status < 400 {
        return;
    }
    assert_eq!(media, "application/problem+json", "{what}: {text:.1000}");
    let problem: serde_json::Value = serde_json::from_str(&text).expect("a problem is JSON");
    assert_eq!(problem["status"], *status, "{what}");
    let length = text.len();
    assert!(
        length <= PROBLEM_BYTES_MAX,
        "{what} is refused in {length} bytes: {text:.1000}"
    );
}

/// What a client sends on a connection before it closes its side.
pub(crate) fn connection(bytes: &[u8]) {
    let Served {
        runtime, address, ..
    } = &*served();
    let spoken = async {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let (mut answers, mut requests) = stream.split();
        let sending = async {
            // The server may hang up before it has all: that is its right.
            if requests.write_all(bytes).await.is_ok() {
                drop(requests.shutdown().await);
            }
        };
        let receiving = async {
            let (mut said, mut chunk) = (Vec::new(), vec![0; SAID_BYTES_MAX]);
            // A reset is an end, too.
            while let Ok(got @ 1..) = answers.read(&mut chunk).await {
                let room = SAID_BYTES_MAX - said.len();
                said.extend_from_slice(&chunk[..got.min(room)]);
            }
            said
        };
        tokio::join!(sending, receiving).1
    };
    let said = runtime.block_on(async { tokio::time::timeout(PATIENCE, spoken).await });
    let said = said.expect("a connection that was given up ends");
    let text = String::from_utf8_lossy(&said);
    assert!(
        text.is_empty() || text.starts_with("HTTP/1."),
        "{text:.200}"
    );
    assert!(!text.contains("HTTP/1.1 500"), "{text:.1000}");
}
