//! The second half of a commit: adding what it does to the batch. Whatever could be wrong with it was looked at before.

use factum_core::{
    Commit, Condition, Disposition, Error, InboxId, Input, MessageInput, Parked, ParkedInput,
    ParkedState, Retried, StreamKey, TimerWrite, Timestamp, Version, ViewWrite,
};

use crate::{
    answers::Span,
    check::Plan,
    desk::{Decision, Desk},
    message_ids::Take,
    timers::Left,
};

impl Desk<'_> {
    /// Adds `commit`, which was found to hold.
    pub(crate) fn apply(&mut self, commit: &Commit, plan: Plan) -> Result<Decision, Error> {
        self.compare(commit);
        let index = self.decisions.len();
        let before = self.drafts.len() as u64;
        let versions: Vec<_> = plan
            .appends
            .versions
            .iter()
            .map(|(_, version)| *version)
            .collect();
        for ((append, last), keys) in commit.appends.iter().zip(&versions).zip(&plan.appends.keys) {
            let mut version = Version(last.0 - append.drafts.len() as u64);
            for (draft, key) in append.drafts.iter().zip(keys) {
                version = version.next();
                self.drafts.push(draft, version, key)?;
            }
        }
        for draft in &commit.outbox {
            let key = match &draft.destination {
                None => StreamKey::Open,
                Some(to) => StreamKey::Fixed(to.key.clone()),
            };
            self.drafts.push(draft, Version::ZERO, &key)?;
        }
        self.streams.extend(plan.appends.streams);
        let span = Span {
            before,
            records: self.drafts.len() as u64 - before,
        };
        if let (Some(inbox), Some(row)) = (inbox_of(&commit.input), &plan.inbox) {
            self.inbox_mut(inbox)?.row = row.clone();
        }
        match &commit.input {
            Input::None | Input::Void(_) => {}
            Input::Command(command) => {
                let key = (command.scope.clone(), command.key.clone());
                let answer = (index, command.request, command.answer.clone());
                self.answered.insert(key, answer);
                self.answers.push((command.clone(), span));
            }
            Input::Message(message) => self.apply_message(message)?,
            Input::Parked(input) => {
                let row = plan.parked.expect("a retry found its row");
                self.apply_retry(row, input, commit.at)?;
            }
            Input::Operator(_) => {
                let row = plan.parked.expect("an operator's row was changed before");
                self.apply_operator(&row, commit.at)?;
            }
            Input::Log(input) => {
                let id = (input.projection.clone(), input.generation);
                self.projections.insert(id, input.to);
            }
            Input::Timer(input) => {
                self.fired.push((input.id.clone(), input.generation));
                self.timers.insert(input.id.clone(), Left::Nothing);
                self.timers_changed = true;
            }
            Input::Relay(input) => {
                let reached = self.relay.unwrap_or(self.image.relay.checkpoint);
                let relay = crate::relay::Relay {
                    checkpoint: reached,
                    ..self.image.relay
                };
                // Written even when it does not move: that compares the fence once more.
                self.relay = Some(reached);
                if relay.is_moved_by(input) {
                    self.relay = Some(input.checkpoint);
                    for (topic, partition, at) in &input.lasts {
                        self.relay_lasts.insert((topic.clone(), *partition), *at);
                    }
                }
            }
        }
        // Behind the input: a timer that has fired may be set again by what it led to.
        for write in &commit.timers {
            let (id, left) = match write {
                TimerWrite::Cancel { id } => (id, Left::Nothing),
                TimerWrite::Set { id, due, payload } => (
                    id,
                    Left::Set {
                        due: *due,
                        payload: payload.clone(),
                    },
                ),
            };
            self.timers.insert(id.clone(), left);
            self.timers_changed = true;
        }
        self.apply_views(commit, plan.values)?;
        self.audit.extend(commit.audit.clone());
        if !commit.is_guarded() && writes(commit) {
            self.unguarded.insert(commit.id, index);
            self.applied.push((commit.id, span, versions.clone()));
        }
        self.times = Some(match self.times {
            None => (commit.at, commit.at),
            Some((earliest, latest)) => (earliest.min(commit.at), latest.max(commit.at)),
        });
        Ok(Decision::Applied {
            span,
            versions,
            inbox: plan.inbox,
        })
    }

    /// Notes what the commit has compared without writing it, to be compared again when the batch is written.
    fn compare(&mut self, commit: &Commit) {
        for condition in &commit.conditions {
            match condition {
                Condition::Stream { stream, .. } => {
                    let known = self
                        .loaded
                        .heads
                        .get(stream)
                        .map_or(Version::ZERO, |head| head.version);
                    self.compared_streams.insert(stream.clone(), known);
                }
                Condition::Row { view, id, .. } => {
                    let known = self.loaded.rows.get(&(view.clone(), id.clone())).copied();
                    self.compared_rows
                        .entry(view.clone())
                        .or_default()
                        .insert(id.clone(), known);
                }
            }
        }
    }

    fn apply_views(
        &mut self,
        commit: &Commit,
        values: Vec<Vec<factum_core::Value>>,
    ) -> Result<(), Error> {
        for (write, values) in commit.views.iter().zip(values) {
            let (view, id, written) = match write {
                ViewWrite::Put {
                    view,
                    id,
                    version,
                    document,
                } => (view, id, (*version, Some((document.clone(), values)))),
                ViewWrite::Delete { view, id, version } => (view, id, (*version, None)),
                ViewWrite::Activate {
                    projection,
                    generation,
                } => {
                    let active = self.active.entry(projection.clone());
                    let active = active.or_insert(*generation);
                    *active = (*generation).max(*active);
                    continue;
                }
                ViewWrite::Sql {
                    statement,
                    parameters,
                } => {
                    self.own_sql.push((statement.clone(), parameters.clone()));
                    continue;
                }
            };
            if !self.rows.contains_key(view) {
                let table = self
                    .image
                    .catalog
                    .table(&view.view, view.generation)?
                    .clone();
                self.rows
                    .insert(view.clone(), (table, std::collections::BTreeMap::new()));
            }
            let (_, rows) = self.rows.get_mut(view).expect("it was put there above");
            // A row is written once for the whole batch, as the newest of its writes leaves it.
            if rows
                .get(id)
                .is_none_or(|(version, _)| written.0 >= *version)
            {
                rows.insert(id.clone(), written);
            }
        }
        Ok(())
    }

    fn apply_message(&mut self, message: &MessageInput) -> Result<(), Error> {
        let parked = match &message.disposition {
            Disposition::Duplicate => return Ok(()),
            Disposition::Apply | Disposition::Skip => None,
            Disposition::Park(parked, _) | Disposition::Wait(parked, _) => Some(parked),
        };
        if let Some((id, until)) = &message.event_id {
            let number = self.inbox_mut(&message.inbox)?.number;
            let key = (message.inbox.group.clone(), id.clone());
            let parked = parked.map(|parked| (number, parked.id.offset));
            let before = self.ids.get(&key);
            let take = Take {
                until: before.map_or(*until, |before| before.until.max(*until)),
                parked: parked.or_else(|| before.and_then(|before| before.parked)),
            };
            self.ids.insert(key, take);
        }
        if let Some(parked) = parked {
            self.newly_parked.insert(parked.id.clone());
            self.parked
                .insert(parked.id.clone(), Some((**parked).clone()));
            self.count(parked, 1)?;
        }
        Ok(())
    }

    /// Takes note that a message was parked, or has left.
    fn count(&mut self, parked: &Parked, change: i64) -> Result<(), Error> {
        let inbox = self.inbox_mut(&parked.id.inbox)?;
        inbox.parked = inbox.parked.saturating_add_signed(change);
        let in_lane = self.in_lane(&parked.id.inbox, &parked.lane);
        let lane = (parked.id.inbox.clone(), parked.lane.clone());
        self.lanes
            .insert(lane, in_lane.saturating_add_signed(change));
        self.parking_changed = true;
        Ok(())
    }

    fn apply_retry(
        &mut self,
        mut row: Parked,
        input: &ParkedInput,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.parking_changed = true;
        // Whatever changes of what is parked changes the revision of its inbox.
        self.inbox_mut(&row.id.inbox)?;
        match &input.outcome {
            Retried::Settled => {
                self.count(&row, -1)?;
                self.parked.insert(row.id.clone(), None);
                self.release(&row, now);
                return Ok(());
            }
            Retried::Later { due, failure } => row.later(*due, failure.clone()),
            Retried::Dead(failure) => row.dead(failure.clone()),
        }
        self.parked.insert(row.id.clone(), Some(row));
        Ok(())
    }

    fn apply_operator(&mut self, row: &Parked, now: Timestamp) -> Result<(), Error> {
        self.parking_changed = true;
        self.inbox_mut(&row.id.inbox)?;
        self.parked.insert(row.id.clone(), Some(row.clone()));
        if row.state == ParkedState::Discarded {
            // Only the head of a lane is discarded, and only once, so it was counted until now.
            self.count(row, -1)?;
            self.release(row, now);
        }
        Ok(())
    }

    /// Makes the next of a lane its head, due `now`, after `left` has left it.
    fn release(&mut self, left: &Parked, now: Timestamp) {
        let loaded = self.loaded.waiting.get(&left.id);
        let loaded = loaded
            .filter(|next| !self.parked.contains_key(&next.id))
            .cloned();
        let here = self.parked.values().flatten().filter(|next| {
            next.id.inbox == left.id.inbox
                && next.lane == left.lane
                && next.state != ParkedState::Discarded
        });
        let next = here
            .cloned()
            .chain(loaded)
            .min_by_key(|next| next.id.offset);
        if let Some(mut next) = next.filter(|next| next.state == ParkedState::Waiting) {
            next.released(now);
            self.parked.insert(next.id.clone(), Some(next));
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
