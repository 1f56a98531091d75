//! The invariants over HTTP: what is broken, and whether the platform is quiet, so that it counts.

use axum::{Json, extract::State};
use factum::{Error, Position};
use factum_admin::web::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shop;
use crate::{
    invariants,
    platform::{Platform, Quiet},
};

/// What no run may break, and whether this one did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InvariantsView {
    /// Whether nothing was on its way while the facts were read: only then what was found counts.
    pub quiet: bool,
    /// What is still on its way, or stuck; in words.
    pub standing: String,
    /// What is broken; looked for only when all is quiet. Empty is good.
    pub broken: Vec<String>,
    /// How many orders were looked at.
    pub orders: u64,
}

pub(super) async fn show(State(shop): State<Shop>) -> Result<Json<InvariantsView>, Problem> {
    let before = heads(&shop.platform).await?;
    let standing = shop.platform.quiet().await?;
    let mut view = InvariantsView {
        quiet: false,
        standing: standing.to_string(),
        broken: Vec::new(),
        orders: 0,
    };
    if standing != Quiet::Quiet {
        return Ok(Json(view));
    }
    let facts = shop.platform.facts().await?;
    // Facts are read one log after another: if one has grown meanwhile, they may be of different times.
    if heads(&shop.platform).await? != before {
        view.standing = "logs are growing".into();
        return Ok(Json(view));
    }
    view.quiet = true;
    view.broken = invariants::check(&facts)
        .iter()
        .map(ToString::to_string)
        .collect();
    view.orders = facts.orders.len() as u64;
    Ok(Json(view))
}

/// How far each log has come.
async fn heads(platform: &Platform) -> Result<Vec<Position>, Error> {
    let mut heads = Vec::new();
    for service in platform.running().services() {
        heads.push(service.store().head().await?.position);
    }
    Ok(heads)
}
