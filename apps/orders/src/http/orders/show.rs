//! Orders as they are shown.

use axum::{Json, extract::State};
use factum::{Category, PAGE_NUMBER_MAX, Record, StreamId, Token, Version};
use factum_admin::web::{FromPath, FromQuery, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    contracts::{Item, PaymentMode},
    http::{
        Shop,
        freshness::{Carried, unanswered},
    },
    order::{BUYERS, BuyerRow, ORDERS, Order, OrderRow, PAGE_ORDERS, Status, by_user},
    platform::Role,
};

/// How many events of an order are shown: far more than any order has.
const HISTORY_EVENTS_MAX: usize = 1_000;

/// An order.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::http) struct OrderView {
    order_id: String,
    status: Status,
    user: UserView,
    items: Vec<ItemView>,
    /// What it costs, in minor units.
    total_amount: u64,
    currency: String,
    /// When it is paid.
    payment: PaymentMode,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_method: Option<String>,
    /// The carrier's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    tracking: Option<String>,
    /// Why it was cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel_reason: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    #[schemars(extend("format" = "date-time"))]
    updated_at: String,
}

/// The user of an order. Name and address are absent until the order service knows them.
#[derive(Debug, Serialize, JsonSchema)]
struct UserView {
    user_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
}

/// A line of an order.
#[derive(Debug, Serialize, JsonSchema)]
struct ItemView {
    sku: String,
    name: String,
    qty: u32,
    /// The price of one, in minor units.
    price: u64,
}

impl From<Item> for ItemView {
    fn from(item: Item) -> Self {
        Self {
            sku: item.sku.to_string(),
            name: item.name,
            qty: item.qty,
            price: item.price,
        }
    }
}

impl OrderView {
    pub(super) fn of(row: OrderRow, buyer: Option<&BuyerRow>) -> Self {
        Self {
            order_id: row.order_id.to_string(),
            status: row.status,
            user: UserView {
                user_id: row.user_id.to_string(),
                name: buyer.map(|buyer| buyer.name.clone()),
                email: buyer.map(|buyer| buyer.email.clone()),
            },
            items: row.items.into_iter().map(ItemView::from).collect(),
            total_amount: row.total_amount,
            currency: row.currency.to_string(),
            payment: row.payment,
            payment_method: row.payment_method,
            tracking: row.tracking,
            cancel_reason: row.cancel_reason,
            created_at: row.created_at.to_string(),
            updated_at: row.updated_at.to_string(),
        }
    }
}

/// The user of orders, as fresh as the orders themselves: both rows are of one projection.
pub(super) async fn buyer(
    shop: &Shop,
    user: &str,
    token: Option<&Token>,
) -> Result<Option<BuyerRow>, Problem> {
    let queries = shop.queries(Role::Order);
    let found = queries.get(BUYERS, user, token).await;
    Ok(found.map_err(unanswered)?.value)
}

pub(super) fn no_order(id: &str) -> Problem {
    Problem::not_found(format!(
        "there is no order `{}`",
        id.chars().take(100).collect::<String>()
    ))
}

/// The stream of the order that a path names.
pub(super) fn stream_of(id: &str) -> Result<StreamId, Problem> {
    use factum::Aggregate as _;
    StreamId::new(Category::of(Order::CATEGORY), id).map_err(|_| no_order(id))
}

pub(in crate::http) async fn one(
    State(shop): State<Shop>,
    FromPath(id): FromPath<String>,
    Carried(token): Carried,
) -> Result<Json<OrderView>, Problem> {
    let found = shop
        .queries(Role::Order)
        .get(ORDERS, &id, token.as_ref())
        .await
        .map_err(unanswered)?;
    let row = found.value.ok_or_else(|| no_order(&id))?;
    let buyer = buyer(&shop, row.user_id.as_str(), token.as_ref()).await?;
    Ok(Json(OrderView::of(row, buyer.as_ref())))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct PageAsked {
    /// Which page, from 1.
    #[schemars(range(min = 1, max = PAGE_NUMBER_MAX))]
    page: Option<u32>,
    /// Only those that stand there.
    status: Option<Status>,
}

/// A page of a user's orders.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::http) struct OrderPage {
    user_id: String,
    page: u32,
    /// How many orders a page has.
    per_page: u32,
    /// Newest first.
    orders: Vec<OrderView>,
    /// The next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page: Option<u32>,
}

