//! The orders that the stock service knows, from its import of them.

use std::{fmt, sync::Arc};

use factum::{Category, Failure, Read, Store, StreamId, Version};

use crate::contracts::{Item, OrderCreated, OrderId};

/// The category of imported orders.
pub(super) const ORDER: &str = "order";

/// Reads imported orders. What it reads never changes, so that a decision may rest on it.
#[derive(Clone)]
pub(super) struct Orders {
    store: Arc<dyn Store>,
}

impl Orders {
    pub(super) fn of(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The items of an order.
    ///
    /// # Errors
    ///
    /// Transient while the order is not known.
    pub(super) async fn items(&self, order: &OrderId) -> Result<Vec<Item>, Failure> {
        let stream = StreamId::new(Category::of(ORDER), order.as_str())
            .map_err(|error| Failure::poison(error.to_string()))?;
        let page = self.store.read_stream(&stream, Version(1), 1).await?;
        let Some(record) = page.records.first() else {
            return Err(Failure::transient(format!(
                "order `{order}` is not known here yet"
            )));
        };
        let catalog = factum::Catalog::<OrderCreated>::new()?;
        match catalog.read(&record.draft.event_type, &record.draft.data)? {
            Read::Events(events) => Ok(events
                .into_iter()
                .flat_map(|(created, _)| created.items)
                .collect()),
            Read::Foreign | Read::UnknownVersion => Err(Failure::poison(format!(
                "what is known of order `{order}` can't be read"
            ))),
        }
    }
}

impl fmt::Debug for Orders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Orders")
    }
}
