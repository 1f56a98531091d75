//! A group: commits and jobs that share one transaction, each with a result of its own.
//!
//! What joins a group is run one after another on the writer's connection. Results are given out when the group
//! is durable, and not before; if it can't be made durable, everybody in it gets that error instead of a result,
//! because results within a group stand on each other.

use std::{collections::BTreeMap, fmt};

use factum_core::{Commit, CommitError, CommitId, Committed, Error};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{error::Doing, queue::Given, state::StoreState};

/// What the writer works on: the connection, within the group's transaction, and the stores as they are there.
pub(crate) struct Desk<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) stores: &'a mut BTreeMap<i64, StoreState>,
}

impl Desk<'_> {
    /// An open store.
    pub(crate) fn store(&mut self, number: i64) -> Result<&mut StoreState, Error> {
        self.stores
            .get_mut(&number)
            .ok_or_else(|| Error::fatal(format!("store number {number} is not open")))
    }
}

/// What the writer is asked to do.
pub(crate) enum Order {
    /// A commit of a store.
    Commit(Box<CommitOrder>),
    /// Anything else.
    Job(Box<dyn Job>),
    /// A commit that was withdrawn before it was accepted: whatever stands on it fails.
    Withdrawn { store: i64, id: CommitId },
}

impl Given for Order {
    fn withdrawn(self) -> Option<Self> {
        match self {
            Self::Commit(order) => Some(Self::Withdrawn {
                store: order.store,
                id: order.commit.id,
            }),
            // Nothing stands on a job.
            Self::Job(_) => None,
            Self::Withdrawn { .. } => Some(self),
        }
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit(order) => write!(
                f,
                "commit {} of store number {}",
                order.commit.id, order.store
            ),
            Self::Job(_) => f.write_str("a job"),
            Self::Withdrawn { store, id } => {
                write!(f, "commit {id} of store number {store}, withdrawn")
            }
        }
    }
}

/// A commit, and who waits for it.
pub(crate) struct CommitOrder {
    pub(crate) store: i64,
    pub(crate) commit: Commit,
    pub(crate) reply: oneshot::Sender<Result<Committed, CommitError>>,
}

/// A piece of work within the group's transaction.
pub(crate) trait Job: Send {
    /// Does it. `Err` undoes what it wrote to the file; what it changed in memory it must change last.
    fn run(&mut self, desk: &mut Desk<'_>) -> Result<(), Error>;

    /// Whether it looks for all that could be wrong before it writes anything. It then needs no savepoint of its own,
    /// for which SQLite would keep a copy of each page that it touches: what fails when it writes is the disk, and
    /// fails the whole group.
    fn looks_first(&self) -> bool;

    /// Tells the result: the job's own, or the error that the whole group ended with.
    fn settle(self: Box<Self>, group: Option<&Error>);
}

/// A job made of closures: `work` within the transaction, `after` when the group is durable or has failed, and
/// then the answer.
pub(crate) struct Task<T, W, A> {
    /// See [`Job::looks_first`].
    pub(crate) looks_first: bool,
    pub(crate) work: Option<W>,
    pub(crate) after: Option<A>,
    pub(crate) result: Option<Result<T, Error>>,
    pub(crate) reply: oneshot::Sender<Result<T, Error>>,
}

impl<T, W, A> Job for Task<T, W, A>
where
    T: Send,
    W: FnOnce(&mut Desk<'_>) -> Result<T, Error> + Send,
    A: FnOnce(&Result<T, Error>) + Send,
{
    fn run(&mut self, desk: &mut Desk<'_>) -> Result<(), Error> {
        let Some(work) = self.work.take() else {
            return Ok(());
        };
        let result = work(desk);
        let failed = result.as_ref().err().cloned();
        self.result = Some(result);
        failed.map_or(Ok(()), Err)
    }

    fn looks_first(&self) -> bool {
        self.looks_first
    }

    fn settle(mut self: Box<Self>, group: Option<&Error>) {
        let own = self.result.take();
        let result = match (group, own) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(result)) => result,
            (None, None) => Err(Error::fatal("the job was not run")),
        };
        if let Some(after) = self.after.take() {
            after(&result);
        }
        // Whoever asked may have gone.
        drop(self.reply.send(result));
    }
}

/// An order that has been carried out within the group, and waits for the group to become durable.
pub(crate) enum Done {
    Commit {
        store: i64,
        id: CommitId,
        result: Result<Committed, CommitError>,
        reply: Reply,
    },
    Job(Box<dyn Job>),
    /// Nobody waits for anything.
    Nothing,
}

