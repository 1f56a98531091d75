//! The store as a value: for those who clone it, hash it and drive it without waiting, as an explorer of all states
//! does. What it decides is what [`MemoryStore`](super::MemoryStore) decides, by the same code.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use factum_core::{
    At, Begin, Commit, CommitError, Committed, Epoch, Error, InboxId, InboxRow, Lane, LogFilter,
    Parked, ParkedFilter, ParkedId, Record, RelayClaim, ServiceName, StoreId, Timestamp, Topic,
};

use super::{memo::Failed, state::State};

/// All that a store keeps, as a value.
///
/// It is hashed by what the protocol between services rests on: its id, pinned topics, epochs, the log's places and
/// data, the relay's row, inboxes, parked messages and foreign event ids. Views, timers, answers and the audit record
/// are left out.
#[derive(Clone)]
pub struct StoreValue(State);

impl StoreValue {
    /// An empty store in epoch 1.
    pub fn new(id: StoreId, service: ServiceName, at: Timestamp) -> Self {
        Self(State::new(id, service, at))
    }

    /// [`Store::commit`](factum_core::Store::commit), for commits that stand on no other.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn commit(&mut self, commit: Commit) -> Result<Committed, CommitError> {
        self.0.commit(commit, &mut Failed::default())
    }

    /// The present epoch.
    pub fn epoch(&self) -> Epoch {
        self.0.epoch()
    }

    /// The place of the last record.
    pub fn head(&self) -> At {
        self.0.head()
    }

    /// [`Store::read_log`](factum_core::Store::read_log) of every record.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn read_log(&self, after: At, limit: usize) -> Result<Vec<Record>, Error> {
        self.0.check_cursor(after)?;
        let page = self.0.log.page(after, &LogFilter::default(), limit);
        Ok(page.records)
    }

    /// [`Store::pin_topic`](factum_core::Store::pin_topic).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn pin_topic(&mut self, topic: &Topic, partitions: u32) -> Result<(), Error> {
        self.0.pin_topic(topic, partitions)
    }

    /// The epoch behind the largest that this store or `backup` has used.
    pub fn epoch_after(&self, backup: &Self) -> Epoch {
        self.0.epoch_after(&backup.0)
    }

    /// Puts `backup` in place of all that is here, in a new epoch.
    ///
    /// # Errors
    ///
    /// Class conflict unless `epoch` is greater than the backup's.
    pub fn restore(&mut self, backup: Self, epoch: Epoch, at: Timestamp) -> Result<At, Error> {
        self.0.restore(backup.0, epoch, at, "restored")
    }

    /// [`Store::claim_relay`](factum_core::Store::claim_relay).
    pub fn claim_relay(&mut self) -> RelayClaim {
        self.0.claim_relay()
    }

    /// [`Store::relay`](factum_core::Store::relay).
    pub fn relay(&self) -> RelayClaim {
        self.0.relay_claim()
    }

    /// [`Store::claim_inbox`](factum_core::Store::claim_inbox).
    pub fn claim_inbox(&mut self, inbox: &InboxId, begin: &Begin) -> InboxRow {
        self.0.claim_inbox(inbox, begin)
    }

    /// [`Store::inbox`](factum_core::Store::inbox).
    pub fn inbox(&self, inbox: &InboxId) -> Option<&InboxRow> {
        self.0.inboxes.get(inbox)
    }

    /// [`Store::parked`](factum_core::Store::parked), of all that match.
    pub fn parked(&self, filter: &ParkedFilter) -> Vec<Parked> {
        self.0.parked.find(filter, usize::MAX)
    }

    /// Every parked message, in the order of their ids.
    pub fn all_parked(&self) -> impl Iterator<Item = &Parked> {
        self.0.parked.iter()
    }

    /// [`Store::parked_one`](factum_core::Store::parked_one).
    pub fn parked_one(&self, id: &ParkedId) -> Option<&Parked> {
        self.0.parked.get(id)
    }

    /// [`Store::parked_lanes`](factum_core::Store::parked_lanes).
    pub fn parked_lanes(&self, inbox: &InboxId, limit: usize) -> Vec<Lane> {
        self.0.parked.lanes(inbox, limit)
    }

    /// Writes a parked message past all conditions: for those who plant faults.
    pub fn put_parked(&mut self, parked: Parked) {
        self.0.parked.put(parked);
    }
}

impl Hash for StoreValue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self(store) = self;
        (store.identity.id, &store.topics).hash(state);
        for span in &store.epochs {
            (span.epoch, span.first).hash(state);
        }
        for record in store.log.behind(factum_core::Position::ZERO) {
            (record.at, &record.draft.data).hash(state);
        }
        store.relay.hash(state);
        store.inboxes.hash(state);
        store.parked.iter().for_each(|parked| parked.hash(state));
        store.event_ids.hash(state);
    }
}

impl fmt::Debug for StoreValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(store) = self;
        f.debug_struct("StoreValue")
            .field("head", &store.head())
            .field("inboxes", &store.inboxes)
            .finish_non_exhaustive()
    }
}
