//! One connection, with the statements that it has prepared.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::Pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use futures_util::future::{MaybeDone, maybe_done};
use tokio_postgres::{Client, Error, Row, RowStream, Statement, types::ToSql};

use crate::{call::Call, error::Doing};

/// How many statements a connection remembers. We have about a hundred; those of views add some for each of them.
const STATEMENTS_MAX: usize = 500;

/// A connection.
pub(crate) struct Connection {
    pub(crate) client: Client,
    /// Whether statements are prepared and remembered: not when a pooler stands between.
    remembers: bool,
    statements: Mutex<BTreeMap<String, Statement>>,
    /// Whether a transaction was begun and not ended.
    in_transaction: AtomicBool,
}

impl Connection {
    pub(crate) fn new(client: Client, remembers: bool) -> Self {
        Self {
            client,
            remembers,
            statements: Mutex::new(BTreeMap::new()),
            in_transaction: AtomicBool::new(false),
        }
    }

    /// Whether it can't be used any more: it is closed, or whoever used it went away in the middle of a transaction.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed() || self.in_transaction.load(Ordering::Acquire)
    }

    /// Does `work` in a transaction of several ways there and back, which is undone when it fails.
    pub(crate) async fn within<T>(
        &self,
        what: &str,
        work: impl Future<Output = Result<T, factum_core::Error>>,
    ) -> Result<T, factum_core::Error> {
        self.in_transaction.store(true, Ordering::Release);
        self.client
            .batch_execute("BEGIN; SET LOCAL synchronous_commit = on")
            .await
            .doing(what)?;
        let result = work.await;
        let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
        self.client.batch_execute(end).await.doing(what)?;
        self.in_transaction.store(false, Ordering::Release);
        result
    }

    /// The rows that `call` leads to.
    pub(crate) async fn rows(&self, call: &Call) -> Result<Vec<Row>, Error> {
        let statement = self.prepared(call).await?;
        self.send(call, statement.as_ref()).await
    }

    /// The first of the rows that `call` leads to.
    pub(crate) async fn row(&self, call: &Call) -> Result<Option<Row>, Error> {
        Ok(self.rows(call).await?.into_iter().next())
    }

    /// The rows that `call` leads to, as they arrive.
    pub(crate) async fn stream(&self, call: &Call) -> Result<RowStream, Error> {
        let statement = self.prepared(call).await?;
        match &statement {
            Some(statement) => self.client.query_raw(statement, values(call)).await,
            None => self.client.query_typed_raw(&call.sql, typed(call)).await,
        }
    }

    /// Sends all calls at once, and waits for the answers: one way there and back. Those behind one that failed may be
    /// done all the same, unless they are in one transaction.
    pub(crate) async fn rows_of_all(
        &self,
        calls: &[Call],
    ) -> Result<Vec<Result<Vec<Row>, Error>>, Error> {
        let mut statements = Vec::with_capacity(calls.len());
        for call in calls {
            statements.push(self.prepared(call).await?);
        }
        let sent = calls.iter().zip(&statements);
        let mut sent: Vec<_> = sent
            .map(|(call, statement)| Box::pin(maybe_done(self.send(call, statement.as_ref()))))
            .collect();
        for answer in &mut sent {
            begin(answer.as_mut()).await;
        }
        let mut answers = Vec::with_capacity(sent.len());
        for answer in sent {
            answers.push(finish(answer).await);
        }
        Ok(answers)
    }

    /// Sends `start`, all calls and `COMMIT` at once. Whether it was committed is known when all answers are there.
    pub(crate) async fn transaction(
        &self,
        start: &str,
        calls: &[Call],
    ) -> Result<Vec<Vec<Row>>, Failure> {
        let mut statements = Vec::with_capacity(calls.len());
        for call in calls {
            // Nothing was sent yet that could have had an effect.
            let prepared = self.prepared(call).await;
            statements.push(prepared.map_err(|error| Failure {
                index: None,
                error,
                began: false,
            })?);
        }
        let mut first = Box::pin(maybe_done(self.client.batch_execute(start)));
        begin(first.as_mut()).await;
        let sent = calls.iter().zip(&statements);
        let mut sent: Vec<_> = sent
            .map(|(call, statement)| Box::pin(maybe_done(self.send(call, statement.as_ref()))))
            .collect();
        for answer in &mut sent {
            begin(answer.as_mut()).await;
        }
        let mut last = Box::pin(maybe_done(self.client.batch_execute("COMMIT")));
        begin(last.as_mut()).await;
        let failed = |index, error| Failure {
            index,
            error,
            began: true,
        };
        let begun = finish(first).await;
        let mut answers = Vec::with_capacity(sent.len());
        for answer in sent {
            answers.push(finish(answer).await);
        }
        // To the last answer, even behind a failure: the connection is free again only then.
        let committed = finish(last).await;
        begun.map_err(|error| failed(None, error))?;
        let mut rows = Vec::with_capacity(answers.len());
        for (index, answer) in answers.into_iter().enumerate() {
            rows.push(answer.map_err(|error| failed(Some(index), error))?);
        }
        committed.map_err(|error| failed(None, error))?;
        Ok(rows)
    }

    async fn send(&self, call: &Call, statement: Option<&Statement>) -> Result<Vec<Row>, Error> {
        if let Some(statement) = statement {
            let values: Vec<&(dyn ToSql + Sync)> = values(call).collect();
            self.client.query(statement, &values).await
        } else {
            let values: Vec<_> = typed(call).collect();
            self.client.query_typed(&call.sql, &values).await
        }
    }

    async fn prepared(&self, call: &Call) -> Result<Option<Statement>, Error> {
        if !(self.remembers && call.again) {
            return Ok(None);
        }
        if let Some(known) = self.statements().get(&*call.sql) {
            return Ok(Some(known.clone()));
        }
        let types: Vec<_> = call.values.iter().map(|(_, of)| of.clone()).collect();
        let statement = self.client.prepare_typed(&call.sql, &types).await?;
        let mut statements = self.statements();
        if statements.len() >= STATEMENTS_MAX {
            statements.clear();
        }
        statements.insert(call.sql.to_string(), statement.clone());
        Ok(Some(statement))
    }

    /// Nothing here can be left half done by a panic.
    fn statements(&self) -> MutexGuard<'_, BTreeMap<String, Statement>> {
        self.statements
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a request, whose first poll does so, and leaves its answer for later.
async fn begin<F: Future>(mut request: Pin<&mut MaybeDone<F>>) {
    poll_fn(|cx| {
        // When it is done already, the answer is kept.
        let _kept = request.as_mut().poll(cx);
        Poll::Ready(())
    })
    .await;
}

/// Waits for the answer to a request that was begun.
async fn finish<F: Future>(mut request: Pin<Box<MaybeDone<F>>>) -> F::Output {
    request.as_mut().await;
    request
        .as_mut()
        .take_output()
        .expect("it has ended, and its answer is taken once")
}

/// Why a transaction was not committed, or may not have been.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Which call failed first; `None`: beginning or committing did.
    pub(crate) index: Option<usize>,
    pub(crate) error: Error,
    /// Whether anything was sent.
    pub(crate) began: bool,
}

fn values(call: &Call) -> impl ExactSizeIterator<Item = &(dyn ToSql + Sync)> {
    call.values
        .iter()
        .map(|(value, _)| &**value as &(dyn ToSql + Sync))
}

fn typed(
    call: &Call,
) -> impl ExactSizeIterator<Item = (&(dyn ToSql + Sync), tokio_postgres::types::Type)> {
    call.values
        .iter()
        .map(|(value, of)| (&**value as &(dyn ToSql + Sync), of.clone()))
}
