//! What topics know of a store: a restore must begin behind all of it.

use factum_core::{Epoch, Error, StoreId, chain::Link};
use rusqlite::Connection;
use tracing::warn;

use super::{chunk::ChunkReader, place::Place};
use crate::error::Doing;

/// The greatest epoch in which a record that the topics hold was written by `source`.
///
/// Every message is looked at: an epoch may be found in a single one, wherever it is. A message that is damaged hides
/// those behind it in its chunk, which is no reason to refuse a restore.
pub(crate) fn epoch_of(connection: &Connection, source: StoreId) -> Result<Option<Epoch>, Error> {
    const WHAT: &str = "look for a store's epochs in the topics";
    let mut statement = connection
        .prepare("SELECT place, data FROM main.chunks")
        .doing(WHAT)?;
    let mut rows = statement.query([]).doing(WHAT)?;
    let mut found = None;
    while let Some(row) = rows.next().doing(WHAT)? {
        let first = Place::stored(row.get(0).doing(WHAT)?);
        for message in ChunkReader::new(first, row.get(1).doing(WHAT)?) {
            let message = match message {
                Ok(message) => message,
                Err(error) => {
                    warn!("what topics know of store {source} may be incomplete: {error}");
                    continue;
                }
            };
            let link = Link::from_headers(|name| message.headers.get(name));
            if let Ok(Some(link)) = link
                && link.source == source
            {
                found = found.max(Some(link.at.epoch));
            }
        }
    }
    Ok(found)
}
