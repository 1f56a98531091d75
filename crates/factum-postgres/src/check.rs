//! The first half of a commit: looking whether all that it asks for holds. Nothing is changed here.

use factum_core::{
    Commit, CommitError, Condition, Error, Fence, Group, InboxId, InboxRow, Input, MessageInput,
    Owned, Parked, ParkedId, ParkedInput, ParkedState, Retried, StreamId, StreamKey, Value,
    Version, ViewRef, ViewWrite, commit::key_of,
};

use crate::{
    desk::{Desk, Refusal},
    inbox::NOBODY,
    streams::Head,
    view_table::RowVersion,
};

/// What was found out while looking, so that applying need not look again.
pub(crate) struct Plan {
    /// The inbox row as the commit leaves it.
    pub(crate) inbox: Option<InboxRow>,
    /// The parked row as an operator's commit leaves it, or as a retry found it.
    pub(crate) parked: Option<Parked>,
    /// What it appends to streams.
    pub(crate) appends: Appends,
    /// For each write of a view, the values of the declared fields.
    pub(crate) values: Vec<Vec<Value>>,
}

/// What a commit appends to streams.
pub(crate) struct Appends {
    /// The streams as it leaves them.
    pub(crate) streams: Vec<(StreamId, Head)>,
    /// For each append, which of `streams` it is for, and the version of its last event.
    pub(crate) versions: Vec<(usize, Version)>,
    /// For each append, the stream's key as of each of its events.
    pub(crate) keys: Vec<Vec<StreamKey>>,
}

