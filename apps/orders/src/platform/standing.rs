//! Standings: how far a service has come, and what is on its way in it, as plain data that other processes can read.

use factum::{Broker, Error, Lag, ParkedState, RunningService};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Depth;

/// How a service stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Standing {
    /// The service.
    pub service: String,
    /// The position of the last record of its log.
    pub head: u64,
    /// All records up to here are published.
    pub published: u64,
    /// What is on its way, in words; absent when nothing is, or that was not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy: Option<String>,
    /// How many messages are dead, as far as was looked.
    pub dead: u64,
}

impl Standing {
    /// How `service` stands.
    pub(crate) async fn of(
        service: &RunningService,
        broker: &dyn Broker,
        depth: Depth,
    ) -> Result<Self, Error> {
        let store = service.store();
        let (head, published) = (store.head().await?, store.relay().await?.checkpoint);
        let mut standing = Self {
            service: service.name().to_string(),
            head: head.position.0,
            published: published.position.0,
            busy: None,
            dead: 0,
        };
        if depth == Depth::Whole {
            standing.look_into(service, broker).await?;
        }
        Ok(standing)
    }

    async fn look_into(
        &mut self,
        service: &RunningService,
        broker: &dyn Broker,
    ) -> Result<(), Error> {
        for projection in service.operator().projections().await? {
            if projection.reached.0 < self.head {
                let (projection, reached) = (projection.projection, projection.reached);
                self.busy = Some(format!(
                    "projection `{projection}` shows up to {reached} of {}",
                    self.head
                ));
                return Ok(());
            }
        }
        let lags = service.lags(broker).await?;
        if let Some(lag) = lags.iter().find(|lag| lag.messages() > 0) {
            let Lag {
                group,
                place,
                low,
                end,
            } = lag;
            self.busy = Some(format!(
                "group `{group}` has read {place} up to {low} of {end}"
            ));
            return Ok(());
        }
        let mut waiting = 0;
        for parked in service.store().parked_counts().await? {
            match parked.state {
                ParkedState::Retrying => {
                    let (group, count) = (parked.group, parked.count);
                    self.busy = Some(format!("group `{group}` tries {count} again"));
                    return Ok(());
                }
                ParkedState::Dead => self.dead += parked.count,
                ParkedState::Waiting => waiting += parked.count,
                ParkedState::Discarded => {}
            }
        }
        if self.dead == 0 && waiting > 0 {
            // What waits behind nothing is about to be tried.
            let service = &self.service;
            self.busy = Some(format!("service `{service}` has {waiting} more to try"));
        }
        Ok(())
    }
}
