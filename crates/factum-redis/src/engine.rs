//! The engine: one server, and the views of as many stores as there are.

use std::sync::Arc;

use async_trait::async_trait;
use factum_core::{Error, OutsideViews, Store, ViewsEngine};

use crate::{link::Link, options::RedisOptions, views::RedisStoreViews};

/// A Redis server that keeps views.
///
/// [`WithViews`](factum_core::WithViews) gives stores their views on it.
#[derive(Debug)]
pub struct RedisViews {
    link: Arc<Link>,
    options: RedisOptions,
}

impl RedisViews {
    /// Connects to a server, and looks at it: see [`RedisViews::remarks`].
    ///
    /// The connection is made anew whenever it breaks, without an end.
    ///
    /// # Errors
    ///
    /// Class fatal when the server refuses user, password or database, is too old, or can't be trusted; class transient
    /// when it can't be reached, or is not ready yet.
    pub async fn connect(options: RedisOptions) -> Result<Self, Error> {
        let link = Arc::new(Link::connect(options.clone()).await?);
        Ok(Self { link, options })
    }

    /// What a person should change about the server, in words: it may drop keys when its memory is full, it keeps
    /// nothing over a restart, it is a replica. Logged as well, each time that it is another.
    pub fn remarks(&self) -> Vec<String> {
        self.link.remarks()
    }
}

#[async_trait]
impl ViewsEngine for RedisViews {
    async fn open(&self, store: Arc<dyn Store>) -> Result<Arc<dyn OutsideViews>, Error> {
        let prefix = self.options.key_prefix.clone();
        Ok(Arc::new(RedisStoreViews::new(
            self.link.clone(),
            store,
            prefix,
        )))
    }

    async fn close(&self) {
        self.link.close();
    }
}
