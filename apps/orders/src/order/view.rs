//! The views that the order service answers from: orders with their users, and what is left of each thing.

use factum::{
    Event, Failure, Projection, Query, Recorded, RowSet, Timestamp, View, ViewDefinition,
};
use serde::{Deserialize, Serialize};

use super::Status;
use crate::contracts::{
    Currency, Item, OrderCreated, OrderEvent, OrderId, PaymentMode, ShelfEvent, Sku, UserId,
    UserRegistered, order_or,
};

/// Orders by id. Their users are in [`BUYERS`]: a row of their own, so that what happens to a user changes one row and
/// not all of their orders.
pub const ORDERS: View<OrderRow> = View::new("orders");

/// Users by id, as far as orders show them.
pub const BUYERS: View<BuyerRow> = View::new("order-users");

/// What is left of each thing, by SKU, as far as is known here.
pub const LEVELS: View<LevelRow> = View::new("levels");

/// How many orders are on a page.
pub const PAGE_ORDERS: u32 = 20;

/// An order as queries show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRow {
    /// The order.
    pub order_id: OrderId,
    /// Who placed it.
    pub user_id: UserId,
    /// Where it stands.
    pub status: Status,
    /// What was ordered.
    pub items: Vec<Item>,
    /// What it is called, for those who look for words.
    pub item_names: String,
    /// What it costs, in minor units.
    pub total_amount: u64,
    /// In which currency.
    pub currency: Currency,
    /// When it is paid.
    pub payment: PaymentMode,
    /// How it was paid.
    pub payment_method: Option<String>,
    /// The carrier's number.
    pub tracking: Option<String>,
    /// Why it was cancelled.
    pub cancel_reason: Option<String>,
    /// When it was placed.
    pub created_at: Timestamp,
    /// When anything last happened to it.
    pub updated_at: Timestamp,
    /// When it was placed, in microseconds: texts of times don't sort as times do.
    pub created_at_micros: i64,
}

/// A user as orders show them. There is none while the order service does not know them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuyerRow {
    /// Their name.
    pub name: String,
    /// Their e-mail address.
    pub email: String,
}

/// What is left of a thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelRow {
    /// The thing.
    pub sku: Sku,
    /// How many can be reserved.
    pub available: u64,
}

/// A user's orders, newest first: one page of them, perhaps only those that stand somewhere.
pub fn by_user(user: &str, status: Option<Status>, page: u32) -> Query {
    let query = Query::all()
        .equal("user_id", user)
        .sort_descending("created_at_micros");
    let query = query.limit(PAGE_ORDERS).page(page);
    match status {
        Some(status) => query.equal("status", status.as_str()),
        None => query,
    }
}

/// The orders whose row has all of these words, newest first: one page of them.
pub fn by_words(words: &str, page: u32) -> Query {
    let query = Query::all().words(words);
    let query = query.sort_descending("created_at_micros");
    query.limit(PAGE_ORDERS).page(page)
}

/// What the rows of orders are made of.
#[derive(Event, Clone, Debug)]
pub(crate) enum OrderFacts {
    #[event(family)]
    Order(OrderEvent),
    #[event(family)]
    User(UserRegistered),
}

/// Keeps orders with their users.
pub(crate) struct KeepOrders {
    /// Whether orders are imported: from a topic where others may say of an order that it was placed, and ours a second
    /// time. Of an order that was decided here, that can't be.
    imported: bool,
}

impl KeepOrders {
    /// Of orders that this service decides on.
    pub(super) const OWN: Self = Self { imported: false };
    /// Of orders that are imported.
    pub(crate) const IMPORTED: Self = Self { imported: true };
}

impl Projection for KeepOrders {
    const NAME: &'static str = "orders";
    type Event = OrderFacts;

    fn views(&self) -> Vec<ViewDefinition> {
        let orders = ORDERS
            .kept_by::<Self>()
            .text("user_id")
            .text("status")
            .integer("created_at_micros")
            .searched(["order_id", "user_id", "item_names", "tracking"]);
        vec![
            // A user's page; a user's page of one status.
            orders.index(["user_id", "created_at_micros"]).index([
                "user_id",
                "status",
                "created_at_micros",
            ]),
            BUYERS.kept_by::<Self>(),
        ]
    }

