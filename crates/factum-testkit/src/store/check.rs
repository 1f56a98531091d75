//! The first half of a commit: looking whether all that it asks for holds. Nothing is changed here.

use factum_core::{
    Commit, CommitError, Condition, Error, Fence, InboxId, InboxRow, Input, MessageInput, Owned,
    Parked, ParkedId, ParkedInput, StreamId, StreamKey, Value, Version, ViewWrite, commit::key_of,
};

use super::{memo::Failed, state::State};

/// What was found out while looking, so that writing need not look again.
pub(super) struct Plan {
    /// The inbox row as the commit leaves it.
    pub(super) inbox: Option<InboxRow>,
    /// The parked row as an operator's commit leaves it.
    pub(super) parked: Option<Parked>,
    /// For each append, the version of its last event.
    pub(super) versions: Vec<Version>,
    /// For each write of a view, the values of the declared fields.
    pub(super) values: Vec<Vec<Value>>,
}

impl State {
    /// Looks whether all that `commit` asks for holds.
    pub(super) fn check(&self, commit: &Commit, failed: &Failed) -> Result<Plan, CommitError> {
        commit
            .input
            .check_owner(self.epoch(), |owned| self.stored_fence(owned))?;
        failed.check(&commit.stands_on)?;
        let (inbox, parked) = self.check_input(commit)?;
        let versions = self.check_streams(commit)?;
        self.check_rows(commit)?;
        // Last what makes the commit itself bad: one that was decided on a state that is gone shall be
        // decided again, and not be taken for poison.
        commit.check_drafts(|topic| self.topics.get(topic).copied())?;
        let values = self.check_views(commit)?;
        Ok(Plan {
            inbox,
            parked,
            versions,
            values,
        })
    }

    fn stored_fence(&self, owned: Owned<'_>) -> Fence {
        match owned {
            Owned::Inbox(inbox) => self.inboxes.get(inbox).map(|row| row.fence),
            Owned::Projection(projection, generation) => self
                .projections
                .get(&(projection.clone(), generation))
                .map(|row| row.fence),
            Owned::Timers => Some(self.timers_fence),
            Owned::Relay => Some(self.relay.fence),
        }
        .unwrap_or_default()
    }

    fn check_input(
        &self,
        commit: &Commit,
    ) -> Result<(Option<InboxRow>, Option<Parked>), CommitError> {
        match &commit.input {
            Input::None | Input::Relay(_) => Ok((None, None)),
            Input::Command(command) => self
                .answers
                .check(command, commit.at)
                .map(|()| (None, None)),
            Input::Message(message) => self
                .check_message(commit, message)
                .map(|row| (Some(row), None)),
            Input::Void(void) => Ok((Some(void.applied(self.row(&void.inbox))?), None)),
            Input::Parked(ParkedInput { id, revision, .. }) => {
                self.parked_row(id)?.expect_retrying(*revision)?;
                Ok((None, None))
            }
            Input::Operator(operator) => {
                let row = self.parked_row(&operator.id)?.clone();
                Ok((None, Some(operator.applied(row, commit)?)))
            }
            Input::Log(input) => {
                let key = (input.projection.clone(), input.generation);
                match self.projections.get(&key).map(|row| row.checkpoint) {
                    Some(actual) if actual != input.from => Err(CommitError::CheckpointMoved {
                        projection: key.0,
                        actual,
                    }),
                    _ => Ok((None, None)),
                }
            }
            Input::Timer(input) => self.timers.check(input).map(|()| (None, None)),
        }
    }

    fn row(&self, inbox: &InboxId) -> &InboxRow {
        self.inboxes
            .get(inbox)
            .expect("its fence was compared above")
    }

    fn parked_row(&self, id: &ParkedId) -> Result<&Parked, CommitError> {
        let gone = || CommitError::RevisionChanged {
            id: id.clone(),
            actual: None,
        };
        self.parked.get(id).ok_or_else(gone)
    }

    fn check_message(
        &self,
        commit: &Commit,
        message: &MessageInput,
    ) -> Result<InboxRow, CommitError> {
        let MessageInput { inbox, lane, .. } = message;
        let is_taken = message.event_id.as_ref().is_some_and(|(id, _)| {
            self.event_ids
                .is_taken(&inbox.group, id, commit.at, |parked| {
                    self.parked.get(parked).is_some()
                })
        });
        let is_parked = self.parked.is_parked(inbox, lane);
        message.applied(self.row(inbox), is_parked, is_taken, |room| {
            let (in_lane, in_group) = self.parked.counts_of(inbox, lane);
            room.check(in_lane, in_group)
        })
    }

    /// Compares the versions and keys of streams, and says which version each append leads to.
    fn check_streams(&self, commit: &Commit) -> Result<Vec<Version>, CommitError> {
        for condition in &commit.conditions {
            if let Condition::Stream { stream, expected } = condition {
                let actual = self.log.version(stream);
                if !expected.allows(actual) {
                    return Err(CommitError::Conflict {
                        stream: stream.clone(),
                        expected: *expected,
                        actual,
                    });
                }
            }
        }
        // How far this commit's own appends have brought each stream; hardly ever more than a few.
        let mut own: Vec<(&StreamId, Version, StreamKey)> = Vec::new();
        let mut versions = Vec::with_capacity(commit.appends.len());
        for append in &commit.appends {
            let stream = &append.stream;
            let index = own
                .iter()
                .position(|(known, ..)| *known == stream)
                .unwrap_or_else(|| {
                    let known = self.log.stream(stream);
                    let key = known.map(|known| known.key.clone()).unwrap_or_default();
                    own.push((stream, self.log.version(stream), key));
                    own.len() - 1
                });
            let (_, version, key) = &mut own[index];
            if !append.expected.allows(*version) {
                let (expected, actual) = (append.expected, *version);
                return Err(CommitError::Conflict {
                    stream: stream.clone(),
                    expected,
                    actual,
                });
            }
            for draft in append
                .drafts
                .iter()
                .filter(|draft| draft.destination.is_some())
            {
                key.fix(stream, key_of(draft))?;
            }
            version.0 += append.drafts.len() as u64;
            versions.push(*version);
        }
        Ok(versions)
    }

    fn check_rows(&self, commit: &Commit) -> Result<(), CommitError> {
        for condition in &commit.conditions {
            if let Condition::Row { view, id, version } = condition
                && self.tables.table(view)?.version(id) != *version
            {
                return Err(CommitError::RowChanged {
                    view: view.clone(),
                    id: id.clone(),
                });
            }
        }
        Ok(())
    }

    fn check_views(&self, commit: &Commit) -> Result<Vec<Vec<Value>>, Error> {
        let check = |write: &ViewWrite| match write {
            ViewWrite::Put {
                view, document, id, ..
            } => {
                let table = self.tables.table(view)?;
                table
                    .extract(document)
                    .map_err(|error| error.while_(format!("row `{id}` of view `{view}`")))
            }
            ViewWrite::Delete { view, .. } => self.tables.table(view).map(|_| Vec::new()),
            ViewWrite::Activate { .. } => Ok(Vec::new()),
            ViewWrite::Sql { .. } => Err(Error::poison(
                "own SQL can't be committed here: the memory store speaks none (see its capabilities)",
            )),
        };
        commit.views.iter().map(check).collect()
    }
}
