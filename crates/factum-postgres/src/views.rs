//! The views of a store: their definitions, their generations, and the port over them.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use factum_core::{
    Error, ProjectionName, Query, Row, Rows, ViewDefinition, ViewName, Views as Port,
    ViewsCapabilities,
};
use tokio_postgres::Row as Columns;

use crate::{
    call::Call,
    connection::Connection,
    error::{Doing, column, damaged},
    query,
    schema::Schema,
    shared::Shared,
    view_table::ViewTable,
};

/// The views of a store as they were last looked at, and which generation readers see.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) tables: BTreeMap<ViewName, BTreeMap<u32, Arc<ViewTable>>>,
    pub(crate) active: BTreeMap<ProjectionName, u32>,
}

impl Catalog {
    /// One generation of a view.
    pub(crate) fn table(&self, view: &ViewName, generation: u32) -> Result<&Arc<ViewTable>, Error> {
        let table = self
            .tables
            .get(view)
            .and_then(|generations| generations.get(&generation));
        table.ok_or_else(|| missing(&format!("{view}@{generation}")))
    }

    /// A view in the given generation or the one that readers see; `Ok(None)` when they see none yet.
    fn seen(
        &self,
        view: &ViewName,
        generation: Option<u32>,
    ) -> Result<Option<&Arc<ViewTable>>, Error> {
        if let Some(generation) = generation {
            return self.table(view, generation).map(Some);
        }
        let generations = self
            .tables
            .get(view)
            .ok_or_else(|| missing(view.as_str()))?;
        let is_active = |(generation, table): &(&u32, &Arc<ViewTable>)| {
            self.active.get(&table.definition.projection) == Some(*generation)
        };
        Ok(generations.iter().find(is_active).map(|(_, table)| table))
    }

    /// The projection that keeps a view.
    fn projection(&self, view: &ViewName) -> Option<&ProjectionName> {
        let (_, table) = self.tables.get(view)?.last_key_value()?;
        Some(&table.definition.projection)
    }
}

fn missing(view: &str) -> Error {
    Error::poison(format!(
        "view `{view}` does not exist: prepare it with `ensure`"
    ))
}

/// Asks for all generations of views.
pub(crate) fn definitions(schema: &Schema) -> Call {
    schema.call("SELECT number, view, generation, definition FROM factum.views")
}

/// Asks for the generations that readers see.
pub(crate) fn active(schema: &Schema) -> Call {
    schema.call("SELECT projection, generation FROM factum.active_generations")
}

/// Lets readers see a generation, unless they see a later one.
pub(crate) fn activate(schema: &Schema, projection: &ProjectionName, generation: u32) -> Call {
    schema
        .call(
            "INSERT INTO factum.active_generations VALUES ($1, $2) \
             ON CONFLICT (projection) DO UPDATE SET generation = excluded.generation \
             WHERE active_generations.generation < excluded.generation",
        )
        .with(projection.as_str().to_string())
        .with(i64::from(generation))
}

/// What [`definitions`] and [`active`] asked for.
pub(crate) fn catalog(
    schema: &Schema,
    definitions: &[Columns],
    active: &[Columns],
) -> Result<Catalog, Error> {
    let mut catalog = Catalog::default();
    for row in definitions {
        let (name, definition): (String, String) = (column(row, 1)?, column(row, 3)?);
        let broken = || damaged(format!("the definition of view `{name}`"));
        let definition: ViewDefinition = serde_json::from_str(&definition).map_err(|_| broken())?;
        let table = ViewTable::new(definition, schema, column(row, 0)?);
        let generation = u32::try_from(column::<i64>(row, 2)?).map_err(|_| broken())?;
        let view = ViewName::new(&name).map_err(|_| broken())?;
        catalog
            .tables
            .entry(view)
            .or_default()
            .insert(generation, Arc::new(table));
    }
    for row in active {
        let name: String = column(row, 0)?;
        let broken = || damaged(format!("projection `{name}`"));
        let projection = ProjectionName::new(&name).map_err(|_| broken())?;
        let generation = u32::try_from(column::<i64>(row, 1)?).map_err(|_| broken())?;
        catalog.active.insert(projection, generation);
    }
    Ok(catalog)
}

/// The views port over the views of one store.
pub(crate) struct PostgresViews {
    pub(crate) shared: Arc<Shared>,
}

