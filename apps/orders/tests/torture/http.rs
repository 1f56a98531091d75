//! A client of the platform that expects the process at the other end to die at any moment.

use std::time::Duration;

use reqwest::{Method, header::HeaderMap};
use serde_json::Value;

/// How long one request may take. Longer than a start on a busy machine.
const REQUEST_MAX: Duration = Duration::from_secs(30);

/// A client. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    url: String,
    http: reqwest::Client,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// The body as it came.
    pub(crate) text: String,
}

impl Reply {
    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Client {
    /// A client of the platform at `url`.
    pub(crate) fn new(url: &str) -> Self {
        let http = reqwest::Client::builder()
            .timeout(REQUEST_MAX)
            .no_proxy()
            .build();
        Self {
            url: url.to_owned(),
            http: http.unwrap(),
        }
    }

    /// The answer, or why there is none: then nobody knows what became of the request.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Result<Reply, reqwest::Error> {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let response = request.send().await?;
        Ok(Reply {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await?,
        })
    }

    /// What is at `path`; the process must live.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let reply = self.ask(Method::GET, path, None, None).await.unwrap();
        assert_eq!(reply.status, 200, "GET {path}: {}", reply.text);
        reply.json()
    }

    /// What a command answers; the process must live, and do it.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        let reply = self
            .ask(Method::POST, path, Some(body), None)
            .await
            .unwrap();
        assert!(
            (200..300).contains(&reply.status),
            "POST {path}: {}",
            reply.text
        );
        reply.json()
    }
}
