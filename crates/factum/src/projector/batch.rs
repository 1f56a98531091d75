//! A batch of records becomes rows: one record after another, or those of different rows at the same time.
//!
//! A projection that names the rows of its events is waiting for the engine most of the time, so the rows of a batch
//! take turns on one task: while one row is looked up, others go on. Each row has its events in their order, and an
//! event that may touch any row waits for all before it and is waited for by all behind it; so what comes of a batch
//! is what one record after another would have made. It is committed whole or not at all.

use std::{
    any::Any,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use factum_core::{
    Failure, FailureClass, Position, ReadRecord, Record, RecordKind, RecordState, RowSet,
};
use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};

use super::Projector;
use crate::work::panic_message;

/// How many rows are worked on at the same time: enough to keep an engine busy that answers in a millisecond, and
/// fewer than the reads that may wait for one.
const ROWS_AT_A_TIME: usize = 64;

/// A record of a batch that failed. One before it may fail as well: who takes those before it alone finds out.
pub(super) struct Failed {
    /// Its index in the batch.
    pub(super) index: usize,
    pub(super) failure: Failure,
}

/// A record that was read, and its place.
struct Turn {
    index: usize,
    position: Position,
    record: Box<dyn ReadRecord>,
}

/// Takes `records` into `rows`, and says how many: not all when the rows are full before. When one fails, what is in the
/// rows is of no use.
pub(super) async fn project(
    projector: &Projector<'_>,
    records: &[Record],
    rows: &mut RowSet<'_>,
) -> Result<usize, Failed> {
    // What can be taken at the same time, by row.
    let mut together: BTreeMap<String, Vec<Turn>> = BTreeMap::new();
    for (index, record) in records.iter().enumerate() {
        let position = record.at.position;
        match projector.read(record) {
            Ok(None) => {}
            Ok(Some(record)) => {
                let row = record.row().map(String::from);
                let turn = Turn {
                    index,
                    position,
                    record,
                };
                if let Some(row) = row {
                    together.entry(row).or_default().push(turn);
                } else {
                    projector.take_together(&mut together, rows).await?;
                    projector.take_turn(turn, rows).await?;
                    // Nothing waits its turn at this point, so all up to here is in the rows and nothing else.
                    if rows.is_full() {
                        return Ok(index + 1);
                    }
                }
            }
            Err(failure) => return Err(Failed { index, failure }),
        }
    }
    projector.take_together(&mut together, rows).await?;
    Ok(records.len())
}

impl Projector<'_> {
    /// Reads a record, if it is anything to the projection.
    fn read(&self, record: &Record) -> Result<Option<Box<dyn ReadRecord>>, Failure> {
        match record.state {
            RecordState::Live => {}
            // It was erased so that nobody knows it any more, rows included.
            RecordState::Erased => return Ok(None),
            RecordState::Archived => {
                return Err(Failure::stop(
                    "it was archived, and has to be brought back before rows are built of it",
                ));
            }
        }
        let event = record.recorded();
        let read = catch_unwind(AssertUnwindSafe(|| self.projection.read(&event)));
        let read = read.unwrap_or_else(|panic| Err(self.panicked(&*panic)))?;
        // Messages are for others: nobody here need know their types.
        let ours = read.is_some() || record.draft.kind == RecordKind::Message;
        if ours || self.known.contains(&*record.draft.event_type.name) {
            return Ok(read);
        }
        Err(Failure::stop(format!(
            "no code of service `{}` knows the type: a newer program wrote it; update this one",
            self.core.service
        )))
    }

    /// Takes the records of each row in their order, and those of different rows at the same time.
    async fn take_together(
        &self,
        together: &mut BTreeMap<String, Vec<Turn>>,
        rows: &mut RowSet<'_>,
    ) -> Result<(), Failed> {
        let mut waiting = std::mem::take(together).into_iter();
        let mut busy = FuturesUnordered::new();
        loop {
            while busy.len() < ROWS_AT_A_TIME
                && let Some((row, turns)) = waiting.next()
            {
                busy.push(self.take_row(rows.part(&row), turns));
            }
            match busy.next().await {
                None => return Ok(()),
                Some(part) => rows.put_back(part?),
            }
        }
    }

    async fn take_row<'a>(
        &self,
        mut part: RowSet<'a>,
        turns: Vec<Turn>,
    ) -> Result<RowSet<'a>, Failed> {
        for turn in turns {
            self.take_turn(turn, &mut part).await?;
        }
        Ok(part)
    }

    async fn take_turn(&self, turn: Turn, rows: &mut RowSet<'_>) -> Result<(), Failed> {
        let Turn {
            index,
            position,
            record,
        } = turn;
        rows.at(position);
        let taken = AssertUnwindSafe(record.project(rows)).catch_unwind().await;
        taken
            .unwrap_or_else(|panic| Err(self.panicked(&*panic)))
            .map_err(|failure| Failed { index, failure })
    }

    fn panicked(&self, panic: &(dyn Any + Send)) -> Failure {
        let name = self.projection.name();
        let message = format!("projection `{name}` panicked: {}", panic_message(panic));
        Failure::new(FailureClass::Panic, message)
    }
}
