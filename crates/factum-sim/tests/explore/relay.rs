//! Relays, and what they have sent: the real runs, on a network that delays, loses and overtakes.

use std::collections::VecDeque;

use factum_core::{
    At, Commit, CommitError, CommitId, Fence, Input, LastsOf, Link, Offer, Position, Record,
    RelayClaim, RelayInput, RelayRun, Timestamp, may_publish,
};
use factum_sim::explore::{Kind, Next, Part};
use std::sync::Arc;
use uuid::Uuid;

use crate::{
    bounds::Publishing,
    mutation::Mutation,
    story::{Fact, What},
    topic::Entry,
    world::{Act, COURSE, FAULT, Halt, SOUND, Steps, World, noted},
};

/// What stands in the row of an anchored partition under M12, so that its first record isn't awaited.
const NO_FIRST: At = At::new(0, 1);

/// A relay: one process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Relay {
    claim: RelayClaim,
    pub(crate) run: RelayRun,
    /// By partition.
    pipes: Vec<Pipe>,
    /// Whether its code knows only the first partition (M6).
    old: bool,
}

/// What a run has sent to one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Pipe {
    /// On the way.
    out: VecDeque<Sent>,
    /// What became of others, and was not heard yet: the position, and the offset when it was appended.
    reports: VecDeque<(u64, Option<u64>)>,
    /// What was lost and has to be sent again alone (M5).
    lost: Vec<Sent>,
    /// The producer reports in the order of sending, whatever happened.
    sorts: bool,
}

impl Pipe {
    /// Which report is heard next.
    fn next_report(&self) -> Option<usize> {
        if !self.sorts {
            return (!self.reports.is_empty()).then_some(0);
        }
        let sent = self.out.iter().chain(&self.lost).map(|sent| sent.position);
        let first = sent.min().unwrap_or(u64::MAX);
        let reports = self.reports.iter().enumerate();
        // That something was lost is told at once.
        let (nth, _) = reports
            .filter(|(_, (position, offset))| offset.is_none() || *position < first)
            .min_by_key(|(_, (position, offset))| (offset.is_some(), *position))?;
        Some(nth)
    }
}

/// A publication on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Sent {
    position: u64,
    entry: Entry,
}

/// What a run that has ended left on the way to one partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Stray {
    partition: u32,
    out: VecDeque<Sent>,
}

impl Relay {
    pub(crate) fn fence(&self) -> Fence {
        self.claim.fence
    }
}

fn commit(input: Input) -> Commit {
    let mut commit = Commit::new(CommitId(Uuid::max()), Timestamp::UNIX_EPOCH);
    commit.input = input;
    commit
}

impl World {
    /// The steps of relays and of the network.
    pub(crate) fn relay_steps<F: FnMut(Next<Self>)>(steps: &mut Steps<'_, F>) {
        let world = steps.world;
        let publishing = &world.setting.bounds.publishing;
        if !matches!(publishing, Publishing::Relay | Publishing::GrowingLog) {
            return;
        }
        let stored = world.source.relay().fence;
        let held = stored.store == world.source.epoch()
            && world.relays.iter().any(|relay| relay.fence() == stored);
        if held && world.left.take_overs > 0 {
            steps.show(What::TakeOver, |world| {
                world.left.take_overs -= 1;
                world.claim_relay()?;
                Ok(FAULT)
            });
        }
        if !held {
            steps.show(What::ClaimRelay, |world| {
                world.claim_relay()?;
                Ok(COURSE)
            });
        }
        for (index, relay) in world.relays.iter().enumerate() {
            let fence = relay.fence();
            steps.show(What::Offer(fence), |world| world.offer(index));
            for partition in 0..world.setting.bounds.partitions {
                world.pipe_steps(index, partition, steps);
            }
            if let Some((at, _)) = relay.run.checkpoint() {
                steps.show(What::Checkpoint(fence, at), |world| {
                    world.checkpoint(index, false)
                });
            }
            if world.left.suspicions > 0 {
                steps.show(What::Suspect(fence), |world| {
                    world.left.suspicions -= 1;
                    world.rewind(index);
                    Ok(FAULT)
                });
            }
            if fence != stored || !held {
                steps.show(What::RelayDies(fence), |world| {
                    world.end_relay(index);
                    Ok(FAULT)
                });
            }
        }
        for (index, stray) in world.strays.iter().enumerate() {
            let (fact, partition) = (Fact(stray.out[0].entry.fact), stray.partition);
            steps.show(What::StrayArrives(fact, partition), |world| {
                let sent = world.strays.change(|strays| {
                    let sent = strays[index].out.pop_front();
                    strays.retain(|stray| !stray.out.is_empty());
                    strays.sort();
                    sent
                });
                let sent = sent.expect("a stray has something on the way");
                world.publish(partition, Some(sent.entry))?;
                Ok(COURSE)
            });
            steps.show(What::StrayVanishes(fact), |world| {
                world.strays.change(|strays| strays.remove(index));
                Ok(FAULT)
            });
        }
    }

