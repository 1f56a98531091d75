//! A batch of a projection, as the script takes it that writes it.

use std::{collections::BTreeMap, sync::Arc};

use factum_core::{Error, LogInput, Position, ViewRef, ViewWrite};
use redis::ScriptInvocation;

use crate::{
    scripts,
    state::place,
    table::{Home, Table},
    value::{digits, live, tombstone},
};

/// What the script made of a batch.
pub(crate) enum Applied {
    Done,
    /// The generation has another owner, with this fence.
    Fenced(String),
    /// The checkpoint is here.
    Moved(String),
    /// Something of the generation was lost.
    Gone,
}

impl Applied {
    /// Reads the script's answer.
    pub(crate) fn read(answer: Vec<String>) -> Option<Self> {
        let mut answer = answer.into_iter();
        let (kind, what) = (answer.next()?, answer.next().unwrap_or_default());
        Some(match kind.as_str() {
            "done" => Self::Done,
            "fenced" => Self::Fenced(what),
            "moved" => Self::Moved(what),
            "gone" => Self::Gone,
            _ => return None,
        })
    }
}

/// A batch of rows, and the checkpoint that comes with them.
pub(crate) struct Batch<'a> {
    input: &'a LogInput,
    tables: &'a [Arc<Table>],
    activates: bool,
    /// By view and id: of several writes of one row, the one that would be left of all.
    rows: BTreeMap<(usize, String), (Position, Vec<u8>)>,
}

impl<'a> Batch<'a> {
    /// Whether the views of all writes are among `tables`.
    pub(crate) fn knows(tables: &[Arc<Table>], writes: &[ViewWrite]) -> bool {
        writes.iter().all(|write| match write {
            ViewWrite::Put { view, .. } | ViewWrite::Delete { view, .. } => {
                tables.iter().any(|table| is_of(table, view))
            }
            ViewWrite::Activate { .. } | ViewWrite::Sql { .. } => true,
        })
    }

    /// Refuses what can't be written by a projection, before anything is.
    pub(crate) fn new(
        input: &'a LogInput,
        tables: &'a [Arc<Table>],
        writes: Vec<ViewWrite>,
    ) -> Result<Self, Error> {
        let mut batch = Self {
            input,
            tables,
            activates: false,
            rows: BTreeMap::new(),
        };
        for write in writes {
            batch.take(write)?;
        }
        Ok(batch)
    }

    fn take(&mut self, write: ViewWrite) -> Result<(), Error> {
        match write {
            ViewWrite::Put {
                view,
                id,
                version,
                document,
            } => {
                let number = self.table(&view)?;
                let values = self.tables[number].definition.extract(&document)?;
                self.put(number, id, version, live(version, &values, &document));
            }
            ViewWrite::Delete { view, id, version } => {
                let number = self.table(&view)?;
                self.put(number, id, version, tombstone(version));
            }
            ViewWrite::Activate {
                projection,
                generation,
            } => {
                if projection != self.input.projection || generation != self.input.generation {
                    return Err(Error::poison(format!(
                        "generation {generation} of projection `{projection}` can't be activated by {}",
                        self.who()
                    )));
                }
                self.activates = true;
            }
            ViewWrite::Sql { .. } => {
                return Err(Error::poison(
                    "own SQL needs views in the store, and these are on Redis",
                ));
            }
        }
        Ok(())
    }

    fn put(&mut self, number: usize, id: String, version: Position, row: Vec<u8>) {
        let known = self.rows.entry((number, id)).or_default();
        if known.0 <= version {
            *known = (version, row);
        }
    }

    fn table(&self, view: &ViewRef) -> Result<usize, Error> {
        let is_it = |table: &Arc<Table>| is_of(table, view);
        self.tables.iter().position(is_it).ok_or_else(|| {
            Error::poison(format!(
                "view `{view}` does not exist, or is not kept by {}",
                self.who()
            ))
        })
    }

    fn who(&self) -> String {
        format!(
            "generation {} of projection `{}`",
            self.input.generation, self.input.projection
        )
    }

    /// The script's call.
    pub(crate) fn script(&self, home: &Home) -> ScriptInvocation<'static> {
        let input = self.input;
        let mut script = scripts::APPLY.prepare_invoke();
        script.key(home.state());
        let stamp = self.tables.first().map_or("", |table| &table.stamp);
        script.arg(input.generation).arg(stamp);
        script.arg(digits(input.fence.owner.0));
        script.arg(place(input.from)).arg(place(input.to));
        script.arg(u8::from(self.activates)).arg(self.tables.len());
        for table in self.tables {
            for key in table.keys() {
                script.key(key);
            }
            script.arg(table.definition.fields.len());
            script.arg(table.indexes.len());
            for columns in &table.indexes {
                let columns: Vec<_> = columns
                    .iter()
                    .map(|column| (column + 1).to_string())
                    .collect();
                script.arg(columns.join(" "));
            }
        }
        for ((number, id), (_, row)) in &self.rows {
            script.arg(number + 1).arg(id.as_str()).arg(row.as_slice());
        }
        script
    }
}

fn is_of(table: &Table, view: &ViewRef) -> bool {
    table.definition.name == view.view && table.generation == view.generation
}
