//! The whole state of one store, and what is done to it besides commits: epochs, claims, pruning.

use std::collections::BTreeMap;

use factum_core::{
    At, AuditEntry, Begin, Epoch, EpochSpan, Error, Fence, Holder, InboxId, InboxRow, Lease,
    OwnerEpoch, ParkedId, Position, ProjectionClaim, ProjectionName, ProjectionState, Prune,
    RelayClaim, Role, ServiceName, Signal, Snapshot, StoreId, StoreIdentity, StreamId, Timestamp,
    Topic,
};

use super::{
    log::Log,
    memo::{Answers, Applied, EventIds},
    parked::ParkedRows,
    tables::Tables,
    timers::Timers,
};

/// All that a store keeps.
#[derive(Clone)]
pub(super) struct State {
    pub(super) identity: StoreIdentity,
    pub(super) epochs: Vec<EpochSpan>,
    pub(super) log: Log,
    pub(super) topics: BTreeMap<Topic, u32>,
    /// By stream and fingerprint.
    pub(super) snapshots: BTreeMap<StreamId, BTreeMap<String, Snapshot>>,
    pub(super) inboxes: BTreeMap<InboxId, InboxRow>,
    pub(super) parked: ParkedRows,
    pub(super) event_ids: EventIds,
    pub(super) answers: Answers,
    pub(super) applied: Applied,
    pub(super) relay: Relay,
    pub(super) projections: BTreeMap<(ProjectionName, u32), Projection>,
    /// The last fences of generations that were forgotten: one that is made anew must not give an owner of
    /// the old one its fence back.
    forgotten: BTreeMap<(ProjectionName, u32), Fence>,
    pub(super) timers: Timers,
    pub(super) timers_fence: Fence,
    leases: BTreeMap<Role, Lease>,
    pub(super) tables: Tables,
    pub(super) audit: Vec<AuditEntry>,
}

/// The relay's row.
#[derive(Clone, Default, Hash)]
pub(super) struct Relay {
    pub(super) fence: Fence,
    pub(super) checkpoint: At,
    pub(super) lasts: BTreeMap<(Topic, u32), At>,
}

/// The row of one generation of a projection.
#[derive(Clone)]
pub(super) struct Projection {
    pub(super) fence: Fence,
    pub(super) checkpoint: At,
    pub(super) fingerprint: String,
}

impl State {
    /// An empty store in its first epoch.
    pub(super) fn new(id: StoreId, service: ServiceName, at: Timestamp) -> Self {
        let first = EpochSpan {
            epoch: Epoch(1),
            first: Position(1),
            opened: at,
            reason: "created".into(),
        };
        Self {
            identity: StoreIdentity {
                id,
                service,
                epoch: first.epoch,
            },
            epochs: vec![first],
            log: Log::default(),
            topics: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            parked: ParkedRows::default(),
            event_ids: EventIds::default(),
            answers: Answers::default(),
            applied: Applied::default(),
            relay: Relay::default(),
            projections: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            timers: Timers::default(),
            timers_fence: Fence::default(),
            leases: BTreeMap::new(),
            tables: Tables::default(),
            audit: Vec::new(),
        }
    }

    /// The present epoch.
    pub(super) fn epoch(&self) -> Epoch {
        self.identity.epoch
    }

    /// The place of the last record.
    pub(super) fn head(&self) -> At {
        self.log.head()
    }

    /// The value of a signal.
    pub(super) fn signal(&self, signal: Signal) -> u64 {
        match signal {
            Signal::Head => self.head().position.0,
            Signal::Parking => self.parked.changes,
            Signal::Timers => self.timers.changes,
        }
    }

    /// The epoch behind the largest that this state or `backup` has used.
    pub(super) fn epoch_after(&self, backup: &Self) -> Epoch {
        Epoch(self.epoch().max(backup.epoch()).0 + 1)
    }

    /// Puts `backup` in place of all that is here, in the new epoch `epoch`.
    pub(super) fn restore(
        &mut self,
        mut backup: Self,
        epoch: Epoch,
        at: Timestamp,
        reason: &str,
    ) -> Result<At, Error> {
        backup.open_epoch(epoch, at, reason)?;
        // Counters that callers compare with what they saw must not stand still at a value seen.
        backup.parked.changes = self.parked.changes.max(backup.parked.changes) + 1;
        backup.timers.changes = self.timers.changes.max(backup.timers.changes) + 1;
        *self = backup;
        Ok(self.head())
    }

    /// Refuses a place that does not lie on the present time line.
    pub(super) fn check_cursor(&self, at: At) -> Result<(), Error> {
        if at == At::ZERO {
            return Ok(());
        }
        let index = self.epochs.iter().position(|span| span.epoch == at.epoch);
        let end = index.map(|index| match self.epochs.get(index + 1) {
            Some(next) => Position(next.first.0 - 1),
            None => self.head().position,
        });
        match end {
            Some(end) if at.position <= end => Ok(()),
            Some(end) => Err(Error::conflict(format!(
                "place {at} is not on the present time line: epoch {} ends at position {end}",
                at.epoch
            ))),
            None => Err(Error::conflict(format!(
                "place {at} is not on the present time line: there was no epoch {}",
                at.epoch
            ))),
        }
    }

