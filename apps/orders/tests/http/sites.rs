//! Requests that a browser sends for a page of another site, to the platform's own API and to the admin API.

use reqwest::Method;
use serde_json::json;

use crate::shop::Shop;

/// What changes something, in either API, with a body that would be right.
const CHANGES: [(&str, &str); 6] = [
    ("/users", r#"{"name":"Eve","email":"eve@example.org"}"#),
    ("/stock/tea/receive", r#"{"qty":7}"#),
    ("/faults", r#"{"gateway_down":true}"#),
    ("/admin/services/payment-service/stop", "{}"),
    ("/admin/parked/redrive", r#"{"all":true}"#),
    ("/admin/topics/orders/messages", r#"{"value":{}}"#),
];

/// What a browser would say of a request that a page of another site has made, and what must be answered.
type Attack<'a> = (&'static str, Vec<(&'static str, &'a str)>, u16);

fn attacks(own: &str) -> Vec<Attack<'_>> {
    vec![
        (
            "a form",
            vec![
                ("content-type", "text/plain"),
                ("sec-fetch-site", "cross-site"),
            ],
            403,
        ),
        (
            "a form of an old browser",
            vec![
                ("content-type", "text/plain"),
                ("origin", "http://evil.example"),
            ],
            403,
        ),
        (
            "a form that says nothing of itself",
            vec![("content-type", "text/plain")],
            415,
        ),
        (
            "an encoded form",
            vec![("content-type", "application/x-www-form-urlencoded")],
            415,
        ),
        (
            "a beacon",
            vec![
                ("content-type", "text/plain;charset=UTF-8"),
                ("sec-fetch-mode", "no-cors"),
                ("sec-fetch-site", "same-site"),
            ],
            403,
        ),
        (
            "a sandboxed frame",
            vec![("content-type", "application/json"), ("origin", "null")],
            403,
        ),
        (
            "another port of this machine",
            vec![
                ("content-type", "application/json"),
                ("origin", "http://127.0.0.1:1"),
            ],
            403,
        ),
        (
            "one honest header beside a foreign one",
            vec![
                ("content-type", "application/json"),
                ("origin", own),
                ("sec-fetch-site", "cross-site"),
            ],
            403,
        ),
        (
            "a name that was made to point here",
            vec![
                ("content-type", "application/json"),
                ("host", "evil.example"),
                ("origin", "http://evil.example"),
            ],
            421,
        ),
        (
            "a name that begins like ours",
            vec![
                ("content-type", "application/json"),
                ("host", "localhost.evil.example"),
            ],
            421,
        ),
    ]
}

/// The server's own origin.
fn own(shop: &Shop) -> String {
    let request = shop.request(Method::GET, "/").build().unwrap();
    request.url().origin().ascii_serialization()
}

/// Which attacks are not refused as they must be, and how they were answered.
async fn got_through(shop: &Shop) -> Vec<String> {
    let (own, mut found) = (own(shop), Vec::new());
    for (path, body) in CHANGES {
        for (attack, headers, status) in attacks(&own) {
            let request = headers.into_iter().fold(
                shop.request(Method::POST, path),
                |request, (name, value)| request.header(name, value),
            );
            let answer = shop.send(request.body(body)).await;
            // Nothing may allow the page to read even the refusal.
            if answer.status != status || answer.allows_origins {
                found.push(format!("{attack} on {path}: {}", answer.status));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_of_another_site_changes_anything_in_either_api() {
    let shop = Shop::open().await;
    let own = own(&shop);
    let before = shop.get("/admin/events?service=users").await.body;
    let topics = shop.get("/admin/topics").await.body;
    assert_eq!(got_through(&shop).await, [""; 0]);
    // Browsers ask before they send JSON across sites, and are not told that they may.
    for path in ["/users", "/admin/parked/redrive"] {
        let preflight = shop
            .request(Method::OPTIONS, path)
            .header("origin", "http://evil.example")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type");
        let answer = shop.send(preflight).await;
        assert!(answer.status >= 400 && !answer.allows_origins, "{answer:?}");
    }
    assert_eq!(shop.get("/admin/events?service=users").await.body, before);
    assert_eq!(shop.get("/admin/topics").await.body, topics);
    assert_eq!(shop.get("/faults").await.body["gateway_down"], json!(false));
    let services = shop.get("/admin/services").await.body;
    assert!(
        !services.to_string().contains("\"running\":false"),
        "{services}"
    );

    // The server's own page, and programs, may do all of it.
    for (name, value) in [
        ("origin", own.as_str()),
        ("sec-fetch-site", "same-origin"),
        ("user-agent", "curl"),
    ] {
        let (path, body) = CHANGES[1];
        let request = shop.request(Method::POST, path).header(name, value);
        let answer = shop
            .send(
                request
                    .header("content-type", "application/json")
                    .body(body),
            )
            .await;
        assert_eq!(answer.status, 202, "{name}: {answer:?}");
    }
    shop.close().await;
}

/// The same requests before a server that looks at neither names nor origins: those that a browser can send with JSON
/// are carried out, and that is seen.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_guard_pages_of_other_sites_get_through_and_are_seen() {
    let shop = Shop::without_guard().await;
    let found = got_through(&shop).await;
    for attack in [
        "a sandboxed frame on /users: 201",
        "another port of this machine on /users: 201",
        "one honest header beside a foreign one on /users: 201",
        "a name that was made to point here on /users: 201",
        "a name that begins like ours on /users: ",
        "a form on /users: ",
    ] {
        assert!(
            found.iter().any(|found| found.starts_with(attack)),
            "{attack}: {found:#?}"
        );
    }
    shop.close().await;
}

/// What a page may not read, it may not read by a name of its own, either.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_under_a_foreign_name() {
    let shop = Shop::open().await;
    for path in [
        "/",
        "/orders/o",
        "/openapi.json",
        "/metrics",
        "/health",
        "/admin/parked",
        "/admin/audit",
        "/nothing",
    ] {
        for host in ["evil.example", "127.0.0.1.evil.example", "192.0.2.1", ""] {
            let request = shop.request(Method::GET, path).header("host", host);
            let answer = shop.send(request).await;
            assert_eq!(answer.status, 421, "{path} as `{host}`: {answer:?}");
        }
    }
    shop.close().await;
}
