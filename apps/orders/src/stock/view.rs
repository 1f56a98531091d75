//! The stock service's own view: what is on each shelf.

use factum::{Failure, Projection, Recorded, RowSet, View, ViewDefinition};
use serde::{Deserialize, Serialize};

use crate::contracts::{ShelfEvent, Sku};

/// Shelves by SKU.
pub const SHELVES: View<ShelfRow> = View::new("shelves");

/// A shelf as queries show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShelfRow {
    /// The thing.
    pub sku: Sku,
    /// How many are in the house.
    pub on_hand: u64,
    /// How many of them are put aside.
    pub reserved: u64,
    /// How many are not put aside.
    pub available: u64,
}

/// Keeps shelves.
pub(crate) struct KeepShelves;

impl Projection for KeepShelves {
    const NAME: &'static str = "shelves";
    type Event = ShelfEvent;

    fn views(&self) -> Vec<ViewDefinition> {
        vec![SHELVES.kept_by::<Self>()]
    }

    async fn project(
        &self,
        event: &Recorded<ShelfEvent>,
        rows: &mut RowSet<'_>,
    ) -> Result<(), Failure> {
        // What changes: the thing, how many come in, how many are put aside.
        let (sku, on_hand, reserved): (&Sku, i128, i128) = match &event.data {
            ShelfEvent::Received(event) => (&event.sku, event.qty.into(), 0),
            ShelfEvent::Reserved(event) => (&event.sku, 0, event.qty.into()),
            ShelfEvent::Released(event) => (&event.sku, 0, -i128::from(event.qty)),
            ShelfEvent::Taken(event) => {
                (&event.sku, -i128::from(event.qty), -i128::from(event.qty))
            }
        };
        let before = rows.get(SHELVES, sku.as_str()).await?;
        let mut row = before.unwrap_or_else(|| ShelfRow {
            sku: sku.clone(),
            on_hand: 0,
            reserved: 0,
            available: 0,
        });
        let changed = |count: u64, by: i128| {
            u64::try_from(i128::from(count) + by)
                .map_err(|_| Failure::stop(format!("shelf `{sku}` would hold less than nothing")))
        };
        row.on_hand = changed(row.on_hand, on_hand)?;
        row.reserved = changed(row.reserved, reserved)?;
        row.available = row.on_hand.saturating_sub(row.reserved);
        rows.put(SHELVES, sku.as_str(), &row)
    }
}
