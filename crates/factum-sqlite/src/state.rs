//! A store as the writer knows it: what it needs to decide commits without reading the file.
//!
//! All of it follows from the file. Within a group of commits it runs ahead of the file; when the group fails it
//! is loaded again, so that nothing that was not committed is ever built upon.

use std::sync::Arc;

use factum_core::{
    At, Epoch, EpochSpan, Error, Fence, OwnerEpoch, Position, Record, ServiceName, Signal, StoreId,
    StoreIdentity, Timestamp, Version,
};
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use crate::{
    error::{Doing, damaged},
    inbox::Inboxes,
    log,
    memo::{Applied, Failed},
    names::{Topics, Types},
    newest::Newest,
    number::{position, range, signed},
    projections::Projections,
    relay::Relay,
    shared::{Published, Shared, Views},
    streams::{Streams, next_number},
    tail::Tail,
    timers::Timers,
    views,
};

/// One store of the file.
#[derive(Debug)]
pub(crate) struct StoreState {
    pub(crate) number: i64,
    pub(crate) identity: StoreIdentity,
    pub(crate) epochs: Vec<EpochSpan>,
    /// The place of the last record, the present group's included.
    pub(crate) head: At,
    /// The checksum of that record; 0 without one.
    pub(crate) head_checksum: u32,
    /// The store's epoch and head as the witness knows them.
    pub(crate) witnessed: (Epoch, At),
    /// Up to here the log is in its indexes.
    pub(crate) indexed: Position,
    pub(crate) streams: Streams,
    pub(crate) types: Types,
    pub(crate) topics: Topics,
    pub(crate) inboxes: Inboxes,
    pub(crate) projections: Projections,
    pub(crate) relay: Relay,
    pub(crate) timers: Timers,
    pub(crate) applied: Applied,
    pub(crate) failed: Failed,
    pub(crate) views: Views,
    pub(crate) audit_next: u64,
    /// Whether the store's own row must be written with the group.
    pub(crate) changed: bool,
    pub(crate) pending: Pending,
    pub(crate) shared: Arc<Shared>,
}

/// What the present group has done and what its readers learn when it is durable.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Events by stream number, version and key.
    pub(crate) events: Vec<(i64, Version, i64)>,
    /// All records.
    pub(crate) records: Vec<Record>,
    /// Empty, and kept for its room: what the newest records have pushed out.
    dropped: Vec<Record>,
    /// Whether the indexes were completed up to the head.
    pub(crate) indexed: bool,
    pub(crate) parking: u64,
    pub(crate) timers: u64,
    /// Whether identity or epochs have changed.
    pub(crate) epochs: bool,
    /// Whether views or their active generations have changed.
    pub(crate) views: bool,
}

impl Pending {
    /// The last version of a stream within the group.
    pub(crate) fn version(&self, stream: i64) -> Option<Version> {
        self.events
            .iter()
            .rev()
            .find(|(known, ..)| *known == stream)
            .map(|(_, version, _)| *version)
    }
}

impl StoreState {
    /// Makes a store.
    pub(crate) fn create(
        connection: &Connection,
        service: &ServiceName,
        id: StoreId,
        at: Timestamp,
    ) -> Result<i64, Error> {
        const WHAT: &str = "create a store";
        let greatest: Option<i64> = connection
            .query_row("SELECT max(number) FROM stores", [], |row| row.get(0))
            .doing(WHAT)?;
        let number = greatest.unwrap_or(0) + 1;
        if number >= crate::number::STORES_MAX {
            return Err(Error::fatal(format!(
                "store `{service}` can't be created: the file holds as many as it can"
            )));
        }
        connection
            .execute(
                "INSERT INTO stores (number, id, service) VALUES (?1, ?2, ?3)",
                params![number, id.0.as_bytes(), service.as_str()],
            )
            .doing(WHAT)?;
        insert_epoch(
            connection,
            number,
            1,
            &EpochSpan {
                epoch: Epoch(1),
                first: Position(1),
                opened: at,
                reason: "created".into(),
            },
        )?;
        Ok(number)
    }

    /// The number of a service's store, if there is one.
    pub(crate) fn find(
        connection: &Connection,
        service: &ServiceName,
    ) -> Result<Option<i64>, Error> {
        connection
            .query_row(
                "SELECT number FROM stores WHERE service = ?1",
                [service.as_str()],
                |row| row.get(0),
            )
            .optional()
            .doing("look up a store")
    }

