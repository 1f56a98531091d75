//! The first half of a commit: looking whether all that it asks for holds. Nothing is changed here.
//!
//! Most of it is answered from memory: fences, versions, keys, topics, checkpoints. The file is asked for what
//! is parked, answered, taken or written as a row.

use factum_core::{
    Commit, CommitError, Condition, Error, Fence, InboxId, InboxRow, Input, MessageInput, Owned,
    Parked, ParkedId, ParkedInput, StreamId, StreamKey, Value, Version, ViewWrite, commit::key_of,
};
use rusqlite::Connection;

use crate::{
    answers, inbox::Inbox, message_ids, own_sql, parking, state::StoreState, streams::Head, timers,
};

/// What was found out while looking, so that writing need not look again.
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
    /// The streams.
    pub(crate) streams: Vec<Appended>,
    /// For each append, which of `streams` it is for, and the version of its last event.
    pub(crate) versions: Vec<(usize, Version)>,
}

/// A stream, and what a commit's appends make of it.
pub(crate) struct Appended {
    pub(crate) stream: StreamId,
    pub(crate) head: Head,
    /// Whether its partition key was open before.
    pub(crate) was_open: bool,
}

impl StoreState {
    /// Looks whether all that `commit` asks for holds.
    pub(crate) fn check(
        &mut self,
        connection: &Connection,
        commit: &Commit,
    ) -> Result<Plan, CommitError> {
        commit
            .input
            .check_owner(self.epoch(), |owned| self.stored_fence(owned))?;
        self.failed.check(&commit.stands_on)?;
        let (inbox, parked) = self.check_input(connection, commit)?;
        let appends = self.check_streams(connection, commit)?;
        self.check_rows(connection, commit)?;
        // Last what makes the commit itself bad: one that was decided on a state that is gone shall be
        // decided again, and not be taken for poison.
        commit.check_drafts(|topic| self.topics.get(topic).map(|pinned| pinned.partitions))?;
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
            Owned::Inbox(inbox) => self.inboxes.get(inbox).map(|inbox| inbox.row.fence),
            Owned::Projection(projection, generation) => self
                .projections
                .get(projection, generation)
                .map(|row| row.fence),
            Owned::Timers => Some(self.timers.fence),
            Owned::Relay => Some(self.relay.fence),
        }
        .unwrap_or_default()
    }

    fn check_input(
        &self,
        connection: &Connection,
        commit: &Commit,
    ) -> Result<(Option<InboxRow>, Option<Parked>), CommitError> {
        match &commit.input {
            Input::None | Input::Relay(_) => Ok((None, None)),
            Input::Command(command) => {
                answers::check(connection, self.number, command, commit.at).map(|()| (None, None))
            }
            Input::Message(message) => self
                .check_message(connection, commit, message)
                .map(|row| (Some(row), None)),
            Input::Void(void) => Ok((Some(void.applied(&self.inbox(&void.inbox).row)?), None)),
            Input::Parked(ParkedInput { id, revision, .. }) => {
                let parked = self.parked_row(connection, id)?;
                parked.expect_retrying(*revision)?;
                Ok((None, Some(parked)))
            }
            Input::Operator(operator) => {
                let row = self.parked_row(connection, &operator.id)?;
                Ok((None, Some(operator.applied(row, commit)?)))
            }
            Input::Log(input) => {
                match self
                    .projections
                    .get(&input.projection, input.generation)
                    .map(|row| row.checkpoint)
                {
                    Some(actual) if actual != input.from => Err(CommitError::CheckpointMoved {
                        projection: input.projection.clone(),
                        actual,
                    }),
                    _ => Ok((None, None)),
                }
            }
            Input::Timer(input) => {
                timers::check(connection, self.number, input).map(|()| (None, None))
            }
        }
    }

    fn inbox(&self, id: &InboxId) -> &Inbox {
        self.inboxes.get(id).expect("its fence was compared before")
    }

    fn parked_row(&self, connection: &Connection, id: &ParkedId) -> Result<Parked, CommitError> {
        let gone = || CommitError::RevisionChanged {
            id: id.clone(),
            actual: None,
        };
        parking::get(connection, &self.inboxes, id)?.ok_or_else(gone)
    }

    fn check_message(
        &self,
        connection: &Connection,
        commit: &Commit,
        message: &MessageInput,
    ) -> Result<InboxRow, CommitError> {
        let MessageInput {
            inbox: id, lane, ..
        } = message;
        let inbox = self.inbox(id);
        let is_parked = parking::is_parked(connection, inbox, lane)?;
        let is_taken = match &message.event_id {
            Some((event_id, _)) => {
                message_ids::is_taken(connection, self.number, &id.group, event_id, commit.at)?
            }
            None => false,
        };
        message.applied(&inbox.row, is_parked, is_taken, |room| {
            parking::check_room(connection, &self.inboxes, id, inbox, lane, room)
        })
    }

    /// What is known of a stream, the present group's commits included.
    fn head_of(&mut self, connection: &Connection, stream: &StreamId) -> Result<Head, Error> {
        self.streams
            .head(connection, &self.shared, &self.pending, stream)
    }

    /// Compares the versions and keys of streams, and says what each append leads to.
    fn check_streams(
        &mut self,
        connection: &Connection,
        commit: &Commit,
    ) -> Result<Appends, CommitError> {
        for condition in &commit.conditions {
            if let Condition::Stream { stream, expected } = condition {
                let actual = self.head_of(connection, stream)?.version;
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
        let mut streams: Vec<Appended> = Vec::with_capacity(commit.appends.len());
        let mut versions = Vec::with_capacity(commit.appends.len());
        for append in &commit.appends {
            let known = streams
                .iter()
                .position(|known| known.stream == append.stream);
            let index = known.unwrap_or(streams.len());
            if known.is_none() {
                let head = self.head_of(connection, &append.stream)?;
                let was_open = head.key == StreamKey::Open;
                streams.push(Appended {
                    stream: append.stream.clone(),
                    head,
                    was_open,
                });
            }
            let head = &mut streams[index].head;
            if !append.expected.allows(head.version) {
                let (expected, actual) = (append.expected, head.version);
                return Err(CommitError::Conflict {
                    stream: append.stream.clone(),
                    expected,
                    actual,
                });
            }
            for draft in append
                .drafts
                .iter()
                .filter(|draft| draft.destination.is_some())
            {
                head.key.fix(&append.stream, key_of(draft))?;
            }
            head.version.0 += append.drafts.len() as u64;
            versions.push((index, head.version));
        }
        Ok(Appends { streams, versions })
    }

    fn check_rows(&self, connection: &Connection, commit: &Commit) -> Result<(), CommitError> {
        for condition in &commit.conditions {
            if let Condition::Row { view, id, version } = condition {
                let table = self.views.table(&view.view, view.generation)?;
                if table.version(connection, id)? != *version {
                    return Err(CommitError::RowChanged {
                        view: view.clone(),
                        id: id.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    fn check_views(&self, commit: &Commit) -> Result<Vec<Vec<Value>>, Error> {
        let check = |write: &ViewWrite| match write {
            ViewWrite::Put {
                view, document, id, ..
            } => {
                let table = self.views.table(&view.view, view.generation)?;
                let values = table.definition.extract(document);
                values.map_err(|error| error.while_(format!("row `{id}` of view `{view}`")))
            }
            ViewWrite::Delete { view, .. } => self
                .views
                .table(&view.view, view.generation)
                .map(|_| Vec::new()),
            ViewWrite::Activate { .. } | ViewWrite::Sql { .. } => Ok(Vec::new()),
        };
        commit.views.iter().map(check).collect()
    }

    /// Runs a commit's own SQL: the one thing that can fail when it is done, so it is done first, and undone to
    /// a savepoint.
    pub(crate) fn run_own_sql(
        &self,
        connection: &Connection,
        commit: &Commit,
    ) -> Result<(), Error> {
        if !commit
            .views
            .iter()
            .any(|write| matches!(write, ViewWrite::Sql { .. }))
        {
            return Ok(());
        }
        crate::group::under_savepoint(connection, || {
            for write in &commit.views {
                if let ViewWrite::Sql {
                    statement,
                    parameters,
                } = write
                {
                    own_sql::run(connection, &self.identity.service, statement, parameters)?;
                }
            }
            Ok(())
        })
    }
}
