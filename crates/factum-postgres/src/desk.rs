//! Where a batch is decided: what is known, and what the commits of the batch that were accepted so far make of it.
//!
//! Nothing here touches the database. A batch that turns out to be decided on something outdated is thrown away with its
//! desk, and decided anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use factum_core::{
    Answered, At, AuditEntry, CommandInput, CommitError, CommitId, Committed, Epoch, Error, Group,
    InboxId, InboxRow, Input, Lane, MessageId, Parked, ParkedId, Position, ProjectionName,
    SqlValue, StreamId, Timestamp, Topic, Version, ViewRef,
};

use crate::{
    answers::Span,
    image::Image,
    inbox::Inbox,
    load::Loaded,
    memo::Failed,
    message_ids::Take,
    queue::Order,
    record::Drafts,
    streams::Head,
    timers::Left,
    view_table::{RowVersion, ViewTable, Written},
};

/// What becomes of a commit of the batch.
#[derive(Debug)]
pub(crate) enum Decision {
    /// It is applied with the batch.
    Applied {
        span: Span,
        versions: Vec<Version>,
        inbox: Option<InboxRow>,
    },
    /// It is not.
    Refused(CommitError),
    /// It is the same as this one of the batch, or was applied before.
    Same(usize),
    Before(Committed),
    /// Its command is answered by this one of the batch, with this answer.
    AnsweredBy(usize, Bytes),
}

/// The rows that a batch writes to one generation of a view.
pub(crate) type WrittenRows = (Arc<ViewTable>, BTreeMap<String, Written>);

/// A batch that is being decided.
pub(crate) struct Desk<'a> {
    pub(crate) image: &'a Image,
    pub(crate) loaded: &'a Loaded,
    pub(crate) failed: &'a Failed,
    /// Whether each commit of the batch was accepted.
    pub(crate) decided: BTreeMap<CommitId, bool>,
    pub(crate) decisions: Vec<Decision>,
    pub(crate) streams: BTreeMap<StreamId, Head>,
    /// Streams that were compared, and the version that the database must still have them at.
    pub(crate) compared_streams: BTreeMap<StreamId, Version>,
    pub(crate) compared_rows: BTreeMap<ViewRef, BTreeMap<String, Option<RowVersion>>>,
    pub(crate) drafts: Drafts,
    pub(crate) inboxes: BTreeMap<InboxId, Inbox>,
    pub(crate) lanes: BTreeMap<(InboxId, Lane), u64>,
    /// Parked messages as the batch leaves them; `None`: gone.
    pub(crate) parked: BTreeMap<ParkedId, Option<Parked>>,
    /// Those of them that the database does not have.
    pub(crate) newly_parked: BTreeSet<ParkedId>,
    pub(crate) ids: BTreeMap<(Group, MessageId), Take>,
    pub(crate) answers: Vec<(CommandInput, Span)>,
    /// By scope and key: which commit of the batch has answered, the hash of its request and the answer.
    pub(crate) answered: BTreeMap<(String, String), (usize, u64, Bytes)>,
    pub(crate) unguarded: BTreeMap<CommitId, usize>,
    pub(crate) applied: Vec<(CommitId, Span, Vec<Version>)>,
    pub(crate) timers: BTreeMap<String, Left>,
    pub(crate) fired: Vec<(String, u64)>,
    pub(crate) projections: BTreeMap<(ProjectionName, u32), At>,
    /// The relay's checkpoint, if the batch has anything to say about it.
    pub(crate) relay: Option<At>,
    pub(crate) relay_lasts: BTreeMap<(Topic, u32), At>,
    pub(crate) rows: BTreeMap<ViewRef, WrittenRows>,
    pub(crate) active: BTreeMap<ProjectionName, u32>,
    pub(crate) own_sql: Vec<(String, Vec<SqlValue>)>,
    pub(crate) audit: Vec<AuditEntry>,
    /// The earliest and the latest time at which a commit was made.
    pub(crate) times: Option<(Timestamp, Timestamp)>,
    pub(crate) parking_changed: bool,
    pub(crate) timers_changed: bool,
}

/// Why deciding stops before the end of the batch.
#[derive(Debug)]
pub(crate) enum Halt {
    /// Something was taken for granted that may not be so: look it up, and decide all of it anew.
    Doubt,
    /// The next commit needs something to be looked up that an earlier one of the batch changes: it starts a batch.
    Cut,
    /// What was checked could not be added: the desk is of no use any more.
    Broken(Error),
}

impl<'a> Desk<'a> {
    pub(crate) fn new(image: &'a Image, loaded: &'a Loaded, failed: &'a Failed) -> Self {
        Self {
            image,
            loaded,
            failed,
            decided: BTreeMap::new(),
            decisions: Vec::new(),
            streams: BTreeMap::new(),
            compared_streams: BTreeMap::new(),
            compared_rows: BTreeMap::new(),
            drafts: Drafts::default(),
            inboxes: BTreeMap::new(),
            lanes: BTreeMap::new(),
            parked: BTreeMap::new(),
            newly_parked: BTreeSet::new(),
            ids: BTreeMap::new(),
            answers: Vec::new(),
            answered: BTreeMap::new(),
            unguarded: BTreeMap::new(),
            applied: Vec::new(),
            timers: BTreeMap::new(),
            fired: Vec::new(),
            projections: BTreeMap::new(),
            relay: None,
            relay_lasts: BTreeMap::new(),
            rows: BTreeMap::new(),
            active: BTreeMap::new(),
            own_sql: Vec::new(),
            audit: Vec::new(),
            times: None,
            parking_changed: false,
            timers_changed: false,
        }
    }

