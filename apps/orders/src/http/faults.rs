//! Faults on demand over HTTP: what is out of order in the pretended world outside.

use std::fmt::Display;

use axum::{Extension, Json, extract::State};
use factum::By;
use factum_admin::web::{self, Actor, FromBody, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shop;
use crate::{outside::Switches, platform::Role};

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
    /// The switches, each with the service that meets it.
    pub(super) const SWITCHES: [(&'static str, Role); 4] = [
        ("gateway_down", Role::Payment),
        ("notifier_down", Role::Notification),
        ("advice_hidden", Role::Order),
        ("flaky_tries", Role::Payment),
    ];

    /// What is changed, in words, and the service that meets it and keeps the record.
    fn changes(&self) -> Vec<(Role, &'static str, String)> {
        fn text(to: Option<impl Display>) -> Option<String> {
            to.map(|to| to.to_string())
        }
        let to = [
            text(self.gateway_down),
            text(self.notifier_down),
            text(self.advice_hidden),
            text(self.flaky_tries),
        ];
        let changes = Self::SWITCHES.into_iter().zip(to);
        let changes = changes.filter_map(|((name, role), to)| Some((role, name, to?)));
        changes.collect()
    }
}

pub(super) async fn show(State(shop): State<Shop>) -> Result<Json<FaultsView>, Problem> {
    view(&shop, Switches::default()).await
}

/// Sets the firms' switches, and shows how all are.
async fn view(shop: &Shop, to: Switches) -> Result<Json<FaultsView>, Problem> {
    let Switches {
        gateway_down,
        notifier_down,
        flaky_tries,
    } = shop.platform.outside().switch(to).await?;
    Ok(Json(FaultsView {
        gateway_down: gateway_down.unwrap_or_default(),
        notifier_down: notifier_down.unwrap_or_default(),
        advice_hidden: shop.platform.faults().advice_is_hidden(),
        flaky_tries: flaky_tries.unwrap_or_default(),
    }))
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
    for (role, name, _) in body.changes() {
        if !shop.platform.has(role) {
            let what = format!("is for a process of role `{role}`: this one would never meet it");
            return Err(Problem::invalid("the fault is not for this process").field(name, what));
        }
    }
    for (role, name, to) in body.changes() {
        let operator = shop.platform.service(role).operator();
        operator
            .record("set-fault", format!("{name}={to}"), &by)
            .await?;
    }
    if let Some(hidden) = body.advice_hidden {
        shop.platform.faults().set_advice_hidden(hidden);
    }
    let to = Switches {
        gateway_down: body.gateway_down,
        notifier_down: body.notifier_down,
        flaky_tries: body.flaky_tries,
    };
    view(&shop, to).await
}