    /// Opens the store `number`, and completes the indexes of its log: within a transaction.
    pub(crate) fn open(connection: &Connection, number: i64) -> Result<Self, Error> {
        let mut state = Self::load(connection, number, None)?;
        let read = log::index(connection, number, state.indexed, state.head.position)?;
        state.shared.count_read(read);
        state.indexed = state.head.position;
        Ok(state)
    }

    /// Reads the state again after a group has failed. What was published stays: it is what the file has.
    pub(crate) fn reload(&mut self, connection: &Connection) -> Result<(), Error> {
        let state = Self::load(connection, self.number, Some(self.shared.clone()))?;
        let failed = std::mem::take(&mut self.failed);
        *self = Self { failed, ..state };
        Ok(())
    }

    /// Reads the store `number` and all that follows from its rows. Changes nothing.
    pub(crate) fn load(
        connection: &Connection,
        number: i64,
        shared: Option<Arc<Shared>>,
    ) -> Result<Self, Error> {
        const WHAT: &str = "open a store";
        let (id, service, indexed, fence, generation) = connection
            .query_row(
                "SELECT id, service, indexed, timers_fence_epoch, timers_fence_owner, timers_generation \
                 FROM stores WHERE number = ?1",
                [number],
                |row| {
                    let unsigned = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
                    let fence = Fence { store: Epoch(unsigned(3)?), owner: OwnerEpoch(unsigned(4)?) };
                    let names: (Vec<u8>, String) = (row.get(0)?, row.get(1)?);
                    Ok((names.0, names.1, Position(unsigned(2)?), fence, unsigned(5)?))
                },
            )
            .doing(WHAT)?;
        let epochs = read_epochs(connection, number)?;
        let broken = || damaged(format!("store number {number}"));
        let identity = StoreIdentity {
            id: StoreId(Uuid::from_slice(&id).map_err(|_| broken())?),
            service: ServiceName::new(service).map_err(|_| broken())?,
            epoch: epochs.last().ok_or_else(broken)?.epoch,
        };
        let (head, head_checksum) = read_head(connection, number)?;
        let inboxes = Inboxes::load(connection, number)?;
        let views = views::load(connection, number)?;
        let shared = shared.unwrap_or_else(|| {
            let published = Published {
                identity: identity.clone(),
                epochs: epochs.clone(),
                head,
                tail: Tail::default(),
                newest: Newest::default(),
                views: views.clone(),
            };
            // Parked messages come from inboxes, and a timer that was ever set has raised the counter.
            Arc::new(Shared::new(
                number,
                published,
                (!inboxes.is_empty()).into(),
                generation.min(1),
            ))
        });
        let state = Self {
            number,
            witnessed: (identity.epoch, head),
            identity,
            epochs,
            head,
            head_checksum,
            indexed,
            streams: Streams::load(connection, number)?,
            types: Types::load(connection, number)?,
            topics: Topics::load(connection, number)?,
            inboxes,
            projections: Projections::load(connection, number)?,
            relay: Relay::load(connection, number)?,
            timers: Timers { fence, generation },
            applied: Applied::load(connection, number)?,
            failed: Failed::default(),
            views,
            audit_next: next_number(connection, "audit", number)?,
            changed: false,
            pending: Pending::default(),
            shared,
        };
        Ok(state)
    }

    /// Whether the store is still in the file.
    pub(crate) fn exists(&self, connection: &Connection) -> Result<bool, Error> {
        connection
            .query_row(
                "SELECT EXISTS (SELECT 1 FROM stores WHERE number = ?1)",
                [self.number],
                |row| row.get(0),
            )
            .doing("look up a store")
    }

    /// The present epoch.
    pub(crate) fn epoch(&self) -> Epoch {
        self.identity.epoch
    }

    /// Opens a new epoch.
    pub(crate) fn open_epoch(
        &mut self,
        connection: &Connection,
        epoch: Epoch,
        at: Timestamp,
        reason: &str,
    ) -> Result<(), Error> {
        if epoch <= self.epoch() {
            return Err(Error::conflict(format!(
                "epoch {epoch} can't be opened: the present one is {}, and a new one must be greater",
                self.epoch()
            )));
        }
        let first = self.head.position.next();
        let span = EpochSpan {
            epoch,
            first,
            opened: at,
            reason: reason.into(),
        };
        insert_epoch(connection, self.number, self.epochs.len() as u64 + 1, &span)?;
        self.relay.move_back(connection, self.head)?;
        self.projections.move_back(self.head);
        self.epochs.push(span);
        self.identity.epoch = epoch;
        self.pending.epochs = true;
        Ok(())
    }

