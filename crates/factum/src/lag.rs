//! Lag: how far consumer groups are behind in the partitions that they read.

use std::collections::BTreeSet;

use factum_core::{Broker, Error, Group, Topic, TopicPartition};

use crate::RunningService;

/// How far a group has come in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The group.
    pub group: Group,
    /// The partition.
    pub place: TopicPartition,
    /// All offsets below are finished or parked.
    pub low: u64,
    /// The offset that the next message gets.
    pub end: u64,
}

impl Lag {
    /// How many messages it is behind.
    pub fn messages(&self) -> u64 {
        self.end.saturating_sub(self.low)
    }
}

impl RunningService {
    /// How far its groups have come: in every partition of every topic that one reads, those too that nobody owns.
    ///
    /// # Errors
    ///
    /// When its store or the broker doesn't answer.
    pub async fn lags(&self, broker: &dyn Broker) -> Result<Vec<Lag>, Error> {
        let inboxes = self.store().inboxes().await?;
        let specs = broker.topics().await?;
        let reads: BTreeSet<(&Group, Topic)> = self.reads().collect();
        let mut lags = Vec::new();
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
                lags.push(Lag {
                    group: group.clone(),
                    place,
                    low: row.map_or(marks.first, |(_, row)| row.low),
                    end: marks.end,
                });
            }
        }
        Ok(lags)
    }
}
