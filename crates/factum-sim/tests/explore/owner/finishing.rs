//! How what an owner has begun is finished: its commit, and what it does with the answer.

use factum_core::{
    Advance, CommitError, Disposition, Fence, Input, Lane, Message, MessageInput, Parked,
    ParkedFilter, ParkedId, ParkedInput, ParkedState, Retried,
};
use factum_sim::explore::Kind;

use super::{Job, Outcome, Stage, Work, late, note, refused};
use crate::{
    bounds::CONSUMED,
    mutation::Mutation,
    story::{Fact, How},
    world::{Act, COURSE, FENCE, Halt, Happened, World, noted},
};

impl World {
    /// What runs is committed, and, unless answers are late, the answer is heard.
    pub(super) fn commit_job(&mut self, index: usize, nth: usize, how: How) -> Act {
        let mut kind = Kind::Course;
        let job = self.owners[index].jobs[nth].clone();
        if how != How::Well && !job.doomed {
            match how {
                How::Skips => self.left.skips -= 1,
                _ => self.left.failures -= 1,
            }
            kind = Kind::Fault;
        }
        let advance = match &job.stage {
            Stage::Queued(advance) => advance.clone(),
            _ => self.owners[index].seen.clone(),
        };
        let outcome = match &job.work {
            Work::Again(parked) => self.commit_retry(index, &job, parked, how)?,
            _ => self.commit_live(index, &job, advance, how)?,
        };
        if self.consuming().slow {
            self.owners[index].change(|owner| {
                owner.jobs[nth].stage = Stage::Answered(Box::new(outcome));
            });
            return Ok(noted(kind, ""));
        }
        Ok(self.answer(index, nth, outcome).of_kind(kind))
    }

    /// The runtime's way with a live message's commit.
    pub(super) fn commit_live(
        &mut self,
        index: usize,
        job: &Job,
        advance: Advance,
        how: How,
    ) -> Result<Outcome, Halt> {
        let message = job.message();
        let (lane, fact) = (message.lane(), job.fact());
        let fence = self.owners[index].fence;
        let room = self.setting.room;
        let mut unparked = false;
        let disposition = match (&job.work, how) {
            (Work::Waits(_), _) if self.plants(Mutation::M20) => {
                unparked = !self.is_parked(&lane);
                let state = if unparked {
                    ParkedState::Retrying
                } else {
                    ParkedState::Waiting
                };
                let parked = Box::new(self.parked(message, state));
                if unparked {
                    Disposition::Park(parked, room)
                } else {
                    Disposition::Wait(parked, room)
                }
            }
            (Work::Waits(_), _) => {
                Disposition::Wait(Box::new(self.parked(message, ParkedState::Waiting)), room)
            }
            (Work::Repeats(_), _) => Disposition::Duplicate,
            (_, How::Well) => Disposition::Apply,
            (_, How::Skips) => Disposition::Skip,
            (_, How::FailsForNow) => {
                Disposition::Park(Box::new(self.parked(message, ParkedState::Retrying)), room)
            }
            (_, How::FailsForGood) => {
                Disposition::Park(Box::new(self.parked(message, ParkedState::Dead)), room)
            }
        };
        let parks = matches!(disposition, Disposition::Park(..) | Disposition::Wait(..));
        let applies = matches!(disposition, Disposition::Apply);
        // Under M3 the store is asked about a lane that nobody parks.
        let asked = if self.plants(Mutation::M3) && applies {
            Lane::Alone(u64::MAX)
        } else {
            lane.clone()
        };
        let foreign = self.topic[CONSUMED as usize].entries[crate::topic::index(message.offset)]
            .is_some_and(|entry| entry.link.is_none());
        let event_id = &self.setting.event_ids[self.truths.all[usize::from(fact)].record];
        let input = Input::Message(MessageInput {
            inbox: self.setting.inbox.clone(),
            fence: self.carried(fence, false),
            offset: message.offset,
            lane: asked,
            advance,
            event_id: foreign.then(|| (event_id.clone(), late())),
            disposition,
        });
        let before = self.stored_fence();
        let row = match self.commit_input(input) {
            Ok(committed) => committed.inbox.expect("a message's commit leaves a row"),
            Err(CommitError::LaneParked) => return Ok(Outcome::Lane { parked: true }),
            Err(CommitError::LaneFree) => return Ok(Outcome::Lane { parked: false }),
            Err(CommitError::NoRoom { .. }) => return Ok(Outcome::NoRoom),
            Err(CommitError::DuplicateEvent(_)) => return Ok(Outcome::Repeats),
            Err(CommitError::Fenced { .. } | CommitError::NotDuplicate(_)) => {
                return Ok(Outcome::Reclaim);
            }
            Err(error) => return Err(refused(&error)),
        };
        if unparked {
            let id = self.parked_id(message.offset);
            let mut row = self.group.parked_one(&id).expect("it was parked").clone();
            row.state = ParkedState::Waiting;
            row.due = None;
            self.group.change(|group| group.put_parked(row));
        }
        if applies {
            self.effect_of_owner(fact, job.saw, fence, before)?;
        }
        if how == How::Skips {
            self.given_up |= 1 << fact;
        }
        Ok(Outcome::Finished(row, parks))
    }

