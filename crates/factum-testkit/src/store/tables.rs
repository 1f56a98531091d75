//! The rows of views: by generation, with their versions and tombstones.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use factum_core::{
    Cursor, Error, Json, Page, Position, ProjectionName, Query, Row, Rows, Value, ViewDefinition,
    ViewName, ViewRef,
};

/// All views.
#[derive(Clone, Default)]
pub(super) struct Tables {
    views: BTreeMap<ViewName, BTreeMap<u32, Table>>,
    active: BTreeMap<ProjectionName, u32>,
}

/// One generation of a view.
#[derive(Clone)]
pub(super) struct Table {
    definition: ViewDefinition,
    rows: BTreeMap<String, Stored>,
}

/// A row, or its tombstone.
#[derive(Clone)]
struct Stored {
    version: Position,
    /// The document and the values of its declared fields; `None` when the row was deleted.
    content: Option<(Json, Vec<Value>)>,
}

/// A live row while it is searched for.
struct Found<'a> {
    id: &'a str,
    version: Position,
    document: &'a Json,
    values: &'a [Value],
}

impl Tables {
    /// Prepares a generation of a view.
    pub(super) fn ensure(
        &mut self,
        definition: &ViewDefinition,
        generation: u32,
    ) -> Result<(), Error> {
        definition.validate()?;
        let generations = self.views.entry(definition.name.clone()).or_default();
        let table = generations.entry(generation).or_insert_with(|| Table {
            definition: definition.clone(),
            rows: BTreeMap::new(),
        });
        if table.definition == *definition {
            return Ok(());
        }
        Err(Error::poison(format!(
            "view `{}@{generation}` was made with another definition: a changed view needs a new generation",
            definition.name
        )))
    }

    /// The generation that readers of a projection's views see.
    pub(super) fn active(&self, projection: &ProjectionName) -> Option<u32> {
        self.active.get(projection).copied()
    }

    /// Lets readers see a generation, unless they see a later one.
    pub(super) fn activate(&mut self, projection: ProjectionName, generation: u32) {
        let active = self.active.entry(projection).or_insert(generation);
        *active = generation.max(*active);
    }

    /// Drops the rows of a generation that readers don't see.
    pub(super) fn drop_generation(
        &mut self,
        projection: &ProjectionName,
        generation: u32,
    ) -> Result<(), Error> {
        if self.active(projection) == Some(generation) {
            return Err(Error::conflict(format!(
                "generation {generation} of projection `{projection}` can't be dropped: readers see it"
            )));
        }
        for generations in self.views.values_mut() {
            if generations
                .get(&generation)
                .is_some_and(|table| table.definition.projection == *projection)
            {
                generations.remove(&generation);
            }
        }
        Ok(())
    }

    /// One generation of a view.
    pub(super) fn table(&self, view: &ViewRef) -> Result<&Table, Error> {
        let table = self
            .views
            .get(&view.view)
            .and_then(|generations| generations.get(&view.generation));
        table.ok_or_else(|| {
            Error::poison(format!(
                "view `{view}` does not exist: prepare it with `ensure`"
            ))
        })
    }

    /// Whether a generation of a view is there and kept by `projection`.
    pub(super) fn is_kept_by(&self, view: &ViewRef, projection: &ProjectionName) -> bool {
        let table = self.table(view);
        table.is_ok_and(|table| table.definition.projection == *projection)
    }

    /// A view in the given generation or the one that readers see; `Ok(None)` when they see none yet.
    pub(super) fn seen(
        &self,
        view: &ViewName,
        generation: Option<u32>,
    ) -> Result<Option<&Table>, Error> {
        if let Some(generation) = generation {
            return self
                .table(&ViewRef {
                    view: view.clone(),
                    generation,
                })
                .map(Some);
        }
        let Some(generations) = self.views.get(view) else {
            return Err(Error::poison(format!(
                "view `{view}` does not exist: prepare it with `ensure`"
            )));
        };
        let is_active = |(generation, table): &(&u32, &Table)| {
            self.active(&table.definition.projection) == Some(**generation)
        };
        Ok(generations.iter().find(is_active).map(|(_, table)| table))
    }

    /// Writes or deletes a row, unless a newer version of it was written.
    pub(super) fn write(
        &mut self,
        view: &ViewRef,
        id: String,
        version: Position,
        content: Option<(Json, Vec<Value>)>,
    ) {
        let generations = self.views.get_mut(&view.view);
        let table = generations.and_then(|generations| generations.get_mut(&view.generation));
        let rows = &mut table.expect("the view was looked up above").rows;
        if rows.get(&id).is_none_or(|stored| stored.version <= version) {
            rows.insert(id, Stored { version, content });
        }
    }
}

