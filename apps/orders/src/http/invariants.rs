//! The invariants over HTTP: what is broken, and whether the platform is quiet, so that it counts.

use axum::{Json, extract::State};
use factum_admin::web::{FromQuery, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shop;
use crate::{
    invariants::{self, Facts},
    platform::{Depth, Platform, Quiet, Standing, heads, quiet},
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

/// The platform as a whole, wherever its parts are.
pub(super) trait Whole: Sync {
    /// How all services stand.
    fn standings(
        &self,
        depth: Depth,
    ) -> impl Future<Output = Result<Vec<Standing>, Problem>> + Send;

    /// What happened in all of them.
    fn facts(&self) -> impl Future<Output = Result<Facts, Problem>> + Send;
}

impl Whole for Platform {
    async fn standings(&self, depth: Depth) -> Result<Vec<Standing>, Problem> {
        Ok(Self::standings(self, depth).await?)
    }

    async fn facts(&self) -> Result<Facts, Problem> {
        Ok(Self::facts(self).await?)
    }
}

/// Looks at the whole.
pub(super) async fn look(whole: &impl Whole) -> Result<InvariantsView, Problem> {
    let before = heads(&whole.standings(Depth::Heads).await?);
    let standing = quiet(|depth| whole.standings(depth)).await?;
    let mut view = InvariantsView {
        quiet: false,
        standing: standing.to_string(),
        broken: Vec::new(),
        orders: 0,
    };
    if standing != Quiet::Quiet {
        return Ok(view);
    }
    let facts = whole.facts().await?;
    // Facts are read one log after another: if one has grown meanwhile, they may be of different times.
    if heads(&whole.standings(Depth::Heads).await?) != before {
        view.standing = "logs are growing".into();
        return Ok(view);
    }
    view.quiet = true;
    view.broken = invariants::check(&facts)
        .iter()
        .map(ToString::to_string)
        .collect();
    view.orders = facts.orders.len() as u64;
    Ok(view)
}

pub(super) async fn show(State(shop): State<Shop>) -> Result<Json<InvariantsView>, Problem> {
    Ok(Json(look(&*shop.platform).await?))
}

/// How deep is looked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StandingsAsked {
    /// Whether to look at what is on its way, too.
    whole: Option<bool>,
}

/// How the services of this process stand.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct StandingsView {
    standings: Vec<Standing>,
}

pub(super) async fn standings(
    State(shop): State<Shop>,
    FromQuery(asked): FromQuery<StandingsAsked>,
) -> Result<Json<StandingsView>, Problem> {
    let depth = if asked.whole == Some(true) {
        Depth::Whole
    } else {
        Depth::Heads
    };
    let standings = shop.platform.standings(depth).await?;
    Ok(Json(StandingsView { standings }))
}

pub(super) async fn facts(State(shop): State<Shop>) -> Result<Json<Facts>, Problem> {
    Ok(Json(shop.platform.own_facts().await?))
}
