//! The firms as a server, for platforms whose services are several processes: all of them must meet the same books.
//!
//! `POST /charges`, `/refunds` and `/notices` do what their names say, `/faults` takes and tells what is out of order, and
//! `/books` tells what stands in the books. Each may be asked again: a key makes it the same request.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use factum_admin::web::{FromBody, FromBodyOrDefault, Problem};
use serde::{Deserialize, Serialize};

use super::{Charge, GatewayError, Notice, Outside, Refund, Switches};

/// Nothing is asked.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Nothing {}

/// The firms' HTTP interface. Guard it.
pub fn router(outside: Outside) -> Router {
    Router::new()
        .route("/health", get(|| async { Json(Nothing {}) }))
        .route("/charges", post(charge))
        .route("/refunds", post(refund))
        .route("/notices", post(tell))
        .route("/faults", post(switch))
        .route("/books", post(books))
        .with_state(outside)
}

async fn charge(State(outside): State<Outside>, FromBody(charge): FromBody<Charge>) -> Response {
    answer(outside.gateway.charge(charge).await)
}

async fn refund(State(outside): State<Outside>, FromBody(refund): FromBody<Refund>) -> Response {
    answer(outside.gateway.refund(refund).await)
}

fn answer<T: Serialize>(done: Result<T, GatewayError>) -> Response {
    match done {
        Ok(done) => Json(done).into_response(),
        Err(error) if error.is_transient() => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(error)).into_response()
        }
        Err(error) => (StatusCode::CONFLICT, Json(error)).into_response(),
    }
}

async fn tell(State(outside): State<Outside>, FromBody(notice): FromBody<Notice>) -> Response {
    match outside.notifier.tell(&notice).await {
        Ok(()) => Json(()).into_response(),
        Err(down) => (StatusCode::SERVICE_UNAVAILABLE, Json(down)).into_response(),
    }
}

async fn switch(
    State(outside): State<Outside>,
    FromBodyOrDefault(switches): FromBodyOrDefault<Switches>,
) -> Result<Response, Problem> {
    Ok(Json(outside.switch(switches).await?).into_response())
}

async fn books(State(outside): State<Outside>) -> Result<Response, Problem> {
    Ok(Json(outside.books().await?).into_response())
}
