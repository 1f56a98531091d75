//! Queries: rows of views, as fresh as the asker needs them.
//!
//! A query that carries the token of a command waits until the view shows what the command did, or says why it
//! doesn't. A token of this service's own store is a place in its log. One of another store is a list of records
//! in topics: the reader waits until its groups have taken them, then until its view shows all that its own log
//! held at that time. That covers one hop; for what follows further on, wait for a row.

use std::{fmt, sync::Arc, time::Duration};

use factum_core::{At, Cursor, Error, Json, Query, Token, View, ViewDefinition, ViewName, Views};
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};

use crate::{
    Service,
    projector::{Part, Progress, Seen},
    work::Core,
};

mod arrival;

/// How long a query waits for what its token stands for, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How often something is looked at that has not come as far yet, where nobody tells when it has.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How often a query looks again when the generation that it was to read is gone: each time another one was
/// activated meanwhile.
const SWITCHES_MAX: u32 = 8;

/// Answers queries from the views of one service. Cheap to clone.
#[derive(Clone)]
pub struct Queries {
    core: Arc<Core>,
    progress: Progress,
    service: Arc<Service>,
    timeout: Duration,
}

/// An answer that shows all that the query's token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fresh<T> {
    /// The answer.
    pub value: T,
    /// The place in the log up to which the view had taken all events, at least.
    pub at: At,
}

/// A page of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// The rows, each with its id.
    pub rows: Vec<(String, T)>,
    /// Where the next page begins; `None` when this was the last.
    pub next: Option<Cursor>,
}

/// Why a query has no fresh answer. Asking without the token gets what is there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// It is on its way, and the asker didn't want to wait; or the token doesn't name all that was written, so
    /// that nobody here can know; or views outside of the store have lost their last writes, and get them again.
    #[error("what the token stands for may not be here yet: ask again")]
    Pending,
    /// The view's rows are being built.
    #[error("the view is being built: ask again later")]
    Rebuilding,
    /// It will not come before a person mends something: the id of the parked message that holds it back, or why
    /// the projection has stopped.
    #[error("what the token stands for is held back: {0}")]
    Failed(String),
    /// It did not come in time.
    #[error("what the token stands for did not come in time: ask again")]
    Timeout,
    /// It was lost: the store was restored to a time before it. It will never come.
    #[error(
        "what the token stands for was lost when the store was restored: give the command again"
    )]
    Lost,
}

impl Stale {
    /// A word for it, in metrics and answers.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Rebuilding => "rebuilding",
            Self::Failed(_) => "failed",
            Self::Timeout => "timeout",
            Self::Lost => "lost",
        }
    }
}

