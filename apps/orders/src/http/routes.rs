//! The routes of the platform's own API, in one table: who has each, what it takes and what it answers.

use axum::{http::header, response::IntoResponse};
use factum_admin::web::Route;

use super::{
    Shop,
    command::KEY_HEADER,
    faults,
    freshness::TOKEN_HEADER,
    invariants, orders, stock,
    texts::{Key, SkuText, TokenText},
    users,
};
use crate::platform::Role;

/// [`TOKEN_HEADER`], as people write it.
const TOKEN_NAME: &str = "Factum-Token";
const TOKEN: &str =
    "What a command answered: the query waits until it shows what that command did.";
const KEY: &str = "Makes the request safe to send again: the same key gets the same answer.";
const SKU: &str = "The thing's stock-keeping unit.";
const NO_ORDER: &str = "There is no such order.";
const WRONG_STATUS: &str = "Where the order stands, this can't be done.";
const CHANGED: &str = "It has changed meanwhile: another one has written.";

/// Who has a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Every process.
    Everybodys,
    /// Who has the service that decides.
    Does(Role),
    /// Who has the service itself, or the one that answers queries.
    Shows(Role),
    /// Every process for its own services; who speaks for all, for all.
    Shared,
    /// Who has all services, or speaks for all.
    Whole,
    /// Every process of a platform that is several.
    Parts,
}

async fn index() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
        include_str!("index.txt"),
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

/// All routes.
pub(super) fn all() -> Vec<(Whose, Route<Shop>)> {
    vec![
        (
            Whose::Everybodys,
            Route::get("/", "index", "What is where", index).answers_text(
                200,
                "text/plain; charset=utf-8",
                "A page to read.",
            ),
        ),
        (
            Whose::Does(Role::Users),
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
        ),
        (
            Whose::Shows(Role::Users),
            query(
                Route::get("/users/{id}", "user", "A user", users::one)
                    .path("id", "The user's id.")
                    .answers::<users::UserView>(200, "The user."),
            )
            .refuses(404, "There is no such user."),
        ),
        (
            Whose::Shows(Role::Order),
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
        ),
        (
            Whose::Does(Role::Order),
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
        ),
        (
            Whose::Shows(Role::Order),
            query(
                Route::get(
                    "/orders/search",
                    "search_orders",
                    "Orders that have words, newest first, 20 a page",
                    orders::search,
                )
                .query::<orders::SearchAsked>()
                .answers::<orders::SearchPage>(200, "The page."),
            )
            .refuses(
                501,
                "The rows of orders are in an engine without full text.",
            ),
        ),
        (
            Whose::Shows(Role::Order),
            query(
                Route::get("/orders/{id}", "order", "An order", orders::one)
                    .path("id", "The order's id.")
                    .answers::<orders::OrderView>(200, "The order."),
            )
            .refuses(404, NO_ORDER),
        ),
        (
            Whose::Does(Role::Order),
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
        ),
        (
            Whose::Does(Role::Order),
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
        ),
        (
            Whose::Does(Role::Order),
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
        ),
        (
            Whose::Does(Role::Order),
            command(
                Route::post(
                    "/orders/{id}/cancel",
                    "cancel_order",
                    "Cancel an order that is not shipped",
                    orders::cancel,
                )
                .path("id", "The order's id.")
                .body_or_none::<orders::CancelBody>()
                .answers::<orders::AcceptedView>(
                    202,
                    "It is cancelled. What was paid is given back.",
                ),
            )
            .refuses(404, NO_ORDER)
            .refuses(409, WRONG_STATUS),
        ),
        (
            Whose::Shows(Role::Stock),
            query(
                Route::get("/stock/{sku}", "shelf", "What is on a shelf", stock::one)
                    .path_as::<SkuText>("sku", SKU)
                    .answers::<stock::ShelfView>(200, "The shelf."),
            )
            .refuses(404, "Nothing was ever put on such a shelf."),
        ),
        (
            Whose::Does(Role::Stock),
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
        ),
        (
            Whose::Shared,
            Route::get(
                "/faults",
                "faults",
                "What is out of order, on demand",
                faults::show,
            )
            .answers::<faults::FaultsView>(200, "The switches.")
            .can_be_unavailable(),
        ),
        (
            Whose::Shared,
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
        ),
        (
            Whose::Whole,
            Route::get(
                "/invariants",
                "invariants",
                "Whether anything is broken that no run may break",
                invariants::show,
            )
            .answers::<invariants::InvariantsView>(
                200,
                "What was found. Only what is found when all is quiet counts.",
            )
            .can_be_unavailable(),
        ),
        (
            Whose::Parts,
            Route::get(
                "/standings",
                "standings",
                "How far the services of this process have come, and what is on its way in them",
                invariants::standings,
            )
            .query::<invariants::StandingsAsked>()
            .answers::<invariants::StandingsView>(200, "The standings.")
            .can_be_unavailable(),
        ),
        (
            Whose::Parts,
            Route::get(
                "/facts",
                "facts",
                "What happened, as the services of this process have it in their books",
                invariants::facts,
            )
            .answers_text(200, "application/json", "The facts.")
            .can_be_unavailable(),
        ),
    ]
}
