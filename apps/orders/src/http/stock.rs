//! Stock over HTTP.

use axum::{Json, extract::State, http::StatusCode, response::Response};
use factum_admin::web::{FromBody, FromPath, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Shop,
    command::{Asked, Refusal},
    freshness::{Carried, unanswered},
};
use crate::{
    contracts::Sku,
    platform::Role,
    stock::{RECEIVED_MAX, SHELVES, Shelf, ShelfCommand, ShelfError},
};

/// Things that came in.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReceiveBody {
    /// How many.
    #[schemars(range(min = 1, max = RECEIVED_MAX))]
    qty: u64,
}

/// Things that were put on their shelf.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct ReceivedView {
    sku: String,
    received: u64,
    correlation_id: String,
}

/// A shelf.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ShelfView {
    sku: String,
    /// How many are in the house.
    on_hand: u64,
    /// How many of them are put aside for orders.
    reserved: u64,
    /// How many are not put aside.
    available: u64,
}

impl Refusal for ShelfError {
    fn problem(&self) -> Problem {
        match self {
            Self::Short { .. } => Problem::conflict(self.to_string()),
            Self::Invalid { field, problem } => {
                Problem::invalid("this can't be put on a shelf").field(*field, problem)
            }
        }
    }
}

pub(super) async fn receive(
    State(shop): State<Shop>,
    FromPath(sku): FromPath<String>,
    asked: Asked,
    FromBody(body): FromBody<ReceiveBody>,
) -> Result<Response, Problem> {
    let sku = Sku::try_from(sku).map_err(|error| {
        Problem::invalid("nothing is called that").field("sku", error.to_string())
    })?;
    let correlation_id = shop.env.message_id();
    let answer = ReceivedView {
        sku: sku.to_string(),
        received: body.qty,
        correlation_id: correlation_id.to_string(),
    };
    let command = ShelfCommand::Receive {
        sku: sku.clone(),
        qty: body.qty,
    };
    let done = shop
        .execute::<Shelf, _>(
            Role::Stock,
            &sku,
            command,
            asked.with(&body, correlation_id),
            answer,
        )
        .await?;
    Ok(done.answered(StatusCode::ACCEPTED))
}

pub(super) async fn one(
    State(shop): State<Shop>,
    FromPath(sku): FromPath<String>,
    Carried(token): Carried,
) -> Result<Json<ShelfView>, Problem> {
    let found = shop
        .queries(Role::Stock)
        .get(SHELVES, &sku, token.as_ref())
        .await
        .map_err(unanswered)?;
    let row = found.value.ok_or_else(|| {
        Problem::not_found(format!(
            "there is no shelf of `{}`",
            sku.chars().take(100).collect::<String>()
        ))
    })?;
    Ok(Json(ShelfView {
        sku: row.sku.to_string(),
        on_hand: row.on_hand,
        reserved: row.reserved,
        available: row.available,
    }))
}
