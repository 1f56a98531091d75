//! The HTTP API of the platform: commands and queries for users, and what shows and plays with its faults.
//!
//! It knows all services, as a client of each: it gives commands to their aggregates and reads their views, and
//! decides nothing itself. What it takes and answers are types of its own. The admin API stands beside it, behind
//! the same guard.
//!
//! A process that has some of the services only has the routes of these. The one that speaks for all ([`Front`]) has all
//! routes, and passes on what others have to answer.

mod command;
mod faults;
mod freshness;
mod front;
mod invariants;
mod orders;
mod routes;
mod stock;
mod texts;
mod users;

use std::sync::Arc;

use axum::Router;
use factum::{Env, Queries};
use factum_admin::{
    Admin,
    web::{Api, Problem},
};

use crate::platform::{Platform, Role};

pub use freshness::TOKEN_HEADER;
pub use front::Front;
pub use invariants::InvariantsView;
use routes::Whose;

/// What the handlers stand on. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Shop {
    platform: Arc<Platform>,
    env: Env,
    /// What speaks for the other processes, where this one does.
    front: Option<Front>,
}

impl Shop {
    fn front(&self) -> Result<&Front, Problem> {
        let none = || Problem::internal("nobody is known who could answer this");
        self.front.as_ref().ok_or_else(none)
    }

    /// Who answers queries about what `role` decides: the query service where there is one, else the service itself.
    fn queries(&self, role: Role) -> Queries {
        let asked = if self.platform.has(Role::Query) {
            Role::Query
        } else {
            role
        };
        self.platform.queries(asked)
    }
}

/// The whole HTTP interface of a platform: its own API, described at `/openapi.json`, and the admin API. Guard it.
pub fn router(platform: Arc<Platform>, env: Env) -> Router {
    assembled(Shop {
        platform,
        env,
        front: None,
    })
}

/// The same for a process that speaks for others.
pub fn router_of_all(platform: Arc<Platform>, env: Env, front: Front) -> Router {
    assembled(Shop {
        platform,
        env,
        front: Some(front),
    })
}

fn assembled(shop: Shop) -> Router {
    let (platform, env) = (shop.platform.clone(), shop.env.clone());
    let mut admin = Admin::new(platform.running().clone(), env.clone());
    if platform.is_on_disk() {
        let platform = platform.clone();
        admin = admin.with_backups(move |service| {
            let platform = platform.clone();
            async move { platform.backup(&service).await }
        });
    }
    let admin = match &shop.front {
        None => admin.router(),
        Some(front) => front.before(admin.router(), &shop),
    };
    api(&shop)
        .router("/openapi.json")
        .with_state(shop)
        .merge(admin)
}

/// The API as this process has it.
fn api(shop: &Shop) -> Api<Shop> {
    let platform = &shop.platform;
    let fronts = shop.front.is_some();
    let mut routes = Vec::new();
    for (whose, route) in routes::all() {
        let (is_here, asked) = match whose {
            Whose::Everybodys => (true, None),
            Whose::Does(role) => (platform.has(role), Some(role)),
            Whose::Shows(role) => (platform.has(role) || platform.has(Role::Query), Some(role)),
            Whose::Shared => (!fronts, None),
            Whose::Whole => (!fronts && !platform.is_part(), None),
            Whose::Parts => (platform.is_part(), None),
        };
        if is_here {
            routes.push(route);
        } else if let Some(front) = &shop.front {
            routes.push(front.instead(route, asked));
        }
    }
    let text = "Users, orders and stock. Commands answer a `Factum-Token`; queries that get it show what the command did.";
    Api::new("Order platform", env!("CARGO_PKG_VERSION"), text, routes)
}
