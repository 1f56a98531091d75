//! The second half of a commit: writing all of it. Whatever could fail was looked at before, so nothing
//! is ever undone.

use factum_core::{
    Commit, CommitError, Committed, Disposition, InboxId, Input, MessageInput, Parked, ParkedInput,
    ParkedState, RelayInput, Retried, Timestamp, ViewWrite,
};

use super::{check::Plan, memo::Failed, state::State};

impl State {
    /// Applies `commit` whole or not at all.
    pub(super) fn commit(
        &mut self,
        commit: Commit,
        failed: &mut Failed,
    ) -> Result<Committed, CommitError> {
        let id = commit.id;
        if let Some(committed) = self.applied.get(id) {
            return Ok(committed.clone());
        }
        let result = self
            .check(&commit, failed)
            .map(|plan| self.apply(commit, plan));
        failed.note(id, result.is_err());
        result
    }

    fn apply(&mut self, commit: Commit, plan: Plan) -> Committed {
        let keep_id = !commit.is_guarded() && writes(&commit);
        let Commit {
            id,
            at,
            input,
            appends,
            outbox,
            views,
            timers,
            audit,
            ..
        } = commit;
        let (before, epoch) = (self.head().position, self.epoch());
        for draft in appends
            .into_iter()
            .flat_map(|append| append.drafts)
            .chain(outbox)
        {
            self.log.push(epoch, draft);
        }
        let head = self.head();
        let committed = Committed {
            head,
            first: (head.position > before).then(|| before.next()),
            versions: plan.versions,
            inbox: plan.inbox.clone(),
        };
        if let (Some(inbox), Some(row)) = (inbox_of(&input), plan.inbox) {
            // Claimed before, so the row is there: no key is made for it again.
            self.inboxes
                .entry(inbox.clone())
                .and_modify(|stored| *stored = row);
        }
        match input {
            Input::None | Input::Void(_) => {}
            Input::Command(command) => self.answers.put(command, &committed),
            Input::Message(message) => self.apply_message(message),
            Input::Parked(parked) => self.apply_retry(parked, at),
            Input::Operator(_) => self.apply_operator(plan.parked, at),
            Input::Log(input) => {
                if let Some(row) = self
                    .projections
                    .get_mut(&(input.projection, input.generation))
                {
                    row.checkpoint = input.to;
                }
            }
            Input::Timer(input) => self.timers.remove(&input.id),
            Input::Relay(input) => self.apply_relay(input),
        }
        // Behind the input: a timer that has fired may be set again by what it led to.
        for write in timers {
            self.timers.write(write);
        }
        for (write, values) in views.into_iter().zip(plan.values) {
            match write {
                ViewWrite::Put {
                    view,
                    id,
                    version,
                    document,
                } => {
                    self.tables
                        .write(&view, id, version, Some((document, values)));
                }
                ViewWrite::Delete { view, id, version } => {
                    self.tables.write(&view, id, version, None);
                }
                ViewWrite::Activate {
                    projection,
                    generation,
                } => {
                    self.tables.activate(projection, generation);
                }
                ViewWrite::Sql { .. } => unreachable!("own SQL was refused above"),
            }
        }
        self.audit.extend(audit);
        if keep_id {
            self.applied.put(id, committed.clone());
        }
        committed
    }

    fn apply_message(&mut self, message: MessageInput) {
        let MessageInput {
            inbox,
            event_id,
            disposition,
            ..
        } = message;
        let parked = match disposition {
            Disposition::Duplicate => return,
            Disposition::Apply | Disposition::Skip => None,
            Disposition::Park(parked, _) | Disposition::Wait(parked, _) => Some(parked),
        };
        if let Some((id, until)) = event_id {
            let parked = parked.as_ref().map(|parked| parked.id.clone());
            self.event_ids.take(&inbox.group, id, until, parked);
        }
        if let Some(parked) = parked {
            self.parked.put(*parked);
        }
    }

    fn apply_retry(&mut self, input: ParkedInput, now: Timestamp) {
        let row = self.parked.get(&input.id);
        let Some(mut row) = row.cloned() else {
            unreachable!("its revision was compared above")
        };
        match input.outcome {
            Retried::Settled => {
                self.parked.remove(&input.id);
                self.parked.release(&row.id.inbox, &row.lane, now);
                return;
            }
            Retried::Later { due, failure } => row.later(due, failure),
            Retried::Dead(failure) => row.dead(failure),
        }
        self.parked.put(row);
    }

    fn apply_operator(&mut self, row: Option<Parked>, now: Timestamp) {
        let Some(row) = row else {
            unreachable!("it was changed above")
        };
        let discarded = row.state == ParkedState::Discarded;
        let (inbox, lane) = (row.id.inbox.clone(), row.lane.clone());
        self.parked.put(row);
        if discarded {
            self.parked.release(&inbox, &lane, now);
        }
    }

    fn apply_relay(&mut self, input: RelayInput) {
        // An older checkpoint is no failure: the rows as of the newer one hold, unless it is a rewind.
        if input.rewind || input.checkpoint >= self.relay.checkpoint {
            self.relay.checkpoint = input.checkpoint;
            for (topic, partition, at) in input.lasts {
                self.relay.lasts.insert((topic, partition), at);
            }
        }
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
