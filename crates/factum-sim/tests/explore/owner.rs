//! Owners of the consumed partition: the real picture and the real commits, with handlers that may fail, on members
//! that crash, are paused and wake up.
//!
//! What an owner does with an answer is what the runtime does with it.

mod finishing;

use factum_core::{
    Advance, At, Begin, Commit, CommitError, CommitId, Committed, FailureClass, FailureNote, Fence,
    InboxRow, Input, Message, Parked, ParkedFilter, ParkedState, Partition, Start, Timestamp,
    Trying, VoidInput,
};
use factum_sim::explore::{Kind, Next, Part};
use uuid::Uuid;

use crate::{
    bounds::{CONSUMED, Consuming},
    mutation::Mutation,
    story::{Fact, How, What},
    world::{Act, COURSE, FAULT, Halt, Happened, SOUND, Steps, World, noted},
};

/// A time behind all others.
fn late() -> Timestamp {
    Timestamp::from_micros(i64::MAX)
}

/// An owner of the partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    pub(crate) fence: Fence,
    pub(crate) partition: Partition,
    /// What it has seen, as it would tell the store.
    pub(crate) seen: Advance,
    /// What runs, in the order of offsets.
    pub(crate) jobs: Vec<Job>,
    /// Rows that it still has to release (M21).
    promoted: Vec<Parked>,
}

/// Something that runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Job {
    pub(crate) work: Work,
    /// The effects that its handler saw.
    saw: u32,
    /// Owners have died of it too often: its handler does not run.
    doomed: bool,
    pub(crate) stage: Stage,
}

/// What it is that runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    /// A message from the partition.
    Live(Message),
    /// One whose lane is parked.
    Waits(Message),
    /// One whose event id turned out to be taken.
    Repeats(Message),
    /// A parked message.
    Again(Box<Parked>),
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// Its handler has run.
    Ran,
    /// Its commit is made, with what had been seen by then, and not applied yet.
    Queued(Advance),
    /// It was applied or refused, and the answer is not heard yet.
    Answered(Box<Outcome>),
}

/// How it ended: the runtime's own list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Finished(InboxRow, bool),
    Retried { parked: bool },
    Lane { parked: bool },
    NoRoom,
    Repeats,
    Reclaim,
}

impl Owner {
    /// Changes the picture.
    fn picture(&mut self, change: impl FnOnce(&mut Partition)) {
        change(&mut self.partition);
        // Also so that two pictures that differ only in whether they have told it yet are the same.
        self.seen = self.partition.advance();
    }
}

impl Job {
    pub(crate) fn message(&self) -> &Message {
        match &self.work {
            Work::Live(message) | Work::Waits(message) | Work::Repeats(message) => message,
            Work::Again(parked) => &parked.message,
        }
    }

    fn fact(&self) -> u8 {
        fact_of(self.message())
    }
}

fn fact_of(message: &Message) -> u8 {
    World::fact_of(message.value.as_ref().expect("each message has a value"))
}

pub(crate) fn commit(input: Input, now: Timestamp) -> Commit {
    let mut commit = Commit::new(CommitId(Uuid::max()), now);
    commit.input = input;
    commit
}

fn note(now: Timestamp) -> FailureNote {
    FailureNote {
        class: FailureClass::Rejected,
        message: String::new(),
        cause: String::new(),
        handler: None,
        at: now,
    }
}

impl World {
    fn consuming(&self) -> Consuming {
        self.setting
            .bounds
            .consuming
            .expect("there are owners only where something is consumed")
    }

    /// The time at which the `nth` owner claims. What is parked in its time is due a little later, so that the next
    /// owner finds it due when it claims, as one that is no faster than a person does.
    fn claimed_at(nth: u64) -> Timestamp {
        Timestamp::from_micros(i64::try_from(nth * 10).expect("a small world has few owners"))
    }

    /// The time of the present owner's commits.
    pub(crate) fn now(&self) -> Timestamp {
        let row = self.group.inbox(&self.setting.inbox);
        Self::claimed_at(row.map_or(0, |row| row.fence.owner.0))
            + std::time::Duration::from_micros(1)
    }

    pub(crate) fn stored_fence(&self) -> Option<Fence> {
        let row = self.group.inbox(&self.setting.inbox);
        row.map(|row| row.fence)
    }

