//! Projections: the own log becomes rows of views.

mod rows;

use std::{future::Future, marker::PhantomData, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

pub use self::rows::{BATCH_ROWS_MAX, FIND_ROWS_MAX, RowSet};
use crate::{
    Catalog, Error, Event, Failure, FieldKind, ProjectionName, Read, Recorded, ViewDefinition,
    ViewName,
};

/// The code that keeps views: it reads its store's own log, in order, and writes rows.
///
/// Rows and checkpoint are committed together, so a row is never half updated and no event is counted twice. To
/// start anew, raise [`Projection::REVISION`]: the new rows are built beside the old ones, which are served until
/// the new ones have caught up.
pub trait Projection: Send + Sync + 'static {
    /// Its stable name.
    const NAME: &'static str;
    /// Raise this when the rows shall be built anew. A change of the views' definitions is noticed by itself.
    const REVISION: u32 = 1;
    /// The events that it reads; several families in one enum, if need be. Others are void for it.
    type Event: Event;

    /// The views that it keeps.
    fn views(&self) -> Vec<ViewDefinition>;

    /// The id of the rows that `event` reads and writes, in whichever of its views, when it touches no others.
    ///
    /// Events of different rows are then taken at the same time, those of one row in their order. `None`, the
    /// default, is for events that may touch any row: each is taken alone, behind all events before it and before
    /// all behind it. An event that touches other rows than it says is poison.
    fn row(&self, _event: &Recorded<Self::Event>) -> Option<String> {
        None
    }

    /// Takes an event into the rows.
    ///
    /// # Errors
    ///
    /// A [`Failure`]: retried with backoff, and then the projection stops at this event, unless the failure says
    /// that it may be skipped.
    fn project(
        &self,
        event: &Recorded<Self::Event>,
        rows: &mut RowSet<'_>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// A view whose documents are `T`s: a name with a type.
#[derive(Debug)]
pub struct View<T> {
    name: &'static str,
    document: PhantomData<fn() -> T>,
}

impl<T> Clone for View<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for View<T> {}

impl<T> View<T> {
    /// The view `name`.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            document: PhantomData,
        }
    }

    /// Its name.
    pub fn name(self) -> ViewName {
        ViewName::of(self.name)
    }

    /// Its definition, kept by projection `P`: declare fields and indexes on it.
    pub fn kept_by<P: Projection>(self) -> ViewDefinition {
        ViewDefinition::new(self.name(), ProjectionName::of(P::NAME))
    }
}

/// A projection whatever its type: what a runtime calls.
#[async_trait]
pub trait AnyProjection: Send + Sync + 'static {
    /// Its name.
    fn name(&self) -> &ProjectionName;
    /// Its views.
    fn views(&self) -> &[ViewDefinition];
    /// The revision and definitions that its rows are built with: another fingerprint means a rebuild.
    fn fingerprint(&self) -> &str;
    /// The stored names that it reads.
    fn names(&self) -> Vec<&'static str>;
    /// Reads one record of the log. `None`: its type is void for this projection.
    ///
    /// # Errors
    ///
    /// When it can't be read.
    fn read(&self, record: &Recorded<Bytes>) -> Result<Option<Box<dyn ReadRecord>>, Failure>;

    /// Takes one record of the log into the rows. `false`: its type is void for this projection.
    async fn project(
        &self,
        record: &Recorded<Bytes>,
        rows: &mut RowSet<'_>,
    ) -> Result<bool, Failure> {
        let Some(read) = self.read(record)? else {
            return Ok(false);
        };
        match read.row().map(|row| rows.part(row)) {
            Some(mut part) => {
                read.project(&mut part).await?;
                rows.put_back(part);
            }
            None => read.project(rows).await?,
        }
        Ok(true)
    }
}

/// A record of the log as a projection reads it: its events, and the rows that they touch.
#[async_trait]
pub trait ReadRecord: Send {
    /// The id of the only rows that it touches; `None`: it may touch any.
    fn row(&self) -> Option<&str>;

