//! The shelf of one thing: how many are there, and for whom they are put aside.

use std::collections::BTreeMap;

use factum::{Aggregate, Decision};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contracts::{
    ItemReceived, ItemReleased, ItemReserved, ItemTaken, OrderId, ShelfEvent, Sku,
};

/// The most that comes in at once: with it no shelf overflows before the sun does.
pub(crate) const RECEIVED_MAX: u64 = 1_000_000_000;

/// The shelf of one thing.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Shelf {
    /// The thing, since any of it came in.
    pub sku: Option<Sku>,
    /// How many are in the house.
    pub on_hand: u64,
    /// How many of them are put aside, for which orders that have not left the house.
    pub reserved: BTreeMap<OrderId, u64>,
    /// How many are not put aside.
    pub available: u64,
}

/// What a shelf can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShelfCommand {
    /// Things come in.
    Receive {
        /// What.
        sku: Sku,
        /// How many.
        qty: u64,
    },
    /// Things are put aside for an order, unless they were.
    Reserve {
        /// For which order.
        order_id: OrderId,
        /// How many.
        qty: u64,
    },
    /// What is put aside for an order is put back.
    Release {
        /// Which order.
        order_id: OrderId,
    },
    /// What is put aside for an order leaves the house.
    Take {
        /// Which order.
        order_id: OrderId,
    },
}

/// Why a shelf refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShelfError {
    /// There is not enough.
    #[error("only {available} are left, and {wanted} were ordered")]
    Short {
        /// How many were asked for.
        wanted: u64,
        /// How many could be put aside.
        available: u64,
    },
    /// A field can't be as it is.
    #[error("`{field}` {problem}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
}

impl Aggregate for Shelf {
    const CATEGORY: &'static str = "shelf";
    // The state grows with the orders that have not left the house: it is not written down too often.
    const SNAPSHOT_EVERY: u64 = 1_000;
    type Id = Sku;
    type Command = ShelfCommand;
    type Event = ShelfEvent;
    type Error = ShelfError;

    fn handle(&self, command: ShelfCommand, _: &Decision) -> Result<Vec<ShelfEvent>, ShelfError> {
        let available = self.available;
        let known = || self.sku.clone().expect("what is put aside came in before");
        let reserved = |order: &OrderId| self.reserved.get(order).copied();
        Ok(match command {
            ShelfCommand::Receive { sku, qty } => {
                if qty == 0 || qty > RECEIVED_MAX {
                    let problem = format!("must be 1 to {RECEIVED_MAX}");
                    return Err(ShelfError::Invalid {
                        field: "qty",
                        problem,
                    });
                }
                let available = available.saturating_add(qty);
                vec![ShelfEvent::Received(ItemReceived {
                    sku,
                    qty,
                    available,
                })]
            }
            ShelfCommand::Reserve { order_id, qty } => {
                if qty == 0 || reserved(&order_id).is_some() {
                    return Ok(Vec::new());
                }
                let Some(available) = available.checked_sub(qty) else {
                    return Err(ShelfError::Short {
                        wanted: qty,
                        available,
                    });
                };
                vec![ShelfEvent::Reserved(ItemReserved {
                    sku: known(),
                    order_id,
                    qty,
                    available,
                })]
            }
            ShelfCommand::Release { order_id } => {
                let Some(qty) = reserved(&order_id) else {
                    return Ok(Vec::new());
                };
                let available = available.saturating_add(qty);
                vec![ShelfEvent::Released(ItemReleased {
                    sku: known(),
                    order_id,
                    qty,
                    available,
                })]
            }
            ShelfCommand::Take { order_id } => {
                let Some(qty) = reserved(&order_id) else {
                    return Ok(Vec::new());
                };
                vec![ShelfEvent::Taken(ItemTaken {
                    sku: known(),
                    order_id,
                    qty,
                    available,
                })]
            }
        })
    }

