//! The views of a store: their definitions, their generations, and the port over them.

use std::sync::Arc;

use async_trait::async_trait;
use factum_core::{
    Error, ProjectionName, Query, Row, Rows, ViewDefinition, ViewName, Views as Port,
    ViewsCapabilities,
};
use rusqlite::{Connection, params};

use crate::{
    error::{Doing, damaged},
    file::File,
    number::numbered,
    query,
    shared::{Shared, Views},
    state::StoreState,
    streams::next_number,
    view_table::ViewTable,
};

/// The views port over the views of one store.
#[derive(Debug)]
pub(crate) struct SqliteViews {
    pub(crate) file: Arc<File>,
    pub(crate) shared: Arc<Shared>,
}

#[async_trait]
impl Port for SqliteViews {
    fn capabilities(&self) -> ViewsCapabilities {
        ViewsCapabilities {
            atomic: true,
            full_text: false,
        }
    }

    async fn ensure(&self, definition: &ViewDefinition, generation: u32) -> Result<(), Error> {
        definition.validate()?;
        let definition = definition.clone();
        self.file
            .change(self.shared.number, move |connection, state| {
                ensure(connection, state, definition, generation)
            })
            .await
    }

    async fn active(&self, projection: &ProjectionName) -> Result<Option<u32>, Error> {
        Ok(self.shared.read().views.active.get(projection).copied())
    }

    async fn drop_generation(
        &self,
        projection: &ProjectionName,
        generation: u32,
    ) -> Result<(), Error> {
        let projection = projection.clone();
        self.file
            .change(self.shared.number, move |connection, state| {
                drop_generation(connection, state, &projection, generation)
            })
            .await
    }

    async fn get(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        id: &str,
    ) -> Result<Option<Row>, Error> {
        let Some(table) = self.seen(view, generation)? else {
            return Ok(None);
        };
        let id = id.to_string();
        self.file
            .read_brief(move |reading| query::get(&reading.connection, &table, &id))
            .await
    }

    async fn query(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        query: &Query,
    ) -> Result<Rows, Error> {
        let Some(table) = self.seen(view, generation)? else {
            return Ok(Rows {
                rows: Vec::new(),
                next: None,
            });
        };
        query.validate(&table.definition)?;
        let query = query.clone();
        self.file
            .read(move |reading| query::page(&reading.connection, &table, &query))
            .await
    }

    async fn count(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        query: &Query,
        cap: u64,
    ) -> Result<u64, Error> {
        let Some(table) = self.seen(view, generation)? else {
            return Ok(0);
        };
        query.validate(&table.definition)?;
        let query = query.clone();
        self.file
            .read(move |reading| query::count(&reading.connection, &table, &query, cap))
            .await
    }
}

impl SqliteViews {
    fn seen(
        &self,
        view: &ViewName,
        generation: Option<u32>,
    ) -> Result<Option<Arc<ViewTable>>, Error> {
        Ok(self.shared.read().views.seen(view, generation)?.cloned())
    }
}

/// All views of a store.
pub(crate) fn load(connection: &Connection, store: i64) -> Result<Views, Error> {
    const WHAT: &str = "read the views";
    let mut views = Views::default();
    let mut statement = connection
        .prepare_cached("SELECT number, view, generation, definition FROM views WHERE store = ?1")
        .doing(WHAT)?;
    let mut rows = statement.query([store]).doing(WHAT)?;
    while let Some(row) = rows.next().doing(WHAT)? {
        let name: String = row.get(1).doing(WHAT)?;
        let broken = || damaged(format!("the definition of view `{name}`"));
        let definition: String = row.get(3).doing(WHAT)?;
        let definition: ViewDefinition = serde_json::from_str(&definition).map_err(|_| broken())?;
        let table = ViewTable::new(definition, store, row.get(0).doing(WHAT)?);
        let view = ViewName::new(&name).map_err(|_| broken())?;
        views
            .tables
            .entry(view)
            .or_default()
            .insert(row.get(2).doing(WHAT)?, Arc::new(table));
    }
    let mut statement = connection
        .prepare_cached("SELECT projection, generation FROM active_generations WHERE store = ?1")
        .doing(WHAT)?;
    let mut rows = statement.query([store]).doing(WHAT)?;
    while let Some(row) = rows.next().doing(WHAT)? {
        let name: String = row.get(0).doing(WHAT)?;
        let projection =
            ProjectionName::new(&name).map_err(|_| damaged(format!("projection `{name}`")))?;
        views.active.insert(projection, row.get(1).doing(WHAT)?);
    }
    Ok(views)
}

/// Lets readers see a generation, once the group is durable, unless they see a later one.
pub(crate) fn activate(
    connection: &Connection,
    state: &mut StoreState,
    projection: &ProjectionName,
    generation: u32,
) -> Result<(), Error> {
    if state.views.active.get(projection) > Some(&generation) {
        return Ok(());
    }
    connection
        .prepare_cached("INSERT OR REPLACE INTO active_generations VALUES (?1, ?2, ?3)")
        .and_then(|mut statement| {
            statement.execute(params![state.number, projection.as_str(), generation])
        })
        .doing("switch a projection's generation")?;
    state.views.active.insert(projection.clone(), generation);
    state.pending.views = true;
    Ok(())
}

fn ensure(
    connection: &Connection,
    state: &mut StoreState,
    definition: ViewDefinition,
    generation: u32,
) -> Result<(), Error> {
    let name = definition.name.clone();
    if let Ok(table) = state.views.table(&name, generation) {
        if table.definition == definition {
            return Ok(());
        }
        return Err(Error::poison(format!(
            "view `{name}@{generation}` was made with another definition: a changed view needs a new generation"
        )));
    }
    let number = numbered(
        state.number,
        next_number(connection, "views", state.number)?,
    );
    let json = serde_json::to_string(&definition).map_err(|error| {
        Error::poison(format!("view `{name}` can't be defined")).caused_by(error)
    })?;
    let table = ViewTable::new(definition, state.number, number);
    connection
        .execute(
            "INSERT INTO views VALUES (?1, ?2, ?3, ?4, ?5)",
            params![number, state.number, name.as_str(), generation, json],
        )
        .doing("define a view")?;
    table.create(connection)?;
    state
        .views
        .tables
        .entry(name)
        .or_default()
        .insert(generation, Arc::new(table));
    state.pending.views = true;
    Ok(())
}

fn drop_generation(
    connection: &Connection,
    state: &mut StoreState,
    projection: &ProjectionName,
    generation: u32,
) -> Result<(), Error> {
    if state.views.active.get(projection) == Some(&generation) {
        return Err(Error::conflict(format!(
            "generation {generation} of projection `{projection}` can't be dropped: readers see it"
        )));
    }
    let dropped: Vec<_> = state
        .views
        .tables
        .iter()
        .filter_map(|(view, generations)| {
            Some((view.clone(), generations.get(&generation)?.clone()))
        })
        .filter(|(_, table)| table.definition.projection == *projection)
        .collect();
    for (view, table) in &dropped {
        connection
            .execute(
                "DELETE FROM views WHERE store = ?1 AND view = ?2 AND generation = ?3",
                params![state.number, view.as_str(), generation],
            )
            .doing("drop a view")?;
        table.drop_from(connection)?;
    }
    for (view, _) in dropped {
        if let Some(generations) = state.views.tables.get_mut(&view) {
            generations.remove(&generation);
        }
    }
    state.pending.views = true;
    Ok(())
}
