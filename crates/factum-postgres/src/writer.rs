//! The writer of one store in this process: takes the commits that are given, decides them together, and writes them in one
//! transaction.
//!
//! Nobody is answered before the batch is durable, or is known not to have been written. A connection that dies on the way
//! leaves that open: then the writer asks on a new one, in a way that keeps the old attempt from being written later
//! (`factum.settle`), and writes the batch again if it was not.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use factum_core::{
    At, CommitError, Committed, Env, Error, InboxId, ProjectionName, StreamId, ViewWrite,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::error::SqlState;
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    call::Call,
    connection::{Connection, Failure},
    desk::{Decision, Desk, Halt},
    error::{Meaning, column, damaged, meaning, sorted},
    image::{Image, LoadError},
    inbox::Inbox,
    load::Loaded,
    memo::{self, Failed},
    number::place,
    own_sql,
    queue::{Order, Queue},
    server,
    shared::{News, Shared},
    streams::Head,
    writes::{Name, Writes, head_of},
};

/// How many commits one batch takes at most: a few milliseconds of the section.
const BATCH_COMMITS_MAX: usize = 512;

/// How many bytes of records one batch takes at most, the last commit aside: a tenth of a second of the section.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// How often a batch is decided anew because other processes were faster, before those who wait are told.
const ATTEMPTS_MAX: u32 = 100;

/// The pause before the first new attempt to reach the server; it doubles up to a second.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// After so many batches the rows of earlier ones are dropped.
const PRUNE_EVERY: i64 = 4_096;

/// Takes and writes commits.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) env: Env,
    pub(crate) patience: Duration,
    pub(crate) answer_max: Duration,
    id: Uuid,
    number: i64,
    connection: Option<Connection>,
    image: Option<Image>,
    failed: Failed,
}

