//! Commands over HTTP: who asks, what makes the request safe to send again, and the token in the answer.

use std::{convert::Infallible, time::Duration};

use axum::{
    Json,
    extract::FromRequestParts,
    http::{HeaderName, HeaderValue, StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use factum::{Aggregate, CommandError, CommandOptions, Idempotency, MessageId, Metadata, Token};
use factum_admin::web::{Actor, Problem};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{
    Shop,
    freshness::{TOKEN_HEADER, failed},
};
use crate::platform::Role;

/// The header of an idempotency key.
pub(super) const KEY_HEADER: &str = "Idempotency-Key";
/// How long the answer to an idempotency key is remembered.
const REMEMBER: Duration = Duration::from_hours(24);

/// What comes with a command besides its body.
#[derive(Debug)]
pub(super) struct Asked {
    /// One sender at one endpoint: what another sends, or is sent to another, is another request. The path comes first,
    /// since it has no space.
    scope: String,
    key: Option<String>,
    actor: Actor,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // The route has checked it.
        let key = parts.headers.get(KEY_HEADER);
        let key = key.and_then(|key| key.to_str().ok()).map(str::to_owned);
        let actor = parts.extensions.get::<Actor>();
        let actor = actor.cloned().unwrap_or_else(Actor::local);
        Ok(Self {
            scope: format!("{} {}", parts.uri.path(), actor.name()),
            key,
            actor,
        })
    }
}

impl Asked {
    /// The request as a whole, with its body and the story that it belongs to.
    pub(super) fn with(self, body: &impl Serialize, correlation_id: MessageId) -> Request {
        Request {
            asked: self,
            hash: hash(body),
            correlation_id,
        }
    }
}

/// A command's request, but for the command itself.
#[derive(Debug)]
pub(super) struct Request {
    asked: Asked,
    hash: u64,
    correlation_id: MessageId,
}

/// What a command came to: the answer, now or as it was given the first time.
#[derive(Debug)]
pub(super) struct Done<T> {
    pub(super) answer: T,
    token: Token,
    repeated: bool,
}

impl<T: Serialize> Done<T> {
    pub(super) fn answered(self, status: StatusCode) -> Response {
        let mut response = (status, Json(self.answer)).into_response();
        let headers = response.headers_mut();
        if let Ok(token) = HeaderValue::from_str(&self.token.to_string()) {
            headers.insert(HeaderName::from_static(TOKEN_HEADER), token);
        }
        if self.repeated {
            headers.insert("idempotency-replayed", HeaderValue::from_static("true"));
        }
        response
    }
}

/// A hash of what was asked: the same key with another request is refused.
fn hash(body: &impl Serialize) -> u64 {
    let text = serde_json::to_vec(body).unwrap_or_default();
    let digest: [u8; 32] = Sha256::digest(text).into();
    let (first, _) = digest
        .split_first_chunk::<8>()
        .expect("a digest has 32 bytes");
    u64::from_le_bytes(*first)
}

impl Shop {
    /// Whether a request was carried out before: then it is answered from memory, whatever else has changed.
    pub(super) async fn was_answered(&self, role: Role, asked: &Asked) -> Result<bool, Problem> {
        let Some(key) = &asked.key else {
            return Ok(false);
        };
        Ok(self
            .platform
            .service(role)
            .store()
            .answered(&asked.scope, key, self.env.now())
            .await?
            .is_some())
    }

    /// Gives a command to an aggregate. `answer` is what is answered, now and whenever the request comes again.
    pub(super) async fn execute<A: Aggregate, T: Serialize + DeserializeOwned>(
        &self,
        role: Role,
        id: &A::Id,
        command: A::Command,
        request: Request,
        answer: T,
    ) -> Result<Done<T>, Problem>
    where
        A::Error: Refusal,
    {
        let Request {
            asked: Asked { scope, key, actor },
            hash,
            correlation_id,
        } = request;
        let mut metadata = Metadata::new();
        metadata.insert(
            "actor".into(),
            factum::Json::of(actor.name()).map_err(|error| unwritten(&error))?,
        );
        let idempotency = match key {
            None => None,
            Some(key) => Some(Idempotency {
                scope,
                key,
                request: hash,
                answer: serde_json::to_vec(&answer)
                    .map_err(|error| unwritten(&error))?
                    .into(),
                remember: REMEMBER,
            }),
        };
        let options = CommandOptions {
            metadata,
            correlation_id: Some(correlation_id),
            causation_id: None,
            idempotency,
        };
        let commands = self.platform.commands(role);
        match commands.execute_with::<A>(id, command, options).await {
            Ok(executed) => {
                let repeated = executed.repeated.is_some();
                let answer = match &executed.repeated {
                    None => answer,
                    Some(first) => serde_json::from_slice(first).map_err(|error| {
                        Problem::internal(format!(
                            "the answer of the first time can't be read: {error}"
                        ))
                    })?,
                };
                Ok(Done {
                    answer,
                    token: executed.token,
                    repeated,
                })
            }
            Err(CommandError::Rejected(refusal)) => Err(refusal.problem()),
            Err(CommandError::KeyReused(key)) => Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "The idempotency key was used for another request",
                format!(
                    "`{key}` came with another request before: give each request a key of its own"
                ),
            )
            .field("Idempotency-Key", "was used for another request")),
            Err(CommandError::InvalidId(_)) => Err(Problem::invalid("nothing can have that id")
                .field("id", "must have 1 to 512 bytes, and no control characters")),
            Err(CommandError::Failed(error)) => Err(failed(error)),
        }
    }
}

fn unwritten(error: &serde_json::Error) -> Problem {
    Problem::internal(format!("the answer can't be written: {error}"))
}

/// A refusal of an aggregate, as a problem.
pub(super) trait Refusal {
    /// The problem that says so.
    fn problem(&self) -> Problem;
}
