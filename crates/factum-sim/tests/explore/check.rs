//! What must hold in every state, by what is true and not by what any machine says.

use factum_core::{At, Class, Start};
use factum_sim::explore::Violation;

use crate::{
    bounds::{CONSUMED, Publishing},
    owner::Stage,
    story::Fact,
    topic::{Entry, index},
    world::{FINISHED, Halt, PICTURE, PUBLISHED, World},
};

impl World {
    pub(crate) fn check_all(&self) -> Result<(), Violation> {
        if !self.setting.bounds.harm_only {
            self.check_relay()?;
        }
        if self.setting.bounds.consuming.is_some() {
            self.check_inbox()?;
        }
        Ok(())
    }

    /// The class of a message follows from which facts were delivered before it, as long as there is one time line.
    pub(crate) fn check_class(
        &self,
        partition: u32,
        entry: Entry,
        delivered: u32,
        class: Class,
    ) -> Result<(), Halt> {
        let bounds = &self.setting.bounds;
        let plain = bounds.start == Start::Beginning && bounds.faults.restores == 0;
        let plain = plain && !bounds.incidents;
        if bounds.harm_only || !plain {
            return Ok(());
        }
        let before = (0..entry.fact)
            .rev()
            .find(|fact| self.partition_of(*fact) == Some(partition));
        let expected = if entry.link.is_none() {
            Class::Deliver
        } else if Self::has(delivered, entry.fact) {
            Class::Duplicate
        } else if before.is_none_or(|before| Self::has(delivered, before)) {
            Class::Deliver
        } else {
            Class::Premature
        };
        if class == expected {
            return Ok(());
        }
        let what = format!(
            "{} is {expected:?}, and the fold says {class:?}",
            Fact(entry.fact)
        );
        Err(Halt::broken(PICTURE, what))
    }

    /// The relay's row: all up to its checkpoint was delivered, and its last places are those of the log.
    fn check_relay(&self) -> Result<(), Violation> {
        let row = self.source.relay();
        for partition in 0..self.setting.bounds.partitions {
            let shelf = &self.topic[partition as usize];
            // What a broker forgets was published all the same.
            if shelf.begins.is_none() || self.setting.bounds.incidents {
                continue;
            }
            let missing = self.required(partition) & !shelf.delivered;
            let missing = self
                .facts()
                .find(|(fact, truth)| Self::has(missing, *fact) && truth.at <= row.checkpoint);
            if let Some((fact, _)) = missing {
                let what = format!(
                    "the checkpoint is {}, and {} was not delivered in partition {partition}",
                    row.checkpoint,
                    Fact(fact)
                );
                return Err(Violation::new(PUBLISHED, what));
            }
        }
        let (_, mut expected) = self.log_up_to(row.checkpoint);
        // After a rewind there is a zero where nothing was published by then.
        let mut lasts = row.lasts;
        lasts.retain(|(_, _, last)| *last != At::ZERO);
        lasts.sort();
        expected.sort();
        if lasts != expected {
            let what = format!(
                "at checkpoint {} the relay's row has the last places {lasts:?}, and the log {expected:?}",
                row.checkpoint
            );
            return Err(Violation::new(PICTURE, what));
        }
        Ok(())
    }

