//! Facts of other services that the order service keeps in its own log, where its projections read them.

use factum::{GroupSpec, Recorded, reactor};

use crate::contracts::{ShelfEvent, Sku, UserRegistered};

/// Keeps the facts of others in the own log, where the projections can read them.
pub(super) fn group() -> GroupSpec {
    GroupSpec::new("order-imports")
        .on(reactor(
            "import-user",
            |event: &Recorded<UserRegistered>, cx| {
                let user = event.data.user_id.as_str();
                cx.import("user", user, &event.data, event.timestamp)
            },
        ))
        .on(reactor(
            "import-shelf",
            |event: &Recorded<ShelfEvent>, cx| {
                let (sku, _) = level(&event.data);
                cx.import("shelf", sku.as_str(), &event.data, event.timestamp)
            },
        ))
}

/// The thing that an event is about, and how many are available afterwards.
pub(super) fn level(event: &ShelfEvent) -> (&Sku, u64) {
    match event {
        ShelfEvent::Received(event) => (&event.sku, event.available),
        ShelfEvent::Reserved(event) => (&event.sku, event.available),
        ShelfEvent::Released(event) => (&event.sku, event.available),
        ShelfEvent::Taken(event) => (&event.sku, event.available),
    }
}
