//! Failures: what a customer is told of them, what an operator, and what the log says.

use std::{
    io,
    sync::{Arc, Mutex},
};

use reqwest::Method;
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use crate::shop::Shop;

/// A log that can be read.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Customers read what the store said, with the names of its parts. On one thread, so that its log is this one's.
#[tokio::test]
async fn a_customer_is_told_under_which_id_the_log_has_what_an_operator_is_told() {
    let log = Log::default();
    let logging = tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_ansi(false)
        .finish();
    let _logging = tracing::subscriber::set_default(logging);
    let shop = Shop::open().await;
    let kim = shop.register("Kim").await;
    // Nothing can be written or read any more.
    shop.platform.stop().await;
    let order = json!({ "user_id": kim, "items": [{ "sku": "tea", "qty": 1, "price": 1 }] });
    let user = json!({ "name": "Lee", "email": "lee@example.org" });
    for (method, path, body) in [
        (Method::GET, "/orders/o-1/history", Value::Null),
        (Method::GET, "/invariants", Value::Null),
        (Method::POST, "/users", user),
        (Method::POST, "/orders", order),
        (Method::POST, "/orders/o-1/cancel", json!({})),
        (Method::POST, "/stock/tea/receive", json!({ "qty": 1 })),
        (Method::POST, "/faults", json!({ "gateway_down": true })),
    ] {
        let answer = shop.send(shop.request(method, path).json(&body)).await;
        assert!(answer.status >= 500, "{path}: {answer:?}");
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(
            detail.starts_with("it can't be done now") || detail.starts_with("something is broken"),
            "{path}: {answer:?}"
        );
        assert_eq!(answer.body.get("errors"), None, "{path}: {answer:?}");
        let id = answer.id("instance");
        let text = log.text();
        let mut lines = text.lines().filter(|line| line.contains(&id));
        let line = lines
            .next()
            .unwrap_or_else(|| panic!("{id} is not in the log"));
        assert!(
            line.contains("answering a request") && line.contains("closed"),
            "{line}"
        );
        assert_eq!(lines.next(), None, "it is logged once");
    }
    let answer = shop.get("/admin/streams").await;
    assert!(answer.id("detail").contains("closed"), "{answer:?}");
    assert!(log.text().contains(&answer.id("instance")));
    shop.close().await;
}
