//! Orders by words.

use std::collections::BTreeMap;

use axum::{Json, extract::State, http::StatusCode};
use factum::PAGE_NUMBER_MAX;
use factum_admin::web::{FromQuery, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::show::{OrderView, buyer};
use crate::{
    http::{
        Shop,
        freshness::{Carried, unanswered},
        texts::Words,
    },
    order::{ORDERS, PAGE_ORDERS, by_words},
    platform::Role,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct SearchAsked {
    /// Words of what was ordered, or of the ids of the order and its user, or of the tracking number: an order must have
    /// all of them.
    q: Words,
    /// Which page, from 1.
    #[schemars(range(min = 1, max = PAGE_NUMBER_MAX))]
    page: Option<u32>,
}

/// A page of the orders that were looked for.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::http) struct SearchPage {
    page: u32,
    /// How many orders a page has.
    per_page: u32,
    /// Newest first.
    orders: Vec<OrderView>,
    /// The next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page: Option<u32>,
}

pub(in crate::http) async fn search(
    State(shop): State<Shop>,
    FromQuery(asked): FromQuery<SearchAsked>,
    Carried(token): Carried,
) -> Result<Json<SearchPage>, Problem> {
    let queries = shop.queries(Role::Order);
    if !queries.find_words() {
        return Err(Problem::new(
            StatusCode::NOT_IMPLEMENTED,
            "no-full-text",
            "Orders can't be searched here",
            "words are found where the rows of orders are in an engine with full text, such as OpenSearch",
        )
        .public());
    }
    let page = asked.page.unwrap_or(1);
    let found = queries
        .query(ORDERS, &by_words(&asked.q.0, page), token.as_ref())
        .await
        .map_err(unanswered)?;
    let more = found.value.next.is_some() && page < PAGE_NUMBER_MAX;
    let mut buyers = BTreeMap::new();
    let mut orders = Vec::new();
    for (_, row) in found.value.rows {
        let user = row.user_id.to_string();
        if !buyers.contains_key(&user) {
            let known = buyer(&shop, &user, token.as_ref()).await?;
            buyers.insert(user.clone(), known);
        }
        orders.push(OrderView::of(row, buyers[&user].as_ref()));
    }
    Ok(Json(SearchPage {
        page,
        per_page: PAGE_ORDERS,
        orders,
        next_page: more.then_some(page + 1),
    }))
}
