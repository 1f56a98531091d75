//! Freshness: the token that a query carries, and what is answered when it can't show yet what the token stands for.

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, header, request::Parts},
};
use factum::{Error, QueryError, Stale, Token};
use factum_admin::web::Problem;

/// The header in which commands answer a consistency token, and queries take it.
pub const TOKEN_HEADER: &str = "factum-token";

/// The token that a query carries.
#[derive(Debug)]
pub(super) struct Carried(pub(super) Option<Token>);

impl<S: Send + Sync> FromRequestParts<S> for Carried {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(token) = parts.headers.get(TOKEN_HEADER) else {
            return Ok(Self(None));
        };
        let token = token.to_str().unwrap_or_default().parse::<Token>();
        token.map(|token| Self(Some(token))).map_err(|error| {
            Problem::invalid("the consistency token can't be read")
                .field("Factum-Token", error.to_string())
        })
    }
}

/// What failed in a service, as a problem. What it has stored and can't read is no mistake of whoever asked.
pub(super) fn failed(error: Error) -> Problem {
    if error.is_poison() {
        Problem::internal(format!("{error:#}"))
    } else {
        error.into()
    }
}

/// Why a query has no answer.
///
/// What comes by itself is a 503 with `Retry-After`: any client knows what to do. What was lost is gone, 410.
pub(super) fn unanswered(error: QueryError) -> Problem {
    let stale = match error {
        QueryError::Failed(error) => return failed(error),
        QueryError::Stale(stale) => stale,
    };
    let again = |code, title| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            code,
            title,
            stale.to_string(),
        )
        .header(header::RETRY_AFTER, 1.into())
    };
    match stale {
        Stale::Pending | Stale::Timeout => {
            again("not-yet", "The answer would not be fresh yet").public()
        }
        Stale::Rebuilding => again("rebuilding", "The rows are being built").public(),
        // What failed there is for the log.
        Stale::Failed(_) => again("held-back", "A person has to mend something first"),
        Stale::Lost => Problem::new(
            StatusCode::GONE,
            "lost",
            "What the command did was lost",
            stale.to_string(),
        ),
    }
}
