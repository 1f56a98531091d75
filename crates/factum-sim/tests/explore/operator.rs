//! Operators, who redrive what is dead, discard what they have looked at and mend what is missing, and the broker, which
//! drops what is old and sometimes forgets.

use factum_core::{
    AcceptedLoss, At, Begin, CommitError, Input, OperatorAction, OperatorInput, ParkedState,
    Position, RelayInput, Start, VoidInput,
};
use factum_sim::explore::{Kind, Next};
use factum_testkit::StoreValue;

use crate::{
    bounds::CONSUMED,
    owner::commit,
    story::What,
    world::{Act, COURSE, FAULT, Halt, Happened, SOUND, Steps, World, noted},
};

impl World {
    /// The steps of operators and of the broker by itself.
    pub(crate) fn operator_steps<F: FnMut(Next<Self>)>(steps: &mut Steps<'_, F>) {
        let world = steps.world;
        for parked in world.group.all_parked() {
            let (offset, revision) = (parked.id.offset, parked.revision);
            if parked.state == ParkedState::Dead {
                steps.show(What::Redrive(offset), |world| {
                    world.operate(offset, revision, OperatorAction::Redrive)?;
                    Ok(COURSE)
                });
            }
            let may = world.left.discards > 0 && world.operator.is_none();
            if parked.state.is_head() && may {
                steps.show(What::OperatorReads(offset), |world| {
                    world.left.discards -= 1;
                    world.operator = Some((offset, revision));
                    Ok(FAULT)
                });
            }
        }
        if let Some((offset, revision)) = world.operator {
            steps.show(What::Discard(offset), |world| {
                world.operator = None;
                if !world.operate(offset, revision, OperatorAction::Discard)? {
                    return Ok(noted(Kind::Course, "it has changed, so nothing is done"));
                }
                let entry = world.topic[CONSUMED as usize].next(offset);
                let (_, entry) = entry.expect("a parked message was in the topic");
                world.given_up |= 1 << entry.fact;
                Ok(COURSE)
            });
        }
        for shelf in &world.topic {
            let missing = shelf.missing(shelf.end());
            let Some((last, _)) = missing.filter(|_| world.setting.bounds.incidents) else {
                continue;
            };
            // Only what is missing for a minute is an incident: then the relay has long come to the log's end.
            if world.is_published() && world.source.relay().checkpoint == world.source.head() {
                steps.show(What::Rewind(last), |world| {
                    world.rewind_relay(last.position)?;
                    Ok(COURSE)
                });
            }
        }
        if world.left.rewinds > 0 {
            for to in 0..world.source.relay().checkpoint.position.0 {
                steps.show(What::RewindAnyway(to), |world| {
                    world.left.rewinds -= 1;
                    world.rewind_relay(Position(to))?;
                    Ok(FAULT)
                });
            }
        }
        for owner in world.owners.iter().filter(|_| world.left.accepts > 0) {
            let shelf = &world.topic[CONSUMED as usize];
            if let Some((last, from)) = shelf.missing(owner.partition.poll()) {
                steps.show(What::Accept(from, last), |world| world.accept(last, from));
            }
        }
        if world.left.forgets > 0 {
            for offset in world.forgettable() {
                steps.show(What::Forget(offset), |world| {
                    world.left.forgets -= 1;
                    let source = world.setting.source;
                    world.topic[CONSUMED as usize].change(|shelf| shelf.forget(offset, source));
                    Ok(FAULT)
                });
            }
        }
        if world.left.retentions > 0 {
            steps.show(What::Retain(world.low()), |world| Ok(world.retain()));
        }
    }

    fn low(&self) -> u64 {
        let row = self.group.inbox(&self.setting.inbox);
        row.map_or(0, |row| row.low)
    }