    async fn project(
        &self,
        event: &Recorded<OrderFacts>,
        rows: &mut RowSet<'_>,
    ) -> Result<(), Failure> {
        let fact = match &event.data {
            OrderFacts::User(user) => return take_user(user, rows),
            OrderFacts::Order(fact) => fact,
        };
        let (order, status) = match fact {
            OrderEvent::Created(created) => {
                let order = order_or(created.order_id.as_ref(), event)?;
                if self.imported && rows.get(ORDERS, order.as_str()).await?.is_some() {
                    return Ok(());
                }
                return take_order(&order, event, created, rows);
            }
            OrderEvent::PaymentRequested(event) => (&event.order_id, None),
            OrderEvent::Paid(event) => (&event.order_id, Some(Status::Paid)),
            OrderEvent::Confirmed(event) => (&event.order_id, Some(Status::Confirmed)),
            OrderEvent::Shipped(event) => (&event.order_id, Some(Status::Shipped)),
            OrderEvent::Cancelled(event) => (&event.order_id, Some(Status::Cancelled)),
        };
        let order = order_or(order.as_ref(), event)?;
        let change = |row: &mut OrderRow| {
            row.updated_at = event.timestamp;
            row.status = status.unwrap_or(row.status);
            match fact {
                OrderEvent::Paid(paid) => row.payment_method = Some(paid.payment_method.clone()),
                OrderEvent::Shipped(shipped) => row.tracking = Some(shipped.tracking.clone()),
                OrderEvent::Cancelled(cancelled) => {
                    row.cancel_reason = Some(cancelled.reason.clone());
                }
                OrderEvent::Created(_)
                | OrderEvent::PaymentRequested(_)
                | OrderEvent::Confirmed(_) => {}
            }
        };
        rows.update(ORDERS, order.as_str(), change).await
    }
}

fn take_order(
    order_id: &OrderId,
    event: &Recorded<OrderFacts>,
    created: &OrderCreated,
    rows: &mut RowSet<'_>,
) -> Result<(), Failure> {
    let OrderCreated {
        user_id,
        items,
        total_amount,
        currency,
        payment,
        ..
    } = created.clone();
    let names = items
        .iter()
        .map(|item| format!("{} {}", item.name, item.sku));
    let row = OrderRow {
        order_id: order_id.clone(),
        item_names: names.collect::<Vec<_>>().join(", "),
        user_id,
        status: Status::Created,
        items,
        total_amount,
        currency,
        payment,
        payment_method: None,
        tracking: None,
        cancel_reason: None,
        created_at: event.timestamp,
        updated_at: event.timestamp,
        created_at_micros: event.timestamp.as_micros(),
    };
    rows.put(ORDERS, order_id.as_str(), &row)
}

fn take_user(user: &UserRegistered, rows: &mut RowSet<'_>) -> Result<(), Failure> {
    let row = BuyerRow {
        name: user.name.clone(),
        email: user.email.clone(),
    };
    rows.put(BUYERS, user.user_id.as_str(), &row)
}

pub(super) struct KeepLevels;

impl Projection for KeepLevels {
    const NAME: &'static str = "levels";
    type Event = ShelfEvent;

    fn views(&self) -> Vec<ViewDefinition> {
        vec![LEVELS.kept_by::<Self>()]
    }