impl std::fmt::Debug for PostgresViews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresViews")
            .field("schema", &self.shared.schema.name)
            .finish_non_exhaustive()
    }
}

/// How often a read is begun anew because the view was switched to another generation meanwhile.
const SWITCHES_MAX: u32 = 10;

impl PostgresViews {
    /// Looks again at what views there are.
    async fn refresh(&self, connection: &Connection) -> Result<(), Error> {
        const WHAT: &str = "read the views";
        let schema = &self.shared.schema;
        let calls = [definitions(schema), active(schema)];
        let mut rows = connection
            .rows_of_all(&calls)
            .await
            .doing(WHAT)?
            .into_iter();
        let mut next = || rows.next().map_or(Ok(Vec::new()), |rows| rows.doing(WHAT));
        let (definitions, active) = (next()?, next()?);
        self.shared
            .set_views(Arc::new(catalog(schema, &definitions, &active)?));
        Ok(())
    }

    /// Reads from the table of a view with the statements that `calls` makes for it, and gives the answers with it; `None`
    /// when readers see no generation yet. Other processes make, switch and drop generations: what is remembered of them
    /// is verified in the same way there and back.
    async fn read(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        calls: impl Fn(&ViewTable) -> Result<Vec<Call>, Error>,
    ) -> Result<Option<(Arc<ViewTable>, Vec<Vec<Columns>>)>, Error> {
        const WHAT: &str = "read a view";
        let schema = &self.shared.schema;
        let connection = self.shared.pool.lend().await?;
        for attempt in 0..SWITCHES_MAX {
            if attempt > 0 {
                self.refresh(&connection).await?;
            }
            let known = self.shared.views();
            let table = match known.seen(view, generation) {
                Ok(Some(table)) => table.clone(),
                Ok(None) if attempt > 0 => return Ok(None),
                Err(error) if attempt > 0 => return Err(error),
                _ => continue,
            };
            let mut sent = calls(&table)?;
            if generation.is_none()
                && let Some(projection) = known.projection(view)
            {
                sent.push(
                    schema
                        .call("SELECT generation FROM factum.active_generations WHERE projection = $1")
                        .with(projection.as_str().to_string()),
                );
            }
            // The table may be gone, so that the first of these fails: then it is looked for anew.
            let answers = match connection.rows_of_all(&sent).await {
                Ok(answers) => answers.into_iter().collect::<Result<Vec<_>, _>>(),
                Err(error) => Err(error),
            };
            let mut answers = match answers {
                Err(error) if is_undefined(&error) => continue,
                answers => answers.doing(WHAT)?,
            };
            if generation.is_none() {
                let active = answers
                    .pop()
                    .and_then(|rows| rows.first().map(|row| column::<i64>(row, 0)));
                let expected = known
                    .projection(view)
                    .and_then(|projection| known.active.get(projection));
                if active.transpose()? != expected.map(|generation| i64::from(*generation)) {
                    continue;
                }
            }
            return Ok(Some((table, answers)));
        }
        Err(Error::transient(format!(
            "view `{view}` is being switched all the time; try again"
        )))
    }
}

fn is_undefined(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&tokio_postgres::error::SqlState::UNDEFINED_TABLE)
}

#[async_trait]
impl Port for PostgresViews {
    fn capabilities(&self) -> ViewsCapabilities {
        ViewsCapabilities {
            atomic: true,
            full_text: false,
        }
    }

    async fn ensure(&self, definition: &ViewDefinition, generation: u32) -> Result<(), Error> {
        const WHAT: &str = "prepare a view";
        definition.validate()?;
        let name = &definition.name;
        let schema = &self.shared.schema;
        let json = serde_json::to_string(definition).map_err(|error| {
            Error::poison(format!("view `{name}` can't be defined")).caused_by(error)
        })?;
        let connection = self.shared.pool.lend().await?;
        // However many processes prepare it, one makes it, and the others wait for its row.
        let define = schema
            .call(
                "INSERT INTO factum.views (view, generation, definition) VALUES ($1, $2, $3) \
                 ON CONFLICT (view, generation) DO NOTHING RETURNING number",
            )
            .with(name.as_str().to_string())
            .with(i64::from(generation))
            .with(json);
        let made = async {
            let Some(row) = connection.row(&define).await.doing(WHAT)? else {
                return Ok(false);
            };
            let table = ViewTable::new(definition.clone(), schema, column(&row, 0)?);
            for statement in table.create() {
                connection
                    .client
                    .batch_execute(&statement)
                    .await
                    .doing(WHAT)?;
            }
            Ok::<_, Error>(true)
        };
        if connection.within(WHAT, made).await? {
            self.shared.changed();
        }
        self.refresh(&connection).await?;
        if self.shared.views().table(name, generation)?.definition == *definition {
            return Ok(());
        }
        Err(Error::poison(format!(
            "view `{name}@{generation}` was made with another definition: a changed view needs a new generation"
        )))
    }

