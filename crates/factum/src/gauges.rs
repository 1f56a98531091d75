//! How far everything has come, read from the stores and the broker whenever somebody asks.
//!
//! A part that has stopped reports nothing any more, and that is when its lag is wanted most: so no part reports its
//! own. What could not be read keeps its last value.

use factum_core::{Broker, Error, ParkedState};

use crate::RunningService;

/// Sets the gauges of one service. A store or broker that doesn't answer is told in health by whoever needs it.
pub(crate) async fn read(service: &RunningService, broker: &dyn Broker) {
    let read = async {
        positions(service).await?;
        parked(service).await?;
        lags(service, broker).await
    };
    if let Err(error) = read.await {
        tracing::debug!("gauges of `{}` are of before: {error:#}", service.name());
    }
}

async fn positions(service: &RunningService) -> Result<(), Error> {
    let (store, metrics) = (service.store(), service.metrics());
    let head = store.head().await?.position;
    metrics.head(head.0);
    let published = store.relay().await?.checkpoint.position;
    metrics.relay_pending(head.0.saturating_sub(published.0));
    for projection in service.operator().projections().await? {
        let name = projection.projection.as_str();
        // Before there are rows to see, it has come as far as the first ones that are built.
        let building = projection
            .rebuilding
            .filter(|_| projection.generation.is_none());
        let reached = building.map_or(projection.reached, |building| building.reached);
        metrics.projection(name, reached.0, head.0);
    }
    Ok(())
}

async fn parked(service: &RunningService) -> Result<(), Error> {
    let counts = service.store().parked_counts().await?;
    for group in service.groups() {
        let of_state = |wanted: fn(ParkedState) -> bool| {
            let ours = counts
                .iter()
                .filter(|count| count.group == *group && wanted(count.state));
            ours.map(|count| count.count).sum()
        };
        let parked = of_state(|state| state != ParkedState::Discarded);
        let dead = of_state(|state| state == ParkedState::Dead);
        service.metrics().parked(group, parked, dead);
    }
    Ok(())
}

async fn lags(service: &RunningService, broker: &dyn Broker) -> Result<(), Error> {
    for lag in service.lags(broker).await? {
        let messages = lag.messages();
        service.metrics().lag(&lag.group, &lag.place, messages);
    }
    Ok(())
}
