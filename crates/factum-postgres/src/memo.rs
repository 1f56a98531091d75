//! Commits that are remembered: those that failed, in memory, for others that stand on them, and those that nothing but
//! their id keeps from being applied twice, in the database.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use factum_core::{CommitError, CommitId, Committed, Error, Position, Version};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    answers::{Span, Spans},
    call::Call,
    error::column,
    number::{place, signed},
    schema::Schema,
};

/// How many failed commits are remembered. Commits stand only on those that are under way, of which a process has some
/// thousands at most. In 1 MB.
const FAILED_MAX: usize = 16_384;

/// How many commits without a guard are remembered. Whoever sends one again after an unknown outcome does so within
/// seconds; at a thousand such commits a second, this is a quarter of a minute.
const APPLIED_MAX: i64 = 16_384;

/// The last commits that were not applied.
#[derive(Debug, Default)]
pub(crate) struct Failed {
    ids: BTreeSet<CommitId>,
    order: VecDeque<CommitId>,
}

impl Failed {
    /// Whether one of some commits was not applied, going first by what the present batch has made of it.
    pub(crate) fn check(
        &self,
        stands_on: &[CommitId],
        decided: &BTreeMap<CommitId, bool>,
    ) -> Result<(), CommitError> {
        let failed = |id: &&CommitId| {
            decided
                .get(id)
                .map_or_else(|| self.ids.contains(id), |applied| !applied)
        };
        match stands_on.iter().find(failed) {
            Some(id) => Err(CommitError::StoodOnFailed(*id)),
            None => Ok(()),
        }
    }

    /// Takes note of how a commit ended. One that failed may be sent again, and be applied then.
    pub(crate) fn note(&mut self, id: CommitId, failed: bool) {
        if !failed {
            if !self.ids.is_empty() && self.ids.remove(&id) {
                self.order.retain(|known| *known != id);
            }
        } else if self.ids.insert(id) {
            self.order.push_back(id);
            if self.order.len() > FAILED_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.ids.remove(&oldest);
            }
        }
    }
}

/// Asks which of some commits were applied.
pub(crate) fn known(schema: &Schema, ids: Vec<Uuid>) -> Call {
    schema
        .call(
            "SELECT commit_id, head_epoch, head_position, first, versions FROM factum.applied \
             WHERE commit_id = ANY ($1)",
        )
        .with(ids)
}

/// What a commit became, as [`known`] asked for it.
pub(crate) fn decode(row: &Row) -> Result<(CommitId, Committed), Error> {
    let first: Option<i64> = column(row, 3)?;
    let versions: Vec<i64> = column(row, 4)?;
    let committed = Committed {
        head: place(column(row, 1)?, column(row, 2)?),
        first: first.map(|first| Position(first.cast_unsigned())),
        versions: versions
            .into_iter()
            .map(|version| Version(version.cast_unsigned()))
            .collect(),
        inbox: None,
    };
    Ok((CommitId(column(row, 0)?), committed))
}

/// Remembers what a commit became. Behind the records of its batch, whose places it names.
pub(crate) fn put(
    schema: &Schema,
    writer: Uuid,
    number: i64,
    epoch: i64,
    (id, span, versions): (CommitId, Span, &[Version]),
) -> Call {
    let mut spans = Spans::default();
    spans.push(span);
    let call = schema
        .call(
            "INSERT INTO factum.applied (commit_id, versions, head_epoch, head_position, first) \
             SELECT $4, $5, CASE WHEN given.head > 0 THEN $3 ELSE batch.head_epoch END, \
               batch.head_position + given.head, batch.head_position + given.first \
             FROM unnest($6, $7) AS given (head, first), factum.batches batch WHERE batch.writer = $1 AND batch.number = $2",
        )
        .with(writer)
        .with(number)
        .with(epoch)
        .with(id.0)
        .with(versions.iter().map(|version| signed(version.0)).collect::<Vec<_>>());
    spans.with(call)
}

/// Drops what is older than the last ones, and what writers remember of batches whose outcome they know by now.
pub(crate) fn prune(schema: &Schema, writer: Uuid, number: i64) -> [Call; 2] {
    let applied = schema
        .call("DELETE FROM factum.applied WHERE ordinal < (SELECT max(ordinal) FROM factum.applied) - $1")
        .with(APPLIED_MAX);
    // Those of others that ended or hang: whoever has been asking for a day what became of its batch asks in vain.
    let batches = schema
        .call("DELETE FROM factum.batches WHERE writer = $1 AND number < $2 OR at < now() - interval '1 day'")
        .with(writer)
        .with(number);
    [applied, batches]
}
