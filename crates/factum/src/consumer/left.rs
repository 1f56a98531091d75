//! What a group has left behind: messages that are parked from topics that it reads no more.
//!
//! No partition is assigned for them, so they get an owner when one of them is to be tried again, under the store's fence
//! as everywhere. Where several processes share the store, each looks whether somebody has let one become overdue: as
//! long as an owner is at work none does, so they don't take the inbox from each other.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use factum_core::{Begin, Error, InboxId, ParkedFilter, ParkedState, Timestamp};

use super::{Consuming, PARKED_LANES_MAX, owner::Owner};

/// How often it is looked what there is to be tried again.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);

/// For how long a message may be due before another process counts its owner as gone: longer than handlers take.
const OVERDUE: Duration = Duration::from_mins(1);

/// The owners of what was left behind.
#[derive(Default)]
pub(super) struct Left {
    owners: BTreeMap<InboxId, Arc<Owner>>,
    looked: Option<Timestamp>,
}

impl Left {
    /// Starts owners where they are needed, and drains those that have nothing to do. Returns the new ones.
    pub(super) async fn look(
        &mut self,
        consuming: &Arc<Consuming>,
    ) -> Result<Vec<Arc<Owner>>, Error> {
        let now = consuming.core.env.now();
        // A clock that was set back says nothing about how long ago it was.
        let recently = |looked| looked <= now && now.since(looked) < LOOK_EVERY;
        if self.looked.is_some_and(recently) {
            return Ok(Vec::new());
        }
        self.looked = Some(now);
        self.owners.retain(|_, owner| !owner.is_gone());
        let (store, group) = (&consuming.core.store, &consuming.group);
        let topics = group.topics();
        let mut started = Vec::new();
        for (inbox, row) in store.inboxes().await? {
            if inbox.group != group.name || topics.contains(&inbox.topic) {
                continue;
            }
            let retrying = |due| ParkedFilter {
                inbox: Some(inbox.clone()),
                state: Some(ParkedState::Retrying),
                due,
                ..ParkedFilter::default()
            };
            if let Some(owner) = self.owners.get(&inbox) {
                if store.parked(&retrying(None), 1).await?.is_empty() {
                    owner.drain();
                }
                continue;
            }
            let due = if store.capabilities().shared {
                now - OVERDUE
            } else {
                now
            };
            if store.parked(&retrying(Some(due)), 1).await?.is_empty() {
                continue;
            }
            let row = store
                .claim_inbox(&inbox, &Begin::at(row.start, row.low))
                .await?;
            let lanes = store.parked_lanes(&inbox, PARKED_LANES_MAX).await?;
            let low = row.low;
            let owner = Arc::new(Owner::new(
                consuming.clone(),
                inbox.clone(),
                row,
                lanes,
                low,
            ));
            self.owners.insert(inbox, owner.clone());
            started.push(owner);
        }
        Ok(started)
    }

    pub(super) fn owners(&self) -> impl Iterator<Item = &Arc<Owner>> {
        self.owners.values()
    }
}