    /// Decides the commits of `orders` in their order, as far as it can.
    pub(crate) fn decide(&mut self, orders: &[Order]) -> Result<(), Halt> {
        for order in orders {
            let commit = &order.commit;
            let decision = if let Some(index) = self.unguarded.get(&commit.id) {
                Decision::Same(*index)
            } else if let Some(committed) = self.loaded.applied.get(&commit.id) {
                Decision::Before(committed.clone())
            } else {
                match self.check(commit) {
                    Ok(plan) => self.apply(commit, plan).map_err(Halt::Broken)?,
                    Err(Refusal::Because(error)) => {
                        if !self.loaded.fresh && !is_certain(&commit.input, &error) {
                            return Err(Halt::Doubt);
                        }
                        Decision::Refused(error)
                    }
                    Err(Refusal::AnsweredBy(index, answer)) => Decision::AnsweredBy(index, answer),
                    Err(Refusal::NotLoaded) => return Err(Halt::Cut),
                }
            };
            let refused = matches!(decision, Decision::Refused(_) | Decision::AnsweredBy(..));
            self.decided.insert(commit.id, !refused);
            self.decisions.push(decision);
        }
        Ok(())
    }

    /// Whether anything is to be written.
    pub(crate) fn writes(&self) -> bool {
        self.drafts.len() > 0
            || !self.inboxes.is_empty()
            || !self.parked.is_empty()
            || !self.ids.is_empty()
            || !self.answers.is_empty()
            || !self.applied.is_empty()
            || !self.timers.is_empty()
            || !self.fired.is_empty()
            || !self.projections.is_empty()
            || self.relay.is_some()
            || !self.rows.is_empty()
            || !self.active.is_empty()
            || !self.own_sql.is_empty()
            || !self.audit.is_empty()
    }

    /// What each commit became, given where the log ended before the batch.
    pub(crate) fn results(
        decisions: Vec<Decision>,
        epoch: Epoch,
        before: At,
    ) -> Vec<Result<Committed, CommitError>> {
        let mut results: Vec<Result<Committed, CommitError>> = Vec::with_capacity(decisions.len());
        for decision in decisions {
            let result = match decision {
                Decision::Refused(error) => Err(error),
                Decision::Before(committed) => Ok(committed),
                Decision::Same(index) => results[index].clone(),
                Decision::AnsweredBy(index, answer) => match &results[index] {
                    Ok(first) => Err(CommitError::Answered(Box::new(Answered {
                        answer,
                        head: first.head,
                        first: first.first,
                    }))),
                    Err(error) => Err(error.clone()),
                },
                Decision::Applied {
                    span,
                    versions,
                    inbox,
                } => {
                    let end = span.before + span.records;
                    let head = if end > 0 {
                        At {
                            epoch,
                            position: Position(before.position.0 + end),
                        }
                    } else {
                        before
                    };
                    let first =
                        (span.records > 0).then(|| Position(before.position.0 + span.before + 1));
                    Ok(Committed {
                        head,
                        first,
                        versions,
                        inbox,
                    })
                }
            };
            results.push(result);
        }
        results
    }

    /// A stream as the batch has it by now.
    pub(crate) fn head_of(&self, stream: &StreamId) -> Head {
        let head = self
            .streams
            .get(stream)
            .or_else(|| self.loaded.heads.get(stream));
        head.cloned().unwrap_or_default()
    }

    /// An inbox as the batch has it by now.
    pub(crate) fn inbox(&self, id: &InboxId) -> Option<&Inbox> {
        self.inboxes.get(id).or_else(|| self.image.inboxes.get(id))
    }

    /// The same, to be changed.
    pub(crate) fn inbox_mut(&mut self, id: &InboxId) -> Result<&mut Inbox, Error> {
        if !self.inboxes.contains_key(id) {
            let known = self.image.inboxes.get(id).cloned();
            let known =
                known.ok_or_else(|| Error::poison(format!("inbox {id} was never claimed")))?;
            self.inboxes.insert(id.clone(), known);
        }
        Ok(self.inboxes.get_mut(id).expect("it was put there above"))
    }

    /// How many are parked in a lane.
    pub(crate) fn in_lane(&self, inbox: &InboxId, lane: &Lane) -> u64 {
        let lane = (inbox.clone(), lane.clone());
        let count = self
            .lanes
            .get(&lane)
            .or_else(|| self.loaded.lanes.get(&lane));
        count.copied().unwrap_or(0)
    }
}

/// Why a commit is not applied with the batch.
#[derive(Debug)]
pub(crate) enum Refusal {
    Because(CommitError),
    AnsweredBy(usize, Bytes),
    NotLoaded,
}

impl From<CommitError> for Refusal {
    fn from(error: CommitError) -> Self {
        Self::Because(error)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Because(error.into())
    }
}

/// Whether a refusal stands though what it was decided on may be outdated. Versions only grow, and keys stay; but an input
/// that was taken for granted might have been refused before them, which is another answer.
fn is_certain(input: &Input, error: &CommitError) -> bool {
    if let CommitError::StoodOnFailed(_) = error {
        return matches!(input, Input::None | Input::Command(_));
    }
    if !matches!(input, Input::None) {
        return false;
    }
    match error {
        CommitError::KeyChanged { .. } => true,
        CommitError::Conflict {
            expected, actual, ..
        } => match expected {
            factum_core::ExpectedVersion::Exact(expected) => actual > expected,
            factum_core::ExpectedVersion::NoStream => *actual > Version::ZERO,
            _ => false,
        },
        _ => false,
    }
}
