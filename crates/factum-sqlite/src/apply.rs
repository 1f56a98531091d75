//! The second half of a commit: writing all of it. Whatever could be wrong with it was looked at before, so that
//! what fails here is the disk, and fails the whole group.

use factum_core::{
    Commit, Committed, Disposition, Error, InboxId, Input, MessageInput, Parked, ParkedInput,
    ParkedState, Retried, Timestamp, Version, ViewWrite,
};
use rusqlite::{Connection, params};

use crate::{
    answers,
    check::{Appends, Plan},
    error::Doing,
    message_ids,
    number::{micros, numbered},
    parking,
    state::StoreState,
    timers, views,
};

impl StoreState {
    /// Writes `commit`, which was found to hold.
    pub(crate) fn apply(
        &mut self,
        connection: &Connection,
        mut commit: Commit,
        plan: Plan,
    ) -> Result<Committed, Error> {
        let keep_id = !commit.is_guarded() && writes(&commit);
        let before = self.head.position;
        let versions = self.append_all(connection, &mut commit, plan.appends)?;
        let Commit {
            id,
            at,
            input,
            views,
            timers,
            audit,
            ..
        } = commit;
        let first = (self.head.position > before).then(|| before.next());
        let committed = Committed {
            head: self.head,
            first,
            versions,
            inbox: plan.inbox.clone(),
        };
        if let (Some(inbox), Some(row)) = (inbox_of(&input), plan.inbox) {
            self.inboxes.set(inbox, row);
        }
        match input {
            Input::None | Input::Void(_) => {}
            Input::Command(command) => answers::put(connection, self.number, &command, &committed)?,
            Input::Message(message) => self.apply_message(connection, message)?,
            Input::Parked(input) => {
                let row = plan.parked.expect("a retry found its row");
                self.apply_retry(connection, row, input, at)?;
            }
            Input::Operator(_) => {
                let row = plan.parked.expect("an operator's row was changed before");
                self.apply_operator(connection, &row, at)?;
            }
            Input::Log(input) => {
                self.projections
                    .advance(input.projection, input.generation, input.to);
            }
            Input::Timer(input) => {
                timers::remove(connection, self.number, &input.id)?;
                self.pending.timers += 1;
            }
            Input::Relay(input) => self.relay.advance(&input),
        }
        // Behind the input: a timer that has fired may be set again by what it led to.
        for write in &timers {
            if self.timers.write(connection, self.number, write)? {
                self.pending.timers += 1;
                self.changed = true;
            }
        }
        for (write, values) in views.iter().zip(&plan.values) {
            match write {
                ViewWrite::Put {
                    view,
                    id,
                    version,
                    document,
                } => {
                    let table = self.views.table(&view.view, view.generation)?;
                    table.write(connection, id, *version, Some((document, values)))?;
                }
                ViewWrite::Delete { view, id, version } => {
                    let table = self.views.table(&view.view, view.generation)?;
                    table.write(connection, id, *version, None)?;
                }
                ViewWrite::Activate {
                    projection,
                    generation,
                } => {
                    views::activate(connection, self, projection, *generation)?;
                }
                // Done before, under a savepoint.
                ViewWrite::Sql { .. } => {}
            }
        }
        if let Some(entry) = audit {
            connection
                .prepare_cached("INSERT INTO audit VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
                .and_then(|mut statement| {
                    let number = numbered(self.number, self.audit_next);
                    let (at, actor, action) = (micros(entry.at), entry.actor, entry.action);
                    statement.execute(params![
                        number,
                        at,
                        actor,
                        action,
                        entry.subject,
                        entry.reason
                    ])
                })
                .doing("write the audit record")?;
            self.audit_next += 1;
        }
        if keep_id {
            self.applied.put(connection, id, &committed)?;
        }
        Ok(committed)
    }

    fn append_all(
        &mut self,
        connection: &Connection,
        commit: &mut Commit,
        appends: Appends,
    ) -> Result<Vec<Version>, Error> {
        let Appends { streams, versions } = appends;
        let mut numbers = Vec::with_capacity(streams.len());
        for appended in streams {
            let number = self.streams.advance(
                connection,
                &appended.stream,
                appended.head,
                appended.was_open,
            )?;
            numbers.push(number);
        }
        for (append, (index, last)) in commit.appends.drain(..).zip(&versions) {
            let mut version = Version(last.0 - append.drafts.len() as u64);
            for draft in append.drafts {
                version = version.next();
                self.append(connection, draft, Some(numbers[*index]), version)?;
            }
        }
        for draft in commit.outbox.drain(..) {
            self.append(connection, draft, None, Version::ZERO)?;
        }
        Ok(versions.into_iter().map(|(_, version)| version).collect())
    }

    fn apply_message(
        &mut self,
        connection: &Connection,
        message: MessageInput,
    ) -> Result<(), Error> {
        let MessageInput {
            inbox,
            event_id,
            disposition,
            ..
        } = message;
        let parked = match disposition {
            Disposition::Duplicate => return Ok(()),
            Disposition::Apply | Disposition::Skip => None,
            Disposition::Park(parked, _) | Disposition::Wait(parked, _) => Some(parked),
        };
        if let Some((id, until)) = event_id {
            let parked = parked.as_ref().map(|parked| &parked.id);
            message_ids::take(
                connection,
                self.number,
                &self.inboxes,
                &inbox.group,
                &id,
                until,
                parked,
            )?;
        }
        if let Some(parked) = parked {
            parking::insert(connection, &mut self.inboxes, &parked)?;
            self.pending.parking += 1;
        }
        Ok(())
    }

    fn apply_retry(
        &mut self,
        connection: &Connection,
        mut row: Parked,
        input: ParkedInput,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.pending.parking += 1;
        match input.outcome {
            Retried::Settled => {
                parking::remove(connection, &mut self.inboxes, &input.id)?;
                return parking::release(
                    connection,
                    &mut self.inboxes,
                    &row.id.inbox,
                    &row.lane,
                    now,
                );
            }
            Retried::Later { due, failure } => row.later(due, failure),
            Retried::Dead(failure) => row.dead(failure),
        }
        parking::update(connection, &mut self.inboxes, &row)
    }

    fn apply_operator(
        &mut self,
        connection: &Connection,
        row: &Parked,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.pending.parking += 1;
        parking::update(connection, &mut self.inboxes, row)?;
        if row.state == ParkedState::Discarded {
            parking::release(connection, &mut self.inboxes, &row.id.inbox, &row.lane, now)?;
        }
        Ok(())
    }
}

fn inbox_of(input: &Input) -> Option<&InboxId> {
    match input {
        Input::Message(input) => Some(&input.inbox),
        Input::Void(input) => Some(&input.inbox),
        _ => None,
    }
}

/// Whether a commit changes anything: one that only confirms what was read is looked at again each time.
fn writes(commit: &Commit) -> bool {
    commit.drafts().next().is_some()
        || !commit.views.is_empty()
        || !commit.timers.is_empty()
        || commit.audit.is_some()
}
