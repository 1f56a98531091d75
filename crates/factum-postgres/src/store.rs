//! The store port over one schema.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use factum_core::{
    Answered, At, AuditEntry, Audited, Begin, Category, Commit, CommitError, Committed, Env, Epoch,
    EpochSpan, Error, Fence, Holder, InboxId, InboxRow, Lane, Lease, LogFilter, LogPage, MessageId,
    Parked, ParkedCount, ParkedFilter, ParkedId, PinnedTopic, Position, ProjectionClaim,
    ProjectionName, ProjectionState, Prune, Record, RelayClaim, Role, Signal, Snapshot, SqlValue,
    Store, StoreCapabilities, StoreIdentity, StreamId, StreamPage, StreamSummary, Timer, Timestamp,
    Topic, Version, Views,
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_postgres::Row;

use crate::{
    answers,
    call::Call,
    error::{Doing, Meaning, column, damaged, meaning},
    image, inbox, lease, log, message_ids,
    number::{fence, micros, rows, signed, small},
    own_sql, parked_read,
    pool::closed,
    projections,
    queue::Queue,
    relay, server,
    shared::Shared,
    snapshots,
    text::{escape, unescape},
    timers,
    views::PostgresViews,
};

/// How many expired rows one transaction drops at most.
const PRUNE_ROWS_MAX: usize = 1_000;

/// One service's store in a database. Cheap to clone by its `Arc`; several handles are one store.
pub struct PostgresStore {
    pub(crate) shared: Arc<Shared>,
    queue: Arc<Queue>,
    env: Env,
    views: PostgresViews,
    closed: watch::Sender<bool>,
    tasks: std::sync::Mutex<Vec<JoinHandle<()>>>,
}

impl PostgresStore {
    pub(crate) fn new(
        shared: Arc<Shared>,
        queue: Arc<Queue>,
        env: Env,
        closed: watch::Sender<bool>,
        tasks: Vec<JoinHandle<()>>,
    ) -> Self {
        let views = PostgresViews {
            shared: shared.clone(),
        };
        Self {
            shared,
            queue,
            env,
            views,
            closed,
            tasks: std::sync::Mutex::new(tasks),
        }
    }