    /// The steps of members and owners.
    pub(crate) fn owner_steps<F: FnMut(Next<Self>)>(steps: &mut Steps<'_, F>) {
        let world = steps.world;
        if world.setting.bounds.consuming.is_none() {
            return;
        }
        match (world.assigned, &world.read) {
            (None, None) if world.plants(Mutation::M16) && world.stored_fence().is_some() => {
                steps.show(What::ReadRow, |world| {
                    world.read = world.group.inbox(&world.setting.inbox).cloned();
                    Ok(COURSE)
                });
            }
            (None, None) => steps.show(What::Claim, |world| {
                world.claim(true);
                Ok(COURSE)
            }),
            (None, Some(_)) => steps.show(What::RaiseFence, |world| {
                world.claim(true);
                Ok(COURSE)
            }),
            (Some(_), _) => {}
        }
        if world.left.late_claims > 0 {
            steps.show(What::LateClaim, |world| {
                world.left.late_claims -= 1;
                world.claim(false);
                Ok(FAULT)
            });
        }
        if world.left.moves > 0 && world.assigned.is_some() {
            steps.show(What::Move, |world| {
                world.left.moves -= 1;
                world.assigned = None;
                Ok(FAULT)
            });
        }
        for index in 0..world.owners.len() {
            world.steps_of_owner(index, steps);
        }
    }

    fn steps_of_owner<F: FnMut(Next<Self>)>(&self, index: usize, steps: &mut Steps<'_, F>) {
        let owner = &self.owners[index];
        let fence = owner.fence;
        if owner.partition.has_room()
            && let Some((offset, entry)) =
                self.topic[CONSUMED as usize].next(owner.partition.poll())
        {
            steps.show(What::Poll(fence, offset, Fact(entry.fact)), |world| {
                world.poll(index);
                Ok(COURSE)
            });
        }
        if owner.jobs.len() < self.consuming().concurrency {
            self.starting_steps(index, steps);
        }
        for (nth, job) in owner.jobs.iter().enumerate() {
            let fact = Fact(job.fact());
            match &job.stage {
                Stage::Ran if self.consuming().slow => {
                    steps.show(What::Queue(fence, fact), |world| {
                        world.owners[index].change(|owner| {
                            owner.jobs[nth].stage = Stage::Queued(owner.seen.clone());
                        });
                        Ok(COURSE)
                    });
                }
                Stage::Ran | Stage::Queued(_) => {
                    for how in self.hows(job) {
                        steps.show(What::Commit(fence, fact, how), |world| {
                            world.commit_job(index, nth, how)
                        });
                    }
                }
                Stage::Answered(outcome) => steps.show(What::Answer(fence, fact), |world| {
                    Ok(world.answer(index, nth, (**outcome).clone()))
                }),
            }
        }
        if owner.partition.owes_void() && !self.plants(Mutation::M17) {
            steps.show(What::Void(fence), |world| world.void(index));
        }
        if !owner.promoted.is_empty() {
            steps.show(What::Promote(fence), |world| {
                let row = world.owners[index].change(|owner| owner.promoted.remove(0));
                world.group.change(|group| group.put_parked(row));
                Ok(COURSE)
            });
        }
        if self.left.crashes > 0 {
            steps.show(What::Crash(fence), |world| {
                world.left.crashes -= 1;
                world.end_owner(index);
                Ok(FAULT)
            });
        }
        if self.assigned == Some(index) {
            if self.left.releases > 0 && owner.jobs.is_empty() {
                steps.show(What::Release(fence), |world| world.release(index));
            }
        } else {
            steps.show(What::OwnerIsTold(fence), |world| {
                world.end_owner(index);
                Ok(FAULT)
            });
        }
    }

    /// How a handler may end.
    fn hows(&self, job: &Job) -> impl Iterator<Item = How> + use<> {
        let runs = matches!(job.work, Work::Live(_) | Work::Again(_)) && !job.doomed;
        let (fails, skips) = (runs && self.left.failures > 0, runs && self.left.skips > 0);
        let all = [
            (!job.doomed, How::Well),
            (fails, How::FailsForNow),
            (fails || job.doomed, How::FailsForGood),
            (skips, How::Skips),
        ];
        all.into_iter().filter_map(|(may, how)| may.then_some(how))
    }

