//! Parked messages: the rows, and the indexes by lane and by due time that are kept with them.

use std::collections::{BTreeMap, BTreeSet};

use factum_core::{
    Group, InboxId, Lane, PAGE_BYTES_MAX, Parked, ParkedCount, ParkedFilter, ParkedId, ParkedState,
    Timestamp,
};

/// All parked messages.
#[derive(Clone, Default)]
pub(super) struct ParkedRows {
    inboxes: BTreeMap<InboxId, InboxRows>,
    /// How many are in a lane, by group: all but the discarded ones.
    in_group: BTreeMap<Group, u64>,
    /// Grows with each change.
    pub(super) changes: u64,
}

/// Those of one inbox.
#[derive(Clone, Default)]
struct InboxRows {
    rows: BTreeMap<u64, Parked>,
    /// The offsets in each lane that is parked: all but the discarded ones.
    lanes: BTreeMap<Lane, BTreeSet<u64>>,
    /// Those that are retrying, by when they are due.
    due: BTreeSet<(Timestamp, u64)>,
}

impl ParkedRows {
    /// Whether a lane is parked.
    pub(super) fn is_parked(&self, inbox: &InboxId, lane: &Lane) -> bool {
        self.inboxes
            .get(inbox)
            .is_some_and(|inbox| inbox.lanes.contains_key(lane))
    }

    /// All of them, in the order of their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Parked> {
        self.inboxes.values().flat_map(|inbox| inbox.rows.values())
    }

    /// How many are parked in a lane, and in the whole group.
    pub(super) fn counts_of(&self, inbox: &InboxId, lane: &Lane) -> (u64, u64) {
        let in_lane = self
            .inboxes
            .get(inbox)
            .and_then(|inbox| inbox.lanes.get(lane));
        let in_group = self.in_group.get(&inbox.group).copied().unwrap_or(0);
        (in_lane.map_or(0, |lane| lane.len() as u64), in_group)
    }

    /// One of them.
    pub(super) fn get(&self, id: &ParkedId) -> Option<&Parked> {
        self.inboxes.get(&id.inbox)?.rows.get(&id.offset)
    }

    /// Writes a row, new or changed.
    pub(super) fn put(&mut self, parked: Parked) {
        self.changes += 1;
        self.take_out(&parked.id);
        let inbox = self.inboxes.entry(parked.id.inbox.clone()).or_default();
        let offset = parked.id.offset;
        if parked.state != ParkedState::Discarded {
            inbox
                .lanes
                .entry(parked.lane.clone())
                .or_default()
                .insert(offset);
            *self
                .in_group
                .entry(parked.id.inbox.group.clone())
                .or_default() += 1;
        }
        if let (ParkedState::Retrying, Some(due)) = (parked.state, parked.due) {
            inbox.due.insert((due, offset));
        }
        inbox.rows.insert(offset, parked);
    }

    /// Removes a row.
    pub(super) fn remove(&mut self, id: &ParkedId) {
        self.changes += 1;
        self.take_out(id);
        if self
            .inboxes
            .get(&id.inbox)
            .is_some_and(|inbox| inbox.rows.is_empty())
        {
            self.inboxes.remove(&id.inbox);
        }
    }

    fn take_out(&mut self, id: &ParkedId) -> Option<Parked> {
        let inbox = self.inboxes.get_mut(&id.inbox)?;
        let parked = inbox.rows.remove(&id.offset)?;
        if let Some(due) = parked.due {
            inbox.due.remove(&(due, id.offset));
        }
        if parked.state != ParkedState::Discarded {
            let lane = inbox
                .lanes
                .get_mut(&parked.lane)
                .expect("a parked row is in its lane");
            lane.remove(&id.offset);
            if lane.is_empty() {
                inbox.lanes.remove(&parked.lane);
            }
            let count = self
                .in_group
                .get_mut(&id.inbox.group)
                .expect("a parked row is counted");
            *count -= 1;
        }
        Some(parked)
    }

    /// Makes the next of a lane its head, due `now`, after the one before has left.
    pub(super) fn release(&mut self, inbox: &InboxId, lane: &Lane, now: Timestamp) {
        let rows = self.inboxes.get(inbox);
        let next = rows.and_then(|rows| rows.rows.get(rows.lanes.get(lane)?.first()?));
        if let Some(mut next) = next
            .filter(|next| next.state == ParkedState::Waiting)
            .cloned()
        {
            next.released(now);
            self.put(next);
        }
    }

    /// Those that match, in the order of their ids.
    pub(super) fn find(&self, filter: &ParkedFilter, limit: usize) -> Vec<Parked> {
        let all = self.inboxes.iter();
        let mut bytes = 0;
        all.filter(|(id, _)| filter.inbox.as_ref().is_none_or(|inbox| inbox == *id))
            .flat_map(|(_, inbox)| inbox.rows.values())
            .filter(|parked| filter.matches(parked))
            .take(limit)
            .take_while(|parked| {
                let room = bytes < PAGE_BYTES_MAX;
                bytes += parked.size();
                room
            })
            .cloned()
            .collect()
    }

    /// How many there are, by group, state and cause.
    pub(super) fn counts(&self) -> Vec<ParkedCount> {
        let mut counts = BTreeMap::new();
        for parked in self.inboxes.values().flat_map(|inbox| inbox.rows.values()) {
            let cause = parked.failure.as_ref().map(|failure| failure.cause.clone());
            let key = (parked.id.inbox.group.clone(), parked.state, cause);
            let (count, oldest) = counts.entry(key).or_insert((0, parked.parked_at));
            *count += 1;
            *oldest = parked.parked_at.min(*oldest);
        }
        let count = |((group, state, cause), (count, oldest))| ParkedCount {
            group,
            state,
            cause,
            count,
            oldest,
        };
        counts.into_iter().map(count).collect()
    }

    /// When the first retry of an inbox is due.
    pub(super) fn next_retry(&self, inbox: &InboxId) -> Option<Timestamp> {
        self.inboxes.get(inbox)?.due.first().map(|(due, _)| *due)
    }

    /// The lanes of an inbox that are parked.
    pub(super) fn lanes(&self, inbox: &InboxId, limit: usize) -> Vec<Lane> {
        let lanes = self
            .inboxes
            .get(inbox)
            .into_iter()
            .flat_map(|inbox| inbox.lanes.keys())
            .filter(|lane| matches!(lane, Lane::Key(_)));
        lanes.take(limit).cloned().collect()
    }

    /// Drops those that were discarded before a time, and says how many.
    pub(super) fn prune(&mut self, before: Timestamp) -> u64 {
        let rows = self.inboxes.values().flat_map(|inbox| inbox.rows.values());
        let old = |parked: &&Parked| {
            parked
                .discarded_at
                .is_some_and(|discarded| discarded < before)
        };
        let dropped: Vec<_> = rows.filter(old).map(|parked| parked.id.clone()).collect();
        for id in &dropped {
            self.remove(id);
        }
        dropped.len() as u64
    }
}