    /// What may become of what a relay has sent to a partition.
    fn pipe_steps<F: FnMut(Next<Self>)>(
        &self,
        index: usize,
        partition: u32,
        steps: &mut Steps<'_, F>,
    ) {
        let relay = &self.relays[index];
        let fence = relay.fence();
        let pipe = &relay.pipes[partition as usize];
        for (nth, sent) in pipe.out.iter().take(2).enumerate() {
            let fact = Fact(sent.entry.fact);
            if nth == 0 {
                steps.show(What::Arrive(fence, fact, partition), |world| {
                    world.arrive(index, partition, 0)?;
                    Ok(COURSE)
                });
                if self.left.losses == 0 {
                    continue;
                }
                steps.show(What::Lose(fence, fact), |world| {
                    world.left.losses -= 1;
                    world.relays[index].change(|relay| {
                        let pipe = &mut relay.pipes[partition as usize];
                        if let Some(sent) = pipe.out.pop_front() {
                            pipe.reports.push_back((sent.position, None));
                            pipe.lost.push(sent);
                        }
                    });
                    Ok(FAULT)
                });
            } else if self.left.reorderings > 0 {
                for sorts in [false, true] {
                    let what = What::Overtake(fence, fact, partition, sorts);
                    steps.show(what, |world| {
                        world.left.reorderings -= 1;
                        world.relays[index].change(|relay| {
                            relay.pipes[partition as usize].sorts |= sorts;
                        });
                        world.arrive(index, partition, nth)?;
                        Ok(FAULT)
                    });
                }
            }
        }
        if let Some(nth) = pipe.next_report() {
            let (position, offset) = pipe.reports[nth];
            steps.show(What::Hear(fence, position, offset), |world| {
                world.hear(index, partition, nth, false)
            });
            if offset.is_some() && self.left.store_failures > 0 {
                steps.show(What::HearAndFail(fence, position), |world| {
                    world.left.store_failures -= 1;
                    world.hear(index, partition, nth, true)
                });
            }
        }
    }

    fn claim_relay(&mut self) -> Result<(), Halt> {
        let claim = self.source.change(factum_testkit::StoreValue::claim_relay);
        let of_topic = self.topic.iter().flat_map(|shelf| &shelf.entries);
        let seen = of_topic.flatten().filter_map(|entry| Some(entry.link?.at));
        if let Some(seen) = seen.max()
            && self.setting.bounds.mutation.is_none()
        {
            may_publish(self.source.epoch(), self.source.head(), seen)
                .map_err(|why| Halt::broken(SOUND, format!("a relay may not publish: {why}")))?;
        }
        let run = self.run_of(&claim);
        let relay = Relay {
            run,
            pipes: vec![self.new_pipe(); self.topic.len()],
            old: self.plants(Mutation::M6) && claim.fence.owner.0 == 1,
            claim,
        };
        self.relays.push(Part::new(relay));
        Ok(())
    }

    fn new_pipe(&self) -> Pipe {
        Pipe {
            sorts: self.plants(Mutation::M5) || self.plants(Mutation::M13),
            ..Pipe::default()
        }
    }

    fn run_of(&self, claim: &RelayClaim) -> RelayRun {
        let mut claim = claim.clone();
        if self.plants(Mutation::M12) {
            for partition in 0..self.setting.bounds.partitions {
                let topic = &self.setting.topic;
                if !claim.lasts.iter().any(|(_, known, _)| *known == partition) {
                    claim.lasts.push((topic.clone(), partition, NO_FIRST));
                }
            }
        }
        RelayRun::new(self.setting.source, &claim)
    }