    async fn active(&self, projection: &ProjectionName) -> Result<Option<u32>, Error> {
        const WHAT: &str = "read the active generation";
        let call = self
            .shared
            .schema
            .call("SELECT generation FROM factum.active_generations WHERE projection = $1")
            .with(projection.as_str().to_string());
        let row = self
            .shared
            .pool
            .lend()
            .await?
            .row(&call)
            .await
            .doing(WHAT)?;
        let Some(row) = row else { return Ok(None) };
        let generation = u32::try_from(column::<i64>(&row, 0)?);
        generation
            .map(Some)
            .map_err(|_| damaged(format!("projection `{projection}`")))
    }

    async fn drop_generation(
        &self,
        projection: &ProjectionName,
        generation: u32,
    ) -> Result<(), Error> {
        const WHAT: &str = "drop a generation of a view";
        let schema = &self.shared.schema;
        let connection = self.shared.pool.lend().await?;
        self.refresh(&connection).await?;
        let known = self.shared.views();
        let dropped: Vec<_> = known
            .tables
            .values()
            .filter_map(|generations| generations.get(&generation))
            .filter(|table| table.definition.projection == *projection)
            .cloned()
            .collect();
        let done = async {
            // Under the row's lock: nobody switches to it meanwhile.
            let active = schema
                .call("SELECT generation FROM factum.active_generations WHERE projection = $1 FOR UPDATE")
                .with(projection.as_str().to_string());
            let active = connection.row(&active).await.doing(WHAT)?;
            let active: Option<i64> = active.map(|row| column(&row, 0)).transpose()?;
            if active == Some(generation.into()) {
                return Err(Error::conflict(format!(
                    "generation {generation} of projection `{projection}` can't be dropped: readers see it"
                )));
            }
            for table in &dropped {
                let forget = schema
                    .call("DELETE FROM factum.views WHERE view = $1 AND generation = $2")
                    .with(table.definition.name.as_str().to_string())
                    .with(i64::from(generation));
                connection.rows(&forget).await.doing(WHAT)?;
                let drop = format!("DROP TABLE IF EXISTS {}", table.name);
                connection.client.batch_execute(&drop).await.doing(WHAT)?;
            }
            Ok(())
        };
        connection.within(WHAT, done).await?;
        self.shared.changed();
        self.refresh(&connection).await
    }

    async fn get(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        id: &str,
    ) -> Result<Option<Row>, Error> {
        let found = self
            .read(view, generation, |table| Ok(vec![query::get(table, id)]))
            .await?;
        let Some((table, answers)) = found else {
            return Ok(None);
        };
        let row = answers.first().and_then(|rows| rows.first());
        row.map(|row| query::row(&table, row)).transpose()
    }

    async fn query(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        query: &Query,
    ) -> Result<Rows, Error> {
        let calls = |table: &ViewTable| {
            query.validate(&table.definition)?;
            query::page(table, query)
        };
        let Some((table, answers)) = self.read(view, generation, calls).await? else {
            return Ok(Rows {
                rows: Vec::new(),
                next: None,
            });
        };
        query::page_of(&table, query, answers.into_iter().flatten())
    }

    async fn count(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        query: &Query,
        cap: u64,
    ) -> Result<u64, Error> {
        let calls = |table: &ViewTable| {
            query.validate(&table.definition)?;
            Ok(vec![query::count(table, query, cap)])
        };
        let Some((_, answers)) = self.read(view, generation, calls).await? else {
            return Ok(0);
        };
        let row = answers.first().and_then(|rows| rows.first());
        Ok(row
            .map_or(Ok(0), |row| column::<i64>(row, 0))?
            .cast_unsigned())
    }
}