pub(in crate::http) async fn of_user(
    State(shop): State<Shop>,
    FromPath(id): FromPath<String>,
    FromQuery(asked): FromQuery<PageAsked>,
    Carried(token): Carried,
) -> Result<Json<OrderPage>, Problem> {
    let page = asked.page.unwrap_or(1);
    let query = by_user(&id, asked.status, page);
    let found = shop
        .queries(Role::Order)
        .query(ORDERS, &query, token.as_ref())
        .await
        .map_err(unanswered)?;
    let buyer = buyer(&shop, &id, token.as_ref()).await?;
    let more = found.value.next.is_some() && page < PAGE_NUMBER_MAX;
    Ok(Json(OrderPage {
        user_id: id,
        page,
        per_page: PAGE_ORDERS,
        orders: found
            .value
            .rows
            .into_iter()
            .map(|(_, row)| OrderView::of(row, buyer.as_ref()))
            .collect(),
        next_page: more.then_some(page + 1),
    }))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct HistoryAsked {
    /// As of this version; by default the last.
    #[schemars(range(min = 1))]
    version: Option<u64>,
}

/// What happened to an order, up to a version.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::http) struct HistoryView {
    order_id: String,
    /// The version that events and state are shown up to.
    version: u64,
    /// The version of the last event of all.
    last_version: u64,
    events: Vec<EventView>,
    /// The order as it was at that version.
    #[schemars(with = "serde_json::Value")]
    state: factum::Json,
}

/// Something that happened to an order.
#[derive(Debug, Serialize, JsonSchema)]
struct EventView {
    version: u64,
    #[serde(rename = "type")]
    event_type: String,
    event_id: String,
    #[schemars(extend("format" = "date-time"))]
    at: String,
    correlation_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    causation_id: Option<String>,
    /// The data, as it was stored.
    #[schemars(with = "serde_json::Value")]
    data: factum::Json,
}

impl EventView {
    fn of(record: &Record) -> Self {
        let draft = &*record.draft;
        let data = str::from_utf8(&draft.data)
            .ok()
            .and_then(|text| factum::Json::parse(text).ok());
        Self {
            version: record.version.0,
            event_type: draft.event_type.name.to_string(),
            event_id: draft.event_id.to_string(),
            at: draft.timestamp.to_string(),
            correlation_id: draft.correlation_id.to_string(),
            causation_id: draft.causation_id.as_ref().map(ToString::to_string),
            data: data.unwrap_or_default(),
        }
    }
}

pub(in crate::http) async fn history(
    State(shop): State<Shop>,
    FromPath(id): FromPath<String>,
    FromQuery(asked): FromQuery<HistoryAsked>,
) -> Result<Json<HistoryView>, Problem> {
    let service = shop.platform.service(Role::Order);
    let stream = stream_of(&id)?;
    let page = service
        .store()
        .read_stream(&stream, Version(1), HISTORY_EVENTS_MAX)
        .await?;
    let last = page.version;
    if last == Version::ZERO {
        return Err(no_order(&id));
    }
    let version = asked.version.map_or(last, Version);
    if version == Version::ZERO || version > last {
        return Err(Problem::invalid("the order never had that version")
            .field("version", format!("must be from 1 to {last}")));
    }
    let (state, version) = service.state_at(&stream, Some(version)).await?;
    let events = page
        .records
        .iter()
        .filter(|record| record.version <= version);
    Ok(Json(HistoryView {
        order_id: id,
        version: version.0,
        last_version: last.0,
        events: events.map(EventView::of).collect(),
        state,
    }))
}
