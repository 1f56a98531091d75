//! The notification service's own view: what users were told.

use factum::{Failure, Projection, Query, Recorded, RowSet, Timestamp, View, ViewDefinition};
use serde::{Deserialize, Serialize};

use super::NotificationSent;
use crate::contracts::{OrderId, UserId};

/// Notifications by key.
pub const NOTIFICATIONS: View<NotificationRow> = View::new("notifications");

/// A notification as queries show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationRow {
    /// Who was told, if that is known here.
    pub user_id: Option<UserId>,
    /// What it is about.
    pub order_id: OrderId,
    /// What was said.
    pub text: String,
    /// When.
    pub sent_at: Timestamp,
    /// When, in microseconds: texts of times don't sort as times do.
    pub sent_at_micros: i64,
}

/// What users were told about an order, oldest first.
pub fn by_order(order: &OrderId) -> Query {
    Query::all()
        .equal("order_id", order.as_str())
        .sort("sent_at_micros")
}

pub(super) struct KeepNotifications;

impl Projection for KeepNotifications {
    const NAME: &'static str = "notifications";
    type Event = NotificationSent;

    fn views(&self) -> Vec<ViewDefinition> {
        let view = NOTIFICATIONS
            .kept_by::<Self>()
            .text("order_id")
            .integer("sent_at_micros");
        vec![view.index(["order_id", "sent_at_micros"])]
    }

    async fn project(
        &self,
        event: &Recorded<NotificationSent>,
        rows: &mut RowSet<'_>,
    ) -> Result<(), Failure> {
        let NotificationSent {
            key,
            user_id,
            order_id,
            text,
        } = event.data.clone();
        let (sent_at, sent_at_micros) = (event.timestamp, event.timestamp.as_micros());
        rows.put(
            NOTIFICATIONS,
            &key,
            &NotificationRow {
                user_id,
                order_id,
                text,
                sent_at,
                sent_at_micros,
            },
        )
    }
}
