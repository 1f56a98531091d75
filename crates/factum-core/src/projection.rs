//! Projections: the own log becomes rows of views.

use std::{collections::BTreeMap, future::Future, marker::PhantomData, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Catalog, Error, Event, Failure, FieldKind, Json, Position, ProjectionName, Query, Read,
    Recorded, SqlValue, ViewDefinition, ViewName, ViewRef, ViewWrite, Views,
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

/// The rows that a projection reads and writes, as they are behind the events so far.
///
/// Reads go to the engine once and see all writes of this batch; each row is written once a batch, however
/// many events touched it.
#[derive(Debug)]
pub struct RowSet<'a> {
    views: &'a dyn Views,
    definitions: &'a [ViewDefinition],
    generation: u32,
    position: Position,
    slots: BTreeMap<(ViewName, String), Slot>,
    sql: Vec<ViewWrite>,
}

#[derive(Debug)]
struct Slot {
    document: Option<Json>,
    /// The position that wrote it in this batch; `None`: it was only read.
    written: Option<Position>,
}

/// How many rows one [`RowSet::find`] may give.
pub const FIND_ROWS_MAX: usize = 10_000;

impl<'a> RowSet<'a> {
    /// The rows of one generation of a projection's views.
    pub fn new(views: &'a dyn Views, definitions: &'a [ViewDefinition], generation: u32) -> Self {
        Self {
            views,
            definitions,
            generation,
            position: Position::ZERO,
            slots: BTreeMap::new(),
            sql: Vec::new(),
        }
    }

    /// Which event the following writes are for.
    pub fn at(&mut self, position: Position) {
        self.position = position;
    }

    /// The row `id` of `view`.
    ///
    /// # Errors
    ///
    /// When the engine fails, or the row is not a `T`.
    pub async fn get<T: DeserializeOwned>(
        &mut self,
        view: View<T>,
        id: &str,
    ) -> Result<Option<T>, Failure> {
        let slot = (view.name(), id.to_string());
        if !self.slots.contains_key(&slot) {
            let row = self.views.get(&slot.0, Some(self.generation), id).await?;
            let document = row.map(|row| row.document);
            self.slots.insert(
                slot.clone(),
                Slot {
                    document,
                    written: None,
                },
            );
        }
        let document = self.slots[&slot].document.as_ref();
        document
            .map(|document| read(&slot.0, id, document))
            .transpose()
    }

    /// Writes the row `id` of `view`.
    ///
    /// # Errors
    ///
    /// A poison failure when the row can't be JSON, or a declared field holds something else than declared.
    pub fn put<T: Serialize>(&mut self, view: View<T>, id: &str, row: &T) -> Result<(), Failure> {
        let document = Json::of(row).map_err(|error| {
            Failure::poison(format!("row `{id}` of view `{}`: {error}", view.name))
        })?;
        self.definition(&view.name())?.extract(&document)?;
        self.write(view.name(), id, Some(document));
        Ok(())
    }

    /// Changes the row `id` of `view`, if there is one.
    ///
    /// # Errors
    ///
    /// As [`RowSet::get`] and [`RowSet::put`].
    pub async fn update<T: Serialize + DeserializeOwned>(
        &mut self,
        view: View<T>,
        id: &str,
        change: impl FnOnce(&mut T),
    ) -> Result<(), Failure> {
        if let Some(mut row) = self.get(view, id).await? {
            change(&mut row);
            self.put(view, id, &row)?;
        }
        Ok(())
    }

    /// Deletes the row `id` of `view`.
    pub fn delete<T>(&mut self, view: View<T>, id: &str) {
        self.write(view.name(), id, None);
    }

