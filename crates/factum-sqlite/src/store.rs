//! The store port over one store of the file.

use std::{fmt, pin::Pin, sync::Arc};

use async_trait::async_trait;
use factum_core::{
    Answered, At, AuditEntry, Audited, Begin, Category, Commit, CommitError, Committed, Epoch,
    EpochSpan, Error, Fence, Holder, InboxId, InboxRow, Lane, Lease, LogFilter, LogPage, MessageId,
    Parked, ParkedCount, ParkedFilter, ParkedId, PinnedTopic, Position, ProjectionClaim,
    ProjectionName, ProjectionState, Prune, Record, RelayClaim, Role, Signal, Snapshot, SqlValue,
    Store, StoreCapabilities, StoreIdentity, StreamId, StreamPage, StreamSummary, Timer, Timestamp,
    Topic, Version, Views,
};
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use crate::{
    answers,
    error::{Doing, of_file},
    file::{File, closed},
    group::{CommitOrder, Order},
    inbox, log, message_ids, names,
    number::{range, record_key, within_store},
    own_sql, parked_read, projections,
    relay::Relay,
    shared::Shared,
    snapshots, state, timers,
    views::SqliteViews,
};

/// How many expired rows one transaction drops at most: a few milliseconds, in which commits wait.
const PRUNE_ROWS_MAX: u32 = 500;

/// How many events of a stream are read where they are asked for, and not on a reading thread: at two microseconds
/// each, as long as the way there and back takes.
const STREAM_EVENTS_BRIEF: u64 = 16;

/// How many records at the end of the log are read where they are asked for: those who follow it read a few at a time.
const LOG_RECORDS_BRIEF: u64 = 32;

/// One service's store in the file. Cheap to clone by its `Arc`; several handles are one store.
pub struct SqliteStore {
    pub(crate) file: Arc<File>,
    pub(crate) shared: Arc<Shared>,
    views: SqliteViews,
}

impl SqliteStore {
    pub(crate) fn new(file: Arc<File>, shared: Arc<Shared>) -> Self {
        let views = SqliteViews {
            file: file.clone(),
            shared: shared.clone(),
        };
        Self {
            file,
            shared,
            views,
        }
    }

