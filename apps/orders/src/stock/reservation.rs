//! The reservation of an order's items: made once, and then taken or given back once.

use factum::{Aggregate, Decision};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contracts::{
    Item, OrderId, StockEvent, StockRejected, StockReleased, StockReserved, StockTaken, UserId,
};

/// The reservation of an order as far as it decides on itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Reservation {
    /// Where it stands.
    pub status: ReservationStatus,
    /// What was reserved.
    pub items: Vec<Item>,
}

/// Where a reservation stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReservationStatus {
    /// Nothing happened yet.
    #[default]
    Open,
    /// All items are put aside.
    Reserved,
    /// Not all items are there.
    Rejected,
    /// The items are not needed any more.
    Released,
    /// The items left the house.
    Taken,
}

/// What a reservation can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReservationCommand {
    /// All items were put aside. Refused when the order came to its end before: they must be put back.
    Reserve {
        /// The order.
        order_id: OrderId,
        /// Whose order it is.
        user_id: Option<UserId>,
        /// What was put aside.
        items: Vec<Item>,
    },
    /// Not all items are there.
    Reject {
        /// The order.
        order_id: OrderId,
        /// Whose order it is.
        user_id: Option<UserId>,
        /// Why.
        reason: String,
    },
    /// The order was given up.
    Release {
        /// The order.
        order_id: OrderId,
    },
    /// The order left the house.
    Take {
        /// The order.
        order_id: OrderId,
    },
}

/// The order came to its end before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reservation of this order came to its end before")]
pub struct Ended;

impl Aggregate for Reservation {
    const CATEGORY: &'static str = "reservation";
    type Id = OrderId;
    type Command = ReservationCommand;
    type Event = StockEvent;
    type Error = Ended;

    fn handle(&self, command: ReservationCommand, _: &Decision) -> Result<Vec<StockEvent>, Ended> {
        use ReservationStatus::{Open, Reserved};
        let items = || self.items.clone();
        Ok(match (command, self.status) {
            (
                ReservationCommand::Reserve {
                    order_id,
                    user_id,
                    items,
                },
                Open,
            ) => {
                vec![StockEvent::Reserved(StockReserved {
                    order_id: Some(order_id),
                    user_id,
                    items,
                })]
            }
            (ReservationCommand::Reserve { .. }, Reserved) => Vec::new(),
            (ReservationCommand::Reserve { .. }, _) => return Err(Ended),
            (
                ReservationCommand::Reject {
                    order_id,
                    user_id,
                    reason,
                },
                Open,
            ) => {
                vec![StockEvent::Rejected(StockRejected {
                    order_id: Some(order_id),
                    user_id,
                    reason,
                })]
            }
            // Given up before it was reserved: it is noted, so that nothing is reserved for it any more.
            (ReservationCommand::Release { order_id }, Open | Reserved) => {
                vec![StockEvent::Released(StockReleased {
                    order_id: Some(order_id),
                    items: items(),
                })]
            }
            (ReservationCommand::Take { order_id }, Reserved) => {
                vec![StockEvent::Taken(StockTaken {
                    order_id: Some(order_id),
                    items: items(),
                })]
            }
            (
                ReservationCommand::Reject { .. }
                | ReservationCommand::Release { .. }
                | ReservationCommand::Take { .. },
                _,
            ) => Vec::new(),
        })
    }

    fn apply(&mut self, event: &StockEvent) {
        self.status = match event {
            StockEvent::Reserved(reserved) => {
                self.items.clone_from(&reserved.items);
                ReservationStatus::Reserved
            }
            StockEvent::Rejected(_) => ReservationStatus::Rejected,
            StockEvent::Released(_) => ReservationStatus::Released,
            StockEvent::Taken(_) => ReservationStatus::Taken,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use factum_testkit::given;

    fn id() -> OrderId {
        "o-1".into()
    }

    fn items() -> Vec<Item> {
        vec![Item {
            sku: "tea".into(),
            name: "tea".into(),
            qty: 2,
            price: 600,
        }]
    }

    fn reserve() -> ReservationCommand {
        ReservationCommand::Reserve {
            order_id: id(),
            user_id: None,
            items: items(),
        }
    }

    fn reserved() -> StockEvent {
        StockEvent::Reserved(StockReserved {
            order_id: Some(id()),
            user_id: None,
            items: items(),
        })
    }

    fn released(items: Vec<Item>) -> StockEvent {
        StockEvent::Released(StockReleased {
            order_id: Some(id()),
            items,
        })
    }

    #[test]
    fn an_order_is_reserved_once_and_given_back_once() {
        let release = || ReservationCommand::Release { order_id: id() };
        given::<Reservation>([])
            .when(reserve())
            .then([reserved()])
            .and(reserve())
            .then_nothing()
            .and(release())
            .then([released(items())])
            .and(release())
            .then_nothing()
            .and(reserve())
            .then_error(Ended);
    }

    #[test]
    fn nothing_is_reserved_for_an_order_that_was_given_up_before() {
        given::<Reservation>([])
            .when(ReservationCommand::Release { order_id: id() })
            .then([released(Vec::new())])
            .and(reserve())
            .then_error(Ended);
    }

    #[test]
    fn what_left_the_house_is_not_given_back() {
        let taken = StockEvent::Taken(StockTaken {
            order_id: Some(id()),
            items: items(),
        });
        given::<Reservation>([reserved()])
            .when(ReservationCommand::Take { order_id: id() })
            .then([taken])
            .and(ReservationCommand::Release { order_id: id() })
            .then_nothing();
    }

    #[test]
    fn an_order_is_rejected_once_and_not_when_it_was_reserved() {
        let reject = || ReservationCommand::Reject {
            order_id: id(),
            user_id: None,
            reason: "no tea".into(),
        };
        let rejected = StockRejected {
            order_id: Some(id()),
            user_id: None,
            reason: "no tea".into(),
        };
        given::<Reservation>([])
            .when(reject())
            .then([StockEvent::Rejected(rejected)])
            .and(reject())
            .then_nothing();
        given::<Reservation>([reserved()])
            .when(reject())
            .then_nothing();
    }
}
