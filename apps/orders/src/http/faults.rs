//! Faults on demand over HTTP: what is out of order in the pretended world outside.

use std::fmt::Display;

use axum::{Extension, Json, extract::State};
use factum::By;
use factum_admin::web::{self, Actor, FromBody, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shop;
use crate::platform::Role;

/// The most tries that a flaky card may fail: beyond it, it is a declined one.
const FLAKY_TRIES_MAX: u32 = 100;

/// What is out of order.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct FaultsView {
    /// The card gateway answers nothing.
    gateway_down: bool,
    /// The notifier answers nothing.
    notifier_down: bool,
    /// Missing stock is hidden from the advice given to new orders, so that the late rejection is seen.
    advice_hidden: bool,
    /// How often a flaky card fails before it works.
    flaky_tries: u32,
}

/// What to change; the rest stays as it is.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FaultsBody {
    gateway_down: Option<bool>,
    notifier_down: Option<bool>,
    advice_hidden: Option<bool>,
    #[schemars(range(max = FLAKY_TRIES_MAX))]
    flaky_tries: Option<u32>,
    /// Why, for the audit record.
    #[schemars(length(max = web::REASON_CHARS_MAX))]
    reason: Option<String>,
}

impl FaultsBody {
    /// What is changed, in words, and the service that meets it and keeps the record.
    fn changes(&self) -> Vec<(Role, String)> {
        fn change(role: Role, name: &str, to: Option<impl Display>) -> Option<(Role, String)> {
            to.map(|to| (role, format!("{name}={to}")))
        }
        let changes = [
            change(Role::Payment, "gateway_down", self.gateway_down),
            change(Role::Notification, "notifier_down", self.notifier_down),
            change(Role::Order, "advice_hidden", self.advice_hidden),
            change(Role::Payment, "flaky_tries", self.flaky_tries),
        ];
        changes.into_iter().flatten().collect()
    }
}

pub(super) async fn show(State(shop): State<Shop>) -> Json<FaultsView> {
    let faults = shop.platform.faults();
    Json(FaultsView {
        gateway_down: faults.gateway_is_down(),
        notifier_down: faults.notifier_is_down(),
        advice_hidden: faults.advice_is_hidden(),
        flaky_tries: faults.flaky_tries(),
    })
}

pub(super) async fn set(
    State(shop): State<Shop>,
    who: Option<Extension<Actor>>,
    FromBody(body): FromBody<FaultsBody>,
) -> Result<Json<FaultsView>, Problem> {
    let who = who.map_or_else(Actor::local, |Extension(who)| who);
    let by = By::new(
        who.name(),
        web::reason(body.reason.clone())?.unwrap_or_default(),
    );
    for (role, change) in body.changes() {
        let operator = shop.platform.service(role).operator();
        operator.record("set-fault", change, &by).await?;
    }
    let faults = shop.platform.faults();
    body.gateway_down
        .into_iter()
        .for_each(|down| faults.set_gateway_down(down));
    body.notifier_down
        .into_iter()
        .for_each(|down| faults.set_notifier_down(down));
    body.advice_hidden
        .into_iter()
        .for_each(|hidden| faults.set_advice_hidden(hidden));
    body.flaky_tries
        .into_iter()
        .for_each(|tries| faults.set_flaky_tries(tries));
    Ok(show(State(shop)).await)
}
