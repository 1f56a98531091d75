//! The server that a store stands on, and what follows when it is another one than before.
//!
//! A standby that was promoted may lack what its primary has acknowledged, and so may a server that was restored. Each has
//! another time line in its write-ahead log than before (or another identifier), and the store notes both. Every
//! transaction that writes compares them (`factum.be_durable`). Where they differ, a new epoch is opened before anything
//! else, so that no position is taken for one of the lost log.

use factum_core::{Env, Epoch, Error};
use tracing::warn;

use crate::{
    connection::Connection,
    error::{Doing, column},
    number::{micros, signed},
    schema::Schema,
};

/// Takes note of the server, and opens a new epoch when it is not the one that the store was on. However many processes do
/// so at once, one opens it.
pub(crate) async fn recognise(
    connection: &Connection,
    schema: &Schema,
    env: &Env,
) -> Result<(), Error> {
    const WHAT: &str = "look which server it is";
    let now = env.now();
    // It is made greater than the present one there, where no other can be opened meanwhile.
    let epoch = Epoch::opened_at(now, Epoch::ZERO);
    let call = schema
        .call("SELECT factum.recognise($1, $2)")
        .with(signed(epoch.0))
        .with(micros(now));
    let row = connection.row(&call).await.doing(WHAT)?;
    let reason: Option<String> = row.map_or(Ok(None), |row| column(&row, 0))?;
    if let Some(reason) = reason {
        warn!("a new epoch of schema {} is opened: {reason}", schema.name);
    }
    Ok(())
}
