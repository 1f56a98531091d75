//! How far everything has come, read from the stores and the broker whenever somebody asks.
//!
//! A part that has stopped reports nothing any more, and that is when its lag is wanted most: so no part reports its
//! own. What could not be read keeps its last value.

use std::collections::BTreeSet;

use factum_core::{Broker, Error, Group, ParkedState, Topic, TopicPartition};

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

/// Every partition of every topic that a group reads, those too that nobody owns.
async fn lags(service: &RunningService, broker: &dyn Broker) -> Result<(), Error> {
    let inboxes = service.store().inboxes().await?;
    let specs = broker.topics().await?;
    let reads: BTreeSet<(&Group, Topic)> = service.reads().collect();
    for (group, topic) in reads {
        let Some(spec) = specs.iter().find(|spec| spec.topic == topic) else {
            continue;
        };
        for partition in 0..spec.partitions {
            let place = TopicPartition::new(topic.clone(), partition);
            let marks = broker.watermarks(&place).await?;
            let row = inboxes.iter().find(|(inbox, _)| {
                inbox.group == *group && inbox.topic == topic && inbox.partition == partition
            });
            let low = row.map_or(marks.first, |(_, row)| row.low);
            let lag = marks.end.saturating_sub(low);
            service.metrics().lag(group, &place, lag);
        }
    }
    Ok(())
}
