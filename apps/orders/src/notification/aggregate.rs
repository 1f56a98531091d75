//! A notification: one for each key, sent once.

use std::convert::Infallible;

use factum::{Aggregate, Decision, Event};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    contracts::{OrderId, UserId},
    outside::Notice,
};

/// A notification as far as it decides on itself. Its id is its idempotency key.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Notification {
    /// Whether it was sent.
    pub sent: bool,
}

/// The one thing that happens to a notification. It stays in this service's log.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[event(name = "NotificationSent", version = 1)]
pub struct NotificationSent {
    /// Its idempotency key.
    pub key: String,
    /// Who was told, if that is known here.
    pub user_id: Option<UserId>,
    /// What it is about.
    pub order_id: OrderId,
    /// What was said.
    pub text: String,
}

/// Records that a notification was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record(pub Notice);

impl Aggregate for Notification {
    const CATEGORY: &'static str = "notification";
    type Id = String;
    type Command = Record;
    type Event = NotificationSent;
    type Error = Infallible;

    fn handle(
        &self,
        Record(notice): Record,
        _: &Decision,
    ) -> Result<Vec<NotificationSent>, Infallible> {
        if self.sent {
            return Ok(Vec::new());
        }
        let Notice {
            key,
            user_id,
            order_id,
            text,
        } = notice;
        Ok(vec![NotificationSent {
            key,
            user_id,
            order_id,
            text,
        }])
    }

    fn apply(&mut self, _: &NotificationSent) {
        self.sent = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use factum_testkit::given;

    #[test]
    fn a_notification_is_recorded_once() {
        let notice = Notice {
            key: "k".into(),
            user_id: None,
            order_id: "o-1".into(),
            text: "shipped".into(),
        };
        let sent = NotificationSent {
            key: "k".into(),
            user_id: None,
            order_id: "o-1".into(),
            text: "shipped".into(),
        };
        given::<Notification>([])
            .when(Record(notice.clone()))
            .then([sent])
            .and(Record(notice))
            .then_nothing();
    }
}
