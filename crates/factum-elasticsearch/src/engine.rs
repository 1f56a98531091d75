//! The engine: one cluster that keeps the views of any number of stores.

use std::sync::Arc;

use async_trait::async_trait;
use factum_core::{Error, OutsideViews, Store, ViewsEngine};

use crate::{client::Client, options::ElasticsearchOptions, places::Places, views::StoreViews};

/// Views on Elasticsearch or OpenSearch.
///
/// Give it to [`WithViews`](factum_core::WithViews) with the stores whose views it shall keep. Rows are found as they are
/// in any other engine, and by full text. They are written by projections alone, and never in one commit with anything
/// else; queries that carry no token may not show the last second.
///
/// ```
/// use factum_elasticsearch::{ElasticsearchOptions, ElasticsearchViews};
/// let options = ElasticsearchOptions::parse("elasticsearch://localhost:9200/shop")?;
/// let views = ElasticsearchViews::connect(options)?;
/// # drop(views);
/// # Ok::<(), factum_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ElasticsearchViews {
    client: Client,
    options: Arc<ElasticsearchOptions>,
}

impl ElasticsearchViews {
    /// The cluster that `options` name. It is asked nothing yet, and may be away.
    ///
    /// # Errors
    ///
    /// Class fatal, when certificates can't be read or an API key is none.
    pub fn connect(options: ElasticsearchOptions) -> Result<Self, Error> {
        Ok(Self {
            client: Client::new(&options)?,
            options: Arc::new(options),
        })
    }
}

#[async_trait]
impl ViewsEngine for ElasticsearchViews {
    async fn open(&self, store: Arc<dyn Store>) -> Result<Arc<dyn OutsideViews>, Error> {
        let places = Places::new(self.client.clone(), self.options.clone());
        Ok(Arc::new(StoreViews { places, store }))
    }

    async fn close(&self) {
        self.client.close();
    }
}