    fn apply(&mut self, event: &ShelfEvent) {
        match event {
            ShelfEvent::Received(ItemReceived {
                sku,
                qty,
                available,
            }) => {
                self.sku = Some(sku.clone());
                self.on_hand = self.on_hand.saturating_add(*qty);
                self.available = *available;
            }
            ShelfEvent::Reserved(ItemReserved {
                order_id,
                qty,
                available,
                ..
            }) => {
                self.reserved.insert(order_id.clone(), *qty);
                self.available = *available;
            }
            ShelfEvent::Released(ItemReleased {
                order_id,
                available,
                ..
            }) => {
                self.reserved.remove(order_id);
                self.available = *available;
            }
            ShelfEvent::Taken(ItemTaken { order_id, qty, .. }) => {
                self.reserved.remove(order_id);
                self.on_hand = self.on_hand.saturating_sub(*qty);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use factum_testkit::given;

    fn receive(qty: u64) -> ShelfCommand {
        ShelfCommand::Receive {
            sku: "tea".into(),
            qty,
        }
    }

    fn reserve(order: &str, qty: u64) -> ShelfCommand {
        ShelfCommand::Reserve {
            order_id: order.into(),
            qty,
        }
    }

    fn received(qty: u64, available: u64) -> ShelfEvent {
        ShelfEvent::Received(ItemReceived {
            sku: "tea".into(),
            qty,
            available,
        })
    }

    fn reserved(order: &str, qty: u64, available: u64) -> ShelfEvent {
        ShelfEvent::Reserved(ItemReserved {
            sku: "tea".into(),
            order_id: order.into(),
            qty,
            available,
        })
    }

    #[test]
    fn an_order_gets_its_things_once_and_nobody_gets_what_is_not_there() {
        given::<Shelf>([])
            .when(receive(5))
            .then([received(5, 5)])
            .and(reserve("o-1", 3))
            .then([reserved("o-1", 3, 2)])
            .and(reserve("o-1", 3))
            .then_nothing()
            .and(reserve("o-2", 3))
            .then_error(ShelfError::Short {
                wanted: 3,
                available: 2,
            });
        given::<Shelf>([])
            .when(reserve("o-1", 1))
            .then_error(ShelfError::Short {
                wanted: 1,
                available: 0,
            });
    }

    #[test]
    fn what_is_put_back_can_be_had_by_others() {
        let released = ItemReleased {
            sku: "tea".into(),
            order_id: "o-1".into(),
            qty: 3,
            available: 5,
        };
        let release = || ShelfCommand::Release {
            order_id: "o-1".into(),
        };
        given::<Shelf>([received(5, 5), reserved("o-1", 3, 2)])
            .when(release())
            .then([ShelfEvent::Released(released)])
            .and(release())
            .then_nothing()
            .and(reserve("o-2", 5))
            .then([reserved("o-2", 5, 0)]);
    }

    #[test]
    fn what_leaves_the_house_is_no_longer_there() {
        let taken = ItemTaken {
            sku: "tea".into(),
            order_id: "o-1".into(),
            qty: 3,
            available: 2,
        };
        let take = || ShelfCommand::Take {
            order_id: "o-1".into(),
        };
        given::<Shelf>([received(5, 5), reserved("o-1", 3, 2)])
            .when(take())
            .then([ShelfEvent::Taken(taken)])
            .and(take())
            .then_nothing()
            .then_state(|shelf| {
                assert_eq!(
                    (shelf.on_hand, shelf.available, shelf.reserved.len()),
                    (2, 2, 0)
                );
            });
    }

    #[test]
    fn nothing_and_too_much_do_not_come_in() {
        for qty in [0, RECEIVED_MAX + 1] {
            let refused = given::<Shelf>([]).when(receive(qty));
            assert!(matches!(
                refused.error(),
                Some(ShelfError::Invalid { field: "qty", .. })
            ));
        }
    }
}
