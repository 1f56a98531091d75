//! Commits that the writer remembers: those that failed, for others that stand on them, and those that nothing
//! but their id keeps from being applied twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use factum_core::{At, CommitError, CommitId, Committed, Epoch, Error, Position, Version};
use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::{
    error::{Doing, damaged},
    number::{numbered, range, signed},
};

/// How many failed commits are remembered. Commits stand only on those that are under way, of which a process
/// has some thousands at most: the writer's queue, and what its callers have in hand. In 1 MB.
const FAILED_MAX: usize = 16_384;

/// How many commits without a guard are remembered. Whoever sends one again after an unknown outcome does so
/// within seconds; at a thousand such commits a second, this is a quarter of a minute, in 2 MB.
const APPLIED_MAX: u64 = 16_384;

/// The last commits that were not applied.
#[derive(Debug, Default)]
pub(crate) struct Failed {
    ids: BTreeSet<CommitId>,
    order: VecDeque<CommitId>,
}

impl Failed {
    /// Refuses a commit that stands on one that was not applied.
    pub(crate) fn check(&self, stands_on: &[CommitId]) -> Result<(), CommitError> {
        match stands_on.iter().find(|id| self.ids.contains(id)) {
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

/// The last commits that nothing but their id keeps from being applied twice: a ring, in memory and in the file.
#[derive(Debug)]
pub(crate) struct Applied {
    store: i64,
    results: BTreeMap<CommitId, Committed>,
    order: VecDeque<CommitId>,
    count: u64,
}

impl Applied {
    /// Those of the store `store`.
    pub(crate) fn load(connection: &Connection, store: i64) -> Result<Self, Error> {
        const WHAT: &str = "read the last commits";
        let mut applied = Self {
            store,
            results: BTreeMap::new(),
            order: VecDeque::new(),
            count: 0,
        };
        let (first, last) = range(store);
        let mut statement = connection
            .prepare_cached(
                "SELECT ordinal, commit_id, head_epoch, head_position, first, versions FROM applied \
                 WHERE slot BETWEEN ?1 AND ?2 ORDER BY ordinal",
            )
            .doing(WHAT)?;
        let mut rows = statement.query([first, last]).doing(WHAT)?;
        while let Some(row) = rows.next().doing(WHAT)? {
            let unsigned = |index| row.get::<_, i64>(index).map(i64::cast_unsigned).doing(WHAT);
            applied.count = unsigned(0)?;
            let broken = || damaged(format!("commit number {} that was applied", applied.count));
            let id: Vec<u8> = row.get(1).doing(WHAT)?;
            let id = CommitId(Uuid::from_slice(&id).map_err(|_| broken())?);
            let first: Option<i64> = row.get(4).doing(WHAT)?;
            let versions: String = row.get(5).doing(WHAT)?;
            let committed = Committed {
                head: At {
                    epoch: Epoch(unsigned(2)?),
                    position: Position(unsigned(3)?),
                },
                first: first.map(|first| Position(first.cast_unsigned())),
                versions: serde_json::from_str::<Vec<Version>>(&versions).map_err(|_| broken())?,
                inbox: None,
            };
            applied.order.push_back(id);
            applied.results.insert(id, committed);
        }
        Ok(applied)
    }

    /// What a commit became when it was applied.
    pub(crate) fn get(&self, id: CommitId) -> Option<&Committed> {
        self.results.get(&id)
    }

    /// Remembers what a commit became.
    pub(crate) fn put(
        &mut self,
        connection: &Connection,
        id: CommitId,
        committed: &Committed,
    ) -> Result<(), Error> {
        let ordinal = self.count + 1;
        let versions = serde_json::to_string(&committed.versions);
        connection
            .prepare_cached("INSERT OR REPLACE INTO applied VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")
            .and_then(|mut statement| {
                statement.execute(params![
                    numbered(self.store, ordinal % APPLIED_MAX),
                    signed(ordinal),
                    id.0.as_bytes(),
                    signed(committed.head.epoch.0),
                    signed(committed.head.position.0),
                    committed.first.map(|first| signed(first.0)),
                    versions
                        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?,
                ])
            })
            .doing("keep a commit's id")?;
        self.count = ordinal;
        self.results.insert(id, committed.clone());
        self.order.push_back(id);
        if self.order.len() as u64 > APPLIED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.results.remove(&oldest);
        }
        Ok(())
    }
}
