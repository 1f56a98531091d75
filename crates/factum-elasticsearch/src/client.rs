//! Requests to the cluster, each within a bound of time, and what became of them.
//!
//! Nothing is tried again here: whoever asks knows what may be. All requests of this crate may be sent again, since
//! writes carry their versions.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use factum_core::Error;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Duration, timeout};

use crate::{options::ElasticsearchOptions, tls};

/// The largest answer that is taken: a page of 1,000 rows of 256 KB each.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// How long a connection may be idle before it is closed: shorter than what stands between allows, as a rule 60 s.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// How many idle connections are kept: as many as rows that a projection looks up at a time.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// A connection to a cluster. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    address: String,
    authorization: Option<HeaderValue>,
    request_max: Duration,
    closed: Arc<AtomicBool>,
}

/// What the cluster said.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    body: Bytes,
}

/// Why the cluster refused something: the type of its error, and its words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: String,
    pub(crate) reason: String,
}

impl Client {
    pub(crate) fn new(options: &ElasticsearchOptions) -> Result<Self, Error> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(options.connect_max));
        http.set_keepalive(Some(IDLE_MAX));
        let address = options.address();
        let ca = options.ca.as_deref();
        let tls = if address.starts_with("https") {
            tls::config(ca)?
        } else {
            // Never used: the connector wants one all the same, and the system's authorities take time to read.
            tls::nobody()?
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .pool_timer(TokioTimer::new())
            .build(connector);
        let header = |text: &String| {
            let mut value = HeaderValue::from_str(text).map_err(|_| {
                Error::fatal("the API key has characters that a header can't carry")
            })?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        };
        let authorization = options.authorization.as_ref().map(header);
        Ok(Self {
            pool,
            address,
            authorization: authorization.transpose()?,
            request_max: options.request_max,
            closed: Arc::default(),
        })
    }

    /// Sends no more requests. Those under way belong to whoever waits for them.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Sends a request whose body is one JSON value, or nothing.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Reply, Error> {
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        self.send(method, path, "application/json", body).await
    }

    /// Sends a request whose body is a line of JSON after another.
    pub(crate) async fn ask_lines(&self, path: &str, lines: Bytes) -> Result<Reply, Error> {
        self.send(Method::POST, path, "application/x-ndjson", lines)
            .await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content: &'static str,
        body: Bytes,
    ) -> Result<Reply, Error> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Error::fatal("the views are closed"));
        }
        let bug = |error: hyper::http::Error| {
            Error::fatal(format!("`{path}` can't be asked for")).caused_by(error)
        };
        let uri: Uri = format!("{}{path}", self.address)
            .parse()
            .map_err(|error| bug(hyper::http::Error::from(error)))?;
        let writes =
            method != Method::GET && !path.contains("/_search") && !path.contains("/_mget");
        let mut request = hyper::Request::builder().method(method).uri(uri);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, content);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::new(body)).map_err(bug)?;
        // Whether what was sent before a connection broke was done, nobody knows.
        let broken = |message: String| {
            if writes {
                Error::unknown(message)
            } else {
                Error::transient(message)
            }
        };
        let answered = async {
            let response = self.pool.request(request).await.map_err(|error| {
                let message = format!("the search cluster at {} can't be reached", self.address);
                let failed = if error.is_connect() {
                    Error::transient(message)
                } else {
                    broken(message)
                };
                failed.caused_by(error)
            })?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
            let body = body.collect().await.map_err(|error| {
                broken(format!(
                    "the answer of the search cluster broke off: {error}"
                ))
            })?;
            let body = body.to_bytes();
            Ok(Reply { status, body })
        };
        let in_time = timeout(self.request_max, answered).await;
        in_time.unwrap_or_else(|_| {
            Err(broken(format!(
                "the search cluster did not answer within {:?}",
                self.request_max
            )))
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Reply {
    /// The answer, when all is well; else what it is an error of, `what` being what was asked.
    pub(crate) fn read<T: DeserializeOwned>(&self, what: &str) -> Result<T, Error> {
        if !self.status.is_success() {
            return Err(self.error(what));
        }
        self.parse(what)
    }

    /// The answer, whatever its status.
    pub(crate) fn parse<T: DeserializeOwned>(&self, what: &str) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Error::transient(format!(
                "{what}: the answer is not what a search cluster says"
            ))
            .caused_by(error)
        })
    }

    /// Nothing, when all is well.
    pub(crate) fn done(&self, what: &str) -> Result<(), Error> {
        if self.status.is_success() {
            return Ok(());
        }
        Err(self.error(what))
    }

    /// Why it was refused.
    pub(crate) fn refusal(&self) -> Refusal {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        Refusal::read(&body["error"])
    }

    /// What was refused, as an error.
    pub(crate) fn error(&self, what: &str) -> Error {
        self.refusal().error(self.status, what)
    }
}