impl Desk<'_> {
    /// Looks whether all that `commit` asks for holds.
    pub(crate) fn check(&self, commit: &Commit) -> Result<Plan, Refusal> {
        commit
            .input
            .check_owner(self.image.epoch, |owned| self.stored_fence(owned))?;
        self.failed.check(&commit.stands_on, &self.decided)?;
        let (inbox, parked) = self.check_input(commit)?;
        let appends = self.check_streams(commit)?;
        self.check_rows(commit)?;
        // Last what makes the commit itself bad: one that was decided on a state that is gone shall be
        // decided again, and not be taken for poison.
        commit.check_drafts(|topic| self.image.topics.get(topic).copied())?;
        let values = self.check_views(commit)?;
        Ok(Plan {
            inbox,
            parked,
            appends,
            values,
        })
    }

    fn stored_fence(&self, owned: Owned<'_>) -> Fence {
        match owned {
            Owned::Inbox(inbox) => self.inbox(inbox).map(|inbox| inbox.row.fence),
            Owned::Projection(projection, generation) => self
                .image
                .projection(&(projection.clone(), generation))
                .map(|row| row.fence),
            Owned::Timers => Some(self.image.timers),
            Owned::Relay => Some(self.image.relay.fence),
        }
        .unwrap_or(NOBODY)
    }

    fn check_input(&self, commit: &Commit) -> Result<(Option<InboxRow>, Option<Parked>), Refusal> {
        match &commit.input {
            Input::None | Input::Relay(_) => Ok((None, None)),
            Input::Command(command) => {
                let key = (command.scope.clone(), command.key.clone());
                if let Some((index, request, answer)) = self.answered.get(&key) {
                    return Err(if *request == command.request {
                        Refusal::AnsweredBy(*index, answer.clone())
                    } else {
                        CommitError::KeyReused { key: key.1 }.into()
                    });
                }
                match self.loaded.answers.get(&key) {
                    Some(known) if known.expires > commit.at => {
                        if known.request == command.request {
                            Err(CommitError::Answered(Box::new(known.answered.clone())).into())
                        } else {
                            Err(CommitError::KeyReused { key: key.1 }.into())
                        }
                    }
                    _ => Ok((None, None)),
                }
            }
            Input::Message(message) => {
                let row = self.check_message(commit, message)?;
                Ok((Some(row), None))
            }
            Input::Void(void) => Ok((Some(void.applied(self.row(&void.inbox))?), None)),
            Input::Parked(ParkedInput {
                id,
                revision,
                outcome,
                ..
            }) => {
                let parked = self.parked_row(id)?;
                parked.expect_retrying(*revision)?;
                if matches!(outcome, Retried::Settled) {
                    self.next_is_known(&parked)?;
                }
                Ok((None, Some(parked)))
            }
            Input::Operator(operator) => {
                let row = operator.applied(self.parked_row(&operator.id)?, commit)?;
                if row.state == ParkedState::Discarded {
                    self.next_is_known(&row)?;
                }
                Ok((None, Some(row)))
            }
            Input::Log(input) => {
                let id = (input.projection.clone(), input.generation);
                let reached = self.projections.get(&id).copied();
                let reached =
                    reached.or_else(|| self.image.projection(&id).map(|row| row.checkpoint));
                match reached {
                    Some(actual) if actual != input.from => Err(CommitError::CheckpointMoved {
                        projection: input.projection.clone(),
                        actual,
                    }
                    .into()),
                    _ => Ok((None, None)),
                }
            }
            Input::Timer(input) => {
                let touched = self.timers.contains_key(&input.id);
                let known = self.loaded.timers.get(&input.id) == Some(&input.generation);
                if touched || (self.loaded.fresh && !known) {
                    return Err(CommitError::TimerChanged(input.id.clone()).into());
                }
                Ok((None, None))
            }
        }
    }

    fn row(&self, inbox: &InboxId) -> &InboxRow {
        &self
            .inbox(inbox)
            .expect("its fence was compared before")
            .row
    }

    fn parked_row(&self, id: &ParkedId) -> Result<Parked, CommitError> {
        let found = match self.parked.get(id) {
            Some(left) => left.as_ref(),
            None => self.loaded.parked.get(id),
        };
        found.cloned().ok_or_else(|| CommitError::RevisionChanged {
            id: id.clone(),
            actual: None,
        })
    }

    /// Whether it is known who comes next when `parked` leaves its lane: not when another one of the batch has left it
    /// before, since only the first two were looked up.
    fn next_is_known(&self, parked: &Parked) -> Result<(), Refusal> {
        let left = self.parked.iter().any(|(id, left)| {
            id.inbox == parked.id.inbox
                && match left {
                    None => true,
                    Some(left) => left.state == ParkedState::Discarded && left.lane == parked.lane,
                }
        });
        if left {
            Err(Refusal::NotLoaded)
        } else {
            Ok(())
        }
    }

    fn check_message(
        &self,
        commit: &Commit,
        message: &MessageInput,
    ) -> Result<InboxRow, CommitError> {
        let MessageInput { inbox, lane, .. } = message;
        let in_lane = self.in_lane(inbox, lane);
        let is_taken = message
            .event_id
            .as_ref()
            .is_some_and(|(id, _)| self.is_taken(commit, inbox, id));
        message.applied(self.row(inbox), in_lane > 0, is_taken, |room| {
            room.check(in_lane, self.in_group(&inbox.group))
        })
    }

    /// How many messages of a group are parked, as the batch has it by now.
    fn in_group(&self, group: &Group) -> u64 {
        let mut parked = self.image.parked_in(group);
        let changed = self.inboxes.iter().filter(|(id, _)| id.group == *group);
        for (id, inbox) in changed {
            let before = self.image.inboxes.get(id).map_or(0, |inbox| inbox.parked);
            parked = parked.saturating_sub(before) + inbox.parked;
        }
        parked
    }

    fn is_taken(
        &self,
        commit: &Commit,
        inbox: &InboxId,
        event_id: &factum_core::MessageId,
    ) -> bool {
        let key = (inbox.group.clone(), event_id.clone());
        let here = self.ids.get(&key).is_some_and(|take| {
            // Whatever the batch has parked with it is there, unless it has left it again.
            let parked = take.parked.is_some_and(|(number, offset)| {
                self.parked.iter().any(|(id, left)| {
                    id.offset == offset
                        && left.is_some()
                        && self
                            .inbox(&id.inbox)
                            .is_some_and(|inbox| inbox.number == number)
                })
            });
            parked || take.until > commit.at
        });
        here || self
            .loaded
            .ids
            .get(&key)
            .is_some_and(|taken| taken.at(commit.at))
    }

    /// Compares the versions and keys of streams, and says what each append leads to.
    fn check_streams(&self, commit: &Commit) -> Result<Appends, CommitError> {
        for condition in &commit.conditions {
            if let Condition::Stream { stream, expected } = condition {
                let actual = self.head_of(stream).version;
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
        let mut streams: Vec<(StreamId, Head)> = Vec::with_capacity(commit.appends.len());
        let mut versions = Vec::with_capacity(commit.appends.len());
        let mut all_keys = Vec::with_capacity(commit.appends.len());
        for append in &commit.appends {
            let known = streams
                .iter()
                .position(|(known, _)| *known == append.stream);
            let index = known.unwrap_or(streams.len());
            if known.is_none() {
                streams.push((append.stream.clone(), self.head_of(&append.stream)));
            }
            let head = &mut streams[index].1;
            if !append.expected.allows(head.version) {
                let (expected, actual) = (append.expected, head.version);
                return Err(CommitError::Conflict {
                    stream: append.stream.clone(),
                    expected,
                    actual,
                });
            }
            let mut keys = Vec::with_capacity(append.drafts.len());
            for draft in &append.drafts {
                if draft.destination.is_some() {
                    head.key.fix(&append.stream, key_of(draft))?;
                }
                keys.push(head.key.clone());
            }
            head.version.0 += append.drafts.len() as u64;
            versions.push((index, head.version));
            all_keys.push(keys);
        }
        Ok(Appends {
            streams,
            versions,
            keys: all_keys,
        })
    }

    fn check_rows(&self, commit: &Commit) -> Result<(), CommitError> {
        for condition in &commit.conditions {
            if let Condition::Row { view, id, version } = condition {
                self.image.catalog.table(&view.view, view.generation)?;
                let (actual, live) = self.row_version(view, id).unwrap_or_default();
                if live.then_some(actual) != *version {
                    return Err(CommitError::RowChanged {
                        view: view.clone(),
                        id: id.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    /// A row's version as the batch has it by now.
    fn row_version(&self, view: &ViewRef, id: &str) -> Option<RowVersion> {
        let loaded = self
            .loaded
            .rows
            .get(&(view.clone(), id.to_string()))
            .copied();
        let written = self.rows.get(view).and_then(|(_, rows)| rows.get(id));
        match (loaded, written) {
            (Some(loaded), Some((version, _))) if loaded.0 > *version => Some(loaded),
            (_, Some((version, content))) => Some((*version, content.is_some())),
            (loaded, None) => loaded,
        }
    }

    fn check_views(&self, commit: &Commit) -> Result<Vec<Vec<Value>>, Error> {
        let catalog = &self.image.catalog;
        let check = |write: &ViewWrite| match write {
            ViewWrite::Put {
                view, document, id, ..
            } => {
                let table = catalog.table(&view.view, view.generation)?;
                let values = table.definition.extract(document);
                values.map_err(|error| error.while_(format!("row `{id}` of view `{view}`")))
            }
            ViewWrite::Delete { view, .. } => catalog
                .table(&view.view, view.generation)
                .map(|_| Vec::new()),
            ViewWrite::Activate { .. } => Ok(Vec::new()),
            ViewWrite::Sql { statement, .. } => {
                crate::own_sql::check(statement).map(|()| Vec::new())
            }
        };
        commit.views.iter().map(check).collect()
    }
}