impl Table {
    /// The values of the declared fields in a document.
    pub(super) fn extract(&self, document: &Json) -> Result<Vec<Value>, Error> {
        self.definition.texts(document)?;
        self.definition.extract(document)
    }

    /// The version of a row; `None` when there is none, or only its tombstone.
    pub(super) fn version(&self, id: &str) -> Option<Position> {
        self.rows
            .get(id)
            .filter(|stored| stored.content.is_some())
            .map(|stored| stored.version)
    }

    /// One row.
    pub(super) fn get(&self, id: &str) -> Option<Row> {
        let stored = self.rows.get(id)?;
        let (document, _) = stored.content.as_ref()?;
        Some(Row {
            id: id.into(),
            version: stored.version,
            document: document.clone(),
        })
    }

    /// The rows that meet a query's filter and have its words, by id.
    fn matching<'a>(&'a self, query: &'a Query) -> impl Iterator<Item = Found<'a>> {
        let wanted = query.words.as_deref().map(words);
        let compared: Vec<_> = query
            .filter
            .iter()
            .map(|wanted| (self.index(&wanted.field), wanted))
            .collect();
        let rows = self.rows.iter().filter_map(|(id, stored)| {
            let (document, values) = stored.content.as_ref()?;
            Some(Found {
                id,
                version: stored.version,
                document,
                values,
            })
        });
        rows.filter(move |row| {
            compared
                .iter()
                .all(|(index, wanted)| wanted.holds(&row.values[*index]))
                && wanted
                    .as_ref()
                    .is_none_or(|wanted| self.has(row.document, wanted))
        })
    }

    /// Whether the texts of a document that are searched have all of these words; none of them are in none.
    fn has(&self, document: &Json, wanted: &BTreeSet<String>) -> bool {
        let texts = self.definition.texts(document).unwrap_or_default();
        let there: BTreeSet<_> = texts
            .iter()
            .flatten()
            .flat_map(|text| words(text))
            .collect();
        !wanted.is_empty() && wanted.is_subset(&there)
    }

    fn index(&self, field: &str) -> usize {
        let index = self
            .definition
            .fields
            .iter()
            .position(|known| known.name == field);
        index.expect("queries name declared fields only")
    }

    /// How many rows meet the query's filter, counting no further than `cap`.
    pub(super) fn count(&self, query: &Query, cap: u64) -> Result<u64, Error> {
        query.validate_with_words(&self.definition)?;
        let cap = usize::try_from(cap).unwrap_or(usize::MAX);
        Ok(self.matching(query).take(cap).count() as u64)
    }

    /// A page of rows.
    pub(super) fn query(&self, query: &Query) -> Result<Rows, Error> {
        query.validate_with_words(&self.definition)?;
        let sort = query
            .sort
            .as_ref()
            .map(|(field, descending)| (self.index(field), *descending));
        let value = |row: &Found<'_>| sort.map(|(index, _)| row.values[index].clone());
        let order = |a: (Option<&Value>, &str), b: (Option<&Value>, &str)| {
            // Nulls are last in both directions, so only what is not null is turned round.
            let (by_value, by_id) = (a.0.cmp(&b.0), a.1.cmp(b.1));
            if !sort.is_some_and(|(_, descending)| descending) {
                return by_value.then(by_id);
            }
            match (a.0, b.0) {
                (Some(Value::Null), Some(Value::Null)) => by_id.reverse(),
                (Some(Value::Null), _) => Ordering::Greater,
                (_, Some(Value::Null)) => Ordering::Less,
                _ => by_value.then(by_id).reverse(),
            }
        };
        let mut found: Vec<_> = self.matching(query).map(|row| (value(&row), row)).collect();
        found.sort_by(|(a, left), (b, right)| order((a.as_ref(), left.id), (b.as_ref(), right.id)));
        let limit = query.limit as usize;
        let skipped = match &query.page {
            Page::Number(number) => (*number as usize - 1) * limit,
            Page::After(cursor) => {
                let cursor = (cursor.value.as_ref(), cursor.id.as_str());
                found
                    .partition_point(|(value, row)| order((value.as_ref(), row.id), cursor).is_le())
            }
        };
        let page = &found[skipped.min(found.len())..];
        let more = page.len() > limit;
        let page = &page[..limit.min(page.len())];
        let rows = page.iter().map(|(_, row)| Row {
            id: row.id.into(),
            version: row.version,
            document: row.document.clone(),
        });
        let cursor = |(value, row): &(Option<Value>, Found<'_>)| Cursor {
            value: value.clone(),
            id: row.id.into(),
        };
        Ok(Rows {
            rows: rows.collect(),
            next: page.last().filter(|_| more).map(cursor),
        })
    }
}

/// The words of a text, in small letters: what stands between all that is neither letter nor digit.
fn words(text: &str) -> BTreeSet<String> {
    text.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}
