//! The views within a store, behind a plan of faults.

use std::sync::Arc;

use async_trait::async_trait;
use factum_core::{
    At, Error, ProjectionName, Query, Row, Rows, Store, ViewDefinition, ViewName, Views,
    ViewsCapabilities,
};

use super::{Call, Faults};

/// The views of one node's store. Rows are written by commits, and so meet their faults there.
#[derive(Debug)]
pub(super) struct FaultyViews {
    node: Arc<str>,
    store: Arc<dyn Store>,
    faults: Faults,
}

impl FaultyViews {
    /// The views of a store that holds views.
    pub(super) fn new(node: Arc<str>, store: Arc<dyn Store>, faults: Faults) -> Self {
        Self {
            node,
            store,
            faults,
        }
    }

    fn inner(&self) -> &dyn Views {
        self.store
            .views()
            .expect("the store was asked when it was wrapped")
    }

    async fn run<T>(
        &self,
        call: Call,
        subject: impl std::fmt::Display + Send,
        done: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        self.faults.run(&self.node, call, subject, done).await
    }
}

#[async_trait]
impl Views for FaultyViews {
    fn capabilities(&self) -> ViewsCapabilities {
        self.inner().capabilities()
    }

    async fn ensure(&self, definition: &ViewDefinition, generation: u32) -> Result<(), Error> {
        let subject = format!("{}@{generation}", definition.name);
        self.run(
            Call::EnsureView,
            subject,
            self.inner().ensure(definition, generation),
        )
        .await
    }

    async fn active(&self, projection: &ProjectionName) -> Result<Option<u32>, Error> {
        self.run(
            Call::Read,
            format!("active generation of {projection}"),
            self.inner().active(projection),
        )
        .await
    }

    async fn drop_generation(
        &self,
        projection: &ProjectionName,
        generation: u32,
    ) -> Result<(), Error> {
        let dropped = self.inner().drop_generation(projection, generation);
        self.run(
            Call::DropGeneration,
            format!("{projection}@{generation}"),
            dropped,
        )
        .await
    }

    async fn get(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        id: &str,
    ) -> Result<Option<Row>, Error> {
        self.run(
            Call::Read,
            format!("row {view}/{id}"),
            self.inner().get(view, generation, id),
        )
        .await
    }

    async fn query(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        query: &Query,
    ) -> Result<Rows, Error> {
        self.run(
            Call::Read,
            format!("rows of {view}"),
            self.inner().query(view, generation, query),
        )
        .await
    }

    async fn count(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        query: &Query,
        cap: u64,
    ) -> Result<u64, Error> {
        self.run(
            Call::Read,
            format!("count of {view}"),
            self.inner().count(view, generation, query, cap),
        )
        .await
    }

    async fn settle(&self, view: &ViewName, generation: Option<u32>) -> Result<(), Error> {
        self.inner().settle(view, generation).await
    }

    async fn shown(
        &self,
        projection: &ProjectionName,
        generation: u32,
        reached: At,
        wanted: Option<At>,
    ) -> Result<At, Error> {
        self.inner()
            .shown(projection, generation, reached, wanted)
            .await
    }

    fn lineage(&self) -> u64 {
        self.inner().lineage()
    }
}