    /// The inbox row and the owners' pictures.
    fn check_inbox(&self) -> Result<(), Violation> {
        let Some(row) = self.group.inbox(&self.setting.inbox) else {
            return Ok(());
        };
        let shelf = &self.topic[CONSUMED as usize];
        let begins = shelf.begins.unwrap_or_default();
        let done = row.done.iter().map(|bit| row.low + bit);
        for offset in (begins..row.low).chain(done) {
            let (Some(entry), (Some(Class::Deliver), _)) =
                (shelf.entries[index(offset)], shelf.classes[index(offset)])
            else {
                continue;
            };
            let over = Self::has(self.applied | self.given_up, entry.fact);
            let parked = |row: &factum_core::Parked| {
                row.message.value.as_ref().map(Self::fact_of) == Some(entry.fact)
            };
            if !over && !self.group.all_parked().any(parked) {
                let what = format!(
                    "{} at offset {offset} is finished, and neither applied nor parked",
                    Fact(entry.fact)
                );
                return Err(Violation::new(FINISHED, what));
            }
        }
        if self.setting.bounds.harm_only {
            return Ok(());
        }
        let picture = |what: String| Err(Violation::new(PICTURE, what));
        let source = self.setting.source;
        let foreign = matches!(self.setting.bounds.publishing, Publishing::Foreign(_));
        if !foreign && row.lasts.get(source) != shelf.last_at(row.low) {
            return picture(format!(
                "the row's last place at {} is {}, and the fold's {}",
                row.low,
                row.lasts.get(source),
                shelf.last_at(row.low)
            ));
        }
        for owner in &self.owners {
            let fence = owner.fence;
            let partition = &owner.partition;
            let dropped = partition.row().low < shelf.first;
            if fence != row.fence && (dropped || shelf.has_accepted()) {
                // It reads on behind what the broker has dropped meanwhile, or as if nothing had been accepted, and
                // will be fenced.
                continue;
            }
            let (poll, last) = (partition.poll(), partition.lasts().get(source));
            if !foreign && last != shelf.last_at(poll) {
                return picture(format!(
                    "owner {fence} has polled up to {poll} and takes {last} for the last place, the fold {}",
                    shelf.last_at(poll)
                ));
            }
            // Each goes on where the one before has ended, holes included.
            let mut next = partition.row().low;
            for seen in owner.seen.iter() {
                let (class, _) = shelf.classes[index(seen.offset)];
                let void = class != Some(Class::Deliver);
                let gapless = (seen.from..=seen.offset).contains(&next);
                if !gapless || seen.void != void && seen.offset >= row.low {
                    return picture(format!(
                        "owner {fence} has seen {seen:?}, and it is {class:?} by the fold"
                    ));
                }
                next = seen.offset + 1;
            }
            let mut lanes: Vec<_> = owner.jobs.iter().map(|job| job.message().lane()).collect();
            lanes.sort();
            let running = lanes.len();
            lanes.dedup();
            if lanes.len() < running {
                return picture(format!("owner {fence} runs two messages of one lane"));
            }
            // What is answered and not heard yet is not in the picture.
            let heard = |stage: &Stage| !matches!(stage, Stage::Answered(_));
            let current = fence == row.fence && owner.jobs.iter().all(|job| heard(&job.stage));
            let known = partition.row();
            if current && (known.low, &known.done, &known.lasts) != (row.low, &row.done, &row.lasts)
            {
                return picture(format!(
                    "owner {fence} has the picture {known:?} of the row {row:?}"
                ));
            }
        }
        Ok(())
    }

    /// Whether all has come to its good end.
    pub(crate) fn check_end(&self) -> Result<(), String> {
        let over = self.applied | self.given_up;
        for partition in 0..self.setting.bounds.partitions {
            let missing = self.required(partition) & !over;
            if missing != 0 {
                let fact = u8::try_from(missing.trailing_zeros()).map_or(0, |fact| fact);
                return Err(format!("{} has taken no effect", Fact(fact)));
            }
        }
        if matches!(
            self.setting.bounds.publishing,
            Publishing::Relay | Publishing::GrowingLog
        ) {
            let (checkpoint, head) = (self.source.relay().checkpoint, self.source.head());
            if checkpoint != head {
                return Err(format!(
                    "the relay's checkpoint is {checkpoint}, and the head {head}"
                ));
            }
            if !self.is_published() {
                return Err("something is on the way".into());
            }
        }
        if self.setting.bounds.consuming.is_some() {
            let waiting =
                |parked: &&factum_core::Parked| parked.state != factum_core::ParkedState::Discarded;
            if let Some(parked) = self.group.all_parked().find(waiting) {
                return Err(format!(
                    "offset {} is parked, {:?}",
                    parked.id.offset, parked.state
                ));
            }
            let row = self.group.inbox(&self.setting.inbox);
            let row = row.ok_or("nobody has claimed the inbox")?;
            let end = self.topic[CONSUMED as usize].end();
            if row.low != end {
                return Err(format!(
                    "the inbox stands at {}, and the end is {end}",
                    row.low
                ));
            }
        }
        Ok(())
    }
}