    /// A relay reads the next record and offers it to its run.
    fn offer(&mut self, index: usize) -> Act {
        let relay = &self.relays[index];
        let mut cursor = relay.run.cursor();
        if self.plants(Mutation::M9) {
            let here =
                |(_, truth): &(u8, &crate::world::Truth)| truth.at.position == cursor.position;
            let present = self
                .facts()
                .filter(|(fact, _)| Self::has(self.truths.present, *fact));
            cursor = match present.clone().find(here) {
                Some((_, truth)) => truth.at,
                None if cursor == At::ZERO => cursor,
                None => return Err(Halt::Never),
            };
        }
        let Ok(records) = self.source.read_log(cursor, 1) else {
            if cursor == self.source.relay().checkpoint {
                // It would claim for ever, and find the same place.
                return Err(Halt::Never);
            }
            self.end_relay(index);
            return Ok(noted(
                Kind::Course,
                "its place is not on the time line any more, so it ends",
            ));
        };
        let record = records.first().ok_or(Halt::Never)?;
        let fact = Self::fact_of(&record.draft.data);
        let record = self.offered(relay, record);
        let mut run = relay.run.clone();
        let link = if record.draft.destination.is_none() {
            // The store leaves out what goes nowhere, and the runtime passes over it.
            run.pass(record.at);
            None
        } else {
            match run.offer(&record) {
                Offer::Hold => return Err(Halt::Never),
                Offer::Pass => None,
                Offer::Send(link) => Some(self.sent_link(link)),
            }
        };
        let to = record.draft.destination.as_ref().map(|to| to.partition);
        self.relays[index].change(|relay| {
            relay.run = run;
            if let (Some(link), Some(partition)) = (link, to) {
                relay.pipes[partition as usize].out.push_back(Sent {
                    position: record.at.position.0,
                    entry: Entry {
                        fact,
                        link: Some(link),
                    },
                });
            }
        });
        if self.plants(Mutation::M4) {
            let (at, lasts) = self.log_up_to(self.relays[index].run.cursor());
            return self.write_checkpoint(index, at, lasts);
        }
        // Behind what goes nowhere the checkpoint is written later, when nothing else happens.
        Ok(COURSE)
    }

    /// The record as the relay offers it to its run.
    fn offered(&self, relay: &Relay, record: &Record) -> Record {
        let mut record = record.clone();
        if self.plants(Mutation::M7) {
            record.at.epoch = self.source.epoch();
        }
        let to = record.draft.destination.as_ref();
        if relay.old && to.is_some_and(|to| to.partition > 0) {
            Arc::make_mut(&mut record.draft).destination = None;
        }
        record
    }

    /// The link as it is sent.
    fn sent_link(&self, mut link: Link) -> Link {
        let begins = self.plants(Mutation::M8) && link.previous.epoch < link.at.epoch;
        if begins || link.previous == NO_FIRST {
            link.previous = At::ZERO;
        }
        link
    }

    /// The last place of each partition, as the log has it up to `at`.
    pub(crate) fn log_up_to(&self, at: At) -> (At, LastsOf) {
        let mut lasts: Vec<(u32, At)> = Vec::new();
        let present = self
            .facts()
            .filter(|(fact, _)| Self::has(self.truths.present, *fact));
        for (fact, truth) in present.filter(|(_, truth)| truth.at <= at) {
            let Some(partition) = self.partition_of(fact) else {
                continue;
            };
            match lasts.iter_mut().find(|(known, _)| *known == partition) {
                Some((_, last)) => *last = truth.at,
                None => lasts.push((partition, truth.at)),
            }
        }
        lasts.sort_unstable();
        let topic = &self.setting.topic;
        let lasts = lasts.into_iter();
        (
            at,
            lasts
                .map(|(partition, at)| (topic.clone(), partition, at))
                .collect(),
        )
    }

