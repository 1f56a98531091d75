//! The views within a memory store: written by its commits, read here.

use async_trait::async_trait;
use factum_core::{
    Error, ProjectionName, Query, Row, Rows, ViewDefinition, ViewName, Views, ViewsCapabilities,
};

use super::disk::MemoryDisk;

/// The views port over a memory store's disk.
#[derive(Clone, Debug)]
pub(super) struct MemoryViews(pub(super) MemoryDisk);

#[async_trait]
impl Views for MemoryViews {
    fn capabilities(&self) -> ViewsCapabilities {
        ViewsCapabilities {
            atomic: true,
            full_text: true,
        }
    }

    async fn ensure(&self, definition: &ViewDefinition, generation: u32) -> Result<(), Error> {
        self.0
            .write(|state| state.tables.ensure(definition, generation))
    }

    async fn active(&self, projection: &ProjectionName) -> Result<Option<u32>, Error> {
        Ok(self.0.read(|state| state.tables.active(projection)))
    }

    async fn drop_generation(
        &self,
        projection: &ProjectionName,
        generation: u32,
    ) -> Result<(), Error> {
        self.0
            .write(|state| state.tables.drop_generation(projection, generation))
    }

    async fn get(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        id: &str,
    ) -> Result<Option<Row>, Error> {
        self.0.read(|state| {
            Ok(state
                .tables
                .seen(view, generation)?
                .and_then(|table| table.get(id)))
        })
    }

    async fn query(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        query: &Query,
    ) -> Result<Rows, Error> {
        self.0
            .read(|state| match state.tables.seen(view, generation)? {
                Some(table) => table.query(query),
                None => Ok(Rows {
                    rows: Vec::new(),
                    next: None,
                }),
            })
    }

    async fn count(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        query: &Query,
        cap: u64,
    ) -> Result<u64, Error> {
        self.0
            .read(|state| match state.tables.seen(view, generation)? {
                Some(table) => table.count(query, cap),
                None => Ok(0),
            })
    }
}
