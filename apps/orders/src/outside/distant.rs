//! The firms outside as another process has them: reached over HTTP, as real ones are.

use std::{fmt::Display, time::Duration};

use reqwest::Url;
use serde::{Serialize, de::DeserializeOwned};

/// How long a firm may take to answer. Who has waited that long asks again with the same key.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The way to the firms. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Distant {
    base: Url,
    http: reqwest::Client,
    secret: Option<String>,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(super) enum Unanswered<E> {
    /// The firm has refused, for this reason.
    Refused(E),
    /// Nobody knows what became of it: ask again.
    Unknown(String),
}

impl Distant {
    /// The firms at `base`, with the secret of a token if they want one.
    pub(super) fn at(base: Url, secret: Option<String>) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(ANSWER_MAX)
            .no_proxy()
            .build()?;
        Ok(Self { base, http, secret })
    }

    /// Asks a firm for something that may be asked for again.
    pub(super) async fn ask<A: DeserializeOwned, E: DeserializeOwned>(
        &self,
        path: &str,
        asked: &impl Serialize,
    ) -> Result<A, Unanswered<E>> {
        let unknown = |error: &dyn Display| Unanswered::Unknown(error.to_string());
        let url = self.base.join(path).map_err(|error| unknown(&error))?;
        let mut request = self.http.post(url).json(asked);
        if let Some(secret) = &self.secret {
            request = request.bearer_auth(secret);
        }
        let response = request.send().await.map_err(|error| unknown(&error))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| unknown(&error))?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| unknown(&error));
        }
        match serde_json::from_slice(&body) {
            Ok(refused) => Err(Unanswered::Refused(refused)),
            Err(_) => Err(Unanswered::Unknown(format!("it answers {status}"))),
        }
    }
}
