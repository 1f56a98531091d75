//! Losses: what an operator does when messages are missing for good, or until they are published again.
//!
//! Both ways out write what only an owner writes, so they become the owner first: whoever was it finds itself fenced,
//! claims again and goes on from what was written.

use std::collections::BTreeMap;

use super::{By, Operations};
use crate::{
    Incident,
    consumer::standing::{self, Standing},
};
use factum_core::{
    AcceptedLoss, At, Begin, Commit, CommitError, Error, InboxId, InboxRow, Input, LogFilter, Loss,
    PassedOffsets, Position, RelayInput, RetiredSource, Start, StoreId, Topic, TopicPartition,
    VoidInput, Watermarks, chain::Link,
};

/// How many records are read at a time, to find the last of each partition.
const PAGE_RECORDS: usize = 1_000;

/// How often it is tried to write before the owner, who claims again whenever it is fenced, after 25 ms at least.
const CLAIMS_MAX: usize = 10;

/// A loss that an operator accepts: what is missing before a place in a source's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The group, topic and partition that go on.
    pub inbox: InboxId,
    /// The store whose messages are missing.
    pub source: StoreId,
    /// The chain goes on behind this place: what comes up to it is left out for good.
    pub from: At,
}

impl Operations {
    /// Sources whose messages a group can't take, because one before them has been missing for a minute; as far as
    /// this process owns the partitions.
    pub fn incidents(&self) -> Vec<Incident> {
        self.core.incidents.all()
    }

    /// Sets the relay of this service back, so that all records behind `to` are published again. Always safe: whoever
    /// has them knows them as duplicates. Where a group misses messages of this service, `to` is the position of
    /// the last that it has taken. Says where the relay stands now.
    ///
    /// The log is read up to `to`, which takes a while when it is long.
    ///
    /// # Errors
    ///
    /// Class poison when the relay has not come further than `to`; else what the store says.
    pub async fn rewind_relay(&self, to: Position, by: &By) -> Result<At, Error> {
        let store = &self.core.store;
        let stands = store.relay().await?.checkpoint;
        if to >= stands.position {
            return Err(Error::poison(format!(
                "the relay of `{}` stands at {stands}: nothing behind position {to} has been published yet",
                self.core.service
            )));
        }
        let (checkpoint, lasts) = self.as_of(to).await?;
        for _ in 0..CLAIMS_MAX {
            let claim = store.claim_relay().await?;
            let none = claim
                .lasts
                .iter()
                .map(|(topic, partition, _)| ((topic.clone(), *partition), At::ZERO));
            // Also where nothing was published by then.
            let lasts: BTreeMap<_, _> = none.chain(lasts.clone()).collect();
            let lasts = lasts.into_iter();
            let input = Input::Relay(RelayInput {
                fence: claim.fence,
                checkpoint,
                lasts: lasts
                    .map(|((topic, partition), at)| (topic, partition, at))
                    .collect(),
                rewind: true,
            });
            let subject = format!("relay to {checkpoint}");
            if self.own(input, "rewind", subject, by).await? {
                tracing::warn!(
                    "`{}` set the relay back to {checkpoint}: {}",
                    by.actor,
                    by.reason
                );
                return Ok(checkpoint);
            }
        }
        Err(Error::conflict(
            "the relay claims its row faster than it can be set back: try again",
        ))
    }

    /// The place at `to`, or the last before it, and the last record of each partition as of there.
    async fn as_of(&self, to: Position) -> Result<(At, BTreeMap<(Topic, u32), At>), Error> {
        let (mut at, mut lasts) = (At::ZERO, BTreeMap::new());
        let mut cursor = At::ZERO;
        loop {
            let page = self
                .core
                .store
                .read_log(cursor, &LogFilter::default(), PAGE_RECORDS)
                .await?;
            for record in page
                .records
                .iter()
                .take_while(|record| record.at.position <= to)
            {
                at = record.at;
                if let Some(destination) = &record.draft.destination {
                    let partition = (destination.topic.clone(), destination.partition);
                    lasts.insert(partition, record.at);
                }
            }
            let ends = page.next == cursor || page.next.position >= to;
            if ends {
                return Ok((at, lasts));
            }
            cursor = page.next;
        }
    }