    /// Finishes what was handed over, and ends. What is committed afterwards fails.
    pub(crate) async fn close(&self) {
        self.queue.close();
        self.closed.send_replace(true);
        let tasks = std::mem::take(
            &mut *self
                .tasks
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
        for task in tasks {
            // An error means that the task has panicked, which was told.
            drop(task.await);
        }
    }

    /// Runs one statement of own SQL that reads, and returns its rows, at most `limit`.
    ///
    /// Own tables are written by [`ViewWrite::Sql`](factum_core::ViewWrite::Sql); they live in the schema whose name is the
    /// store's with `_own` behind it.
    ///
    /// # Errors
    ///
    /// Class poison when the statement is bad, or writes.
    pub async fn read_own(
        &self,
        statement: &str,
        parameters: Vec<SqlValue>,
        limit: usize,
    ) -> Result<Vec<Vec<SqlValue>>, Error> {
        let connection = self.shared.pool.lend().await?;
        own_sql::read(
            &connection,
            &self.shared.schema,
            statement,
            &parameters,
            limit,
        )
        .await
    }

    /// Does one statement. A claim may be the first that meets a promoted server, in a process that commits nothing: it
    /// opens the new epoch as a commit does, and goes on in it.
    async fn rows(&self, call: Call, what: &str) -> Result<Vec<Row>, Error> {
        let connection = self.shared.pool.lend().await?;
        match connection.rows(&call).await {
            Err(error) if meaning(&error) == Meaning::Promoted => {
                server::recognise(&connection, &self.shared.schema, &self.env).await?;
                self.shared.changed();
                connection.rows(&call).await.doing(what)
            }
            answer => answer.doing(what),
        }
    }

    async fn row(&self, call: Call, what: &str) -> Result<Option<Row>, Error> {
        Ok(self.rows(call, what).await?.into_iter().next())
    }

    /// Does one statement durably. None of these asks which server it is: what they write holds in any epoch.
    async fn change(&self, call: Call, what: &str) -> Result<Vec<Row>, Error> {
        let connection = self.shared.pool.lend().await?;
        let begin = format!(
            "{}; SET LOCAL synchronous_commit = on",
            self.shared.pool.connector.begin()
        );
        let answers = connection.transaction(&begin, &[call]).await;
        let mut answers = answers.map_err(|failure| crate::error::sorted(what, failure.error))?;
        Ok(answers.pop().unwrap_or_default())
    }

    /// Drops expired rows in slices, so that none of them takes long.
    async fn prune_all(&self, slice: impl Fn() -> Call) -> Result<u64, Error> {
        let mut all = 0;
        loop {
            let dropped = self.change(slice(), "drop what has expired").await?.len();
            all += dropped as u64;
            if dropped < PRUNE_ROWS_MAX {
                return Ok(all);
            }
        }
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.queue.close();
        self.closed.send_replace(true);
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("database", &self.shared.pool.connector.describe())
            .field("identity", &self.identity())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn identity(&self) -> StoreIdentity {
        self.shared.identity()
    }

    fn capabilities(&self) -> StoreCapabilities {
        StoreCapabilities {
            durable: true,
            sql: Some("postgresql"),
            shared: true,
        }
    }

    fn records_read(&self) -> Option<u64> {
        Some(self.shared.records_read())
    }

    fn views(&self) -> Option<&dyn Views> {
        Some(&self.views)
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        self.queue.give(commit).await.map_err(|_| closed())?
    }

    async fn wait(&self, signal: Signal, seen: u64) -> Result<u64, Error> {
        Ok(self.shared.wait(signal, seen).await)
    }

    async fn head(&self) -> Result<At, Error> {
        let connection = self.shared.pool.lend().await?;
        log::head(&connection, &self.shared.schema).await
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        from: Version,
        limit: usize,
    ) -> Result<StreamPage, Error> {
        let connection = self.shared.pool.lend().await?;
        log::stream_page(&connection, &self.shared, stream, from, limit).await
    }

    async fn read_log(
        &self,
        after: At,
        filter: &LogFilter,
        limit: usize,
    ) -> Result<LogPage, Error> {
        let connection = self.shared.pool.lend().await?;
        log::page(&connection, &self.shared, after, filter, limit).await
    }

    async fn read_correlated(
        &self,
        id: &MessageId,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        let connection = self.shared.pool.lend().await?;
        log::correlated(&connection, &self.shared, id, after, limit).await
    }

    async fn streams(
        &self,
        category: Option<&Category>,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<StreamSummary>, Error> {
        let connection = self.shared.pool.lend().await?;
        log::streams(&connection, &self.shared.schema, category, after, limit).await
    }

    async fn epochs(&self) -> Result<Vec<EpochSpan>, Error> {
        let connection = self.shared.pool.lend().await?;
        log::epochs(&connection, &self.shared.schema).await
    }

    async fn open_epoch(&self, epoch: Epoch, at: Timestamp, reason: &str) -> Result<(), Error> {
        const WHAT: &str = "open an epoch";
        let call = self
            .shared
            .schema
            .call("SELECT done, present FROM factum.open_epoch($1, $2, $3)")
            .with(signed(epoch.0))
            .with(micros(at))
            .with(escape(reason).into_owned());
        let row = self
            .row(call, WHAT)
            .await?
            .ok_or_else(|| damaged("the epochs"))?;
        if !column::<bool>(&row, 0)? {
            let present = column::<i64>(&row, 1)?.cast_unsigned();
            return Err(Error::conflict(format!(
                "epoch {epoch} can't be opened: the present one is {present}, and a new one must be greater"
            )));
        }
        self.shared.set_epoch(epoch);
        self.shared.changed();
        Ok(())
    }

    async fn snapshot(
        &self,
        stream: &StreamId,
        fingerprint: &str,
    ) -> Result<Option<Snapshot>, Error> {
        let call = snapshots::read(&self.shared.schema, stream, fingerprint);
        let row = self.row(call, "read a snapshot").await?;
        row.map(|row| snapshots::decode(&row)).transpose()
    }

    async fn save_snapshot(
        &self,
        stream: &StreamId,
        fingerprint: &str,
        snapshot: Snapshot,
    ) -> Result<(), Error> {
        // Losing one is no loss: it is made again from events. So nobody waits for the disk.
        let call = snapshots::save(&self.shared.schema, stream, fingerprint, snapshot);
        self.rows(call, "keep a snapshot").await.map(drop)
    }

    async fn pin_topic(&self, topic: &Topic, partitions: u32) -> Result<(), Error> {
        const WHAT: &str = "pin a topic";
        if partitions == 0 {
            return Err(Error::poison(format!(
                "topic `{topic}` can't have 0 partitions"
            )));
        }
        let pin = self
            .shared
            .schema
            .call("INSERT INTO factum.topics VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING 1")
            .with(topic.as_str().to_string())
            .with(small(partitions));
        if !self.change(pin, WHAT).await?.is_empty() {
            self.shared.changed();
            return Ok(());
        }
        let look = self
            .shared
            .schema
            .call("SELECT partitions FROM factum.topics WHERE topic = $1")
            .with(topic.as_str().to_string());
        let row = self
            .row(look, WHAT)
            .await?
            .ok_or_else(|| damaged(format!("topic `{topic}`")))?;
        let pinned: i32 = column(&row, 0)?;
        if pinned == small(partitions) {
            return Ok(());
        }
        Err(Error::fatal(format!(
            "topic `{topic}` is pinned with {pinned} partitions in store `{}`, not {partitions}",
            self.identity().service
        )))
    }

    async fn pinned_topics(&self) -> Result<Vec<PinnedTopic>, Error> {
        let found = self
            .rows(image::topics(&self.shared.schema), "read pinned topics")
            .await?;
        let pinned = |row: &Row| {
            let (topic, partitions) = image::topic_of(row)?;
            Ok(PinnedTopic { topic, partitions })
        };
        found.iter().map(pinned).collect()
    }

    async fn claim_inbox(&self, id: &InboxId, begin: &Begin) -> Result<InboxRow, Error> {
        let call = inbox::claim(&self.shared.schema, id, begin)?;
        let row = self
            .row(call, "claim an inbox")
            .await?
            .ok_or_else(|| damaged(format!("inbox {id}")))?;
        self.shared.changed();
        let (_, inbox) = inbox::decode(&row)?;
        Ok(inbox.row)
    }

    async fn inbox(&self, id: &InboxId) -> Result<Option<InboxRow>, Error> {
        let row = self
            .row(inbox::one(&self.shared.schema, id), "read an inbox row")
            .await?;
        let row = row.map(|row| inbox::decode(&row)).transpose()?;
        Ok(row.map(|(_, inbox)| inbox.row))
    }

    async fn inboxes(&self) -> Result<Vec<(InboxId, InboxRow)>, Error> {
        let found = self
            .rows(inbox::all(&self.shared.schema), "read inbox rows")
            .await?;
        let row = |row: &Row| inbox::decode(row).map(|(id, inbox)| (id, inbox.row));
        found.iter().map(row).collect()
    }

    async fn claim_relay(&self) -> Result<RelayClaim, Error> {
        let claimed = self
            .row(relay::claim(&self.shared.schema), "claim the relay")
            .await?;
        let claimed = relay::decode(claimed.as_ref())?;
        self.shared.changed();
        // Who was the owner before can't move them any more.
        let lasts = self
            .rows(relay::lasts(&self.shared.schema), "claim the relay")
            .await?;
        relay::claimed(claimed, &lasts)
    }

    async fn relay(&self) -> Result<RelayClaim, Error> {
        const WHAT: &str = "read the relay's row";
        let schema = &self.shared.schema;
        let row = self.row(relay::row(schema), WHAT).await?;
        let lasts = self.rows(relay::lasts(schema), WHAT).await?;
        relay::claimed(relay::decode(row.as_ref())?, &lasts)
    }

    async fn claim_projection(
        &self,
        projection: &ProjectionName,
        generation: u32,
        fingerprint: &str,
    ) -> Result<ProjectionClaim, Error> {
        let call = projections::claim(&self.shared.schema, projection, generation, fingerprint);
        let row = self.row(call, "claim a projection").await?;
        self.shared.changed();
        projections::claimed(row.as_ref())
    }

    async fn projections(&self) -> Result<Vec<ProjectionState>, Error> {
        let found = self
            .rows(projections::all(&self.shared.schema), "read projections")
            .await?;
        projections::states(&found)
    }

    async fn forget_projection(
        &self,
        projection: &ProjectionName,
        generation: u32,
    ) -> Result<(), Error> {
        let call = projections::forget(&self.shared.schema, projection, generation);
        self.change(call, "forget a projection").await?;
        self.shared.changed();
        Ok(())
    }

    async fn claim_timers(&self) -> Result<Fence, Error> {
        let call = self
            .shared
            .schema
            .call("SELECT fence_epoch, fence_owner FROM factum.claim_timers()");
        let row = self.row(call, "claim the timers").await?;
        let row = row.ok_or_else(|| damaged("the store's row"))?;
        self.shared.changed();
        Ok(fence(column(&row, 0)?, column(&row, 1)?))
    }

    async fn lease(&self, role: &Role) -> Result<Lease, Error> {
        let row = self
            .row(lease::read(&self.shared.schema, role), "read a lease")
            .await?;
        lease::decode(row.as_ref())
    }

    async fn set_lease(
        &self,
        role: &Role,
        seen: u64,
        holder: Option<Holder>,
    ) -> Result<bool, Error> {
        let call = lease::set(&self.shared.schema, role, seen, holder);
        Ok(!self.change(call, "give a lease").await?.is_empty())
    }

    async fn next_timers(&self, limit: usize) -> Result<Vec<Timer>, Error> {
        let found = self
            .rows(timers::next(&self.shared.schema, limit), "read timers")
            .await?;
        found.iter().map(timers::decode).collect()
    }

    async fn parked(&self, filter: &ParkedFilter, limit: usize) -> Result<Vec<Parked>, Error> {
        let call = parked_read::find(&self.shared.schema, filter, limit);
        let found = self.rows(call, "read parked messages").await?;
        parked_read::page(&found)
    }

    async fn parked_one(&self, id: &ParkedId) -> Result<Option<Parked>, Error> {
        let call = parked_read::some(&self.shared.schema, std::iter::once(id));
        let row = self.row(call, "read a parked message").await?;
        row.map(|row| parked_read::decode(&row)).transpose()
    }

    async fn parked_counts(&self) -> Result<Vec<ParkedCount>, Error> {
        let found = self
            .rows(
                parked_read::counts(&self.shared.schema),
                "count parked messages",
            )
            .await?;
        found.iter().map(parked_read::count_of).collect()
    }

    async fn next_retry(&self, inbox: &InboxId) -> Result<Option<Timestamp>, Error> {
        let call = parked_read::next_retry(&self.shared.schema, inbox);
        let row = self.row(call, "read the next retry").await?;
        let due: Option<i64> = row.map_or(Ok(None), |row| column(&row, 0))?;
        Ok(due.map(Timestamp::from_micros))
    }

    async fn parked_lanes(&self, inbox: &InboxId, limit: usize) -> Result<Vec<Lane>, Error> {
        let call = parked_read::lanes(&self.shared.schema, inbox, limit);
        let found = self.rows(call, "read parked lanes").await?;
        found.iter().map(parked_read::lane_of).collect()
    }

    async fn answered(
        &self,
        scope: &str,
        key: &str,
        at: Timestamp,
    ) -> Result<Option<(u64, Answered)>, Error> {
        let call = answers::known(&self.shared.schema, std::iter::once((scope, key)));
        let row = self.row(call, "look up an answer").await?;
        let found = row.map(|row| answers::decode(&row)).transpose()?;
        let found = found.filter(|(_, remembered)| remembered.expires > at);
        Ok(found.map(|(_, remembered)| (remembered.request, remembered.answered)))
    }

    async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<Audited>, Error> {
        let call = self
            .shared
            .schema
            .call(
                "SELECT number, at, actor, action, subject, reason FROM factum.audit WHERE number < $1 \
                 ORDER BY number DESC LIMIT $2",
            )
            .with(before.map_or(i64::MAX, |before| i64::try_from(before).unwrap_or(i64::MAX)))
            .with(rows(limit));
        let found = self.rows(call, "read the audit record").await?;
        let entry = |row: &Row| {
            let text = |index| Ok::<_, Error>(unescape(column(row, index)?));
            Ok(Audited {
                number: column::<i64>(row, 0)?.cast_unsigned(),
                entry: AuditEntry {
                    at: Timestamp::from_micros(column(row, 1)?),
                    actor: text(2)?,
                    action: text(3)?,
                    subject: text(4)?,
                    reason: text(5)?,
                },
            })
        };
        found.iter().map(entry).collect()
    }

    async fn prune(&self, prune: Prune) -> Result<u64, Error> {
        let Prune { expired, discarded } = prune;
        let (schema, max) = (&self.shared.schema, PRUNE_ROWS_MAX);
        // Discarded messages first: an event id is kept as long as its parked row.
        let parked = self
            .prune_all(|| parked_read::prune(schema, discarded, max))
            .await?;
        let ids = self
            .prune_all(|| message_ids::prune(schema, expired, max))
            .await?;
        let answers = self
            .prune_all(|| answers::prune(schema, expired, max))
            .await?;
        Ok(parked + ids + answers)
    }
}