    /// What stands `nth` on the way to a partition arrives.
    fn arrive(&mut self, index: usize, partition: u32, nth: usize) -> Result<(), Halt> {
        let offset = self.topic[partition as usize].end();
        let sent = self.relays[index].change(|relay| {
            let pipe = &mut relay.pipes[partition as usize];
            let sent = pipe.out.remove(nth).expect("it is on the way");
            pipe.reports.push_back((sent.position, Some(offset)));
            sent
        });
        self.publish(partition, Some(sent.entry))
    }

    /// A relay hears what became of a publication, and writes its checkpoint when that has moved.
    fn hear(&mut self, index: usize, partition: u32, nth: usize, fails: bool) -> Act {
        let lenient = self.plants(Mutation::M5) || self.plants(Mutation::M13);
        let again = self.plants(Mutation::M5);
        let heard = self.relays[index].change(|relay| {
            let pipe = &mut relay.pipes[partition as usize];
            let (position, offset) = pipe.reports.remove(nth).expect("it was reported");
            let Some(mut offset) = offset else {
                let lost = pipe.lost.iter().position(|sent| sent.position == position);
                let sent = lost.map(|lost| pipe.lost.remove(lost));
                if again && let Some(sent) = sent {
                    pipe.out.push_back(sent);
                    return true;
                }
                return false;
            };
            if lenient {
                // The offsets rise, whatever happened.
                offset = position;
            }
            relay.run.acknowledge(Position(position), offset).is_ok()
        });
        if !heard {
            self.rewind(index);
            return Ok(noted(Kind::Course, "it rewinds"));
        }
        self.checkpoint(index, fails)
    }

    /// Writes the checkpoint if the run has come further.
    fn checkpoint(&mut self, index: usize, fails: bool) -> Act {
        let Some((at, lasts)) = self.relays[index].run.checkpoint() else {
            return if fails { Err(Halt::Never) } else { Ok(COURSE) };
        };
        if fails {
            self.rewind(index);
            return Ok(FAULT);
        }
        self.write_checkpoint(index, at, lasts)
    }

    fn write_checkpoint(&mut self, index: usize, at: At, lasts: LastsOf) -> Act {
        let mut fence = self.relays[index].fence();
        let stored = self.source.relay().fence;
        if self.plants(Mutation::M10) && fence.owner == stored.owner {
            fence = stored;
        }
        let input = RelayInput {
            fence,
            checkpoint: at,
            lasts,
            rewind: false,
        };
        let written = self
            .source
            .change(|source| source.commit(commit(Input::Relay(input))));
        match written {
            Ok(_) => {
                self.relays[index].change(|relay| relay.run.saved(at));
                Ok(noted(Kind::Course, "the checkpoint is written"))
            }
            Err(CommitError::Fenced { .. }) => {
                self.end_relay(index);
                Ok(noted(Kind::Course, "it is fenced, and ends"))
            }
            Err(error) => Err(Halt::broken(SOUND, format!("a checkpoint: {error}"))),
        }
    }

    /// A run ends, and the next begins behind the unbroken prefix.
    fn rewind(&mut self, index: usize) {
        self.leave_strays(index);
        self.relays[index].change(|relay| relay.run.rewind());
    }

    /// A relay ends. What it has sent may still arrive.
    fn end_relay(&mut self, index: usize) {
        self.leave_strays(index);
        self.relays.remove(index);
    }

    fn leave_strays(&mut self, index: usize) {
        let empty = self.new_pipe();
        let pipes = self.relays[index].change(|relay| {
            let empty = vec![empty; relay.pipes.len()];
            std::mem::replace(&mut relay.pipes, empty)
        });
        let left = (0..).zip(pipes).filter(|(_, pipe)| !pipe.out.is_empty());
        let left: Vec<_> = left
            .map(|(partition, pipe)| Stray {
                partition,
                out: pipe.out,
            })
            .collect();
        if !left.is_empty() {
            self.strays.change(|strays| {
                strays.extend(left);
                strays.sort();
            });
        }
    }

    /// Whether nothing is on the way to the topic.
    pub(crate) fn is_published(&self) -> bool {
        let quiet = |relay: &Part<Relay>| {
            relay
                .pipes
                .iter()
                .all(|pipe| pipe.out.is_empty() && pipe.reports.is_empty())
        };
        self.strays.is_empty() && self.relays.iter().all(quiet)
    }
}
