//! Facts of other services that queries are answered from.

use factum::{GroupSpec, Recorded, reactor};

use crate::contracts::{OrderEvent, ShelfEvent, UserRegistered, order_of};

/// Keeps what the others say in the own log, where the projections read it.
pub(super) fn group() -> GroupSpec {
    GroupSpec::new("query-imports")
        .on(reactor(
            "import-user",
            |event: &Recorded<UserRegistered>, cx| {
                let user = event.data.user_id.as_str();
                cx.import("user", user, &event.data, event.timestamp)
            },
        ))
        .on(reactor(
            "import-order",
            |event: &Recorded<OrderEvent>, cx| {
                let order = order_of(event)?;
                cx.import("order", order.as_str(), &event.data, event.timestamp)
            },
        ))
        .on(reactor(
            "import-shelf",
            |event: &Recorded<ShelfEvent>, cx| {
                let (sku, _) = event.data.level();
                cx.import("shelf", sku.as_str(), &event.data, event.timestamp)
            },
        ))
}