    /// Lets a group go on behind a place in a source's chain, though messages before it are missing: their effects
    /// will be missing for good, so this needs a reason. What the log of the source still holds behind that place is
    /// published again when its relay is [set back](Operations::rewind_relay) to there, afterwards.
    ///
    /// # Errors
    ///
    /// Class poison without a reason, when this service has no such inbox, or when the group has come further
    /// already; class conflict as long as it is at work on messages before what is missing; else what the store says.
    pub async fn accept_loss(&self, accepted: &Accepted, by: &By) -> Result<(), Error> {
        let Accepted {
            inbox,
            source,
            from,
        } = accepted;
        if by.reason.trim().is_empty() {
            let what = format!(
                "accepting what `{inbox}` misses needs a reason: its effects will be missing for good"
            );
            return Err(Error::poison(what));
        }
        let known = &self.known(inbox).await?;
        let loss = AcceptedLoss {
            source: *source,
            last: self.last_taken(inbox, *source, known),
            from: *from,
        };
        // Before the owner is disturbed.
        known.clone().accept(loss.into())?;
        for _ in 0..CLAIMS_MAX {
            let row = self.claim(inbox).await?;
            let input = accept(inbox, &row, loss);
            let subject = format!("{inbox} of {source} from {from}");
            if self.own(input, "accept-loss", subject, by).await? {
                tracing::warn!(
                    "`{}` lets `{inbox}` go on behind {from} of source {source}: {}",
                    by.actor,
                    by.reason
                );
                self.core.incidents.end(inbox, *source);
                return Ok(());
            }
        }
        let what =
            format!("the owner of `{inbox}` claims it faster than this is written: try again");
        Err(Error::conflict(what))
    }

    /// Lets a group go on at offset `at` of a partition that no longer has what the group reads next, since retention
    /// was faster. Says where the group stood. What it has not finished before `at` is missing: its sources' next
    /// messages are [incidents](Operations::incidents), until their relays are set back or the loss is accepted. Where
    /// it had finished some of what is gone out of their order, nobody can tell which: then chains go on behind what is
    /// gone at once, so that nothing is done twice.
    ///
    /// # Errors
    ///
    /// Class poison without a reason, when this service has no such inbox, when the partition has what the group reads
    /// next, and when it doesn't have `at`; else what the broker or the store say.
    pub async fn go_on(&self, inbox: &InboxId, at: u64, by: &By) -> Result<u64, Error> {
        if by.reason.trim().is_empty() {
            let what = format!(
                "letting `{inbox}` go on at offset {at} needs a reason: what comes before will be missing"
            );
            return Err(Error::poison(what));
        }
        self.known(inbox).await?;
        let partition = TopicPartition::new(inbox.topic.clone(), inbox.partition);
        let marks = self.broker.watermarks(&partition).await?;
        if !(marks.first..=marks.end).contains(&at) {
            return Err(Error::poison(format!(
                "`{inbox}` can't go on at offset {at}: the partition holds {} up to, without, {}",
                marks.first, marks.end
            )));
        }
        for _ in 0..CLAIMS_MAX {
            // Before the owner is disturbed.
            let known = self.known(inbox).await?;
            if known.low >= marks.first {
                return Err(Error::poison(format!(
                    "`{inbox}` stands at offset {}, and the partition begins at {}: retention has passed nothing",
                    known.low, marks.first
                )));
            }
            let standing = standing::look(&*self.broker, &partition, &known).await?;
            if let Standing::Short { .. } | Standing::Strange { .. } = standing {
                return Err(Error::poison(standing.reason(inbox).unwrap_or_default()));
            }
            let places = self
                .behind_what_is_gone(&partition, &known, at, marks)
                .await?;
            let row = self.claim(inbox).await?;
            if row.low != known.low || row.done != known.done || row.lasts != known.lasts {
                continue;
            }
            let chains = places.into_iter().map(|(source, from)| {
                let last = row.lasts.get(source);
                Loss::Missing(AcceptedLoss { source, last, from })
            });
            // The offset is the last: as long as it stands, all may be done again.
            let offset = Loss::Passed(PassedOffsets {
                low: row.low,
                to: at,
            });
            let mut is_owner = true;
            for loss in chains.chain([offset]) {
                let subject = match loss {
                    Loss::Missing(AcceptedLoss { source, from, .. }) => {
                        format!("{inbox} of {source} from {from}")
                    }
                    Loss::Passed(_) | Loss::Retired(_) => {
                        format!("{inbox} from offset {} at {at}", row.low)
                    }
                };
                is_owner = self
                    .own(accept(inbox, &row, loss), "go-on", subject, by)
                    .await?;
                if !is_owner {
                    break;
                }
            }
            if is_owner {
                tracing::warn!(
                    "`{}` lets `{inbox}` go on at offset {at} instead of {}: {}",
                    by.actor,
                    row.low,
                    by.reason
                );
                return Ok(row.low);
            }
        }
        let what =
            format!("the owner of `{inbox}` claims it faster than this is written: try again");
        Err(Error::conflict(what))
    }

