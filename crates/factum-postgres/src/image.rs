//! What the writer knows of owners, topics and views: as the database had it when it was last looked at.
//!
//! Whatever is decided on it is guarded when it is written, so that an outdated image costs a second attempt and never a
//! wrong commit. A refusal is verified on a fresh one before it is told.

use std::{collections::BTreeMap, sync::Arc};

use factum_core::{Epoch, Error, Fence, Group, InboxId, ProjectionName, Topic};
use tokio_postgres::Row;

use crate::{
    call::Call,
    connection::Connection,
    error::{column, damaged},
    inbox::{self, Inbox},
    number::fence,
    projections::{self, Projection},
    relay::{self, Relay},
    schema::Schema,
    shared::Shared,
    views::{self, Catalog},
};

/// Owners, topics and views of one store.
#[derive(Debug, Default)]
pub(crate) struct Image {
    pub(crate) epoch: Epoch,
    pub(crate) topics: BTreeMap<Topic, u32>,
    pub(crate) inboxes: BTreeMap<InboxId, Inbox>,
    pub(crate) projections: BTreeMap<(ProjectionName, u32), Projection>,
    pub(crate) relay: Relay,
    pub(crate) timers: Fence,
    pub(crate) catalog: Arc<Catalog>,
}

/// Asks for the pinned topics, in the order of their names.
pub(crate) fn topics(schema: &Schema) -> Call {
    schema.call("SELECT topic, partitions FROM factum.topics ORDER BY topic")
}

/// A topic as [`topics`] asked for it.
pub(crate) fn topic_of(row: &Row) -> Result<(Topic, u32), Error> {
    let name: String = column(row, 0)?;
    let broken = || damaged(format!("topic `{name}`"));
    let partitions = u32::try_from(column::<i32>(row, 1)?).map_err(|_| broken())?;
    Ok((Topic::new(&name).map_err(|_| broken())?, partitions))
}

impl Image {
    /// Looks at all of it, and lets readers know of the epoch and the views.
    pub(crate) async fn load(connection: &Connection, shared: &Shared) -> Result<Self, LoadError> {
        let schema = &shared.schema;
        let calls = [
            schema.call("SELECT epoch FROM factum.epochs ORDER BY ordinal DESC LIMIT 1"),
            schema.call("SELECT timers_fence_epoch, timers_fence_owner FROM factum.store"),
            topics(schema),
            inbox::all(schema),
            projections::all(schema),
            relay::row(schema),
            views::definitions(schema),
            views::active(schema),
        ];
        let answers = connection.rows_of_all(&calls).await?;
        let answers: Vec<_> = answers.into_iter().collect::<Result<_, _>>()?;
        let [
            epoch,
            timers,
            topics,
            inboxes,
            projections,
            relay,
            definitions,
            active,
        ] = &answers[..]
        else {
            return Err(damaged("the store's owners").into());
        };
        let first = |rows: &[Row]| {
            rows.first()
                .cloned()
                .ok_or_else(|| damaged("the store's row"))
        };
        let (epoch, timers) = (first(epoch)?, first(timers)?);
        let image = Self {
            epoch: Epoch(column::<i64>(&epoch, 0)?.cast_unsigned()),
            topics: topics.iter().map(topic_of).collect::<Result<_, _>>()?,
            inboxes: inboxes
                .iter()
                .map(inbox::decode)
                .collect::<Result<_, _>>()?,
            projections: projections::decode_all(projections)?,
            relay: relay::decode(relay.first())?,
            timers: fence(column(&timers, 0)?, column(&timers, 1)?),
            catalog: Arc::new(views::catalog(schema, definitions, active)?),
        };
        shared.set_epoch(image.epoch);
        shared.set_views(image.catalog.clone());
        Ok(image)
    }

    /// A generation that is not forgotten.
    pub(crate) fn projection(&self, id: &(ProjectionName, u32)) -> Option<&Projection> {
        self.projections
            .get(id)
            .filter(|row| row.fingerprint.is_some())
    }

    /// How many messages of a group are parked. Those of inboxes that other processes own may be some behind.
    pub(crate) fn parked_in(&self, group: &Group) -> u64 {
        let of_group = self.inboxes.iter().filter(|(id, _)| id.group == *group);
        of_group.map(|(_, inbox)| inbox.parked).sum()
    }
}

/// Why something could not be looked at.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// The server or the connection said so.
    Server(tokio_postgres::Error),
    /// What it gave can't be read.
    Content(Error),
}

impl From<tokio_postgres::Error> for LoadError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(error)
    }
}

impl From<Error> for LoadError {
    fn from(error: Error) -> Self {
        Self::Content(error)
    }
}