    /// The runtime's way with a retry's commit.
    pub(super) fn commit_retry(
        &mut self,
        index: usize,
        job: &Job,
        parked: &Parked,
        how: How,
    ) -> Result<Outcome, Halt> {
        let fence = self.owners[index].fence;
        let now = self.now();
        let outcome = match how {
            How::Well | How::Skips => Retried::Settled,
            How::FailsForNow => Retried::Later {
                due: now,
                failure: note(now),
            },
            How::FailsForGood => Retried::Dead(note(now)),
        };
        let settles = matches!(outcome, Retried::Settled);
        let input = Input::Parked(ParkedInput {
            id: parked.id.clone(),
            fence: self.carried(fence, true),
            revision: parked.revision,
            outcome,
        });
        let stored = self.stored_fence();
        let before = self.next_of_lane(parked);
        match self.commit_input(input) {
            Ok(_) => {}
            Err(CommitError::RevisionChanged { .. }) => {
                return Ok(Outcome::Retried { parked: true });
            }
            Err(CommitError::Fenced { .. }) => return Ok(Outcome::Reclaim),
            Err(error) => return Err(refused(&error)),
        }
        if !settles {
            return Ok(Outcome::Retried { parked: true });
        }
        if how == How::Skips {
            self.given_up |= 1 << job.fact();
        } else {
            self.effect_of_owner(job.fact(), job.saw, fence, stored)?;
        }
        if self.plants(Mutation::M21)
            && let Some(waiting) = before
        {
            let released = self.next_of_lane(parked).expect("it was released");
            self.group.change(|group| group.put_parked(waiting));
            self.owners[index].change(|owner| owner.promoted.push(released));
        }
        let lane = ParkedFilter {
            inbox: Some(self.setting.inbox.clone()),
            lane: Some(parked.lane.clone()),
            state: Some(ParkedState::Retrying),
            ..ParkedFilter::default()
        };
        Ok(Outcome::Retried {
            parked: !self.group.parked(&lane).is_empty(),
        })
    }

    pub(super) fn effect_of_owner(
        &mut self,
        fact: u8,
        saw: u32,
        fence: Fence,
        stored: Option<Fence>,
    ) -> Result<(), Halt> {
        if stored != Some(fence) && !self.setting.bounds.harm_only {
            let name = Fact(fact);
            let what = format!("owner {fence} makes the effect of {name}, and is fenced");
            return Err(Halt::broken(FENCE, what));
        }
        self.effect(fact, saw)
    }

    /// The row behind `parked` in its lane.
    pub(super) fn next_of_lane(&self, parked: &Parked) -> Option<Parked> {
        let behind = |row: &&Parked| {
            row.lane == parked.lane
                && row.id.offset > parked.id.offset
                && row.state != ParkedState::Discarded
        };
        self.group.all_parked().find(behind).cloned()
    }

    pub(super) fn is_parked(&self, lane: &Lane) -> bool {
        let in_lane = |row: &&Parked| row.lane == *lane && row.state != ParkedState::Discarded;
        self.group.all_parked().any(|row| in_lane(&row))
    }

    pub(crate) fn parked_id(&self, offset: u64) -> ParkedId {
        ParkedId {
            inbox: self.setting.inbox.clone(),
            offset,
        }
    }

    pub(super) fn parked(&self, message: &Message, state: ParkedState) -> Parked {
        let now = self.now();
        let failed = state != ParkedState::Waiting;
        Parked {
            id: self.parked_id(message.offset),
            lane: message.lane(),
            state,
            revision: 1,
            message: message.clone(),
            edited: None,
            event_id: None,
            event_type: None,
            correlation_id: None,
            tries: u32::from(failed),
            due: (state == ParkedState::Retrying).then_some(now),
            failure: failed.then(|| note(now)),
            parked_at: now,
            redrives: 0,
            discarded_at: None,
        }
    }

    /// An owner hears what became of a commit.
    pub(super) fn answer(&mut self, index: usize, nth: usize, outcome: Outcome) -> Happened {
        let happened = match outcome {
            Outcome::Reclaim => return self.reclaim(index),
            Outcome::Repeats => noted(Kind::Course, "its event id is taken"),
            Outcome::NoRoom => noted(Kind::Again, "there is no room to park it"),
            Outcome::Lane { parked: true } => noted(Kind::Course, "its lane is parked"),
            Outcome::Lane { parked: false } => noted(Kind::Course, "its lane is not parked"),
            Outcome::Finished(_, true) => noted(Kind::Course, "it is parked"),
            _ => COURSE,
        };
        let beside = self.plants(Mutation::M19);
        self.owners[index].change(|owner| {
            if outcome == Outcome::Repeats {
                let job = &mut owner.jobs[nth];
                job.work = Work::Repeats(job.message().clone());
                job.stage = Stage::Ran;
                return;
            }
            let job = owner.jobs.remove(nth);
            let (message, lane) = (job.message(), job.message().lane());
            let beside = beside && matches!(job.work, Work::Again(_));
            owner.picture(|picture| match outcome {
                Outcome::Finished(row, parked) => {
                    if parked {
                        picture.set_parked(&lane, true);
                    }
                    picture.finished(message, row);
                }
                Outcome::Retried { parked } | Outcome::Lane { parked } => {
                    picture.set_parked(&lane, parked);
                    if !beside {
                        picture.idle(&lane);
                    }
                }
                _ => picture.idle(&lane),
            });
        });
        happened
    }
}