/// What became of an attempt to write a batch.
enum Attempt {
    /// It is durable. The log ended there before it.
    Written(At),
    /// It was not written, since something was not as it was taken for granted.
    Stale,
    /// It was not written, since the server was promoted or restored.
    Promoted,
    /// It was not written, and is worth another attempt after a pause.
    Again(Error),
    /// It was not written, and will not be as it is.
    Refused(Error),
    /// Nobody knows, as yet.
    Unknown(Error),
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        queue: Arc<Queue>,
        env: Env,
        patience: Duration,
        answer_max: Duration,
    ) -> Self {
        let id = env.uuid();
        Self {
            shared,
            queue,
            env,
            patience,
            answer_max,
            id,
            number: 0,
            connection: None,
            image: None,
            failed: Failed::default(),
        }
    }

    /// Works until the queue is closed and empty.
    pub(crate) async fn run(mut self) {
        let (mut orders, mut withdrawn) = (VecDeque::new(), Vec::new());
        while self.queue.wait().await {
            // Whoever was woken by the batch before is about to give its next commit: let all of them do so first.
            tokio::task::yield_now().await;
            self.queue
                .take(BATCH_COMMITS_MAX, &mut orders, &mut withdrawn);
            for id in withdrawn.drain(..) {
                self.failed.note(id, true);
            }
            while !orders.is_empty() {
                let batch = next_batch(&mut orders);
                self.write(batch).await;
            }
        }
    }

    /// Decides and writes `orders`, and answers all of them.
    async fn write(&mut self, orders: Vec<Order>) {
        let mut rest = orders;
        while !rest.is_empty() {
            let behind = match self.write_some(&rest, rest.len()).await {
                Ok((results, count)) => {
                    let behind = rest.split_off(count);
                    self.answer(rest, results);
                    behind
                }
                Err(error) if error.is_poison() && rest.len() > 1 => {
                    // One of them is bad in a way that only the server saw: each on its own, only that one fails.
                    let behind = rest.split_off(1);
                    let results = match self.write_some(&rest, 1).await {
                        Ok((results, _)) => results,
                        Err(error) => vec![Err(error.into())],
                    };
                    self.answer(rest, results);
                    behind
                }
                Err(error) => {
                    let results = rest.iter().map(|_| Err(error.clone().into())).collect();
                    self.answer(rest, results);
                    Vec::new()
                }
            };
            rest = behind;
        }
    }

    fn answer(&mut self, orders: Vec<Order>, results: Vec<Result<Committed, CommitError>>) {
        for (order, result) in orders.into_iter().zip(results) {
            self.failed.note(order.commit.id, result.is_err());
            // Whoever waited may have gone.
            drop(order.reply.send(result));
        }
    }

    /// Decides and writes the first of `orders`, as many as can be decided together, and says how many.
    async fn write_some(
        &mut self,
        orders: &[Order],
        mut count: usize,
    ) -> Result<(Vec<Result<Committed, CommitError>>, usize), Error> {
        let (mut fresh, mut promoted) = (false, false);
        let mut pause = BACKOFF_MIN;
        let deadline = Instant::now() + self.patience;
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 && Instant::now() > deadline {
                break;
            }
            let orders = &orders[..count];
            self.connected(deadline).await?;
            if promoted {
                let connection = self.connection.as_ref().expect("it was made above");
                server::recognise(connection, &self.shared.schema, &self.env).await?;
                promoted = false;
            }
            let loaded = match self.look(orders, fresh).await {
                Ok(loaded) => loaded,
                Err(LoadError::Content(error)) => return Err(error),
                Err(LoadError::Server(error)) => {
                    self.give_up_if_gone(&error);
                    match meaning(&error) {
                        Meaning::Gone | Meaning::Transient | Meaning::Stale | Meaning::Promoted => {
                        }
                        // A view was dropped meanwhile, or it is told with the second attempt.
                        Meaning::Refused if !fresh => {}
                        _ => return Err(sorted("decide on commits", error)),
                    }
                    fresh = true;
                    self.image = None;
                    sleep(pause).await;
                    pause = longer(pause);
                    continue;
                }
            };
            let image = self.image.as_ref().expect("it was looked at above");
            let mut desk = Desk::new(image, &loaded, &self.failed);
            match desk.decide(orders) {
                Ok(()) => {}
                Err(Halt::Doubt) => {
                    fresh = true;
                    self.image = None;
                    continue;
                }
                Err(Halt::Cut) => count = desk.decisions.len().max(1),
                Err(Halt::Broken(error)) => return Err(error),
            }
            let epoch = image.epoch;
            let news = News {
                head: 0,
                parking: desk.parking_changed,
                timers: desk.timers_changed,
                roles: !desk.active.is_empty(),
            };
            let decisions = std::mem::take(&mut desk.decisions);
            let records = desk.drafts.len() as u64;
            let outcome = if desk.writes() {
                let name = Name {
                    writer: self.id,
                    number: self.number + 1,
                };
                let writes = desk.writes_as(&self.shared.schema, name)?;
                let after = After::of(&desk);
                drop(desk);
                self.number += 1;
                let streams = writes.streams.clone();
                let mut outcome = self.send(writes).await;
                if let Attempt::Unknown(error) = outcome {
                    outcome = self.settle(error).await;
                }
                if matches!(outcome, Attempt::Written(_)) {
                    self.learn(streams, after);
                }
                outcome
            } else {
                let calls = desk.confirms_as(&self.shared.schema);
                drop(desk);
                self.confirm(&decisions, &calls).await
            };
            match outcome {
                Attempt::Written(before) => {
                    if records > 0 || news != News::default() {
                        let head = if records > 0 {
                            before.position.0 + records
                        } else {
                            0
                        };
                        self.shared.publish(News { head, ..news });
                    }
                    self.prune_now_and_then();
                    let count = decisions.len();
                    return Ok((Desk::results(decisions, epoch, before), count));
                }
                Attempt::Stale | Attempt::Promoted => {
                    promoted = matches!(outcome, Attempt::Promoted);
                    fresh = true;
                    self.image = None;
                }
                Attempt::Again(error) => {
                    if Instant::now() + pause > deadline {
                        return Err(error);
                    }
                    warn!("a batch of commits is tried again: {error:#}");
                    fresh = true;
                    self.image = None;
                    sleep(pause).await;
                    pause = longer(pause);
                }
                Attempt::Refused(error) => return Err(error),
                Attempt::Unknown(error) => {
                    return Err(Error::unknown("the connection was lost during a commit, and PostgreSQL can't be asked what \
                                               became of it; send the same again")
                        .caused_by(error));
                }
            }
        }
        Err(Error::transient(
            "the commit was decided again and again, and other writers were faster each time; try again",
        ))
    }

    /// Looks up what `orders` are decided on.
    async fn look(&mut self, orders: &[Order], fresh: bool) -> Result<Loaded, LoadError> {
        let connection = self.connection.as_ref().expect("it was made above");
        if self.shared.take_outdated() || self.image.is_none() {
            self.image = Some(Image::load(connection, &self.shared).await?);
        }
        let image = self.image.as_ref().expect("it was loaded above");
        Loaded::load(connection, &self.shared, image, orders, fresh).await
    }

    /// Sends the statements of a batch, and waits for its end.
    async fn send(&mut self, writes: Writes) -> Attempt {
        let Some(connection) = &self.connection else {
            return Attempt::Stale;
        };
        let Writes {
            calls,
            own,
            head,
            is_many,
            ..
        } = writes;
        let sent = async {
            if is_many {
                connection
                    .transaction(&self.shared.pool.connector.begin(), &calls)
                    .await
            } else {
                let mut answers = Vec::new();
                for call in &calls {
                    let rows = connection.rows(call).await;
                    answers.push(rows.map_err(|error| Failure {
                        index: Some(0),
                        error,
                        began: true,
                    })?);
                }
                Ok(answers)
            }
        };
        let Ok(sent) = timeout(self.answer_max, sent).await else {
            self.connection = None;
            return Attempt::Unknown(Error::transient("PostgreSQL does not answer"));
        };
        match sent {
            Ok(answers) => match answers.get(head).map(|rows| head_of(rows)) {
                Some(Ok(before)) => Attempt::Written(before),
                Some(Err(error)) => Attempt::Refused(error),
                None => Attempt::Refused(damaged("the head of the log")),
            },
            Err(failure) => self.failed_attempt(failure, own, &calls),
        }
    }

    fn failed_attempt(&mut self, failure: Failure, own: usize, calls: &[Call]) -> Attempt {
        let Failure {
            index,
            error,
            began,
        } = failure;
        let is_gone = self.give_up_if_gone(&error);
        if is_gone {
            let error = sorted("commit", error);
            return if began {
                Attempt::Unknown(error)
            } else {
                Attempt::Again(error)
            };
        }
        if let Some(call) = index
            .filter(|index| *index < own)
            .and_then(|index| calls.get(index))
        {
            let error = own_sql::refused(&call.sql, error);
            return if error.is_transient() {
                Attempt::Again(error)
            } else {
                Attempt::Refused(error)
            };
        }
        match meaning(&error) {
            Meaning::Stale => Attempt::Stale,
            Meaning::Promoted => Attempt::Promoted,
            Meaning::Transient | Meaning::Gone => Attempt::Again(sorted("commit", error)),
            // A table of a view that was dropped meanwhile: the next look shows that it is gone.
            Meaning::Refused if is_undefined(&error) => Attempt::Stale,
            Meaning::Refused => {
                Attempt::Refused(Error::poison("PostgreSQL refuses the commit").caused_by(error))
            }
            Meaning::Fatal => Attempt::Refused(sorted("commit", error)),
        }
    }

    /// Confirms a batch that writes nothing.
    async fn confirm(&mut self, decisions: &[Decision], calls: &[Call]) -> Attempt {
        if !decisions
            .iter()
            .any(|decision| matches!(decision, Decision::Applied { .. }))
        {
            return Attempt::Written(At::ZERO);
        }
        let Some(connection) = &self.connection else {
            return Attempt::Stale;
        };
        let answers = timeout(self.answer_max, connection.rows_of_all(calls)).await;
        let answers = match answers {
            Ok(Ok(answers)) => answers.into_iter().collect::<Result<Vec<_>, _>>(),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                self.connection = None;
                return Attempt::Again(Error::transient("PostgreSQL does not answer"));
            }
        };
        match answers {
            Ok(answers) => match answers.first().map(|rows| head_of(rows)) {
                Some(Ok(head)) => Attempt::Written(head),
                Some(Err(error)) => Attempt::Refused(error),
                None => Attempt::Refused(damaged("the head of the log")),
            },
            Err(error) => match meaning(&error) {
                Meaning::Stale => Attempt::Stale,
                _ if is_undefined(&error) => Attempt::Stale,
                _ => {
                    self.give_up_if_gone(&error);
                    Attempt::Again(sorted("confirm a decision", error))
                }
            },
        }
    }

    /// Finds out what became of the last batch.
    async fn settle(&mut self, because: Error) -> Attempt {
        warn!("the connection was lost during a commit: {because:#}");
        let deadline = Instant::now() + self.patience;
        let mut pause = BACKOFF_MIN;
        loop {
            if self.connected(deadline).await.is_err() {
                return Attempt::Unknown(because);
            }
            let call = self
                .shared
                .schema
                .call("SELECT stored, head_epoch, head_position FROM factum.settle($1, $2)")
                .with(self.id)
                .with(self.number);
            let Some(connection) = &self.connection else {
                return Attempt::Unknown(because);
            };
            let row = timeout(self.answer_max, connection.row(&call)).await;
            match row {
                Ok(Ok(Some(row))) => {
                    let read = || {
                        Ok::<_, Error>((
                            column::<bool>(&row, 0)?,
                            place(column(&row, 1)?, column(&row, 2)?),
                        ))
                    };
                    return match read() {
                        Ok((true, before)) => {
                            info!("the batch of commits whose outcome was unknown was stored");
                            Attempt::Written(before)
                        }
                        Ok((false, _)) => Attempt::Stale,
                        Err(error) => Attempt::Refused(error),
                    };
                }
                Ok(Ok(None)) => return Attempt::Refused(damaged("the row of a batch")),
                Ok(Err(error)) if meaning(&error) == Meaning::Promoted => {
                    // A promoted standby may have received the batch: it is asked in the new epoch.
                    match server::recognise(connection, &self.shared.schema, &self.env).await {
                        Ok(()) => continue,
                        Err(error) => warn!("what became of a commit is asked again: {error:#}"),
                    }
                }
                Ok(Err(error)) => {
                    warn!("what became of a commit is asked again: {error}");
                    self.give_up_if_gone(&error);
                }
                Err(_) => self.connection = None,
            }
            if Instant::now() > deadline {
                return Attempt::Unknown(because);
            }
            sleep(pause).await;
            pause = longer(pause);
        }
    }

    /// Makes a connection if there is none, trying until `deadline`.
    async fn connected(&mut self, deadline: Instant) -> Result<(), Error> {
        if self
            .connection
            .as_ref()
            .is_some_and(|connection| !connection.is_closed())
        {
            return Ok(());
        }
        self.connection = None;
        let mut pause = BACKOFF_MIN;
        loop {
            let connector = &self.shared.pool.connector;
            match timeout(self.answer_max, connector.connect()).await {
                Ok(Ok(connection)) => {
                    self.connection = Some(connection);
                    return Ok(());
                }
                Ok(Err(error)) if error.is_fatal() || Instant::now() + pause > deadline => {
                    return Err(error);
                }
                Err(_) if Instant::now() + pause > deadline => {
                    return Err(Error::transient("PostgreSQL does not answer"));
                }
                Ok(Err(_)) | Err(_) => {}
            }
            // With some chance in it, so that not all processes come back at one moment.
            sleep(pause.mul_f64(0.5 + self.env.fraction())).await;
            pause = longer(pause);
        }
    }

    /// Drops the connection when `error` says that it is gone, and says whether it does.
    fn give_up_if_gone(&mut self, error: &tokio_postgres::Error) -> bool {
        if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) {
            // A standby, or a primary that was demoted: another of the hosts may be the primary now.
            self.connection = None;
            return false;
        }
        let is_gone = meaning(error) == Meaning::Gone
            || self.connection.as_ref().is_none_or(Connection::is_closed);
        if is_gone {
            self.connection = None;
        }
        is_gone
    }

    /// Keeps what the batch has made of what is known.
    fn learn(&mut self, streams: BTreeMap<StreamId, Head>, after: After) {
        let mut heads = self.shared.heads();
        for (stream, head) in streams {
            heads.learn(stream, head);
        }
        drop(heads);
        let Some(image) = &mut self.image else { return };
        for (id, mut inbox) in after.inboxes {
            inbox.revision += 1;
            image.inboxes.insert(id, inbox);
        }
        for (id, to) in after.projections {
            if let Some(row) = image.projections.get_mut(&id) {
                row.checkpoint = to;
            }
        }
        if let Some(checkpoint) = after.relay {
            image.relay.checkpoint = checkpoint;
        }
        if after.activated {
            self.shared.outdate();
        }
    }

    fn prune_now_and_then(&self) {
        if self.number % PRUNE_EVERY != PRUNE_EVERY - 1 {
            return;
        }
        let calls = memo::prune(&self.shared.schema, self.id, self.number);
        let shared = self.shared.clone();
        // Beside the commits; if it fails, the next one drops more.
        tokio::spawn(async move {
            if let Ok(connection) = shared.pool.lend().await {
                for call in calls {
                    if let Err(error) = connection.rows(&call).await {
                        warn!("failed to drop what is remembered of old commits: {error}");
                    }
                }
            }
        });
    }
}

