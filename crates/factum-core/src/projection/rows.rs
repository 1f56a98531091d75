//! The rows that a projection reads and writes: what the engine has, under what the batch has written so far.
//!
//! A part of them has the rows of one id and refuses all others: what a projection says about the rows of an event
//! is not taken on trust, since rows that two events touch at the same time would be right or wrong by chance.

use std::collections::BTreeMap;

use serde::{Serialize, de::DeserializeOwned};

use super::View;
use crate::{
    Failure, Json, Position, Query, SqlValue, ViewDefinition, ViewName, ViewRef, ViewWrite, Views,
};

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
    /// Of a part: the id of its rows.
    only: Option<String>,
    /// Of a part: how it was first asked for more than that.
    strayed: Option<Failure>,
}

#[derive(Debug)]
struct Slot {
    document: Option<Json>,
    /// The position that wrote it in this batch; `None`: it was only read.
    written: Option<Position>,
}

/// How many rows one [`RowSet::find`] may give. What an event changes is one commit, and all others wait for it: at
/// 10 microseconds a row, 0.1 seconds.
pub const FIND_ROWS_MAX: usize = 10_000;

/// From how many rows and statements of own SQL on a batch of several events is committed, whatever is behind it in the log.
pub const BATCH_ROWS_MAX: usize = FIND_ROWS_MAX;

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
            only: None,
            strayed: None,
        }
    }

    /// The rows `id` of all views, to be read and written apart from the others. They are missing here until they
    /// are [put back](RowSet::put_back).
    #[must_use]
    pub fn part(&mut self, id: &str) -> RowSet<'a> {
        let mut part = RowSet::new(self.views, self.definitions, self.generation);
        part.position = self.position;
        for definition in self.definitions {
            let slot = (definition.name.clone(), id.to_string());
            if let Some((slot, row)) = self.slots.remove_entry(&slot) {
                part.slots.insert(slot, row);
            }
        }
        part.only = Some(id.to_string());
        part
    }

    /// Takes back what became of a part.
    pub fn put_back(&mut self, mut part: RowSet<'a>) {
        self.slots.append(&mut part.slots);
    }

    /// How a part was asked for what doesn't belong to it, if it was.
    pub(super) fn strayed(&mut self) -> Option<Failure> {
        self.strayed.take()
    }

    /// Refuses what doesn't belong to a part.
    fn allow(&mut self, id: Option<&str>, what: impl FnOnce() -> String) -> Result<(), Failure> {
        let Some(only) = self.only.as_deref().filter(|only| id != Some(*only)) else {
            return Ok(());
        };
        let failure = Failure::poison(format!(
            "`row` says that this event touches row `{only}` alone, and it wants {}: say `None` for such events",
            what()
        ));
        self.strayed.get_or_insert_with(|| failure.clone());
        Err(failure)
    }

    /// Whether it holds so many rows, and statements of own SQL, that they should be committed before the next event is
    /// taken.
    pub fn is_full(&self) -> bool {
        self.slots.len() + self.sql.len() >= BATCH_ROWS_MAX
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
        self.allow(Some(id), || format!("row `{id}` of view `{}`", view.name))?;
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
        self.allow(Some(id), || format!("row `{id}` of view `{}`", view.name))?;
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
        let what = || format!("row `{id}` of view `{}`", view.name);
        // The refusal is remembered, and fails the event when it is done.
        if self.allow(Some(id), what).is_ok() {
            self.write(view.name(), id, None);
        }
    }

    /// All rows of `view` that meet the query's filter, with their ids, in the order of ids; its order and page
    /// are not looked at.
    ///
    /// # Errors
    ///
    /// When the engine fails, or a row is not a `T`. A poison failure, at which the projection stops, when more than
    /// [`FIND_ROWS_MAX`] rows meet it: what so many rows have in common belongs into a row of its own, that is read
    /// beside theirs.
    pub async fn find<T: DeserializeOwned>(
        &mut self,
        view: View<T>,
        query: Query,
    ) -> Result<Vec<(String, T)>, Failure> {
        let name = view.name();
        self.allow(None, || format!("to find rows of view `{name}`"))?;
        let definition = self.definition(&name)?;
        if query.words.is_some() {
            // What this batch wrote can't be compared with them.
            return Err(Failure::poison(format!(
                "`find` looks for no words in view `{name}`: how a text is taken apart is the engine's"
            )));
        }
        self.views.settle(&name, Some(self.generation)).await?;
        let mut found = BTreeMap::new();
        let written =
            |(of, _): &&(ViewName, String), slot: &Slot| *of == name && slot.written.is_some();
        // What this batch wrote counts as if it were there, and may hide as many rows as that: so an event fails or not,
        // whichever events it shares a batch with.
        let hidden_max = self
            .slots
            .iter()
            .filter(|(id, slot)| written(id, slot))
            .count();
        let too_many = || {
            Failure::poison(format!(
                "`find` met more than {FIND_ROWS_MAX} rows of view `{name}`, which one event must not change \
                 together: keep what they have in common in a row of its own, and read it beside theirs"
            ))
        };
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
            if found.len() > FIND_ROWS_MAX + hidden_max {
                return Err(too_many());
            }
            match rows.next {
                Some(cursor) => page = page.after(cursor),
                None => break,
            }
        }
        // What this batch wrote is not in the engine yet.
        for ((_, id), slot) in self.slots.iter().filter(|(id, slot)| written(id, slot)) {
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
        if found.len() > FIND_ROWS_MAX {
            return Err(too_many());
        }
        found
            .into_iter()
            .map(|(id, document)| Ok((id.clone(), read(&name, &id, &document)?)))
            .collect()
    }

    /// Runs own SQL in the same transaction, where the store speaks it.
    pub fn sql(&mut self, statement: &str, parameters: Vec<SqlValue>) {
        if self.allow(None, || "to run own SQL".into()).is_err() {
            return;
        }
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

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::{Error, ProjectionName, Row, Rows, ViewsCapabilities};

    /// Views that nobody asks for anything.
    #[derive(Debug)]
    struct Unasked;

    #[async_trait]
    impl Views for Unasked {
        fn capabilities(&self) -> ViewsCapabilities {
            unreachable!()
        }
        async fn ensure(&self, _: &ViewDefinition, _: u32) -> Result<(), Error> {
            unreachable!()
        }
        async fn active(&self, _: &ProjectionName) -> Result<Option<u32>, Error> {
            unreachable!()
        }
        async fn drop_generation(&self, _: &ProjectionName, _: u32) -> Result<(), Error> {
            unreachable!()
        }
        async fn get(&self, _: &ViewName, _: Option<u32>, _: &str) -> Result<Option<Row>, Error> {
            unreachable!()
        }
        async fn query(&self, _: &ViewName, _: Option<u32>, _: &Query) -> Result<Rows, Error> {
            unreachable!()
        }
        async fn count(
            &self,
            _: &ViewName,
            _: Option<u32>,
            _: &Query,
            _: u64,
        ) -> Result<u64, Error> {
            unreachable!()
        }
    }

    /// A projection that wrote own tables alone had batches without a bound.
    #[test]
    fn own_sql_fills_a_batch_as_rows_do() {
        let mut rows = RowSet::new(&Unasked, &[], 1);
        rows.delete(View::<()>::new("orders"), "order-1");
        for _ in 1..BATCH_ROWS_MAX {
            assert!(!rows.is_full());
            rows.sql("DELETE FROM order__totals", Vec::new());
        }
        assert!(rows.is_full());
        assert_eq!(rows.into_writes().len(), BATCH_ROWS_MAX);
    }
}