    /// All rows of `view` that meet the query's filter, with their ids, in the order of ids; its order and page
    /// are not looked at.
    ///
    /// # Errors
    ///
    /// When the engine fails, a row is not a `T`, or more than [`FIND_ROWS_MAX`] rows meet it.
    pub async fn find<T: DeserializeOwned>(
        &mut self,
        view: View<T>,
        query: Query,
    ) -> Result<Vec<(String, T)>, Failure> {
        let name = view.name();
        let definition = self.definition(&name)?;
        let mut found = BTreeMap::new();
        let mut page = Query {
            sort: None,
            ..query.clone()
        }
        .limit(crate::PAGE_ROWS_MAX)
        .page(1);
        loop {
            let rows = self
                .views
                .query(&name, Some(self.generation), &page)
                .await?;
            found.extend(rows.rows.into_iter().map(|row| (row.id, row.document)));
            if found.len() > FIND_ROWS_MAX {
                return Err(Failure::poison(format!(
                    "more than {FIND_ROWS_MAX} rows of view `{name}` would change with one event"
                )));
            }
            match rows.next {
                Some(cursor) => page = page.after(cursor),
                None => break,
            }
        }
        // What this batch wrote is not in the engine yet.
        for ((slot_view, id), slot) in &self.slots {
            if *slot_view != name || slot.written.is_none() {
                continue;
            }
            found.remove(id);
            if let Some(document) = &slot.document {
                let values = definition.extract(document)?;
                let value = |field: &str| {
                    definition
                        .fields
                        .iter()
                        .position(|known| known.name == field)
                };
                let meets = |comparison: &crate::Comparison| {
                    value(&comparison.field).is_some_and(|index| comparison.holds(&values[index]))
                };
                if query.filter.iter().all(meets) {
                    found.insert(id.clone(), document.clone());
                }
            }
        }
        found
            .into_iter()
            .map(|(id, document)| Ok((id.clone(), read(&name, &id, &document)?)))
            .collect()
    }

    /// Runs own SQL in the same transaction, where the store speaks it.
    pub fn sql(&mut self, statement: &str, parameters: Vec<SqlValue>) {
        self.sql.push(ViewWrite::Sql {
            statement: statement.into(),
            parameters,
        });
    }

    fn definition(&self, view: &ViewName) -> Result<&'a ViewDefinition, Failure> {
        self.definitions
            .iter()
            .find(|known| known.name == *view)
            .ok_or_else(|| Failure::poison(format!("view `{view}` is not kept by this projection")))
    }

    fn write(&mut self, view: ViewName, id: &str, document: Option<Json>) {
        self.slots.insert(
            (view, id.into()),
            Slot {
                document,
                written: Some(self.position),
            },
        );
    }

    /// The writes of this batch: one for each row, and the own SQL in its order.
    pub fn into_writes(self) -> Vec<ViewWrite> {
        let generation = self.generation;
        let rows = self.slots.into_iter().filter_map(|((view, id), slot)| {
            let view = ViewRef { view, generation };
            let version = slot.written?;
            Some(match slot.document {
                Some(document) => ViewWrite::Put {
                    view,
                    id,
                    version,
                    document,
                },
                None => ViewWrite::Delete { view, id, version },
            })
        });
        rows.chain(self.sql).collect()
    }
}

fn read<T: DeserializeOwned>(view: &ViewName, id: &str, document: &Json) -> Result<T, Failure> {
    document.read().map_err(|error| {
        Failure::poison(format!(
            "row `{id}` of view `{view}` doesn't have its shape: {error}"
        ))
    })
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
    /// Takes one record of the log into the rows. `false`: its type is void for this projection.
    async fn project(
        &self,
        record: &Recorded<Bytes>,
        rows: &mut RowSet<'_>,
    ) -> Result<bool, Failure>;
}

/// [`AnyProjection`] of a projection.
pub struct Projecting<P: Projection> {
    projection: P,
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
            projection,
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

    async fn project(
        &self,
        record: &Recorded<Bytes>,
        rows: &mut RowSet<'_>,
    ) -> Result<bool, Failure> {
        let events = match self.catalog.read(&record.event_type, &record.data)? {
            Read::Events(events) => events,
            Read::Foreign => return Ok(false),
            Read::UnknownVersion => {
                return Err(Failure::stop(format!(
                    "`{}` is of a version that projection `{}` doesn't know: a newer program wrote it",
                    record.event_type, self.name
                )));
            }
        };
        for (event, part) in events {
            let mut event = record.clone().with(event);
            event.part = part;
            self.projection.project(&event, rows).await?;
        }
        Ok(true)
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
