//! Incidents: a source whose messages a group can't take, because one before them is missing and doesn't come.
//!
//! A message whose predecessor was lost on the way is left out, since the relay will publish both again. When that
//! doesn't happen (the broker lost what it had acknowledged, retention was faster than the group, a log was cut), all
//! later messages of that source would be left out as well, without a failure that anybody sees. So each source that
//! is behind is watched, and what is not mended within [`MISSING_MAX`] is an incident that a person has to end.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use factum_core::{At, InboxId, Link, StoreId, Timestamp, chain::SOURCES_MAX};
use serde::Serialize;

/// How long a predecessor may be missing before that is an incident: a relay that goes on publishes both again within
/// seconds.
pub(crate) const MISSING_MAX: Duration = Duration::from_mins(1);

/// How many sources of one partition are watched. There is one for each service that publishes to the topic.
const WATCHED_MAX: usize = 1_000;

/// A source whose messages a group can't take, because one before them is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Incident {
    /// The group, topic and partition.
    pub inbox: InboxId,
    /// The store whose messages are not taken.
    pub source: StoreId,
    /// The last place that was taken from it.
    pub last: At,
    /// The record that the first message which was left out comes behind: it, or one before it, is missing.
    pub expected: At,
    /// The first message that was left out.
    pub seen: At,
    /// Its offset.
    pub offset: u64,
    /// The last message that was left out.
    pub latest: At,
    /// How many were left out, as far as this process has seen.
    pub messages: u64,
    /// Since when.
    pub since: Timestamp,
    /// Whether nothing is missing, but the partition has more sources than a group keeps in mind.
    pub crowded: bool,
}

impl Incident {
    /// What an operator is told.
    pub(crate) fn reason(&self) -> String {
        let Self {
            inbox,
            source,
            last,
            expected,
            seen,
            offset,
            messages,
            since,
            ..
        } = self;
        if self.crowded {
            return format!(
                "inbox `{inbox}` takes no message of source {source} since {since}: it keeps {SOURCES_MAX} sources in \
                 mind, and this is one more ({messages} left out so far). Retire one that publishes no more, and have \
                 this one's relay publish from its beginning again"
            );
        }
        format!(
            "inbox `{inbox}` has taken no message of source {source} since {since}: the one at offset {offset} is \
             record {seen} and comes behind record {expected}, and the last that was taken is {last} ({messages} left \
             out so far). Rewind the relay of the source to {last}; if its log has lost the records, accept the loss"
        )
    }
}

/// The sources of one partition that are behind, as its owner sees them.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    missing: BTreeMap<StoreId, Incident>,
    /// Those that were raised.
    raised: Vec<StoreId>,
}

/// What came of a look at the watch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing has changed.
    Same,
    /// There are incidents, new or grown.
    Raised,
    /// There were, and there are none any more.
    Ended,
    /// An operator has ended one: what was remembered of the partition no longer holds.
    Mended,
}

impl Watch {
    /// Takes note of a message of the partition: `last` is the place of its source as of it; `crowded` says whether it has
    /// none because there are too many sources.
    pub(crate) fn note(
        &mut self,
        inbox: &InboxId,
        offset: u64,
        link: Link,
        last: At,
        crowded: bool,
        now: Timestamp,
    ) {
        if link.at == last {
            // It was taken, and so all before it were.
            self.missing.remove(&link.source);
        }
        if link.at <= last {
            return;
        }
        if self.missing.len() >= WATCHED_MAX && !self.missing.contains_key(&link.source) {
            return;
        }
        let incident = self.missing.entry(link.source).or_insert_with(|| Incident {
            inbox: inbox.clone(),
            source: link.source,
            last,
            expected: link.previous,
            seen: link.at,
            offset,
            latest: link.at,
            messages: 0,
            since: now,
            crowded,
        });
        incident.messages += 1;
        incident.latest = incident.latest.max(link.at);
    }

    /// Raises what has been missing for too long at `now`, and takes back what is no longer.
    pub(crate) fn look(&mut self, inbox: &InboxId, incidents: &Incidents, now: Timestamp) -> Look {
        if self.missing.is_empty() && self.raised.is_empty() {
            return Look::Same;
        }
        let mut all = incidents.lock();
        let key = |source: &StoreId| (inbox.clone(), *source);
        if self
            .raised
            .iter()
            .any(|source| !all.contains_key(&key(source)))
        {
            return Look::Mended;
        }
        // A clock that was set back says nothing about for how long, and ends no incident.
        for incident in self.missing.values_mut() {
            incident.since = incident.since.min(now);
        }
        let overdue = |incident: &&Incident| {
            self.raised.contains(&incident.source) || now.since(incident.since) >= MISSING_MAX
        };
        let overdue: BTreeMap<_, _> = self
            .missing
            .values()
            .filter(overdue)
            .map(|incident| (key(&incident.source), incident.clone()))
            .collect();
        let before = self.raised.len();
        for source in std::mem::take(&mut self.raised) {
            if !overdue.contains_key(&key(&source)) {
                all.remove(&key(&source));
            }
        }
        self.raised = overdue.keys().map(|(_, source)| *source).collect();
        all.extend(overdue);
        match (before, self.raised.len()) {
            (0, 0) => Look::Same,
            (_, 0) => Look::Ended,
            _ => Look::Raised,
        }
    }

    /// The first of those that were raised.
    pub(crate) fn first(&self) -> Option<&Incident> {
        self.raised
            .first()
            .and_then(|source| self.missing.get(source))
    }

    /// Takes back what was raised: the partition is another's now, or begun anew.
    pub(crate) fn give_up(&mut self, inbox: &InboxId, incidents: &Incidents) {
        let mut all = incidents.lock();
        for source in self.raised.drain(..) {
            all.remove(&(inbox.clone(), source));
        }
    }
}

/// The incidents of a service, as far as this process owns the partitions. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Incidents(Arc<Mutex<BTreeMap<(InboxId, StoreId), Incident>>>);

impl Incidents {
    /// All, in the order of their inboxes.
    pub(crate) fn all(&self) -> Vec<Incident> {
        self.lock().values().cloned().collect()
    }

    /// Notes that an operator has ended one. Its owner finds out, and begins anew.
    pub(crate) fn end(&self, inbox: &InboxId, source: StoreId) {
        self.lock().remove(&(inbox.clone(), source));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(InboxId, StoreId), Incident>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use factum_core::{Group, Topic};
    use factum_testkit::TestEnv;

    use super::*;

    /// It went wrong: a group was well again when its clock was set back, though it still took nothing.
    #[test]
    fn an_incident_stays_one_and_becomes_one_though_the_clock_is_set_back() {
        let inbox = InboxId {
            group: Group::of("stock"),
            topic: Topic::of("orders"),
            partition: 0,
        };
        let link = Link {
            source: StoreId(TestEnv::seeded(1).env().uuid()),
            at: At::new(1, 3),
            previous: At::new(1, 2),
        };
        let now = TestEnv::seeded(1).env().now();
        let earlier = now - Duration::from_hours(2);
        for before in [true, false] {
            let (mut watch, incidents) = (Watch::default(), Incidents::default());
            watch.note(&inbox, 5, link, At::new(1, 1), false, now);
            let mut look = |now| watch.look(&inbox, &incidents, now);
            if before {
                assert_eq!(look(now + MISSING_MAX), Look::Raised);
                assert_eq!(look(earlier), Look::Raised);
                assert_eq!(incidents.all().len(), 1);
            } else {
                assert_eq!(look(earlier), Look::Same);
                assert_eq!(look(earlier + MISSING_MAX), Look::Raised);
            }
        }
    }
}
