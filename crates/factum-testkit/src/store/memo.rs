//! What the store remembers so that nothing is done twice: answers, event ids, and the ids of commits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use factum_core::{
    Answered, CommandInput, CommitError, CommitId, Committed, Group, MessageId, ParkedId, Timestamp,
};

/// How many commits without a guard are remembered. Whoever sends one again after an unknown outcome does so
/// within seconds; at a thousand such commits a second, this is a quarter of a minute, in 2 MB.
const APPLIED_MAX: usize = 16_384;

/// How many failed commits a store object remembers. Commits stand only on those that are under way, of which
/// a process has some thousands at most; in 0.5 MB.
const FAILED_MAX: usize = 16_384;

/// The answers to commands with idempotency keys.
#[derive(Clone, Default)]
pub(super) struct Answers(BTreeMap<String, BTreeMap<String, Answer>>);

#[derive(Clone)]
struct Answer {
    request: u64,
    answered: Answered,
    expires: Timestamp,
}

impl Answers {
    /// Refuses a command that was answered before, or whose key was used for another.
    pub(super) fn check(&self, command: &CommandInput, now: Timestamp) -> Result<(), CommitError> {
        let known = self
            .0
            .get(&command.scope)
            .and_then(|keys| keys.get(&command.key));
        match known.filter(|answer| answer.expires > now) {
            None => Ok(()),
            Some(answer) if answer.request == command.request => {
                Err(CommitError::Answered(Box::new(answer.answered.clone())))
            }
            Some(_) => Err(CommitError::KeyReused {
                key: command.key.clone(),
            }),
        }
    }

    /// Remembers an answer.
    pub(super) fn put(&mut self, command: CommandInput, committed: &Committed) {
        let CommandInput {
            scope,
            key,
            request,
            answer,
            expires,
        } = command;
        let answered = Answered {
            answer,
            head: committed.head,
            first: committed.first,
        };
        self.0.entry(scope).or_default().insert(
            key,
            Answer {
                request,
                answered,
                expires,
            },
        );
    }

    /// What was answered and is remembered at a time, with the hash of the request.
    pub(super) fn get(&self, scope: &str, key: &str, at: Timestamp) -> Option<(u64, Answered)> {
        let answer = self.0.get(scope)?.get(key)?;
        (answer.expires > at).then(|| (answer.request, answer.answered.clone()))
    }

    /// Drops what expired before a time, and says how many that were.
    pub(super) fn prune(&mut self, expired: Timestamp) -> u64 {
        let mut dropped = 0;
        self.0.retain(|_, keys| {
            let before = keys.len();
            keys.retain(|_, answer| answer.expires >= expired);
            dropped += (before - keys.len()) as u64;
            !keys.is_empty()
        });
        dropped
    }
}

/// The ids of foreign messages that a group has handled or parked.
#[derive(Clone, Default, Hash)]
pub(super) struct EventIds(BTreeMap<Group, BTreeMap<MessageId, Taken>>);

#[derive(Clone, Hash)]
struct Taken {
    until: Timestamp,
    /// The parked message that took it: as long as its row is there, the id is kept.
    parked: Option<ParkedId>,
}

impl EventIds {
    /// Whether an id is taken in a group, given which parked messages there are.
    pub(super) fn is_taken(
        &self,
        group: &Group,
        id: &MessageId,
        now: Timestamp,
        is_parked: impl Fn(&ParkedId) -> bool,
    ) -> bool {
        let taken = self.0.get(group).and_then(|ids| ids.get(id));
        taken.is_some_and(|taken| taken.until > now || taken.parked.as_ref().is_some_and(is_parked))
    }

    /// Takes an id until a time, or for as long as `parked` is there if that is longer.
    pub(super) fn take(
        &mut self,
        group: &Group,
        id: MessageId,
        until: Timestamp,
        parked: Option<ParkedId>,
    ) {
        let taken = self.0.entry(group.clone()).or_default().entry(id);
        let taken = taken.or_insert(Taken {
            until,
            parked: None,
        });
        taken.until = taken.until.max(until);
        taken.parked = parked.or(taken.parked.take());
    }

    /// Drops what expired before a time and has no parked row, and says how many that were.
    pub(super) fn prune(
        &mut self,
        expired: Timestamp,
        is_parked: impl Fn(&ParkedId) -> bool,
    ) -> u64 {
        let mut dropped = 0;
        self.0.retain(|_, ids| {
            let before = ids.len();
            ids.retain(|_, taken| {
                taken.until >= expired || taken.parked.as_ref().is_some_and(&is_parked)
            });
            dropped += (before - ids.len()) as u64;
            !ids.is_empty()
        });
        dropped
    }
}

/// The last commits that nothing but their id keeps from being applied twice.
#[derive(Clone, Default)]
pub(super) struct Applied {
    results: BTreeMap<CommitId, Committed>,
    order: VecDeque<CommitId>,
}

impl Applied {
    /// What a commit became when it was applied.
    pub(super) fn get(&self, id: CommitId) -> Option<&Committed> {
        self.results.get(&id)
    }

    /// Remembers what a commit became.
    pub(super) fn put(&mut self, id: CommitId, committed: Committed) {
        if self.order.len() == APPLIED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.results.remove(&oldest);
        }
        self.results.insert(id, committed);
        self.order.push_back(id);
    }
}

/// The last commits of one store object that were not applied, for those that stand on them.
#[derive(Default)]
pub(super) struct Failed {
    ids: BTreeSet<CommitId>,
    order: VecDeque<CommitId>,
}

impl Failed {
    /// Refuses a commit that stands on one that was not applied.
    pub(super) fn check(&self, stands_on: &[CommitId]) -> Result<(), CommitError> {
        match stands_on.iter().find(|id| self.ids.contains(id)) {
            Some(id) => Err(CommitError::StoodOnFailed(*id)),
            None => Ok(()),
        }
    }

    /// Takes note of how a commit ended. One that failed may be sent again, and be applied then.
    pub(super) fn note(&mut self, id: CommitId, failed: bool) {
        if !failed {
            if self.ids.remove(&id) {
                self.order.retain(|known| *known != id);
            }
        } else if self.ids.insert(id) {
            self.order.push_back(id);
            if self.order.len() > FAILED_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.ids.remove(&oldest);
            }
        }
    }
}
