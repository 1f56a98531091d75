//! The front: one process that speaks for all, where the services are processes of their own.
//!
//! It is the query service's. What that can't answer itself is passed on: commands to a process of the service that
//! decides, faults to those that meet them. What is one thing to operators although many processes have parts of it (the
//! admin API, the invariants) is asked for in parts and put together. It passes on who asks, decides nothing and
//! remembers nothing.

mod admin;
mod lists;
mod story;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    middleware::from_fn_with_state,
    response::{IntoResponse as _, Response},
};
use factum_admin::web::{Problem, Route, read_body};
use serde_json::{Value, json};

use super::{Shop, faults::FaultsBody, invariants::Whole};
use crate::{
    invariants::Facts,
    peers::{Answered, Asked, Peers},
    platform::{Depth, Role, Standing},
};

/// What speaks for all. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Front {
    peers: Arc<Peers>,
}

impl Front {
    /// The front of these processes.
    pub fn new(peers: Peers) -> Self {
        Self {
            peers: Arc::new(peers),
        }
    }

    /// A route as it is answered for all processes: by those that have `role`, or by all together.
    pub(super) fn instead(&self, route: Route<Shop>, role: Option<Role>) -> Route<Shop> {
        let Some(role) = role else {
            return match route.name() {
                "faults" => route.handled_by(faults),
                "set_faults" => route.handled_by(set_faults),
                _ => route.handled_by(invariants),
            };
        };
        let front = self.clone();
        let pass = move |request: Request| async move {
            let asked = asked(request).await?;
            Ok::<Response, Problem>(front.peers.ask(role, &asked).await?.into())
        };
        route
            .handled_by(pass)
            .refuses(504, "Nobody knows whether it was done.")
    }

    /// The admin API of this process, with those of the others.
    pub(super) fn before(&self, own: Router, shop: &Shop) -> Router {
        let whole = admin::Whole::of(self.clone(), shop.platform.clone());
        own.layer(from_fn_with_state(whole, admin::through))
    }

    /// Asks a process of the role for JSON.
    async fn json(&self, role: Role, asked: &Asked) -> Result<Value, Problem> {
        let answered = self.peers.ask(role, asked).await?;
        told(role, &answered)
    }
}

/// The JSON of an answer that has to be a good one.
fn told(role: Role, answered: &Answered) -> Result<Value, Problem> {
    let body = answered.json();
    if answered.status.is_success() {
        return Ok(body);
    }
    let detail = body["detail"].as_str().unwrap_or_default();
    let status = answered.status;
    Err(Problem::unavailable(
        format!("role `{role}` answers {status}: {detail}"),
        1,
    ))
}

/// What is passed on of a request.
async fn asked(request: Request) -> Result<Asked, Problem> {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query();
    let target = target.map_or_else(|| parts.uri.path().to_owned(), ToString::to_string);
    let body = read_body(&parts.headers, body).await?;
    Ok(Asked::new(parts.method, target, &parts.headers, body))
}

/// What is out of order, each switch as those have it that meet it.
pub(super) async fn faults(
    State(shop): State<Shop>,
    request: Request,
) -> Result<Response, Problem> {
    let asked = asked(request).await?;
    Ok(axum::Json(switches(&shop, &asked).await?).into_response())
}

async fn switches(shop: &Shop, asked: &Asked) -> Result<Value, Problem> {
    let front = shop.front()?;
    let mut shown = json!({});
    for (switch, role) in FaultsBody::SWITCHES {
        let seen = front.json(role, &asked.get("/faults")).await?;
        shown[switch] = seen[switch].clone();
    }
    Ok(shown)
}

/// Puts something out of order, at those that meet it: at all processes of a role, or at the firm that all of them speak
/// to.
pub(super) async fn set_faults(
    State(shop): State<Shop>,
    request: Request,
) -> Result<Response, Problem> {
    let front = shop.front()?;
    let asked = asked(request).await?;
    let body = asked.json();
    for (switch, role) in FaultsBody::SWITCHES {
        if body[switch].is_null() {
            continue;
        }
        let mut part = json!({ switch: body[switch] });
        if !body["reason"].is_null() {
            part["reason"] = body["reason"].clone();
        }
        let part = asked.post("/faults", &part);
        let answers = match role {
            Role::Order => front.peers.ask_all(role, &part).await?,
            _ => vec![front.peers.ask(role, &part).await?],
        };
        for answered in answers {
            if !answered.status.is_success() {
                return Ok(answered.into());
            }
        }
    }
    Ok(axum::Json(switches(&shop, &asked).await?).into_response())
}

/// The platform in all of its parts.
pub(super) struct AllParts<'a> {
    shop: &'a Shop,
    asked: &'a Asked,
}

impl<'a> AllParts<'a> {
    fn others(&self) -> impl Iterator<Item = Role> + use<'a> {
        let platform = &self.shop.platform;
        Role::EVERY.into_iter().filter(|role| !platform.has(*role))
    }
}

impl Whole for AllParts<'_> {
    async fn standings(&self, depth: Depth) -> Result<Vec<Standing>, Problem> {
        let front = self.shop.front()?;
        let mut standings = self.shop.platform.standings(depth).await?;
        let target = match depth {
            Depth::Heads => "/standings",
            Depth::Whole => "/standings?whole=true",
        };
        for role in self.others() {
            let seen = front.json(role, &self.asked.get(target)).await?;
            let seen: Vec<Standing> = serde_json::from_value(seen["standings"].clone())
                .map_err(|error| odd(role, &error))?;
            // A process may have several roles, and be asked for each.
            let its = seen.into_iter().filter(|one| one.service == role.name());
            let its: Vec<_> = its.collect();
            if its.is_empty() {
                return Err(Problem::unavailable(
                    format!("the process that `--peer {role}=` names has no service `{role}`"),
                    1,
                ));
            }
            standings.extend(its);
        }
        Ok(standings)
    }

    async fn facts(&self) -> Result<Facts, Problem> {
        let front = self.shop.front()?;
        let mut facts = self.shop.platform.facts().await?;
        for role in self.others().filter(|role| *role != Role::Query) {
            let answered = front.peers.ask(role, &self.asked.get("/facts")).await?;
            told(role, &answered)?;
            facts.add(serde_json::from_slice(&answered.body).map_err(|error| odd(role, &error))?);
        }
        Ok(facts)
    }
}

fn odd(role: Role, error: &serde_json::Error) -> Problem {
    Problem::internal(format!(
        "what a process of role `{role}` says of itself can't be read: {error}"
    ))
}

/// The invariants, over what all services have in their books.
pub(super) async fn invariants(
    State(shop): State<Shop>,
    request: Request,
) -> Result<Response, Problem> {
    let asked = asked(request).await?;
    let parts = AllParts {
        shop: &shop,
        asked: &asked,
    };
    let view = super::invariants::look(&parts).await?;
    Ok(axum::Json(view).into_response())
}