    /// What an owner may start.
    fn starting_steps<F: FnMut(Next<Self>)>(&self, index: usize, steps: &mut Steps<'_, F>) {
        let owner = &self.owners[index];
        let mut picture = owner.partition.clone();
        let due = self.look(&mut picture);
        if let Some(job) = picture.clone().start() {
            let message = &job.message;
            let what = What::Run(owner.fence, message.offset, Fact(fact_of(message)));
            let picture = picture.clone();
            steps.show(what, |world| world.run(index, picture));
        }
        for parked in due {
            let fact = Fact(fact_of(&parked.message));
            let what = What::Retry(owner.fence, parked.id.offset, fact);
            let picture = picture.clone();
            steps.show(what, |world| world.retry(index, picture, parked));
        }
    }

    /// An owner looks up the retries that are due.
    fn look(&self, picture: &mut Partition) -> Vec<Parked> {
        let filter = ParkedFilter {
            inbox: Some(self.setting.inbox.clone()),
            state: Some(ParkedState::Retrying),
            due: Some(late()),
            ..ParkedFilter::default()
        };
        let due = self.group.parked(&filter);
        let suspect = |row: &Parked| row.due <= picture.suspects_due_by();
        if !due.iter().any(suspect) {
            picture.no_suspects();
        }
        due
    }

    /// A member claims the inbox.
    fn claim(&mut self, assigned: bool) {
        let setting = self.setting.clone();
        let inbox = &setting.inbox;
        if self.topic[CONSUMED as usize].begins.is_none() {
            self.begin_group();
        }
        let shelf = &self.topic[CONSUMED as usize];
        let (end, start) = (shelf.end(), setting.bounds.start);
        let mut begin = Begin::at(start, shelf.first);
        if start == Start::Anchor {
            begin.low = end;
        }
        let stands = shelf.last_at(begin.low);
        if start == Start::Anchor && stands > At::ZERO {
            begin.lasts.set(setting.source, stands);
        }
        let claimed = self.group.change(|group| group.claim_inbox(inbox, &begin));
        let fence = claimed.fence;
        let mut row = match self.read.take().filter(|_| assigned) {
            Some(read) => InboxRow { fence, ..read },
            None => claimed,
        };
        if self.plants(Mutation::M14) {
            let done = row.done.iter().map(|bit| row.low + bit);
            let entries = &self.topic[CONSUMED as usize].entries;
            let links = done.filter_map(|offset| entries[crate::topic::index(offset)]?.link);
            if let Some(last) = links.map(|link| link.at).max() {
                let known = row.lasts.get(setting.source);
                row.lasts.set(setting.source, last.max(known));
            }
        }
        let lanes = self.group.parked_lanes(inbox, self.consuming().lanes_known);
        let now = Self::claimed_at(fence.owner.0);
        let mut partition =
            Partition::new(row, lanes, end, now).reading_ahead(self.consuming().ahead);
        let owner = Owner {
            fence,
            seen: partition.advance(),
            partition,
            jobs: Vec::new(),
            promoted: Vec::new(),
        };
        self.owners.push(Part::new(owner));
        if assigned {
            self.assigned = Some(self.owners.len() - 1);
        }
    }

    /// An owner ends, and forgets all.
    fn end_owner(&mut self, index: usize) {
        self.owners.remove(index);
        self.assigned = match self.assigned {
            Some(assigned) if assigned == index => None,
            Some(assigned) if assigned > index => Some(assigned - 1),
            other => other,
        };
    }

    fn message(&self, offset: u64, fact: u8) -> Message {
        let truth = &self.truths.all[usize::from(fact)];
        Message {
            topic: self.setting.topic.clone(),
            partition: CONSUMED,
            offset,
            timestamp: Timestamp::UNIX_EPOCH,
            key: self.setting.keys[truth.record].clone(),
            headers: factum_core::Headers::new(),
            value: Some(Self::data_of(fact)),
        }
    }

    fn poll(&mut self, index: usize) {
        let poll = self.owners[index].partition.poll();
        let next = self.topic[CONSUMED as usize].next(poll);
        let (offset, entry) = next.expect("there is a message to poll");
        let mut link = self.read_link(entry.link);
        if self.plants(Mutation::M15) && self.owners[index].partition.row().is_done(offset) {
            link = None;
        }
        let message = self.message(offset, entry.fact);
        self.owners[index].change(|owner| {
            owner.picture(|picture| {
                picture.polled(message, link, true);
            });
        });
    }

