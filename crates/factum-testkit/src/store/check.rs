//! The first half of a commit: looking whether all that it asks for holds. Nothing is changed here.

use factum_core::{
    Commit, CommitError, Condition, Disposition, Error, Fence, InboxId, InboxRow, Input, Key,
    MessageInput, OperatorAction, OperatorInput, Parked, ParkedId, ParkedInput, ParkedState,
    StreamId, Value, Version, ViewWrite, commit::key_of,
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
        self.check_fence(&commit.input)?;
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

    fn check_fence(&self, input: &Input) -> Result<(), CommitError> {
        let (fence, stored, role) = match input {
            Input::None | Input::Command(_) | Input::Operator(_) => return Ok(()),
            Input::Message(MessageInput { inbox, fence, .. }) => {
                (fence, self.fence_of(inbox), None)
            }
            Input::Void(input) => (&input.fence, self.fence_of(&input.inbox), None),
            Input::Parked(input) => (&input.fence, self.fence_of(&input.id.inbox), None),
            Input::Log(input) => {
                let row = self
                    .projections
                    .get(&(input.projection.clone(), input.generation));
                (
                    &input.fence,
                    row.map_or(Fence::default(), |row| row.fence),
                    None,
                )
            }
            Input::Timer(input) => (&input.fence, self.timers_fence, Some("timers")),
            Input::Relay(input) => (&input.fence, self.relay.fence, Some("relay")),
        };
        // A fence that was raised in an earlier epoch is nobody's any more, though it is still stored.
        if *fence == stored && fence.store == self.epoch() {
            return Ok(());
        }
        let role = role.map_or_else(|| input.to_string(), String::from);
        Err(CommitError::Fenced {
            role,
            stored: Fence {
                store: self.epoch(),
                ..stored
            },
        })
    }

    fn fence_of(&self, inbox: &InboxId) -> Fence {
        self.inboxes
            .get(inbox)
            .map_or(Fence::default(), |row| row.fence)
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
            Input::Void(void) => {
                let mut row = self.row(&void.inbox);
                row.apply(None, &void.advance)?;
                // Behind the row's own move, which removes marks of finished offsets: a parked message is
                // finished for the inbox, and may be what is tried.
                if let Some(trying) = void.trying {
                    row.trying = trying;
                }
                row.clean |= void.release;
                if let Some(loss) = void.accept {
                    row.accept(loss)?;
                }
                Ok((Some(row), None))
            }
            Input::Parked(ParkedInput { id, revision, .. }) => {
                self.parked_row(id)?.expect_retrying(*revision)?;
                Ok((None, None))
            }
            Input::Operator(operator) => self
                .check_operator(commit, operator)
                .map(|row| (None, Some(row))),
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

    fn row(&self, inbox: &InboxId) -> InboxRow {
        self.inboxes
            .get(inbox)
            .cloned()
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
        let MessageInput {
            inbox,
            offset,
            lane,
            event_id,
            disposition,
            ..
        } = message;
        let is_parked = self.parked.is_parked(inbox, lane);
        let event_id = event_id.as_ref().map(|(id, _)| id);
        let taken = event_id.filter(|id| {
            self.event_ids
                .is_taken(&inbox.group, id, commit.at, |parked| {
                    self.parked.get(parked).is_some()
                })
        });
        match disposition {
            Disposition::Duplicate => match (event_id, taken) {
                (Some(_), Some(_)) => {}
                (Some(id), None) => return Err(CommitError::NotDuplicate(id.clone())),
                (None, _) => {
                    let input = &commit.input;
                    return Err(Error::poison(format!(
                        "{input} has no event id to be a duplicate by"
                    ))
                    .into());
                }
            },
            Disposition::Wait(..) if is_parked => {}
            Disposition::Wait(..) => return Err(CommitError::LaneFree),
            Disposition::Apply | Disposition::Skip | Disposition::Park(..) => {
                if is_parked {
                    return Err(CommitError::LaneParked);
                }
            }
        }
        match disposition {
            Disposition::Apply | Disposition::Park(..) | Disposition::Wait(..) => {
                if let Some(id) = taken {
                    return Err(CommitError::DuplicateEvent(id.clone()));
                }
            }
            Disposition::Skip | Disposition::Duplicate => {}
        }
        if let Disposition::Park(parked, room) | Disposition::Wait(parked, room) = disposition {
            let (in_lane, in_group) = self.parked.counts_of(inbox, lane);
            room.check(in_lane, in_group)?;
            let state = match disposition {
                Disposition::Park(..) => parked.state.is_head(),
                _ => parked.state == ParkedState::Waiting,
            };
            if !state
                || parked.id.inbox != *inbox
                || parked.id.offset != *offset
                || parked.lane != *lane
            {
                return Err(Error::poison(format!(
                    "{} can't be parked as `{}` ({:?}) in lane {}",
                    commit.input, parked.id, parked.state, parked.lane
                ))
                .into());
            }
        }
        let mut row = self.row(inbox);
        row.apply(Some(*offset), &message.advance)?;
        Ok(row)
    }

    fn check_operator(
        &self,
        commit: &Commit,
        operator: &OperatorInput,
    ) -> Result<Parked, CommitError> {
        let mut row = self.parked_row(&operator.id)?.clone();
        match &operator.action {
            OperatorAction::Redrive => row.redrive(operator.revision, commit.at)?,
            OperatorAction::Edit(value) => row.edit(operator.revision, value.clone())?,
            OperatorAction::Discard => row.discard(operator.revision, commit.at)?,
        }
        let effects = commit.drafts().next().is_some()
            || !commit.views.is_empty()
            || !commit.timers.is_empty();
        if effects {
            return Err(Error::poison(format!("{} can't have effects", commit.input)).into());
        }
        Ok(row)
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
        let mut own: Vec<(&StreamId, Version, Option<Option<&Key>>)> = Vec::new();
        let mut versions = Vec::with_capacity(commit.appends.len());
        for append in &commit.appends {
            let stream = &append.stream;
            let index = own
                .iter()
                .position(|(known, ..)| *known == stream)
                .unwrap_or_else(|| {
                    let known = self.log.stream(stream);
                    let key = known.and_then(|known| known.key.as_ref().map(|key| key.0.as_ref()));
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
                let given = key_of(draft);
                let known = *key.get_or_insert(given);
                if known != given {
                    let text =
                        |key: Option<&Key>| key.map_or_else(|| "(none)".into(), Key::to_string);
                    let (known, given) = (text(known), text(given));
                    return Err(CommitError::KeyChanged {
                        stream: stream.clone(),
                        known,
                        given,
                    });
                }
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