    /// Writes what commits have left in memory, and the indexes if they trail too far: the last step of a group.
    pub(crate) fn flush(&mut self, connection: &Connection) -> Result<(), Error> {
        self.inboxes.flush(connection)?;
        self.projections.flush(connection)?;
        self.relay.flush(connection)?;
        if self.head.position.0 - self.indexed.0 >= log::INDEX_SLICE {
            let read = log::index(connection, self.number, self.indexed, self.head.position)?;
            self.shared.count_read(read);
            self.indexed = self.head.position;
            self.pending.indexed = true;
        }
        if self.changed {
            connection
                .prepare_cached(
                    "UPDATE stores SET timers_fence_epoch = ?2, timers_fence_owner = ?3, timers_generation = ?4 \
                     WHERE number = ?1",
                )
                .and_then(|mut statement| {
                    statement.execute(params![
                        self.number,
                        signed(self.timers.fence.store.0),
                        signed(self.timers.fence.owner.0),
                        signed(self.timers.generation),
                    ])
                })
                .doing("write a store's row")?;
            self.changed = false;
        }
        Ok(())
    }

    /// Lets readers see what the group has done, now that it is durable.
    pub(crate) fn publish(&mut self) {
        let pending = &mut self.pending;
        let mut dropped = std::mem::take(&mut pending.dropped);
        let mut published = self.shared.write();
        if std::mem::take(&mut pending.indexed) {
            published.tail.clear();
            pending.events.clear();
        }
        for (stream, version, key) in pending.events.drain(..) {
            published.tail.push(stream, version, key);
        }
        for record in pending.records.drain(..) {
            published.newest.push(record, &mut dropped);
        }
        let grown = published.head.position < self.head.position;
        published.head = self.head;
        if std::mem::take(&mut pending.epochs) {
            published.identity = self.identity.clone();
            published.epochs.clone_from(&self.epochs);
        }
        if std::mem::take(&mut pending.views) {
            published.views = self.views.clone();
        }
        drop(published);
        // Not while readers wait.
        dropped.clear();
        pending.dropped = dropped;
        if grown {
            self.shared.signal(Signal::Head, self.head.position.0);
        }
        let parking = std::mem::take(&mut pending.parking);
        if parking > 0 {
            self.shared.signal(Signal::Parking, parking);
        }
        let timers = std::mem::take(&mut pending.timers);
        if timers > 0 {
            self.shared.signal(Signal::Timers, timers);
        }
    }
}

/// The place of the last record, and its checksum.
pub(crate) fn read_head(connection: &Connection, store: i64) -> Result<(At, u32), Error> {
    let (first, last) = range(store);
    let head: Option<(i64, i64, u32)> = connection
        .query_row(
            "SELECT key, epoch, checksum FROM records WHERE key BETWEEN ?1 AND ?2 ORDER BY key DESC LIMIT 1",
            [first, last],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()
        .doing("read the head of the log")?;
    Ok(head.map_or((At::ZERO, 0), |(key, epoch, checksum)| {
        let head = At {
            epoch: Epoch(epoch.cast_unsigned()),
            position: position(key),
        };
        (head, checksum)
    }))
}

/// All epochs of a store, oldest first.
pub(crate) fn read_epochs(connection: &Connection, store: i64) -> Result<Vec<EpochSpan>, Error> {
    const WHAT: &str = "read the epochs";
    let mut statement = connection
        .prepare_cached(
            "SELECT epoch, first, opened, reason FROM epochs WHERE store = ?1 ORDER BY ordinal",
        )
        .doing(WHAT)?;
    let spans = statement
        .query_map([store], |row| {
            Ok(EpochSpan {
                epoch: Epoch(row.get::<_, i64>(0)?.cast_unsigned()),
                first: Position(row.get::<_, i64>(1)?.cast_unsigned()),
                opened: Timestamp::from_micros(row.get(2)?),
                reason: row.get(3)?,
            })
        })
        .doing(WHAT)?;
    spans.collect::<Result<_, _>>().doing(WHAT)
}

fn insert_epoch(
    connection: &Connection,
    store: i64,
    ordinal: u64,
    span: &EpochSpan,
) -> Result<(), Error> {
    connection
        .execute(
            "INSERT INTO epochs VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                store,
                signed(ordinal),
                signed(span.epoch.0),
                signed(span.first.0),
                span.opened.as_micros(),
                span.reason
            ],
        )
        .doing("open an epoch")?;
    Ok(())
}
