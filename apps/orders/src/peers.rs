//! Peers: the processes in which the other services run, as a client meets them.
//!
//! A role may have several processes, which share a store: whatever one of them can answer, each can. They are asked in
//! turn. One that can't be reached is passed over; one that doesn't answer in time too, when the request may come twice
//! (a query, or a command with an idempotency key), and is asked last for a while. Where nobody knows what became of a command, that is said.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, HeaderName, Method, StatusCode, header},
    response::Response,
};
use factum::Error;
use factum_admin::web::Problem;
use futures_util::future;
use reqwest::{Url, redirect::Policy};
use serde_json::Value;
use tokio::time::Instant;

use crate::platform::Role;

/// How long a process may take to answer: longer than a stop of its services in good order, which takes 20 seconds.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// How long it may take while another process is left that could answer in its place: longer than any query waits for
/// what its token stands for.
const TRY_MAX: Duration = Duration::from_secs(5);

/// How long a connection may take to come about: a machine that is gone refuses nothing.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// How long a connection is kept that nobody uses: not as long as a server keeps it. A request that meets its end there
/// may have been heard, for all that is known here.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// For how long one that was silent is asked after all others.
const SILENT_FOR: Duration = Duration::from_secs(10);

/// What is passed on of a request. The rest is between the client and us.
const PASSED_ON: [HeaderName; 5] = [
    header::ACCEPT,
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    HeaderName::from_static("factum-token"),
    HeaderName::from_static("idempotency-key"),
];

/// What is passed back of an answer.
const PASSED_BACK: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::LOCATION,
    header::RETRY_AFTER,
    HeaderName::from_static("factum-token"),
    HeaderName::from_static("idempotency-replayed"),
];

/// The processes of the services, by role.
#[derive(Debug)]
pub struct Peers {
    addresses: BTreeMap<Role, Vec<Url>>,
    http: reqwest::Client,
    turn: AtomicUsize,
    /// Who was silent, and when.
    silent: Mutex<BTreeMap<Url, Instant>>,
}

/// A request as it is passed on.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// The path, and the query if there is one.
    pub(crate) target: String,
    headers: HeaderMap,
    body: Bytes,
}

/// An answer as it is passed back.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Asked {
    /// What is passed on of a request with these parts.
    pub(crate) fn new(method: Method, target: String, headers: &HeaderMap, body: Bytes) -> Self {
        let passed = PASSED_ON.into_iter().filter_map(|name| {
            let value = headers.get(&name)?.clone();
            Some((name, value))
        });
        Self {
            method,
            target,
            headers: passed.collect(),
            body,
        }
    }

    /// A query of `target` by the same client.
    pub(crate) fn get(&self, target: impl Into<String>) -> Self {
        let mut asked = self.clone();
        (asked.method, asked.target, asked.body) = (Method::GET, target.into(), Bytes::new());
        asked
    }

    /// A command to `target` by the same client.
    pub(crate) fn post(&self, target: impl Into<String>, body: &Value) -> Self {
        let mut asked = self.clone();
        (asked.method, asked.target) = (Method::POST, target.into());
        asked.body = body.to_string().into();
        let json = header::HeaderValue::from_static("application/json");
        asked.headers.insert(header::CONTENT_TYPE, json);
        asked
    }

    /// The body as JSON; null when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The same as a request to this process.
    pub(crate) fn to_request(&self) -> Result<Request, Problem> {
        let request = Request::builder()
            .method(self.method.clone())
            .uri(&self.target)
            .body(Body::from(self.body.clone()));
        let mut request = request.map_err(|error| Problem::unreadable(error.to_string()))?;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }

    /// Whether it may come twice. The admin API knows no keys.
    fn may_repeat(&self) -> bool {
        let is_keyed = self.headers.contains_key("idempotency-key");
        self.method == Method::GET || (is_keyed && !self.target.starts_with("/admin/"))
    }
}

impl Answered {
    /// The body as JSON; null when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// An answer that was given in this process.
    pub(crate) async fn here(response: Response) -> Result<Self, Problem> {
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await;
        Ok(Self {
            status: parts.status,
            headers: parts.headers,
            body: body.map_err(|error| Problem::internal(error.to_string()))?,
        })
    }
}