type Reply = oneshot::Sender<Result<Committed, CommitError>>;

impl Order {
    /// Carries the order out. An error beside the result is the group's end.
    pub(crate) fn run(self, desk: &mut Desk<'_>) -> (Done, Result<(), Error>) {
        match self {
            Self::Commit(order) => {
                let CommitOrder {
                    store,
                    commit,
                    reply,
                } = *order;
                let id = commit.id;
                let (result, group) = run_commit(desk, store, commit);
                (
                    Done::Commit {
                        store,
                        id,
                        result,
                        reply,
                    },
                    group,
                )
            }
            Self::Job(mut job) => {
                let connection = desk.connection;
                let changes = connection.total_changes();
                let (ran, undone) = if job.looks_first() {
                    let ran = job.run(desk);
                    (ran, connection.total_changes() == changes)
                } else {
                    (under_savepoint(connection, || job.run(desk)), true)
                };
                // SQLite undoes the whole transaction by itself when the disk is full or broken.
                let group = match ran {
                    Err(error) if !undone || connection.is_autocommit() => Err(error),
                    _ => Ok(()),
                };
                (Done::Job(job), group)
            }
            Self::Withdrawn { store, id } => {
                note_failed(desk.stores, store, id, true);
                (Done::Nothing, Ok(()))
            }
        }
    }

    /// Refuses it without trying. Commits that stand on it fail, too.
    pub(crate) fn refuse(self, error: &Error, stores: &mut BTreeMap<i64, StoreState>) {
        match self {
            Self::Commit(order) => {
                note_failed(stores, order.store, order.commit.id, true);
                drop(order.reply.send(Err(error.clone().into())));
            }
            Self::Job(job) => job.settle(Some(error)),
            Self::Withdrawn { store, id } => note_failed(stores, store, id, true),
        }
    }
}

impl Done {
    /// Tells the result, or the error that the whole group ended with.
    pub(crate) fn settle(self, group: Option<&Error>, stores: &mut BTreeMap<i64, StoreState>) {
        match self {
            Self::Commit {
                store,
                id,
                result,
                reply,
            } => {
                let result = group.map_or(result, |error| Err(error.clone().into()));
                note_failed(stores, store, id, result.is_err());
                drop(reply.send(result));
            }
            Self::Job(job) => job.settle(group),
            Self::Nothing => {}
        }
    }
}

fn note_failed(stores: &mut BTreeMap<i64, StoreState>, store: i64, id: CommitId, failed: bool) {
    if let Some(state) = stores.get_mut(&store) {
        state.failed.note(id, failed);
    }
}

fn run_commit(
    desk: &mut Desk<'_>,
    store: i64,
    commit: Commit,
) -> (Result<Committed, CommitError>, Result<(), Error>) {
    let connection = desk.connection;
    let state = match desk.store(store) {
        Ok(state) => state,
        Err(error) => return (Err(error.into()), Ok(())),
    };
    if let Some(committed) = state.applied.get(commit.id) {
        return (Ok(committed.clone()), Ok(()));
    }
    let checked = state.check(connection, &commit);
    let checked = checked.and_then(|plan| {
        state
            .run_own_sql(connection, &commit)
            .map(|()| plan)
            .map_err(Into::into)
    });
    // Commits later in the same group may stand on this one, so its failure is noted at once.
    state.failed.note(commit.id, checked.is_err());
    match checked {
        Err(error) => {
            let group = match &error {
                CommitError::Failed(error) if connection.is_autocommit() => Err(error.clone()),
                _ => Ok(()),
            };
            (Err(error), group)
        }
        Ok(plan) => match state.apply(connection, commit, plan) {
            Ok(committed) => (Ok(committed), Ok(())),
            // Half of it may be written: the whole group is undone.
            Err(error) => (Err(error.clone().into()), Err(error)),
        },
    }
}

/// Does `work` under a savepoint, and undoes what it wrote when it fails.
pub(crate) fn under_savepoint<T>(
    connection: &Connection,
    work: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    const WHAT: &str = "set a savepoint";
    let run = |sql| {
        connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute([]))
            .doing(WHAT)
    };
    run("SAVEPOINT job")?;
    let result = work();
    // Nothing is left to undo when SQLite has undone the whole transaction by itself.
    if !connection.is_autocommit() {
        if result.is_err() {
            run("ROLLBACK TO job")?;
        }
        run("RELEASE job")?;
    }
    result
}
