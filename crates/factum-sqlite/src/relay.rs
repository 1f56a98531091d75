//! The relay's row: its owner, its checkpoint, and the last record published to each partition as of it.

use std::collections::{BTreeMap, BTreeSet};

use factum_core::{At, Epoch, Error, Fence, OwnerEpoch, Position, RelayClaim, RelayInput, Topic};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    error::{Doing, damaged},
    inbox::raised,
    number::{record_key, signed},
};

/// The row as the writer keeps it. It is written once for a whole group of commits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Relay {
    store: i64,
    pub(crate) fence: Fence,
    pub(crate) checkpoint: At,
    lasts: BTreeMap<(Topic, u32), At>,
    changed: bool,
    changed_lasts: BTreeSet<(Topic, u32)>,
}

impl Relay {
    /// That of the store `store`.
    pub(crate) fn load(connection: &Connection, store: i64) -> Result<Self, Error> {
        const WHAT: &str = "read the relay's row";
        let row = connection
            .prepare_cached(
                "SELECT fence_epoch, fence_owner, checkpoint_epoch, checkpoint_position FROM relays WHERE store = ?1",
            )
            .and_then(|mut statement| {
                statement
                    .query_row([store], |row| {
                        let unsigned = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
                        let fence = Fence { store: Epoch(unsigned(0)?), owner: OwnerEpoch(unsigned(1)?) };
                        Ok((fence, At { epoch: Epoch(unsigned(2)?), position: Position(unsigned(3)?) }))
                    })
                    .optional()
            })
            .doing(WHAT)?;
        let (fence, checkpoint) = row.unwrap_or_default();
        let mut statement = connection
            .prepare_cached(
                "SELECT topic, partition, epoch, position FROM relay_lasts WHERE store = ?1",
            )
            .doing(WHAT)?;
        let mut rows = statement.query([store]).doing(WHAT)?;
        let mut lasts = BTreeMap::new();
        while let Some(row) = rows.next().doing(WHAT)? {
            let name: String = row.get(0).doing(WHAT)?;
            let topic = Topic::new(&name).map_err(|_| damaged(format!("topic `{name}`")))?;
            let unsigned = |index| row.get::<_, i64>(index).map(i64::cast_unsigned).doing(WHAT);
            let at = At {
                epoch: Epoch(unsigned(2)?),
                position: Position(unsigned(3)?),
            };
            lasts.insert((topic, row.get(1).doing(WHAT)?), at);
        }
        Ok(Self {
            store,
            fence,
            checkpoint,
            lasts,
            changed: false,
            changed_lasts: BTreeSet::new(),
        })
    }

    /// What a new owner reads.
    pub(crate) fn to_claim(&self) -> RelayClaim {
        let lasts = self
            .lasts
            .iter()
            .map(|((topic, partition), at)| (topic.clone(), *partition, *at));
        RelayClaim {
            fence: self.fence,
            checkpoint: self.checkpoint,
            lasts: lasts.collect(),
        }
    }

    /// Claims it.
    pub(crate) fn claim(&mut self, epoch: Epoch) -> RelayClaim {
        self.fence = raised(self.fence, epoch);
        self.changed = true;
        self.to_claim()
    }

    /// Moves the checkpoint on. An older one is no failure: the rows as of the newer one hold, unless it is a rewind.
    pub(crate) fn advance(&mut self, input: &RelayInput) {
        if input.rewind || input.checkpoint >= self.checkpoint {
            self.checkpoint = input.checkpoint;
            self.changed = true;
            for (topic, partition, at) in &input.lasts {
                let key = (topic.clone(), *partition);
                self.changed_lasts.insert(key.clone());
                self.lasts.insert(key, *at);
            }
        }
    }

    /// Moves a checkpoint beyond `head` back to it, and finds the last records as of there.
    pub(crate) fn move_back(&mut self, connection: &Connection, head: At) -> Result<(), Error> {
        if self.checkpoint.position <= head.position {
            return Ok(());
        }
        self.set_back(connection, head)
    }

    /// Moves the checkpoint back to `to`, and finds the last records as of there.
    pub(crate) fn set_back(&mut self, connection: &Connection, to: At) -> Result<(), Error> {
        const WHAT: &str = "find the last records of each partition";
        connection
            .execute("DELETE FROM relay_lasts WHERE store = ?1", [self.store])
            .doing(WHAT)?;
        let (first, last) = (
            record_key(self.store, Position(0)),
            record_key(self.store, to.position),
        );
        let mut statement = connection
            .prepare(
                "SELECT t.topic, r.partition, r.epoch, max(r.key) FROM records r JOIN topics t ON t.number = r.topic \
                 WHERE r.key BETWEEN ?1 AND ?2 GROUP BY t.topic, r.partition",
            )
            .doing(WHAT)?;
        let mut rows = statement.query([first, last]).doing(WHAT)?;
        let mut lasts = BTreeMap::new();
        while let Some(row) = rows.next().doing(WHAT)? {
            let name: String = row.get(0).doing(WHAT)?;
            let topic = Topic::new(&name).map_err(|_| damaged(format!("topic `{name}`")))?;
            let epoch = Epoch(row.get::<_, i64>(2).doing(WHAT)?.cast_unsigned());
            let at = At {
                epoch,
                position: crate::number::position(row.get(3).doing(WHAT)?),
            };
            lasts.insert((topic, row.get(1).doing(WHAT)?), at);
        }
        self.checkpoint = to;
        self.changed = true;
        self.changed_lasts = lasts.keys().cloned().collect();
        self.lasts = lasts;
        Ok(())
    }

    /// Writes what has changed.
    pub(crate) fn flush(&mut self, connection: &Connection) -> Result<(), Error> {
        const WHAT: &str = "write the relay's row";
        if !self.changed {
            return Ok(());
        }
        connection
            .prepare_cached("INSERT OR REPLACE INTO relays VALUES (?1, ?2, ?3, ?4, ?5)")
            .and_then(|mut statement| {
                statement.execute(params![
                    self.store,
                    signed(self.fence.store.0),
                    signed(self.fence.owner.0),
                    signed(self.checkpoint.epoch.0),
                    signed(self.checkpoint.position.0),
                ])
            })
            .doing(WHAT)?;
        for (topic, partition) in std::mem::take(&mut self.changed_lasts) {
            let at = self
                .lasts
                .get(&(topic.clone(), partition))
                .copied()
                .unwrap_or_default();
            connection
                .prepare_cached("INSERT OR REPLACE INTO relay_lasts VALUES (?1, ?2, ?3, ?4, ?5)")
                .and_then(|mut statement| {
                    let (epoch, position) = (signed(at.epoch.0), signed(at.position.0));
                    statement.execute(params![
                        self.store,
                        topic.as_str(),
                        partition,
                        epoch,
                        position
                    ])
                })
                .doing(WHAT)?;
        }
        self.changed = false;
        Ok(())
    }
}