/// What a batch leaves of what is known of owners.
struct After {
    inboxes: BTreeMap<InboxId, Inbox>,
    projections: BTreeMap<(ProjectionName, u32), At>,
    relay: Option<At>,
    activated: bool,
}

impl After {
    fn of(desk: &Desk<'_>) -> Self {
        Self {
            inboxes: desk.inboxes.clone(),
            projections: desk.projections.clone(),
            relay: desk.relay,
            activated: !desk.active.is_empty(),
        }
    }
}

fn is_undefined(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::UNDEFINED_TABLE)
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).min(BACKOFF_MAX)
}

/// The next of `orders` that are decided together: one with own SQL alone.
fn next_batch(orders: &mut VecDeque<Order>) -> Vec<Order> {
    let has_own = |order: &Order| {
        order
            .commit
            .views
            .iter()
            .any(|write| matches!(write, ViewWrite::Sql { .. }))
    };
    let mut batch: Vec<Order> = Vec::new();
    let mut bytes = 0;
    while let Some(order) = orders.front() {
        if !batch.is_empty() && (has_own(order) || bytes > BATCH_BYTES_MAX) {
            break;
        }
        bytes += order
            .commit
            .drafts()
            .map(factum_core::Draft::encoded_len)
            .sum::<usize>();
        let alone = has_own(order);
        batch.extend(orders.pop_front());
        if alone {
            break;
        }
    }
    batch
}
