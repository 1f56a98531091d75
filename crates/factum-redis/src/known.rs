//! What a process remembers of a store's views, so that a read is one question to the server. All of it may be lost or
//! out of date: keys have the stamp of their generation in their names, so what was made anew is never read by what is
//! remembered of the old.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use factum_core::{At, Epoch, ProjectionName, ViewName};

use crate::table::Table;

/// What is remembered of one store.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Memory>);

#[derive(Debug, Default)]
pub(crate) struct Memory {
    epoch: Epoch,
    /// Which projection keeps a view.
    pub(crate) projections: BTreeMap<ViewName, ProjectionName>,
    pub(crate) tables: BTreeMap<(ViewName, u32), Arc<Table>>,
    /// The lineage in which a generation was claimed here.
    pub(crate) claims: BTreeMap<(ProjectionName, u32), u64>,
    /// The furthest checkpoint that was seen here of a generation. It stays when a generation is made anew under its
    /// number: readers see that one when it has come as far.
    furthest: BTreeMap<(ProjectionName, u32), At>,
}

impl Known {
    /// The memory of an epoch: that of another one is of no use any more.
    pub(crate) fn of(&self, epoch: Epoch) -> MutexGuard<'_, Memory> {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.epoch != epoch {
            *memory = Memory {
                epoch,
                ..Memory::default()
            };
        }
        memory
    }
}

impl Memory {
    /// Remembers a view.
    pub(crate) fn learn(&mut self, table: Table) -> Arc<Table> {
        let (view, projection) = (table.definition.name.clone(), &table.definition.projection);
        self.projections.insert(view.clone(), projection.clone());
        let table = Arc::new(table);
        self.tables.insert((view, table.generation), table.clone());
        table
    }

    /// Forgets the views of a generation.
    pub(crate) fn unlearn(&mut self, projection: &ProjectionName, generation: u32) {
        self.tables.retain(|(_, number), table| {
            *number != generation || table.definition.projection != *projection
        });
    }

    /// Notes that somebody was told that a generation's rows have come so far.
    pub(crate) fn note(&mut self, projection: &ProjectionName, generation: u32, checkpoint: At) {
        let known = self.furthest.entry((projection.clone(), generation));
        let known = known.or_default();
        *known = checkpoint.max(*known);
    }

    /// The furthest checkpoint that was seen here of a generation.
    pub(crate) fn furthest(&self, projection: &ProjectionName, generation: u32) -> At {
        let known = self.furthest.get(&(projection.clone(), generation));
        known.copied().unwrap_or_default()
    }

    /// The projections whose views were seen.
    pub(crate) fn keepers(&self) -> BTreeSet<ProjectionName> {
        self.projections.values().cloned().collect()
    }
}
