//! The HTTP API of the platform: commands and queries for users, and what shows and plays with its faults.
//!
//! It knows all services, as a client of each: it gives commands to their aggregates and reads their views, and
//! decides nothing itself. What it takes and answers are types of its own. The admin API stands beside it, behind
//! the same guard.

mod command;
mod faults;
mod freshness;
mod invariants;
mod orders;
mod stock;
mod texts;
mod users;

use std::sync::Arc;

use axum::{Router, http::header, response::IntoResponse};
use factum::Env;
use factum_admin::{
    Admin,
    web::{Api, Route},
};

use crate::platform::Platform;

use command::KEY_HEADER;
pub use freshness::TOKEN_HEADER;
pub use invariants::InvariantsView;
use texts::{Key, SkuText, TokenText};

/// [`TOKEN_HEADER`], as people write it.
const TOKEN_NAME: &str = "Factum-Token";
const TOKEN: &str =
    "What a command answered: the query waits until it shows what that command did.";
const KEY: &str = "Makes the request safe to send again: the same key gets the same answer.";
const SKU: &str = "The thing's stock-keeping unit.";
const NO_ORDER: &str = "There is no such order.";
const WRONG_STATUS: &str = "Where the order stands, this can't be done.";
const CHANGED: &str = "It has changed meanwhile: another one has written.";

/// What the handlers stand on. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Shop {
    platform: Arc<Platform>,
    env: Env,
}

/// The whole HTTP interface of a platform: its own API, described at `/openapi.json`, and the admin API. Guard it.
pub fn router(platform: Arc<Platform>, env: Env) -> Router {
    let mut admin = Admin::new(platform.running().clone(), env.clone());
    if platform.is_on_disk() {
        let platform = platform.clone();
        admin = admin.with_backups(move |service| {
            let platform = platform.clone();
            async move { platform.backup(&service).await }
        });
    }
    api()
        .router("/openapi.json")
        .with_state(Shop { platform, env })
        .merge(admin.router())
}

async fn index() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
        include_str!("http/index.txt"),
    )
}

/// What a command takes and answers besides its body: its request may come again.
fn command(route: Route<Shop>) -> Route<Shop> {
    route
        .header::<Key>(KEY_HEADER, KEY)
        .with_header(
            TOKEN_HEADER,
            "Stands for what the command did: give it to queries.",
        )
        .may_have_header(
            "Idempotency-Replayed",
            "`true`: the same request came before, and this was its answer.",
        )
        .can_be_unavailable()
}

/// What a query takes and answers besides its parameters: it may have to show what a command did.
fn query(route: Route<Shop>) -> Route<Shop> {
    route
        .header::<TokenText>(TOKEN_NAME, TOKEN)
        .refuses(
            410,
            "What the token stands for was lost when a store was restored.",
        )
        .can_be_unavailable()
}

