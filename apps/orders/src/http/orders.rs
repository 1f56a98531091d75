//! Orders over HTTP: placing, paying, shipping and cancelling them.

mod search;
mod show;
pub(super) use search::{SearchAsked, SearchPage, search};
pub(super) use show::{
    HistoryAsked, HistoryView, OrderPage, OrderView, PageAsked, history, of_user, one,
};

use std::{collections::BTreeMap, time::Duration};

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::Response,
};
use factum::QueryError;
use factum_admin::web::{FieldError, FromBody, FromBodyOrDefault, FromPath, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{
    Shop,
    command::{Asked, Refusal},
    texts::{Card, CurrencyText, SkuText, Words},
    users::must_be_registered,
};
use crate::{
    contracts::{Currency, Item, OrderId, PaymentMode, SKU_CHARS_MAX, Sku, UserId, quantities},
    order::{
        ITEMS_MAX, LEVELS, Order, OrderCommand, OrderError, PlaceOrder, Status, TOTAL_MAX, short,
    },
    platform::Role,
};

/// An order to place.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlaceBody {
    /// Who orders.
    user_id: Words,
    /// What is ordered.
    #[schemars(length(min = 1, max = ITEMS_MAX))]
    items: Vec<ItemBody>,
    /// The currency of the prices; by default `KRW`.
    #[serde(default)]
    currency: Option<CurrencyText>,
    /// When it is paid: `auto` (at once; the default) or `manual` (by `POST /orders/{id}/pay`).
    #[serde(default)]
    payment: PaymentBody,
    /// The card to charge. `card:declined` and `card:flaky` do what they say.
    #[serde(default)]
    card: Option<Card>,
}

/// A line of an order. It needs a `sku` or a `name`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = [{ "required": ["sku"] }, { "required": ["name"] }]))]
pub(super) struct ItemBody {
    /// What is ordered; by default it goes by its name.
    #[serde(default)]
    #[schemars(with = "SkuText")]
    sku: Option<SkuText>,
    /// What it is called; by default by its SKU.
    #[serde(default)]
    #[schemars(with = "Words")]
    name: Option<Words>,
    /// How many.
    #[schemars(range(min = 1))]
    qty: u32,
    /// The price of one, in minor units.
    #[schemars(range(max = TOTAL_MAX))]
    price: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum PaymentBody {
    #[default]
    Auto,
    Manual,
}

/// A payment.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PayBody {
    /// The card to charge, if not the one that the order names.
    card: Option<Card>,
}

/// A shipment.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ShipBody {
    /// The carrier's number.
    tracking: Words,
}

/// A cancellation.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CancelBody {
    /// Why.
    reason: Option<Words>,
}

/// An order that was taken.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct PlacedView {
    order_id: String,
    status: Status,
    /// What it costs, in minor units.
    total_amount: u64,
    currency: String,
    /// What all that follows from it shares: see `/admin/stories/{correlation_id}`.
    correlation_id: String,
}

/// A command that was carried out; what follows from it happens in its own time.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct AcceptedView {
    order_id: String,
    /// What was done.
    done: String,
    /// What all that follows from it shares: see `/admin/stories/{correlation_id}`.
    correlation_id: String,
}

impl Refusal for OrderError {
    fn problem(&self) -> Problem {
        let wrong = |code, title| Problem::new(StatusCode::CONFLICT, code, title, self.to_string());
        match self {
            Self::Unknown => Problem::not_found(self.to_string()),
            Self::Invalid { field, problem } => {
                Problem::invalid("the order can't be like that").field(field, problem)
            }
            Self::Exists(_) => Problem::conflict(self.to_string()),
            Self::WrongStatus { .. } => {
                wrong("wrong-status", "Where the order stands, this can't be done")
            }
            Self::PaymentRequested => {
                wrong("payment-requested", "The payment was requested already")
            }
        }
    }
}

impl PlaceBody {
    /// The body as what the order service understands. All that is wrong is named at once.
    fn read(&self) -> Result<(UserId, Vec<Item>, Currency), Problem> {
        let mut errors = Vec::new();
        let mut items = Vec::new();
        for (index, line) in self.items.iter().enumerate() {
            let name = line.name.as_ref().map(|name| name.0.clone());
            let sku = line.sku.as_ref().map(|sku| sku.0.clone());
            let known = sku.or_else(|| name.clone()).unwrap_or_default();
            match Sku::try_from(known.clone()) {
                Ok(sku) => items.push(Item {
                    name: name.unwrap_or(known),
                    sku,
                    qty: line.qty,
                    price: line.price,
                }),
                Err(_) => errors.push(FieldError {
                    field: format!("items[{index}].name"),
                    detail: format!(
                        "must have 1 to {SKU_CHARS_MAX} printable characters where there is no `sku`"
                    ),
                }),
            }
        }
        let currency = self.currency.clone().map(|text| Currency::try_from(text.0));
        let currency = currency.unwrap_or_else(|| Ok(Currency::default()));
        let mut wrong = |field: &str, detail: String| {
            let field = field.into();
            errors.push(FieldError { field, detail });
        };
        let currency = currency.map_err(|error| wrong("currency", error.to_string()));
        let user_id = UserId::try_from(self.user_id.0.clone());
        let user_id = user_id.map_err(|error| wrong("user_id", error.to_string()));
        match (currency, user_id) {
            (Ok(currency), Ok(user_id)) if errors.is_empty() => Ok((user_id, items, currency)),
            _ => Err(Problem::invalid("the order can't be taken").fields(errors)),
        }
    }
}