    /// Forgets the last place that a group has taken from a source in a partition, which makes room for another. Only where
    /// the source publishes there no more: what it published before would be taken for new.
    ///
    /// # Errors
    ///
    /// Class poison without a reason, when this service has no such inbox, and when nothing was taken from the source;
    /// else what the store says.
    pub async fn retire_source(
        &self,
        inbox: &InboxId,
        source: StoreId,
        by: &By,
    ) -> Result<At, Error> {
        if by.reason.trim().is_empty() {
            let what = format!(
                "retiring source {source} of `{inbox}` needs a reason: what it published would be taken for new"
            );
            return Err(Error::poison(what));
        }
        for _ in 0..CLAIMS_MAX {
            let last = self.known(inbox).await?.lasts.get(source);
            let loss = RetiredSource { source, last };
            // Before the owner is disturbed.
            self.known(inbox).await?.accept(Loss::Retired(loss))?;
            let row = self.claim(inbox).await?;
            let input = accept(inbox, &row, Loss::Retired(loss));
            let subject = format!("{inbox} of {source} at {last}");
            if self.own(input, "retire-source", subject, by).await? {
                tracing::warn!(
                    "`{}` retires source {source} of `{inbox}`: {}",
                    by.actor,
                    by.reason
                );
                // Those that found no room are looked at again.
                for incident in self.incidents().iter().filter(|one| one.crowded) {
                    self.core.incidents.end(&incident.inbox, incident.source);
                }
                return Ok(last);
            }
        }
        let what =
            format!("the owner of `{inbox}` claims it faster than this is written: try again");
        Err(Error::conflict(what))
    }

    /// Where the chains go on of sources of which finished messages may be among those that are gone: behind what comes
    /// before their first message from `at` on, which has not been taken.
    async fn behind_what_is_gone(
        &self,
        partition: &TopicPartition,
        row: &InboxRow,
        at: u64,
        marks: Watermarks,
    ) -> Result<BTreeMap<StoreId, At>, Error> {
        let mut places = BTreeMap::new();
        if !row.done.iter().any(|index| row.low + index < at) {
            return Ok(places);
        }
        let mut next = at;
        while next < marks.end {
            let messages = self.broker.read(partition, next, PAGE_RECORDS).await?;
            let Some(last) = messages.last() else { break };
            next = last.offset + 1;
            for message in &messages {
                let link = Link::from_headers(|name| message.headers.get(name));
                if let Ok(Some(link)) = link
                    && link.at > row.lasts.get(link.source)
                {
                    places.entry(link.source).or_insert(link.previous);
                }
            }
        }
        let mut lasts = row.lasts.clone();
        places.retain(|source, place| {
            // What a source too many has published is left out until there is room for it.
            let goes_on = *place > lasts.get(*source) && !lasts.is_too_many_for(*source);
            if goes_on {
                lasts.set(*source, *place);
            }
            goes_on
        });
        Ok(places)
    }

    /// Becomes the owner of an inbox that has a row.
    async fn claim(&self, inbox: &InboxId) -> Result<InboxRow, Error> {
        let begin = Begin::at(Start::Beginning, 0);
        self.core.store.claim_inbox(inbox, &begin).await
    }

    /// The row of an inbox of this service.
    async fn known(&self, inbox: &InboxId) -> Result<InboxRow, Error> {
        let row = self.core.store.inbox(inbox).await?;
        row.ok_or_else(|| {
            let service = &self.core.service;
            Error::poison(format!("service `{service}` has no inbox `{inbox}`"))
        })
    }

    /// The last place that a group has taken from a source before what is missing, as far as it has read the partition.
    fn last_taken(&self, inbox: &InboxId, source: StoreId, row: &InboxRow) -> At {
        let incidents = self.incidents().into_iter();
        let mut incidents =
            incidents.filter(|incident| incident.inbox == *inbox && incident.source == source);
        let taken = incidents.next().map(|incident| incident.last);
        taken.unwrap_or_else(|| row.lasts.get(source))
    }

    /// Writes what an owner writes, with its audit entry. `false`: somebody else has become the owner meanwhile.
    async fn own(
        &self,
        input: Input,
        action: &str,
        subject: String,
        by: &By,
    ) -> Result<bool, Error> {
        let core = &self.core;
        let mut commit = Commit::new(core.env.commit_id(), core.env.now());
        commit.input = input;
        commit.audit = Some(self.entry(action, subject, by));
        match core.write(commit).await {
            Ok(_) => Ok(true),
            Err(CommitError::Fenced { .. }) => Ok(false),
            Err(CommitError::Failed(error)) => Err(error.while_(action.to_owned())),
            Err(error) => Err(Error::conflict(format!("{action}: {error}"))),
        }
    }
}

/// What an owner writes who accepts a loss.
fn accept(inbox: &InboxId, row: &InboxRow, loss: impl Into<Loss>) -> Input {
    Input::Void(VoidInput {
        inbox: inbox.clone(),
        fence: row.fence,
        advance: [].into(),
        // The mark of a parked message is the next owner's: moving the row would end it.
        trying: row.trying.map(Some),
        // As it was found: an owner that was at work has not left in good order.
        release: row.clean,
        accept: Some(loss.into()),
    })
}