    async fn project(
        &self,
        event: &Recorded<ShelfEvent>,
        rows: &mut RowSet<'_>,
    ) -> Result<(), Failure> {
        let (sku, available) = event.data.level();
        rows.put(
            LEVELS,
            sku.as_str(),
            &LevelRow {
                sku: sku.clone(),
                available,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use factum_testkit::project;

    use super::*;
    use crate::contracts::{ItemReceived, ItemReserved, OrderCancelled, OrderPaid};

    fn at() -> Timestamp {
        Timestamp::from_millis(1_000)
    }

    fn placed() -> OrderEvent {
        OrderEvent::Created(OrderCreated {
            order_id: Some("o-1".into()),
            user_id: "u-1".into(),
            items: Vec::new(),
            total_amount: 500,
            currency: Currency::won(),
            payment: PaymentMode::Auto,
            card: None,
        })
    }

    fn kim() -> UserRegistered {
        UserRegistered {
            user_id: "u-1".into(),
            name: "Kim".into(),
            email: "kim@example.org".into(),
        }
    }

    fn row(status: Status) -> OrderRow {
        OrderRow {
            order_id: "o-1".into(),
            user_id: "u-1".into(),
            status,
            items: Vec::new(),
            item_names: String::new(),
            total_amount: 500,
            currency: Currency::won(),
            payment: PaymentMode::Auto,
            payment_method: None,
            tracking: None,
            cancel_reason: None,
            created_at: at(),
            updated_at: at(),
            created_at_micros: at().as_micros(),
        }
    }

    fn buyer() -> BuyerRow {
        BuyerRow {
            name: "Kim".into(),
            email: "kim@example.org".into(),
        }
    }

    #[test]
    fn an_order_and_its_user_are_known_whichever_came_first() {
        project(KeepOrders::OWN)
            .at(at())
            .events("user/u-1", [kim()])
            .events("order/o-1", [placed()])
            .then_row(ORDERS, "o-1", &row(Status::Created))
            .then_row(BUYERS, "u-1", &buyer())
            .rebuilt_is_the_same();
        project(KeepOrders::OWN)
            .at(at())
            .events("order/o-1", [placed()])
            .events("user/u-1", [kim()])
            .then_row(ORDERS, "o-1", &row(Status::Created))
            .then_row(BUYERS, "u-1", &buyer())
            .rebuilt_is_the_same();
    }

    /// The name of a user once stood in each of their orders: with more of them than one event may change, one foreign
    /// message stopped the view for everybody.
    #[test]
    fn a_user_of_any_number_of_orders_may_be_registered_again() {
        let orders = (0..=factum::FIND_ROWS_MAX).map(|number| {
            let OrderEvent::Created(mut created) = placed() else {
                unreachable!("it was placed")
            };
            created.order_id = Some(format!("o-{number}").as_str().into());
            OrderEvent::Created(created)
        });
        project(KeepOrders::OWN)
            .at(at())
            .events("order/o-1", orders)
            .events("user/u-1", [kim()])
            .then_row(BUYERS, "u-1", &buyer())
            .rebuilt_is_the_same();
    }

    #[test]
    fn an_order_shows_where_it_stands_and_why() {
        let paid = OrderPaid {
            order_id: Some("o-1".into()),
            payment_method: "card:ok".into(),
        };
        let cancelled = OrderCancelled {
            order_id: Some("o-1".into()),
            reason: "no tea".into(),
        };
        let expected = OrderRow {
            payment_method: Some("card:ok".into()),
            cancel_reason: Some("no tea".into()),
            ..row(Status::Cancelled)
        };
        project(KeepOrders::OWN)
            .at(at())
            .events("user/u-1", [kim()])
            .events(
                "order/o-1",
                [
                    placed(),
                    OrderEvent::Paid(paid),
                    OrderEvent::Cancelled(cancelled),
                ],
            )
            .then_row(ORDERS, "o-1", &expected)
            .rebuilt_is_the_same();
    }

    #[test]
    fn a_level_is_what_the_shelf_said_last() {
        let received = ItemReceived {
            sku: "tea".into(),
            qty: 5,
            available: 5,
        };
        let (sku, order_id) = ("tea".into(), "o-1".into());
        let reserved = ItemReserved {
            sku,
            order_id,
            qty: 2,
            available: 3,
        };
        project(KeepLevels)
            .events(
                "shelf/tea",
                [
                    ShelfEvent::Received(received),
                    ShelfEvent::Reserved(reserved),
                ],
            )
            .then_row(
                LEVELS,
                "tea",
                &LevelRow {
                    sku: "tea".into(),
                    available: 3,
                },
            )
            .rebuilt_is_the_same();
    }
}