pub(super) async fn place(
    State(shop): State<Shop>,
    asked: Asked,
    FromBody(body): FromBody<PlaceBody>,
) -> Result<Response, Problem> {
    let (user_id, items, currency) = body.read()?;
    if !shop.was_answered(Role::Order, &asked).await? {
        must_be_registered(&shop, &user_id).await?;
        advise(&shop, &items).await?;
    }
    let order_id = OrderId::of(&shop.env.uuid().to_string());
    let correlation_id = shop.env.message_id();
    let cost =
        |sum: u64, item: &Item| sum.saturating_add(item.price.saturating_mul(item.qty.into()));
    let answer = PlacedView {
        order_id: order_id.to_string(),
        status: Status::Created,
        total_amount: items.iter().fold(0, cost),
        currency: currency.to_string(),
        correlation_id: correlation_id.to_string(),
    };
    let payment = match body.payment {
        PaymentBody::Auto => PaymentMode::Auto,
        PaymentBody::Manual => PaymentMode::Manual,
    };
    let order = PlaceOrder {
        order_id: order_id.clone(),
        user_id,
        items,
        currency,
        payment,
        card: body.card.clone().map(|card| card.0),
    };
    let command = OrderCommand::Place(order);
    let done = shop
        .execute::<Order, _>(
            Role::Order,
            &order_id,
            command,
            asked.with(&body, correlation_id),
            answer,
        )
        .await?;
    let location = format!("/orders/{}", done.answer.order_id);
    let mut response = done.answered(StatusCode::CREATED);
    if let Ok(location) = location.parse() {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// How long an order waits for advice.
const ADVICE_WAIT_MAX: Duration = Duration::from_millis(500);

/// Refuses an order that is plainly short, from what this service knows of the shelves. It is advice: what it doesn't
/// know, knows too late, or isn't told just now, the stock service decides.
async fn advise(shop: &Shop, items: &[Item]) -> Result<(), Problem> {
    if shop.platform.faults().advice_is_hidden() {
        return Ok(());
    }
    let Ok(Ok(available)) = timeout(ADVICE_WAIT_MAX, levels(shop, items)).await else {
        return Ok(());
    };
    let short = short(items, &available);
    if short.is_empty() {
        return Ok(());
    }
    let problem = Problem::new(
        StatusCode::CONFLICT,
        "short-stock",
        "There is not enough in stock",
        "the order was not taken",
    );
    let line = |sku: &Sku| {
        items
            .iter()
            .position(|item| item.sku == *sku)
            .unwrap_or_default()
    };
    Err(short.iter().fold(problem, |problem, short| {
        problem.field(
            format!("items[{}].qty", line(&short.sku)),
            short.to_string(),
        )
    }))
}

/// What is left of each thing, as far as this service knows.
async fn levels(shop: &Shop, items: &[Item]) -> Result<BTreeMap<Sku, u64>, QueryError> {
    let queries = shop.platform.queries(Role::Order);
    let mut available = BTreeMap::new();
    for sku in quantities(items).into_keys() {
        if let Some(level) = queries.get(LEVELS, sku.as_str(), None).await?.value {
            available.insert(sku, level.available);
        }
    }
    Ok(available)
}

/// Gives an order a command that a user gave over HTTP.
async fn act(
    shop: &Shop,
    id: String,
    command: OrderCommand,
    done: &str,
    asked: Asked,
    body: &impl Serialize,
) -> Result<Response, Problem> {
    let Ok(order_id) = OrderId::try_from(id.clone()) else {
        return Err(show::no_order(&id));
    };
    let correlation_id = story_of(shop, &order_id)
        .await?
        .unwrap_or_else(|| shop.env.message_id());
    let answer = AcceptedView {
        order_id: order_id.to_string(),
        done: done.into(),
        correlation_id: correlation_id.to_string(),
    };
    let done = shop
        .execute::<Order, _>(
            Role::Order,
            &order_id,
            command,
            asked.with(body, correlation_id),
            answer,
        )
        .await?;
    Ok(done.answered(StatusCode::ACCEPTED))
}

/// The story that an order began: what happens to it later belongs to it.
async fn story_of(shop: &Shop, order: &OrderId) -> Result<Option<factum::MessageId>, Problem> {
    let stream = show::stream_of(order.as_str())?;
    let page = shop
        .platform
        .service(Role::Order)
        .store()
        .read_stream(&stream, factum::Version(1), 1)
        .await?;
    Ok(page
        .records
        .first()
        .map(|record| record.draft.correlation_id.clone()))
}

pub(super) async fn pay(
    State(shop): State<Shop>,
    FromPath(id): FromPath<String>,
    asked: Asked,
    FromBodyOrDefault(body): FromBodyOrDefault<PayBody>,
) -> Result<Response, Problem> {
    let command = OrderCommand::Pay {
        card: body.card.clone().map(|card| card.0),
    };
    act(&shop, id, command, "payment-requested", asked, &body).await
}

pub(super) async fn ship(
    State(shop): State<Shop>,
    FromPath(id): FromPath<String>,
    asked: Asked,
    FromBody(body): FromBody<ShipBody>,
) -> Result<Response, Problem> {
    let command = OrderCommand::Ship {
        tracking: body.tracking.0.clone(),
    };
    act(&shop, id, command, "shipped", asked, &body).await
}

pub(super) async fn cancel(
    State(shop): State<Shop>,
    FromPath(id): FromPath<String>,
    asked: Asked,
    FromBodyOrDefault(body): FromBodyOrDefault<CancelBody>,
) -> Result<Response, Problem> {
    let reason = body
        .reason
        .clone()
        .map_or_else(|| "cancelled by the user".into(), |reason| reason.0);
    act(
        &shop,
        id,
        OrderCommand::Cancel { reason },
        "cancelled",
        asked,
        &body,
    )
    .await
}