    /// Takes it into the rows: into a [part](RowSet::part) of them, if it names its row.
    async fn project(self: Box<Self>, rows: &mut RowSet<'_>) -> Result<(), Failure>;
}

/// [`ReadRecord`] of a projection.
struct Reading<P: Projection> {
    projection: Arc<P>,
    events: Vec<Recorded<P::Event>>,
    row: Option<String>,
}

#[async_trait]
impl<P: Projection> ReadRecord for Reading<P> {
    fn row(&self) -> Option<&str> {
        self.row.as_deref()
    }

    async fn project(self: Box<Self>, rows: &mut RowSet<'_>) -> Result<(), Failure> {
        for event in &self.events {
            let taken = self.projection.project(event, rows).await;
            // What it was refused says more than what it made of that.
            if let Some(strayed) = rows.strayed() {
                return Err(strayed);
            }
            taken?;
        }
        Ok(())
    }
}

/// [`AnyProjection`] of a projection.
pub struct Projecting<P: Projection> {
    projection: Arc<P>,
    name: ProjectionName,
    views: Vec<ViewDefinition>,
    fingerprint: String,
    catalog: Arc<Catalog<P::Event>>,
}

impl<P: Projection> Projecting<P> {
    /// `projection`, with the catalog of its events.
    ///
    /// # Errors
    ///
    /// Class fatal when its name, its views or the events' upcasters are not in order.
    pub fn new(projection: P) -> Result<Self, Error> {
        let fatal = |error: &dyn std::fmt::Display| {
            Error::fatal(format!("projection `{}`: {error}", P::NAME))
        };
        let name = ProjectionName::new(P::NAME).map_err(|error| fatal(&error))?;
        let views = projection.views();
        for view in &views {
            view.validate().map_err(|error| fatal(&error))?;
            if view.projection != name {
                return Err(fatal(&format!(
                    "view `{}` says that `{}` keeps it",
                    view.name, view.projection
                )));
            }
        }
        let definitions = serde_json::to_vec(&views).unwrap_or_default();
        let fingerprint = format!("{:08x}-{}", crc32fast::hash(&definitions), P::REVISION);
        Ok(Self {
            projection: Arc::new(projection),
            name,
            views,
            fingerprint,
            catalog: Arc::new(Catalog::new()?),
        })
    }
}

#[async_trait]
impl<P: Projection> AnyProjection for Projecting<P> {
    fn name(&self) -> &ProjectionName {
        &self.name
    }

    fn views(&self) -> &[ViewDefinition] {
        &self.views
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn names(&self) -> Vec<&'static str> {
        self.catalog.names().collect()
    }

    fn read(&self, record: &Recorded<Bytes>) -> Result<Option<Box<dyn ReadRecord>>, Failure> {
        let events = match self.catalog.read(&record.event_type, &record.data)? {
            Read::Events(events) => events,
            Read::Foreign => return Ok(None),
            Read::UnknownVersion => {
                return Err(Failure::stop(format!(
                    "`{}` is of a version that projection `{}` doesn't know: a newer program wrote it",
                    record.event_type, self.name
                )));
            }
        };
        let recorded = |(event, part)| {
            let mut event = record.clone().with(event);
            event.part = part;
            event
        };
        let events: Vec<_> = events.into_iter().map(recorded).collect();
        // The parts of a split event are taken together, so they have one row or any.
        let mut row = events.first().and_then(|event| self.projection.row(event));
        if events
            .iter()
            .skip(1)
            .any(|event| self.projection.row(event) != row)
        {
            row = None;
        }
        Ok(Some(Box::new(Reading {
            projection: self.projection.clone(),
            events,
            row,
        })))
    }
}

/// Shorthands for declaring views.
impl ViewDefinition {
    /// Declares a text field.
    #[must_use]
    pub fn text(self, name: &str) -> Self {
        self.field(name, FieldKind::Text)
    }

    /// Declares a field of whole numbers.
    #[must_use]
    pub fn integer(self, name: &str) -> Self {
        self.field(name, FieldKind::Integer)
    }

    /// Declares a field that is true or false.
    #[must_use]
    pub fn boolean(self, name: &str) -> Self {
        self.field(name, FieldKind::Boolean)
    }
}

impl<P: Projection> std::fmt::Debug for Projecting<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Projecting({})", P::NAME)
    }
}