/// Why a query was not answered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueryError {
    /// There is no fresh answer.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// The query can't be answered at all: see the class. Poison: the query itself is wrong.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl Queries {
    pub(crate) fn new(core: Arc<Core>, progress: Progress, service: Arc<Service>) -> Self {
        Self {
            core,
            progress,
            service,
            timeout: TIMEOUT,
        }
    }

    /// The same queries, waiting at most `timeout` for what a token stands for. Zero: not at all.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The row `id` of `view`.
    ///
    /// # Errors
    ///
    /// [`QueryError::Stale`] when it can't be said in time what the token asks for;
    /// [`QueryError::Failed`] when the view is unknown, the row is no `T`, or the store fails.
    pub async fn get<T: DeserializeOwned>(
        &self,
        view: View<T>,
        id: &str,
        token: Option<&Token>,
    ) -> Result<Fresh<Option<T>>, QueryError> {
        let name = view.name();
        let views = self.views()?;
        let read = |generation| views.get(&name, Some(generation), id);
        let Fresh { value: row, at } = self.read(views, &name, token, read).await?;
        let value = row
            .map(|row| read_row(&name, &row.id, &row.document))
            .transpose()?;
        Ok(Fresh { value, at })
    }

    /// The row `id` of `view` as soon as it meets `condition`: for what follows from a command further on than its
    /// token reaches.
    ///
    /// # Errors
    ///
    /// As [`Queries::get`]; [`Stale::Timeout`] when it doesn't come to that in time.
    pub async fn wait_for<T: DeserializeOwned>(
        &self,
        view: View<T>,
        id: &str,
        condition: impl Fn(&T) -> bool,
    ) -> Result<Fresh<T>, QueryError> {
        let part = self.progress.of(&self.definition(&view.name())?.projection);
        let atomic = self.views()?.capabilities().atomic;
        let waited = async {
            loop {
                let next = match self.get(view, id, None).await {
                    Ok(Fresh { value, at }) => {
                        if let Some(value) = value.filter(&condition) {
                            return Ok(Fresh { value, at });
                        }
                        let position = at.position.next();
                        Some(At { position, ..at })
                    }
                    // What an engine outside of the store has lost comes again.
                    Err(QueryError::Stale(Stale::Pending)) if !self.timeout.is_zero() => None,
                    Err(error) => return Err(error),
                };
                match next {
                    Some(next) if atomic || !part.has_reached(next) => {
                        part.reach(Some(next)).await.map_err(Stale::Failed)?;
                    }
                    // The rows are behind what the projection has reached, or the engine says so because its checkpoint
                    // is: it tells nobody when they are not any more, and would be asked again at once.
                    _ => sleep(LOOK_EVERY).await,
                }
            }
        };
        timeout(self.timeout, waited)
            .await
            .unwrap_or_else(|_| Err(Stale::Timeout.into()))
    }

    /// A page of the rows of `view` that meet `query`.
    ///
    /// # Errors
    ///
    /// As [`Queries::get`]; class poison also when the query names undeclared fields or leaves its bounds.
    pub async fn query<T: DeserializeOwned>(
        &self,
        view: View<T>,
        query: &Query,
        token: Option<&Token>,
    ) -> Result<Fresh<Found<T>>, QueryError> {
        let name = view.name();
        let views = self.views()?;
        validate(query, self.definition(&name)?, views)?;
        let read = |generation| views.query(&name, Some(generation), query);
        let Fresh { value: page, at } = self.read(views, &name, token, read).await?;
        let next = page.next;
        let row =
            |row: factum_core::Row| Ok((row.id.clone(), read_row(&name, &row.id, &row.document)?));
        let rows = page
            .rows
            .into_iter()
            .map(row)
            .collect::<Result<_, Error>>()?;
        Ok(Fresh {
            value: Found { rows, next },
            at,
        })
    }

    /// How many rows of `view` meet the query's filter, counting no further than `cap`.
    ///
    /// # Errors
    ///
    /// As [`Queries::query`].
    pub async fn count<T>(
        &self,
        view: View<T>,
        query: &Query,
        cap: u64,
        token: Option<&Token>,
    ) -> Result<Fresh<u64>, QueryError> {
        let name = view.name();
        let views = self.views()?;
        validate(query, self.definition(&name)?, views)?;
        let read = |generation| views.count(&name, Some(generation), query, cap);
        self.read(views, &name, token, read).await
    }

    /// Reads the generation that shows what the token stands for. That very one, and not whichever is active when
    /// the engine is asked: a new one may have been activated that has not come as far.
    async fn read<T, F: Future<Output = Result<T, Error>>>(
        &self,
        views: &dyn Views,
        view: &ViewName,
        token: Option<&Token>,
        read: impl Fn(u32) -> F,
    ) -> Result<Fresh<T>, QueryError> {
        let projection = &self.definition(view)?.projection;
        let part = self.progress.of(projection);
        let mut switches = 0;
        loop {
            let reached = self.reach(&part, token).await;
            if token.is_some() {
                let outcome = match &reached {
                    Ok(_) => "fresh",
                    Err(QueryError::Stale(stale)) => stale.as_str(),
                    Err(QueryError::Failed(_)) => "error",
                };
                self.core.metrics.query_wait(outcome);
            }
            let (seen, target) = reached?;
            // Views outside of the store may have lost what they had reached.
            let lineage = views.lineage();
            let shown = views.shown(projection, seen.generation, seen.reached, target);
            let answer = async {
                let at = shown.await?;
                Ok::<_, Error>((read(seen.generation).await?, at))
            };
            match answer.await {
                Ok((value, at))
                    if views.lineage() == lineage && target.is_none_or(|target| at >= target) =>
                {
                    return Ok(Fresh { value, at });
                }
                Ok(_) => return Err(Stale::Pending.into()),
                Err(error) => {
                    // Old rows are dropped while they may still be asked for.
                    let switched = views.active(projection).await? != Some(seen.generation);
                    switches += 1;
                    if !switched || switches > SWITCHES_MAX {
                        return Err(error.into());
                    }
                    if timeout(self.timeout, part.left(seen.generation))
                        .await
                        .is_err()
                    {
                        return Err(Stale::Rebuilding.into());
                    }
                }
            }
        }
    }

    /// Waits until the projection's rows show what the token stands for, and says at which place they do; without one,
    /// until there are rows.
    async fn reach(
        &self,
        part: &Part,
        token: Option<&Token>,
    ) -> Result<(Seen, Option<At>), QueryError> {
        let reached = async {
            let target = match token {
                None => None,
                Some(token) => Some(self.arrive(token).await?),
            };
            match part.reach(target).await {
                Ok(seen) => Ok((seen, target)),
                Err(reason) => Err(QueryError::from(Stale::Failed(reason))),
            }
        };
        match timeout(self.timeout, reached).await {
            Ok(reached) => reached,
            Err(_) if part.standing().is_rebuilding() => Err(Stale::Rebuilding.into()),
            Err(_) if self.timeout.is_zero() => Err(Stale::Pending.into()),
            Err(_) => Err(Stale::Timeout.into()),
        }
    }

    /// Whether queries for [words](Query::words) are answered: by views in an engine with full text.
    pub fn find_words(&self) -> bool {
        let views = self.core.store.views();
        views.is_some_and(|views| views.capabilities().full_text)
    }

    fn views(&self) -> Result<&dyn Views, Error> {
        let service = &self.core.service;
        let no_views =
            || Error::fatal(format!("the store of service `{service}` can't hold views"));
        self.core.store.views().ok_or_else(no_views)
    }

    fn definition(&self, view: &ViewName) -> Result<&ViewDefinition, Error> {
        let known = || {
            self.service
                .projections
                .iter()
                .flat_map(|projection| projection.views())
        };
        known()
            .find(|definition| definition.name == *view)
            .ok_or_else(|| {
                let known: Vec<_> = known().map(|definition| definition.name.as_str()).collect();
                Error::poison(format!(
                    "service `{}` has no view `{view}` (known: {})",
                    self.core.service,
                    known.join(", ")
                ))
            })
    }
}

/// Refuses a query that can't be answered, before anybody waits for it to be fresh.
fn validate(query: &Query, definition: &ViewDefinition, views: &dyn Views) -> Result<(), Error> {
    if views.capabilities().full_text {
        query.validate_with_words(definition)
    } else {
        query.validate(definition)
    }
}

fn read_row<T: DeserializeOwned>(view: &ViewName, id: &str, document: &Json) -> Result<T, Error> {
    document.read().map_err(|error| {
        Error::poison(format!(
            "row `{id}` of view `{view}` doesn't have its shape"
        ))
        .caused_by(error)
    })
}

impl fmt::Debug for Queries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queries")
            .field("service", &self.core.service)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