/// All routes of the platform's own API.
fn api() -> Api<Shop> {
    let routes = vec![
        Route::get("/", "index", "What is where", index).answers_text(
            200,
            "text/plain; charset=utf-8",
            "A page to read.",
        ),
        command(
            Route::post(
                "/users",
                "register_user",
                "Register a user",
                users::register,
            )
            .body::<users::RegisterBody>()
            .answers::<users::RegisteredView>(201, "The user is registered.")
            .with_header("Location", "Where the user is."),
        )
        .refuses(409, CHANGED),
        query(
            Route::get("/users/{id}", "user", "A user", users::one)
                .path("id", "The user's id.")
                .answers::<users::UserView>(200, "The user."),
        )
        .refuses(404, "There is no such user."),
        query(
            Route::get(
                "/users/{id}/orders",
                "orders_of_user",
                "A user's orders, newest first, 20 a page",
                orders::of_user,
            )
            .path("id", "The user's id.")
            .query::<orders::PageAsked>()
            .answers::<orders::OrderPage>(200, "The page."),
        ),
        command(
            Route::post("/orders", "place_order", "Place an order", orders::place)
                .body::<orders::PlaceBody>()
                .answers::<orders::PlacedView>(
                    201,
                    "The order is taken. Payment and stock have their say after that.",
                )
                .with_header("Location", "Where the order is."),
        )
        .refuses(
            409,
            "There is plainly not enough in stock: `errors` names the lines.",
        ),
        query(
            Route::get("/orders/{id}", "order", "An order", orders::one)
                .path("id", "The order's id.")
                .answers::<orders::OrderView>(200, "The order."),
        )
        .refuses(404, NO_ORDER),
        Route::get(
            "/orders/{id}/history",
            "order_history",
            "All that happened to an order, and its state at any version",
            orders::history,
        )
        .path("id", "The order's id.")
        .query::<orders::HistoryAsked>()
        .answers::<orders::HistoryView>(
            200,
            "The events up to that version, and the state that they lead to.",
        )
        .refuses(404, NO_ORDER)
        .can_be_unavailable(),
        command(
            Route::post(
                "/orders/{id}/pay",
                "pay_order",
                "Pay an order that was placed with `\"payment\": \"manual\"`",
                orders::pay,
            )
            .path("id", "The order's id.")
            .body_or_none::<orders::PayBody>()
            .answers::<orders::AcceptedView>(202, "The card will be charged."),
        )
        .refuses(404, NO_ORDER)
        .refuses(409, WRONG_STATUS),
        command(
            Route::post(
                "/orders/{id}/ship",
                "ship_order",
                "Ship a confirmed order",
                orders::ship,
            )
            .path("id", "The order's id.")
            .body::<orders::ShipBody>()
            .answers::<orders::AcceptedView>(202, "It is shipped."),
        )
        .refuses(404, NO_ORDER)
        .refuses(409, WRONG_STATUS),
        command(
            Route::post(
                "/orders/{id}/cancel",
                "cancel_order",
                "Cancel an order that is not shipped",
                orders::cancel,
            )
            .path("id", "The order's id.")
            .body_or_none::<orders::CancelBody>()
            .answers::<orders::AcceptedView>(202, "It is cancelled. What was paid is given back."),
        )
        .refuses(404, NO_ORDER)
        .refuses(409, WRONG_STATUS),
        query(
            Route::get("/stock/{sku}", "shelf", "What is on a shelf", stock::one)
                .path_as::<SkuText>("sku", SKU)
                .answers::<stock::ShelfView>(200, "The shelf."),
        )
        .refuses(404, "Nothing was ever put on such a shelf."),
        command(
            Route::post(
                "/stock/{sku}/receive",
                "receive_stock",
                "Put things that came in on their shelf",
                stock::receive,
            )
            .path_as::<SkuText>("sku", SKU)
            .body::<stock::ReceiveBody>()
            .answers::<stock::ReceivedView>(202, "They are there."),
        )
        .refuses(409, CHANGED),
        Route::get(
            "/faults",
            "faults",
            "What is out of order, on demand",
            faults::show,
        )
        .answers::<faults::FaultsView>(200, "The switches."),
        Route::post(
            "/faults",
            "set_faults",
            "Put something out of order, or in order again",
            faults::set,
        )
        .body::<faults::FaultsBody>()
        .answers::<faults::FaultsView>(200, "The switches.")
        .refuses(409, CHANGED)
        .can_be_unavailable(),
        Route::get(
            "/invariants",
            "invariants",
            "Whether anything is broken that no run may break",
            invariants::show,
        )
        .answers::<InvariantsView>(
            200,
            "What was found. Only what is found when all is quiet counts.",
        )
        .can_be_unavailable(),
    ];
    let text = "Users, orders and stock. Commands answer a `Factum-Token`; queries that get it show what the command did.";
    Api::new("Order platform", env!("CARGO_PKG_VERSION"), text, routes)
}