impl Refusal {
    /// From what the cluster calls an error: an object, or in old cases a text.
    pub(crate) fn read(error: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let mut reason = match error {
            Value::String(words) => words.clone(),
            _ => text(&error["reason"]),
        };
        // What it is wrapped in says that something failed; the root says what.
        let causes = [&error["caused_by"], &error["root_cause"][0]];
        for cause in causes {
            let cause = text(&cause["reason"]);
            if !cause.is_empty() && !reason.contains(&cause) {
                reason = format!("{reason}: {cause}");
            }
        }
        Self {
            kind: text(&error["type"]),
            reason,
        }
    }

    /// Whether it may be otherwise in a moment: the cluster has too much to do, is short of room, or is about to choose
    /// who does what.
    pub(crate) fn passes(&self, status: StatusCode) -> bool {
        matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504)
            || self.kind == "cluster_block_exception"
    }

    /// As an error in the course of `what`.
    pub(crate) fn error(&self, status: StatusCode, what: &str) -> Error {
        let Self { kind, reason } = self;
        let message = if kind.is_empty() && reason.is_empty() {
            format!("{what}: the search cluster answered {status}")
        } else {
            format!("{what}: {reason} (`{kind}`, {})", status.as_u16())
        };
        match status.as_u16() {
            _ if self.passes(status) => Error::transient(message),
            401 | 403 => Error::fatal(format!(
                "{message}: check user and password or API key, and what they allow"
            )),
            409 => Error::conflict(message),
            _ => Error::poison(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use factum_core::ErrorClass;
    use serde_json::json;

    use super::*;

    #[test]
    fn refusals_are_sorted_by_what_can_be_done() {
        let class = |status: u16, kind: &str| {
            let error = json!({ "type": kind, "reason": "so it is" });
            let status = StatusCode::from_u16(status).unwrap();
            Refusal::read(&error).error(status, "writing").class()
        };
        for (status, kind, expected) in [
            (429, "circuit_breaking_exception", ErrorClass::Transient),
            (503, "unavailable_shards_exception", ErrorClass::Transient),
            (403, "cluster_block_exception", ErrorClass::Transient),
            (403, "security_exception", ErrorClass::Fatal),
            (401, "security_exception", ErrorClass::Fatal),
            (
                409,
                "version_conflict_engine_exception",
                ErrorClass::Conflict,
            ),
            (400, "mapper_parsing_exception", ErrorClass::Poison),
            (404, "index_not_found_exception", ErrorClass::Poison),
        ] {
            assert_eq!(class(status, kind), expected, "{status} {kind}");
        }
    }

    #[test]
    fn a_refusal_says_what_it_comes_from() {
        let error = json!({ "type": "mapper_parsing_exception", "reason": "failed to parse field [f_total]",
            "caused_by": { "type": "x", "reason": "For input string: \"a\"" } });
        let error = Refusal::read(&error).error(StatusCode::BAD_REQUEST, "row `1`");
        assert_eq!(
            error.to_string(),
            "row `1`: failed to parse field [f_total]: For input string: \"a\" (`mapper_parsing_exception`, 400)"
        );
    }
}