    /// Does what an operator asks for; false when the row has changed since it was looked at.
    fn operate(
        &mut self,
        offset: u64,
        revision: u64,
        action: OperatorAction,
    ) -> Result<bool, Halt> {
        let input = Input::Operator(OperatorInput {
            id: self.parked_id(offset),
            revision,
            action,
        });
        let commit = commit(input, self.now());
        match self.group.change(|group| group.commit(commit)) {
            Ok(_) => Ok(true),
            Err(CommitError::RevisionChanged { .. }) => Ok(false),
            Err(error) => Err(Halt::broken(SOUND, format!("an operator: {error}"))),
        }
    }

    /// An operator becomes the relay's owner and sets its checkpoint back.
    fn rewind_relay(&mut self, to: Position) -> Result<(), Halt> {
        let present = self
            .facts()
            .filter(|(fact, _)| Self::has(self.truths.present, *fact));
        let before = present.filter(|(_, truth)| truth.at.position <= to);
        let checkpoint = before.map(|(_, truth)| truth.at).max().unwrap_or(At::ZERO);
        let (_, as_of) = self.log_up_to(checkpoint);
        let claim = self.source.change(StoreValue::claim_relay);
        let mut lasts = claim.lasts;
        for (topic, partition, last) in &mut lasts {
            let known = as_of
                .iter()
                .find(|known| (&known.0, known.1) == (topic, *partition));
            *last = known.map_or(At::ZERO, |known| known.2);
        }
        let input = Input::Relay(RelayInput {
            fence: claim.fence,
            checkpoint,
            lasts,
            rewind: true,
        });
        let commit = commit(input, self.now());
        let written = self.source.change(|source| source.commit(commit));
        written.map_err(|error| Halt::broken(SOUND, format!("a rewind: {error}")))?;
        Ok(())
    }

    /// An operator becomes the owner of the inbox and lets the chain of the source go on behind `from`, where an owner
    /// has found that something behind `last` is missing.
    fn accept(&mut self, last: At, from: At) -> Act {
        self.left.accepts -= 1;
        let setting = self.setting.clone();
        let loss = AcceptedLoss {
            source: setting.source,
            last,
            from,
        };
        let row = self.group.inbox(&setting.inbox).ok_or(Halt::Never)?;
        // The group has come further, or not that far yet.
        row.clone().accept(loss.into()).map_err(|_| Halt::Never)?;
        let row = self
            .group
            .change(|group| group.claim_inbox(&setting.inbox, &Begin::at(Start::Beginning, 0)));
        let input = Input::Void(VoidInput {
            inbox: setting.inbox.clone(),
            fence: row.fence,
            advance: [].into(),
            trying: row.trying.map(Some),
            release: row.clean,
            accept: Some(loss.into()),
        });
        let commit = commit(input, self.now());
        let accepted = self.group.change(|group| group.commit(commit));
        accepted.map_err(|error| Halt::broken(SOUND, format!("accepting a loss: {error}")))?;
        let lost = self
            .facts()
            .filter(|(_, truth)| last < truth.at && truth.at <= from);
        let lost = lost.fold(0, |set, (fact, _)| set | 1 << fact);
        self.given_up |= lost & !self.applied;
        self.topic[CONSUMED as usize].change(|shelf| shelf.accept(row.low, from, setting.source));
        Ok(COURSE)
    }

    /// Messages that the broker may forget: nobody has read them, and another will come that misses them.
    fn forgettable(&self) -> Vec<u64> {
        let shelf = &self.topic[CONSUMED as usize];
        let polled = self.owners.iter().map(|owner| owner.partition.poll());
        let from = polled.max().unwrap_or_default().max(self.low());
        let last = self.setting.bounds.records.len() - 1;
        let entries = (from..shelf.end()).filter(|offset| {
            shelf.entries[crate::topic::index(*offset)]
                .is_some_and(|entry| usize::from(entry.fact) < last)
        });
        entries.collect()
    }

    /// The broker drops what the group has finished.
    fn retain(&mut self) -> Happened {
        self.left.retentions -= 1;
        let low = self.low();
        self.topic[CONSUMED as usize].change(|shelf| shelf.first = low);
        FAULT
    }
}
