//! Maintenance: what has expired is dropped, so that what a store and its topics remember stays bounded.

use std::{sync::Arc, time::Duration};

use factum_core::{Broker, Error, Prune};
use tokio_util::sync::CancellationToken;

use crate::{relay::pause, work::Core};

/// How often is looked for what has expired: as often as Kafka's brokers look at their topics.
const EVERY: Duration = Duration::from_mins(5);

/// How long discarded messages are kept, so that a hasty discard can still be looked at.
const DISCARDED_KEPT: Duration = Duration::from_hours(30 * 24);

/// Runs until `stop`. What can't be dropped now is dropped the next time.
pub(crate) async fn run(
    core: Arc<Core>,
    broker: Arc<dyn Broker>,
    stop: CancellationToken,
) -> Result<(), Error> {
    while !stop.is_cancelled() {
        let now = core.env.now();
        let prune = Prune {
            expired: now,
            discarded: now - DISCARDED_KEPT,
        };
        match core.store.prune(prune).await {
            Ok(0) => {}
            Ok(rows) => tracing::debug!("{rows} expired rows of `{}` were dropped", core.service),
            Err(error) => tracing::warn!("expired rows of `{}` stay: {error:#}", core.service),
        }
        // All topics of the broker, whoever uses them: services that share one sweep it more often than need be.
        if let Err(error) = broker.sweep(now).await {
            tracing::warn!("what topics no longer keep stays: {error:#}");
        }
        pause(&stop, EVERY).await;
    }
    Ok(())
}