    /// Opens a new epoch.
    pub(super) fn open_epoch(
        &mut self,
        epoch: Epoch,
        at: Timestamp,
        reason: &str,
    ) -> Result<(), Error> {
        if epoch <= self.epoch() {
            return Err(Error::conflict(format!(
                "epoch {epoch} can't be opened: the present one is {}, and a new one must be greater",
                self.epoch()
            )));
        }
        let head = self.head();
        self.epochs.push(EpochSpan {
            epoch,
            first: head.position.next(),
            opened: at,
            reason: reason.into(),
        });
        self.identity.epoch = epoch;
        if self.relay.checkpoint.position > head.position {
            self.relay.checkpoint = head;
            self.relay.lasts.clear();
            for record in self.log.behind(Position::ZERO) {
                if let Some(to) = &record.draft.destination {
                    self.relay
                        .lasts
                        .insert((to.topic.clone(), to.partition), record.at);
                }
            }
        }
        for projection in self.projections.values_mut() {
            if projection.checkpoint.position > head.position {
                projection.checkpoint = head;
            }
        }
        Ok(())
    }

    /// The fence of the next owner of a role.
    fn raised(&self, fence: Fence) -> Fence {
        Fence {
            store: self.epoch(),
            owner: OwnerEpoch(fence.owner.0 + 1),
        }
    }

    /// Claims an inbox.
    pub(super) fn claim_inbox(&mut self, inbox: &InboxId, begin: &Begin) -> InboxRow {
        let known = self.inboxes.get(inbox).cloned();
        let mut row = known.unwrap_or_else(|| begin.row());
        row.fence = self.raised(row.fence);
        // The owner is told how the one before it ended; until it releases the row, it has not ended well.
        self.inboxes.insert(
            inbox.clone(),
            InboxRow {
                clean: false,
                ..row.clone()
            },
        );
        row
    }

    /// Claims the relay.
    pub(super) fn claim_relay(&mut self) -> RelayClaim {
        self.relay.fence = self.raised(self.relay.fence);
        self.relay_claim()
    }

    /// The relay's row.
    pub(super) fn relay_claim(&self) -> RelayClaim {
        let lasts = self.relay.lasts.iter();
        RelayClaim {
            fence: self.relay.fence,
            checkpoint: self.relay.checkpoint,
            lasts: lasts
                .map(|((topic, partition), at)| (topic.clone(), *partition, *at))
                .collect(),
        }
    }

    /// Claims a generation of a projection.
    pub(super) fn claim_projection(
        &mut self,
        projection: &ProjectionName,
        generation: u32,
        fingerprint: &str,
    ) -> ProjectionClaim {
        let key = (projection.clone(), generation);
        let known = self.projections.get(&key).map(|row| row.fence);
        let known = known.or_else(|| self.forgotten.remove(&key));
        let fence = self.raised(known.unwrap_or_default());
        let row = self.projections.entry(key).or_insert_with(|| Projection {
            fence,
            checkpoint: At::ZERO,
            fingerprint: fingerprint.into(),
        });
        row.fence = fence;
        if row.fingerprint != fingerprint {
            row.fingerprint = fingerprint.into();
            row.checkpoint = At::ZERO;
        }
        ProjectionClaim {
            fence,
            checkpoint: row.checkpoint,
        }
    }

    /// Forgets a generation of a projection.
    pub(super) fn forget_projection(&mut self, projection: &ProjectionName, generation: u32) {
        let key = (projection.clone(), generation);
        if let Some(row) = self.projections.remove(&key) {
            self.forgotten.insert(key, row.fence);
        }
    }

    /// All generations of all projections.
    pub(super) fn projections(&self) -> Vec<ProjectionState> {
        let state = |((projection, generation), row): (&(ProjectionName, u32), &Projection)| {
            ProjectionState {
                projection: projection.clone(),
                generation: *generation,
                fingerprint: row.fingerprint.clone(),
                checkpoint: row.checkpoint,
            }
        };
        self.projections.iter().map(state).collect()
    }

    /// Claims the timers.
    pub(super) fn claim_timers(&mut self) -> Fence {
        self.timers_fence = self.raised(self.timers_fence);
        self.timers_fence
    }

    /// The lease of a role.
    pub(super) fn lease(&self, role: &Role) -> Lease {
        self.leases.get(role).copied().unwrap_or_default()
    }

    /// Gives a lease to another holder, if it was not changed since its beat was `seen`.
    pub(super) fn set_lease(&mut self, role: &Role, seen: u64, holder: Option<Holder>) -> bool {
        let lease = self.leases.entry(role.clone()).or_default();
        let unchanged = lease.beat == seen;
        if unchanged {
            *lease = Lease {
                holder,
                beat: seen + 1,
            };
        }
        unchanged
    }

    /// Pins a topic's partition count.
    pub(super) fn pin_topic(&mut self, topic: &Topic, partitions: u32) -> Result<(), Error> {
        if partitions == 0 {
            return Err(Error::poison(format!(
                "topic `{topic}` can't have 0 partitions"
            )));
        }
        let pinned = *self.topics.entry(topic.clone()).or_insert(partitions);
        if pinned == partitions {
            return Ok(());
        }
        Err(Error::fatal(format!(
            "topic `{topic}` is pinned with {pinned} partitions in store `{}`, not {partitions}",
            self.identity.service
        )))
    }

    /// Drops what has expired.
    pub(super) fn prune(&mut self, prune: Prune) -> u64 {
        let discarded = self.parked.prune(prune.discarded);
        let parked = &self.parked;
        let event_ids = self
            .event_ids
            .prune(prune.expired, |id: &ParkedId| parked.get(id).is_some());
        discarded + event_ids + self.answers.prune(prune.expired)
    }
}