    /// Runs one statement of own SQL that reads, confined to the tables of this service, and returns its rows.
    ///
    /// Tables of a service are those whose names begin with the service's name and `__`; they are written by
    /// [`ViewWrite::Sql`](factum_core::ViewWrite::Sql).
    ///
    /// # Errors
    ///
    /// Class poison when the statement is bad, touches other tables, or writes.
    pub async fn read_own(
        &self,
        statement: &str,
        parameters: Vec<SqlValue>,
        limit: usize,
    ) -> Result<Vec<Vec<SqlValue>>, Error> {
        let (service, statement) = (self.identity().service, statement.to_string());
        self.file
            .read(move |reading| {
                own_sql::read(
                    &reading.connection,
                    &service,
                    &statement,
                    &parameters,
                    limit,
                )
            })
            .await
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection, i64) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let store = self.shared.number;
        self.file
            .read(move |reading| read(&reading.connection, store))
            .await
    }

    async fn read_brief<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection, i64) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let store = self.shared.number;
        self.file
            .read_brief(move |reading| read(&reading.connection, store))
            .await
    }

    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &mut state::StoreState) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.file.change(self.shared.number, work).await
    }

    /// Drops expired rows in slices, so that commits get their turn between two.
    async fn prune_all(
        &self,
        slice: impl Fn(&Connection, i64) -> Result<u64, Error> + Send + Sync + Clone + 'static,
    ) -> Result<u64, Error> {
        let mut all = 0;
        loop {
            let slice = slice.clone();
            let dropped = self
                .change(move |connection, state| slice(connection, state.number))
                .await?;
            all += dropped;
            if dropped < u64::from(PRUNE_ROWS_MAX) {
                return Ok(all);
            }
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.file.path)
            .field("identity", &self.identity())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn identity(&self) -> StoreIdentity {
        self.shared.read().identity.clone()
    }

    fn capabilities(&self) -> StoreCapabilities {
        StoreCapabilities {
            durable: true,
            sql: Some("sqlite"),
            shared: false,
        }
    }

    fn records_read(&self) -> Option<u64> {
        Some(self.shared.records_read())
    }

    fn commits_waiting(&self) -> Option<u64> {
        Some(self.file.waiting())
    }

    fn transactions(&self) -> Option<u64> {
        Some(self.file.transactions())
    }

    fn views(&self) -> Option<&dyn Views> {
        Some(&self.views)
    }

    // By hand, and not `async fn`: the commit is in its box before the future is made, which else would hold room for
    // it twice and grow beyond what the allocator gives quickly.
    fn commit<'a, 'b>(
        &'a self,
        commit: Commit,
    ) -> Pin<Box<dyn Future<Output = Result<Committed, CommitError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let (reply, answer) = oneshot::channel();
        let order = Order::Commit(Box::new(CommitOrder {
            store: self.shared.number,
            commit,
            reply,
        }));
        Box::pin(async move {
            self.file.order(order).await?;
            match answer.await.map_err(|_| closed())? {
                Err(CommitError::Failed(error)) => Err(of_file(error, &self.file.path).into()),
                result => result,
            }
        })
    }

    async fn wait(&self, signal: Signal, seen: u64) -> Result<u64, Error> {
        Ok(self.shared.wait(signal, seen).await)
    }

    async fn head(&self) -> Result<At, Error> {
        Ok(self.shared.read().head)
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        from: Version,
        limit: usize,
    ) -> Result<StreamPage, Error> {
        let (shared, name) = (self.shared.clone(), stream.clone());
        let brief = move |reading: &_| {
            log::stream_end(reading, &shared, &name, from, limit, STREAM_EVENTS_BRIEF)
        };
        if let Some(page) = self.file.read_brief(brief).await? {
            return Ok(page);
        }
        let (shared, stream) = (self.shared.clone(), stream.clone());
        self.file
            .read(move |reading| log::stream_page(reading, &shared, &stream, from, limit))
            .await
    }

    async fn read_log(
        &self,
        after: At,
        filter: &LogFilter,
        limit: usize,
    ) -> Result<LogPage, Error> {
        let (shared, filter) = (self.shared.clone(), filter.clone());
        shared.follow();
        let ahead = {
            let published = shared.read();
            published.check_cursor(after)?;
            if let Some(page) = published.newest.page(after, published.head, &filter, limit) {
                return Ok(page);
            }
            let ahead = published.head.position.0.saturating_sub(after.position.0);
            ahead.min(limit as u64)
        };
        let read = move |reading: &_| log::page(reading, &shared, after, &filter, limit);
        if ahead <= LOG_RECORDS_BRIEF {
            self.file.read_brief(read).await
        } else {
            self.file.read(read).await
        }
    }

    async fn read_correlated(
        &self,
        id: &MessageId,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        let (shared, id) = (self.shared.clone(), id.clone());
        self.file
            .read(move |reading| log::correlated(reading, &shared, &id, after, limit))
            .await
    }

    async fn streams(
        &self,
        category: Option<&Category>,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<StreamSummary>, Error> {
        let (shared, category, after) = (self.shared.clone(), category.cloned(), after.cloned());
        self.file
            .read(move |reading| {
                log::streams(reading, &shared, category.as_ref(), after.as_ref(), limit)
            })
            .await
    }

    async fn epochs(&self) -> Result<Vec<EpochSpan>, Error> {
        Ok(self.shared.read().epochs.clone())
    }

    async fn open_epoch(&self, epoch: Epoch, at: Timestamp, reason: &str) -> Result<(), Error> {
        let reason = reason.to_string();
        self.change(move |connection, state| state.open_epoch(connection, epoch, at, &reason))
            .await
    }

    async fn snapshot(
        &self,
        stream: &StreamId,
        fingerprint: &str,
    ) -> Result<Option<Snapshot>, Error> {
        let (stream, fingerprint) = (stream.clone(), fingerprint.to_string());
        self.read_brief(move |connection, store| {
            snapshots::read(connection, store, &stream, &fingerprint)
        })
        .await
    }

    async fn save_snapshot(
        &self,
        stream: &StreamId,
        fingerprint: &str,
        snapshot: Snapshot,
    ) -> Result<(), Error> {
        let (stream, fingerprint) = (stream.clone(), fingerprint.to_string());
        self.change(move |connection, state| {
            snapshots::save(connection, state.number, &stream, &fingerprint, &snapshot)
        })
        .await
    }

    async fn pin_topic(&self, topic: &Topic, partitions: u32) -> Result<(), Error> {
        let topic = topic.clone();
        self.change(move |connection, state| {
            state
                .topics
                .pin(connection, &topic, partitions, &state.identity.service)
        })
        .await
    }

    async fn pinned_topics(&self) -> Result<Vec<PinnedTopic>, Error> {
        let topics = self.read(names::read).await?;
        Ok(topics.into_iter().map(|(_, topic)| topic).collect())
    }

    async fn claim_inbox(&self, inbox: &InboxId, begin: &Begin) -> Result<InboxRow, Error> {
        let (inbox, begin) = (inbox.clone(), begin.clone());
        self.change(move |connection, state| {
            let epoch = state.identity.epoch;
            state.inboxes.claim(connection, &inbox, epoch, &begin)
        })
        .await
    }

    async fn inbox(&self, inbox: &InboxId) -> Result<Option<InboxRow>, Error> {
        let inbox = inbox.clone();
        let found = self
            .read_brief(move |connection, store| inbox::read_one(connection, store, &inbox))
            .await?;
        Ok(found.map(|(_, row)| row))
    }

    async fn inboxes(&self) -> Result<Vec<(InboxId, InboxRow)>, Error> {
        let rows = self.read(inbox::read_all).await?;
        Ok(rows.into_iter().map(|(_, id, row)| (id, row)).collect())
    }

    async fn claim_relay(&self) -> Result<RelayClaim, Error> {
        self.change(|_, state| Ok(state.relay.claim(state.identity.epoch)))
            .await
    }

    async fn relay(&self) -> Result<RelayClaim, Error> {
        self.read(|connection, store| Ok(Relay::load(connection, store)?.to_claim()))
            .await
    }

    async fn claim_projection(
        &self,
        projection: &ProjectionName,
        generation: u32,
        fingerprint: &str,
    ) -> Result<ProjectionClaim, Error> {
        let (projection, fingerprint) = (projection.clone(), fingerprint.to_string());
        self.change(move |_, state| {
            Ok(state
                .projections
                .claim(&projection, generation, &fingerprint, state.identity.epoch))
        })
        .await
    }

    async fn projections(&self) -> Result<Vec<ProjectionState>, Error> {
        self.read(projections::states).await
    }

    async fn forget_projection(
        &self,
        projection: &ProjectionName,
        generation: u32,
    ) -> Result<(), Error> {
        let projection = projection.clone();
        self.change(move |_, state| {
            state.projections.forget(&projection, generation);
            Ok(())
        })
        .await
    }

    async fn claim_timers(&self) -> Result<Fence, Error> {
        self.change(|_, state| {
            state.timers.fence = inbox::raised(state.timers.fence, state.identity.epoch);
            state.changed = true;
            Ok(state.timers.fence)
        })
        .await
    }

    async fn lease(&self, role: &Role) -> Result<Lease, Error> {
        Err(no_leases(role))
    }

    async fn set_lease(
        &self,
        role: &Role,
        _seen: u64,
        _holder: Option<Holder>,
    ) -> Result<bool, Error> {
        Err(no_leases(role))
    }

    async fn next_timers(&self, limit: usize) -> Result<Vec<Timer>, Error> {
        self.read(move |connection, store| timers::next(connection, store, limit))
            .await
    }

    async fn parked(&self, filter: &ParkedFilter, limit: usize) -> Result<Vec<Parked>, Error> {
        let filter = filter.clone();
        self.read(move |connection, store| parked_read::find(connection, store, &filter, limit))
            .await
    }

    async fn parked_one(&self, id: &ParkedId) -> Result<Option<Parked>, Error> {
        let id = id.clone();
        self.read_brief(move |connection, store| parked_read::one(connection, store, &id))
            .await
    }

    async fn parked_counts(&self) -> Result<Vec<ParkedCount>, Error> {
        self.read(parked_read::counts).await
    }

    async fn next_retry(&self, inbox: &InboxId) -> Result<Option<Timestamp>, Error> {
        let inbox = inbox.clone();
        self.read_brief(move |connection, store| parked_read::next_retry(connection, store, &inbox))
            .await
    }

    async fn parked_lanes(&self, inbox: &InboxId, limit: usize) -> Result<Vec<Lane>, Error> {
        let inbox = inbox.clone();
        self.read(move |connection, store| parked_read::lanes(connection, store, &inbox, limit))
            .await
    }

    async fn answered(
        &self,
        scope: &str,
        key: &str,
        at: Timestamp,
    ) -> Result<Option<(u64, Answered)>, Error> {
        let (scope, key) = (scope.to_string(), key.to_string());
        let found = self
            .read_brief(move |connection, store| answers::look_up(connection, store, &scope, &key))
            .await?;
        let remembered = found.filter(|(_, _, expires)| *expires > at);
        Ok(remembered.map(|(request, answered, _)| (request, answered)))
    }

    async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<Audited>, Error> {
        self.read(move |connection, store| read_audit(connection, store, before, limit))
            .await
    }

    async fn prune(&self, prune: Prune) -> Result<u64, Error> {
        let Prune { expired, discarded } = prune;
        let max = PRUNE_ROWS_MAX;
        // Discarded messages first: an event id is kept as long as its parked row.
        let parked = self
            .prune_all(move |db, store| parked_read::prune(db, store, discarded, max))
            .await?;
        let ids = self
            .prune_all(move |db, store| message_ids::prune(db, store, expired, max))
            .await?;
        let answers = self
            .prune_all(move |db, store| answers::prune(db, store, expired, max))
            .await?;
        Ok(parked + ids + answers)
    }
}

fn read_audit(
    connection: &Connection,
    store: i64,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<Audited>, Error> {
    const WHAT: &str = "read the audit record";
    let (first, mut last) = range(store);
    if let Some(before) = before {
        last = record_key(store, Position(before)) - 1;
    }
    let mut statement = connection
        .prepare_cached(
            "SELECT number, at, actor, action, subject, reason FROM audit WHERE number BETWEEN ?1 AND ?2 \
             ORDER BY number DESC LIMIT ?3",
        )
        .doing(WHAT)?;
    let entries = statement
        .query_map(params![first, last, log::rows(limit)], |row| {
            Ok(Audited {
                number: within_store(row.get(0)?),
                entry: AuditEntry {
                    at: Timestamp::from_micros(row.get(1)?),
                    actor: row.get(2)?,
                    action: row.get(3)?,
                    subject: row.get(4)?,
                    reason: row.get(5)?,
                },
            })
        })
        .doing(WHAT)?;
    entries.collect::<Result<_, _>>().doing(WHAT)
}

fn no_leases(role: &Role) -> Error {
    Error::fatal(format!(
        "one process uses a store in SQLite: it has no lease of `{role}`"
    ))
}
