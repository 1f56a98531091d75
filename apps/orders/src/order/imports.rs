//! Facts of other services that the order service keeps in its own log, where its projections read them.

use factum::{Failure, Reaction, Reactor, Recorded};

use crate::contracts::{ShelfEvent, Sku, UserRegistered};

pub(super) struct ImportUser;

impl Reactor for ImportUser {
    const NAME: &'static str = "import-user";
    type Event = UserRegistered;

    async fn react(
        &self,
        event: &Recorded<UserRegistered>,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        cx.import(
            "user",
            event.data.user_id.as_str(),
            &event.data,
            event.timestamp,
        )
    }
}

pub(super) struct ImportShelf;

impl Reactor for ImportShelf {
    const NAME: &'static str = "import-shelf";
    type Event = ShelfEvent;

    async fn react(&self, event: &Recorded<ShelfEvent>, cx: &mut Reaction) -> Result<(), Failure> {
        cx.import(
            "shelf",
            level(&event.data).0.as_str(),
            &event.data,
            event.timestamp,
        )
    }
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
