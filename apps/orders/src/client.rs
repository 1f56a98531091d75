//! A client of the platform: JSON over HTTP, and waiting for what happens in its own time.

use std::time::Duration;

use reqwest::{Method, Url};
use serde_json::Value;

use crate::{cli::secret, failure::Failure};

/// How long one request may take.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// How often a query is asked that says when to ask again.
const FRESH_TRIES_MAX: u32 = 30;
/// How often a condition is looked at that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A client. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    base: Url,
    http: reqwest::Client,
    token: Option<String>,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Its consistency token, when it is that of a command.
    pub(crate) token: Option<String>,
    /// After how long to ask again, when it is no answer yet.
    again: Option<Duration>,
    pub(crate) body: Value,
}

impl Reply {
    /// A member of the body as text; empty when it is none.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.body
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The problem in few words.
    pub(crate) fn problem(&self) -> String {
        let errors = self.body["errors"].as_array().into_iter().flatten();
        let errors: Vec<_> = errors
            .map(|error| format!("{}: {}", text(&error["field"]), text(&error["detail"])))
            .collect();
        let detail = self.text("/detail");
        if errors.is_empty() {
            detail.to_owned()
        } else {
            format!("{detail} ({})", errors.join("; "))
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

impl Client {
    /// A client of the platform at `base`, which sends the secret of the first of `tokens`.
    pub(crate) fn new(base: &str, tokens: &[String]) -> Result<Self, Failure> {
        let wrong = |error: &dyn std::fmt::Display| {
            Failure::with_code(
                2,
                format!(
                    "`{base}` is not the URL of a platform: write it as `http://127.0.0.1:7400` ({error})"
                ),
            )
        };
        let base: Url = base.parse().map_err(|error| wrong(&error))?;
        if base.scheme() != "http" {
            return Err(wrong(&"only plain HTTP is spoken here"));
        }
        let http = reqwest::Client::builder()
            .timeout(REQUEST_MAX)
            .no_proxy()
            .build();
        let http = http.map_err(|error| Failure::while_("can't speak HTTP", error))?;
        Ok(Self {
            base,
            http,
            token: tokens.first().map(String::as_str).map(secret),
        })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Reply, Failure> {
        self.send(Method::GET, path, None, None).await
    }

    /// A query that waits for what `token` stands for. It is asked again as long as the answer is when to do so: rows may
    /// be on their way, or be built for the first time.
    pub(crate) async fn get_fresh(
        &self,
        path: &str,
        token: Option<&str>,
    ) -> Result<Reply, Failure> {
        let mut tries = 1;
        loop {
            let reply = self.send(Method::GET, path, None, token).await?;
            let Some(wait) = reply.again.filter(|_| tries < FRESH_TRIES_MAX) else {
                return Ok(reply);
            };
            tokio::time::sleep(wait).await;
            tries += 1;
        }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Reply, Failure> {
        self.send(Method::POST, path, Some(body), None).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        token: Option<&str>,
    ) -> Result<Reply, Failure> {
        let failed = |error: reqwest::Error| {
            let mut words = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(error) = source {
                words = format!("{words}: {error}");
                source = error.source();
            }
            Failure::while_(format!("{method} {path}"), words)
        };
        let url = self
            .base
            .join(path)
            .map_err(|error| Failure::while_(path, error))?;
        let mut request = self.http.request(method.clone(), url);
        if let Some(secret) = &self.token {
            request = request.bearer_auth(secret);
        }
        if let Some(token) = token {
            request = request.header(orders::http::TOKEN_HEADER, token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let token = response.headers().get(orders::http::TOKEN_HEADER);
        let token = token
            .and_then(|token| token.to_str().ok())
            .map(str::to_owned);
        let again = response.headers().get(reqwest::header::RETRY_AFTER);
        let again = again.and_then(|seconds| seconds.to_str().ok()?.parse().ok());
        let bytes = response.bytes().await.map_err(failed)?;
        Ok(Reply {
            status,
            token,
            again: again.map(Duration::from_secs),
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
        })
    }

    /// Waits until `path` answers 200 and what `wanted` accepts; says so if it doesn't `within` that time. That nobody
    /// answers is no reason to give up: a server may be started again.
    pub(crate) async fn until(
        &self,
        what: &str,
        path: &str,
        within: Duration,
        mut wanted: impl FnMut(&Reply) -> bool,
    ) -> Result<Reply, Failure> {
        let mut last = "nothing".to_owned();
        let looked = tokio::time::timeout(within, async {
            loop {
                match self.get(path).await {
                    Ok(reply) if reply.status == 200 && wanted(&reply) => return reply,
                    Ok(reply) => last = format!("{} {}", reply.status, reply.body),
                    Err(failure) => last = failure.to_string(),
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        if let Ok(reply) = looked.await {
            return Ok(reply);
        }
        Err(Failure::new(format!(
            "waited {} s for this: {what}; {path} still answers {last}",
            within.as_secs()
        )))
    }
}