impl From<Answered> for Response {
    fn from(answered: Answered) -> Self {
        let mut response = Self::new(Body::from(answered.body));
        *response.status_mut() = answered.status;
        for name in PASSED_BACK {
            if let Some(value) = answered.headers.get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        response
    }
}

/// Why a process gave no answer.
enum Silence {
    /// It can't have heard of the request.
    Unreached(String),
    /// Nobody knows.
    Unknown(String),
}

impl Peers {
    /// The processes at these addresses.
    ///
    /// # Errors
    ///
    /// Class fatal when HTTP can't be spoken at all. Nobody is asked yet.
    pub fn new(addresses: BTreeMap<Role, Vec<Url>>) -> Result<Self, Error> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_MAX)
            .pool_idle_timeout(IDLE_MAX)
            .build();
        Ok(Self {
            addresses,
            http: http.map_err(|error| Error::fatal("can't speak HTTP").caused_by(error))?,
            turn: AtomicUsize::new(0),
            silent: Mutex::default(),
        })
    }

    fn of(&self, role: Role) -> &[Url] {
        self.addresses.get(&role).map_or(&[], Vec::as_slice)
    }

    /// The answer of a process that has the role.
    pub(crate) async fn ask(&self, role: Role, asked: &Asked) -> Result<Answered, Problem> {
        let addresses = self.of(role);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = (0..addresses.len()).map(|step| &addresses[(turn + step) % addresses.len()]);
        let mut in_turn: Vec<_> = in_turn.collect();
        in_turn.sort_by_key(|address| self.was_silent(address));
        let mut unreached = format!("no process is known to have role `{role}`");
        let mut left = addresses.len();
        for address in in_turn {
            left -= 1;
            let patience = if left > 0 && asked.may_repeat() {
                TRY_MAX
            } else {
                ANSWER_MAX
            };
            match self.send(address, asked, patience).await {
                Ok(answered) => return Ok(answered),
                Err(Silence::Unreached(why)) => unreached = why,
                Err(Silence::Unknown(why)) if asked.may_repeat() => unreached = why,
                Err(Silence::Unknown(why)) => {
                    return Err(Problem::new(
                        StatusCode::GATEWAY_TIMEOUT,
                        "outcome-unknown",
                        "Nobody knows whether it was done",
                        format!("{why}: look, or send it with an `Idempotency-Key` the next time"),
                    )
                    .public());
                }
            }
        }
        Err(silent(role, &unreached))
    }

    /// Whether it was silent lately.
    fn was_silent(&self, address: &Url) -> bool {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let since = silent.get(address);
        since.is_some_and(|since| since.elapsed() < SILENT_FOR)
    }

    fn note(&self, address: &Url, is_silent: bool) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if is_silent {
            silent.insert(address.clone(), Instant::now());
        } else {
            silent.remove(address);
        }
    }

    /// The answers of all processes that have the role.
    pub(crate) async fn ask_all(
        &self,
        role: Role,
        asked: &Asked,
    ) -> Result<Vec<Answered>, Problem> {
        let sent = self
            .of(role)
            .iter()
            .map(|address| self.send(address, asked, ANSWER_MAX));
        let answers = future::join_all(sent).await;
        let answers = answers.into_iter().map(|answer| match answer {
            Ok(answered) => Ok(answered),
            Err(Silence::Unreached(why) | Silence::Unknown(why)) => Err(silent(role, &why)),
        });
        answers.collect()
    }

    async fn send(
        &self,
        address: &Url,
        asked: &Asked,
        patience: Duration,
    ) -> Result<Answered, Silence> {
        let answer = self.exchange(address, asked, patience).await;
        self.note(address, answer.is_err());
        answer
    }

    async fn exchange(
        &self,
        address: &Url,
        asked: &Asked,
        patience: Duration,
    ) -> Result<Answered, Silence> {
        let url = address
            .join(&asked.target)
            .map_err(|error| Silence::Unreached(format!("`{}`: {error}", asked.target)))?;
        let request = self
            .http
            .request(asked.method.clone(), url)
            .timeout(patience)
            .headers(asked.headers.clone())
            .body(asked.body.clone());
        let silence = |error: reqwest::Error| {
            let why = format!("{address}: {}", in_words(&error));
            if error.is_connect() || error.is_builder() {
                Silence::Unreached(why)
            } else {
                Silence::Unknown(why)
            }
        };
        let response = request.send().await.map_err(silence)?;
        Ok(Answered {
            status: response.status(),
            headers: response.headers().clone(),
            body: response.bytes().await.map_err(silence)?,
        })
    }
}

/// That a role does not answer: which one may be known to whoever asks, where its processes are is for the log.
fn silent(role: Role, why: &str) -> Problem {
    tracing::warn!("role `{role}` does not answer: {why}");
    Problem::unavailable(format!("role `{role}` does not answer: try again"), 1).public()
}

/// An error with all that led to it.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        words = format!("{words}: {error}");
        source = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn one_that_was_silent_is_asked_after_the_others() {
        let (mut urls, mut listeners) = (Vec::<Url>::new(), Vec::new());
        for _ in 0..2 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            urls.push(format!("http://{address}").parse().unwrap());
            listeners.push(listener);
        }
        let (well, silent) = (listeners.pop().unwrap(), listeners.pop().unwrap());
        let here = axum::Router::new().route("/", axum::routing::get(async || "here"));
        let served = axum::serve(well, here);
        tokio::spawn(async move { served.await });
        let heard = Arc::new(AtomicUsize::new(0));
        let hears = heard.clone();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((connection, _)) = silent.accept().await {
                held.push(connection);
                hears.fetch_add(1, Ordering::Relaxed);
            }
        });
        let peers = Peers::new(BTreeMap::from([(Role::Stock, urls)])).unwrap();

        let asked = Asked::new(Method::GET, "/".into(), &HeaderMap::new(), Bytes::new());
        for _ in 0..6 {
            let answered = peers.ask(Role::Stock, &asked).await.unwrap();
            assert_eq!(answered.body, "here");
        }

        assert_eq!(heard.load(Ordering::Relaxed), 1, "it was waited for once");
    }
}
