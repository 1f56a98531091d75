//! After a restore: relays go back to what the topics have lost of what they published.
//!
//! A relay goes on behind its checkpoint. When topics were lost with the disk, or the restored groups stand before what
//! retention has left, messages before the checkpoint would be missing for good, and all behind them be left out. So
//! what each group will have taken, once it has read what is there, is compared with what each relay has published, and a
//! relay that is ahead is set back. What comes twice is known as a duplicate.

use std::collections::BTreeMap;

use factum_core::{At, Epoch, Error, Lasts, Position, Start, StoreId, TopicPartition};
use rusqlite::{Connection, params};

use crate::{
    broker,
    error::{Doing, damaged},
    inbox,
    number::{record_key, signed},
    relay::Relay,
};

/// A group's place in a partition, when it has read all of it.
struct Reader {
    number: i64,
    start: Start,
    stored: Lasts,
    /// With what is still to be read.
    will_have: Lasts,
}

/// Sets back each relay of the file that has published more than some group can come to have.
pub(crate) fn set_back(db: &Connection) -> Result<(), Error> {
    let stores = stores(db)?;
    let mut readers = BTreeMap::<TopicPartition, Vec<Reader>>::new();
    for (store, _) in &stores {
        for (number, id, row) in inbox::read_all(db, *store)? {
            let partition = TopicPartition::new(id.topic, id.partition);
            if let Some(will_have) = broker::fold_unfinished(db, &partition, &row)? {
                readers.entry(partition).or_default().push(Reader {
                    number,
                    start: row.start,
                    stored: row.lasts,
                    will_have,
                });
            }
        }
    }
    for (store, source) in stores {
        let mut relay = Relay::load(db, store)?;
        let claim = relay.to_claim();
        let mut to = claim.checkpoint;
        let mut anchored = Vec::new();
        for (topic, partition, published) in claim.lasts {
            let partition = TopicPartition::new(topic, partition);
            for reader in readers.get_mut(&partition).into_iter().flatten() {
                let taken = reader.will_have.get(source);
                if reader.start == Start::Anchor && taken == At::ZERO {
                    anchored.push((partition.clone(), published));
                } else if taken < published {
                    let taken = place(db, store, taken)?;
                    if taken.position < to.position {
                        to = taken;
                    }
                }
            }
        }
        if to == claim.checkpoint {
            continue;
        }
        tracing::warn!(
            "the relay of store {source} is set back from {} to {to}: the topics have lost what was published behind",
            claim.checkpoint
        );
        // A group that wanted nothing from before its time must not get it now.
        for (partition, published) in anchored {
            for reader in readers.get_mut(&partition).into_iter().flatten() {
                if reader.start == Start::Anchor && reader.will_have.get(source) == At::ZERO {
                    reader.stored.set(source, published);
                    reader.will_have.set(source, published);
                    write_lasts(db, reader)?;
                }
            }
        }
        relay.set_back(db, to)?;
        relay.flush(db)?;
    }
    Ok(())
}

fn stores(db: &Connection) -> Result<Vec<(i64, StoreId)>, Error> {
    const WHAT: &str = "list the stores";
    let mut statement = db
        .prepare("SELECT number, id FROM main.stores ORDER BY number")
        .doing(WHAT)?;
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)))
        .doing(WHAT)?;
    rows.map(|row| {
        let (number, id) = row.doing(WHAT)?;
        let id = uuid::Uuid::from_slice(&id).map_err(|_| damaged("a store's id"))?;
        Ok((number, StoreId(id)))
    })
    .collect()
}

/// The last record of the log that is not behind `at`, which may lie on a time line that was lost.
fn place(db: &Connection, store: i64, at: At) -> Result<At, Error> {
    const LAST: &str = "SELECT key, epoch FROM main.records WHERE key BETWEEN ?1 AND ?2 AND epoch <= ?3 \
         ORDER BY key DESC LIMIT 1";
    let (first, last) = (
        record_key(store, Position(0)),
        record_key(store, at.position),
    );
    let found = db.query_row(LAST, [first, last, signed(at.epoch.0)], |row| {
        Ok((row.get(0)?, row.get::<_, i64>(1)?))
    });
    match found {
        Ok((key, epoch)) => Ok(At {
            epoch: Epoch(epoch.cast_unsigned()),
            position: crate::number::position(key),
        }),
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(At::ZERO),
        Err(error) => Err(error).doing("find the place to which a relay is set back"),
    }
}

fn write_lasts(db: &Connection, reader: &Reader) -> Result<(), Error> {
    let lasts = serde_json::to_string(&reader.stored)
        .map_err(|error| Error::fatal("an inbox row can't be encoded").caused_by(error))?;
    db.execute(
        "UPDATE main.inboxes SET lasts = ?2 WHERE number = ?1",
        params![reader.number, lasts],
    )
    .doing("write an inbox row")
    .map(drop)
}
