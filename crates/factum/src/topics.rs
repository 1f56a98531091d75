//! Which topics a service needs, and as what each of them is made or found.

use std::collections::BTreeMap;

use factum_core::{Broker, Error, Store, Topic, TopicSpec};

use crate::{GroupSpec, Service, dead_letter};

/// Makes sure of every topic of `service`, pins their partition counts in its store, and returns these.
///
/// A topic that nobody describes is taken as the broker has it: it may be another program's. If there is none,
/// it is made with `partitions`.
pub(crate) async fn ensure(
    service: &Service,
    described: &[TopicSpec],
    partitions: u32,
    store: &dyn Store,
    broker: &dyn Broker,
) -> Result<BTreeMap<Topic, u32>, Error> {
    let found = broker.topics().await?;
    let find = |specs: &[TopicSpec], topic: &Topic| {
        specs.iter().find(|spec| spec.topic == *topic).cloned()
    };
    let spec_of = |topic: &Topic| {
        find(&service.topics, topic)
            .or_else(|| find(described, topic))
            .or_else(|| find(&found, topic))
            .unwrap_or_else(|| TopicSpec::new(topic.clone(), partitions))
    };
    let mut specs = BTreeMap::new();
    for spec in &service.topics {
        specs.insert(spec.topic.clone(), spec.clone());
    }
    for topic in published(service)? {
        specs.insert(topic.clone(), spec_of(&topic));
    }
    for topic in service.groups.iter().flat_map(GroupSpec::topics) {
        let spec = spec_of(&topic);
        // The copy of a dead letter goes to the partition that it came from.
        let copies = Topic::new(format!("{topic}{}", dead_letter::SUFFIX))
            .map_err(|error| Error::fatal(error.to_string()))?;
        let copies = TopicSpec {
            topic: copies,
            ..spec.clone()
        };
        specs.entry(copies.topic.clone()).or_insert(copies);
        specs.insert(topic, spec);
    }
    for spec in specs.values() {
        broker.ensure_topic(spec).await?;
        store.pin_topic(&spec.topic, spec.partitions).await?;
    }
    Ok(specs
        .into_iter()
        .map(|(topic, spec)| (topic, spec.partitions))
        .collect())
}

/// The topics that the aggregates of `service` publish to.
fn published(service: &Service) -> Result<Vec<Topic>, Error> {
    let topics = service.kinds.values().filter_map(|kind| kind.topic());
    topics
        .map(|topic| Topic::new(topic).map_err(|error| Error::fatal(error.to_string())))
        .collect()
}
