//! A store whose views show each query all that was written, as the cases of the port's suite expect it: here they have to be
//! asked to, since a cluster shows late what it took.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use factum_core::{
    At, Commit, CommitError, Committed, Error, Layered, ProjectionName, Query, Row, Rows, Store,
    StoreLayer, ViewDefinition, ViewName, Views, ViewsCapabilities,
};

/// The same store with views that show all.
pub(crate) fn settled(store: Arc<dyn Store>) -> Arc<dyn Store> {
    let views = Settled {
        store: store.clone(),
        written: AtomicBool::new(true),
    };
    Arc::new(Layered(Settling { store, views }))
}

#[derive(Debug)]
struct Settling {
    store: Arc<dyn Store>,
    views: Settled,
}

#[async_trait]
impl StoreLayer for Settling {
    fn below(&self) -> &Arc<dyn Store> {
        &self.store
    }

    fn views(&self) -> Option<&dyn Views> {
        Some(&self.views)
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        let committed = self.store.commit(commit).await;
        self.views.written.store(true, Ordering::SeqCst);
        committed
    }
}

#[derive(Debug)]
struct Settled {
    store: Arc<dyn Store>,
    /// Whether anything was written since all was shown.
    written: AtomicBool,
}

impl Settled {
    fn views(&self) -> &dyn Views {
        self.store.views().expect("the store was made with views")
    }

    async fn show(&self, view: &ViewName, generation: Option<u32>) -> Result<(), Error> {
        // What readers see is one view in all cases; those who ask for a generation have several.
        let written = self.written.load(Ordering::SeqCst) || generation.is_some();
        if written {
            self.views().settle(view, generation).await?;
            self.written.store(false, Ordering::SeqCst);
        }
        Ok(())
    }
}

#[async_trait]
impl Views for Settled {
    fn capabilities(&self) -> ViewsCapabilities {
        self.views().capabilities()
    }

    async fn ensure(&self, definition: &ViewDefinition, generation: u32) -> Result<(), Error> {
        self.views().ensure(definition, generation).await
    }

    async fn active(&self, projection: &ProjectionName) -> Result<Option<u32>, Error> {
        self.views().active(projection).await
    }

    async fn drop_generation(
        &self,
        projection: &ProjectionName,
        generation: u32,
    ) -> Result<(), Error> {
        self.views().drop_generation(projection, generation).await
    }

    async fn get(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        id: &str,
    ) -> Result<Option<Row>, Error> {
        self.views().get(view, generation, id).await
    }

    async fn query(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        query: &Query,
    ) -> Result<Rows, Error> {
        self.show(view, generation).await?;
        self.views().query(view, generation, query).await
    }

    async fn count(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        query: &Query,
        cap: u64,
    ) -> Result<u64, Error> {
        self.show(view, generation).await?;
        self.views().count(view, generation, query, cap).await
    }

    async fn settle(&self, view: &ViewName, generation: Option<u32>) -> Result<(), Error> {
        self.views().settle(view, generation).await
    }

    async fn shown(
        &self,
        projection: &ProjectionName,
        generation: u32,
        reached: At,
        wanted: Option<At>,
    ) -> Result<At, Error> {
        self.views()
            .shown(projection, generation, reached, wanted)
            .await
    }

    fn lineage(&self) -> u64 {
        self.views().lineage()
    }
}