    /// The oldest message that may start starts, and its handler runs.
    fn run(&mut self, index: usize, mut picture: Partition) -> Act {
        let job = picture.start().ok_or(Halt::Never)?;
        let unseen = self.plants(Mutation::M3) || self.plants(Mutation::M19);
        let work = if job.wait && !unseen {
            Work::Waits(job.message)
        } else {
            Work::Live(job.message)
        };
        self.start(index, picture, work, job.trying)
    }

    /// A parked message is tried again.
    fn retry(&mut self, index: usize, mut picture: Partition, parked: Parked) -> Act {
        let mark = picture.retry_mark(&parked.id, parked.due);
        picture.set_parked(&parked.lane, true);
        let beside = self.plants(Mutation::M19);
        let twice = self.owners[index]
            .jobs
            .iter()
            .any(|job| matches!(&job.work, Work::Again(row) if row.id == parked.id));
        if beside && twice || !beside && !picture.start_retry(&parked.lane, mark) {
            return Err(Halt::Never);
        }
        self.start(index, picture, Work::Again(Box::new(parked)), mark)
    }

    fn start(&mut self, index: usize, picture: Partition, work: Work, mark: Option<Trying>) -> Act {
        let doomed = mark.is_some_and(|mark| mark.tries > self.consuming().crashes_max);
        let job = Job {
            work,
            saw: self.applied,
            doomed,
            stage: Stage::Ran,
        };
        let mut row = None;
        let mark = mark.filter(|_| !doomed);
        if mark.is_some() {
            row = self.commit_void(index, mark, false)?;
            if row.is_none() {
                return Ok(self.reclaim(index));
            }
        }
        self.owners[index].change(|owner| {
            owner.partition = picture;
            owner.jobs.push(job);
            owner.jobs.sort_by_key(|job| job.message().offset);
            owner.picture(|picture| row.into_iter().for_each(|row| picture.written(row)));
        });
        Ok(match mark {
            Some(_) => noted(Kind::Course, "behind an attempt mark"),
            None => COURSE,
        })
    }

    /// An owner finds that it is fenced, and ends.
    fn reclaim(&mut self, index: usize) -> Happened {
        self.end_owner(index);
        noted(Kind::Course, "it is fenced, and ends")
    }

    /// The fence that an owner's commit carries.
    fn carried(&self, fence: Fence, parked: bool) -> Fence {
        let forged = self.plants(Mutation::M2) || parked && self.plants(Mutation::M18);
        if forged {
            return self.stored_fence().unwrap_or(fence);
        }
        fence
    }

    /// Commits the row alone; none when the owner is fenced.
    fn commit_void(
        &mut self,
        index: usize,
        trying: Option<Trying>,
        release: bool,
    ) -> Result<Option<InboxRow>, Halt> {
        let fence = self.owners[index].fence;
        let advance = self.owners[index].seen.clone();
        let input = Input::Void(VoidInput {
            inbox: self.setting.inbox.clone(),
            fence: self.carried(fence, false),
            advance,
            trying: if release {
                Some(None)
            } else {
                trying.map(Some)
            },
            release,
            accept: None,
        });
        match self.commit_input(input) {
            Ok(committed) => Ok(committed.inbox),
            Err(CommitError::Fenced { .. }) => Ok(None),
            Err(error) => Err(refused(&error)),
        }
    }

    fn commit_input(&mut self, input: Input) -> Result<Committed, CommitError> {
        let commit = commit(input, self.now());
        self.group.change(|group| group.commit(commit))
    }

    fn void(&mut self, index: usize) -> Act {
        let Some(row) = self.commit_void(index, None, false)? else {
            return Ok(self.reclaim(index));
        };
        self.owners[index].change(|owner| owner.picture(|picture| picture.written(row)));
        Ok(COURSE)
    }

    /// An owner that runs nothing gives the partition back.
    fn release(&mut self, index: usize) -> Act {
        self.left.releases -= 1;
        self.commit_void(index, None, true)?;
        self.end_owner(index);
        Ok(FAULT)
    }
}

fn refused(error: &CommitError) -> Halt {
    Halt::broken(SOUND, format!("a commit was refused as bad: {error}"))
}
