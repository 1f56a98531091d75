//! Losses: what an operator does when messages are missing for good, or until they are published again.
//!
//! Both ways out write what only an owner writes, so they become the owner first: whoever was it finds itself fenced,
//! claims again and goes on from what was written.

use std::collections::BTreeMap;

use super::{By, Operations};
use crate::Incident;
use factum_core::{
    AcceptedLoss, At, Commit, CommitError, Error, InboxId, InboxRow, Input, LogFilter, Position,
    RelayInput, Start, StoreId, Topic, VoidInput,
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
        let store = &self.core.store;
        let known = store.inboxes().await?;
        let Some((_, known)) = known.iter().find(|(id, _)| id == inbox) else {
            return Err(Error::poison(format!(
                "service `{}` has no inbox `{inbox}`",
                self.core.service
            )));
        };
        let loss = AcceptedLoss {
            source: *source,
            last: self.last_taken(inbox, *source, known),
            from: *from,
        };
        // Before the owner is disturbed.
        known.clone().accept(loss)?;
        for _ in 0..CLAIMS_MAX {
            let row = store.claim_inbox(inbox, Start::Beginning, 0).await?;
            let input = Input::Void(VoidInput {
                inbox: inbox.clone(),
                fence: row.fence,
                advance: [].into(),
                trying: None,
                // As it was found: an owner that was at work has not left in good order.
                release: row.clean,
                accept: Some(loss),
            });
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
        match core.store.commit(commit).await {
            Ok(_) => Ok(true),
            Err(CommitError::Fenced { .. }) => Ok(false),
            Err(CommitError::Failed(error)) => Err(error.while_(action.to_owned())),
            Err(error) => Err(Error::conflict(format!("{action}: {error}"))),
        }
    }
}
