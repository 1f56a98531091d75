//! Facts of other services that the order service keeps in its own log, where its projections read them.

use std::time::Duration;

use factum::{Category, Error, GroupSpec, Recorded, Signal, Store, StreamId, Version, reactor};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::contracts::{ShelfEvent, UserId, UserRegistered};

/// The category of imported users.
const USER: &str = "user";

/// How long an order waits for the import of its user: who was registered a moment ago may order.
const USER_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long nothing is looked up again while others write.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Keeps the facts of others in the own log, where the projections can read them.
pub(super) fn group() -> GroupSpec {
    GroupSpec::new("order-imports")
        .on(reactor(
            "import-user",
            |event: &Recorded<UserRegistered>, cx| {
                let user = event.data.user_id.as_str();
                cx.import(USER, user, &event.data, event.timestamp)
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

/// Whether the registry has told this service of the user, or does so in a moment. `store` is the order service's.
///
/// # Errors
///
/// When the store doesn't answer.
pub async fn knows_user(store: &dyn Store, user: &UserId) -> Result<bool, Error> {
    let Ok(stream) = StreamId::new(Category::of(USER), user.as_str()) else {
        // Nobody can be called that.
        return Ok(false);
    };
    let until = Instant::now() + USER_WAIT_MAX;
    let mut head = store.head().await?.position.0;
    loop {
        let found = store.read_stream(&stream, Version(1), 1).await?;
        if !found.records.is_empty() {
            return Ok(true);
        }
        // Only the waiting is bounded: a store that doesn't answer is no user who is not there.
        match timeout_at(until, store.wait(Signal::Head, head)).await {
            Ok(grown) => head = grown?,
            Err(_) => return Ok(false),
        }
        // Others write without end, and few of them about this user.
        sleep_until(until.min(Instant::now() + LOOK_EVERY)).await;
    }
}
