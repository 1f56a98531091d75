//! The relay's row: its owner, its checkpoint, and the last record published to each partition as of it.

use factum_core::{At, Error, Fence, RelayClaim, RelayInput, Topic};
use tokio_postgres::Row;

use crate::{
    call::Call,
    error::{column, damaged},
    number::{fence, place, signed, small},
    schema::Schema,
};

/// The row without the partitions, as the writer needs it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Relay {
    pub(crate) fence: Fence,
    pub(crate) checkpoint: At,
}

/// Asks for the row.
pub(crate) fn row(schema: &Schema) -> Call {
    schema.call(
        "SELECT fence_epoch, fence_owner, checkpoint_epoch, checkpoint_position FROM factum.relay",
    )
}

/// Claims it.
pub(crate) fn claim(schema: &Schema) -> Call {
    schema.call("SELECT fence_epoch, fence_owner, checkpoint_epoch, checkpoint_position FROM factum.claim_relay()")
}

/// Asks for the last records of the partitions.
pub(crate) fn lasts(schema: &Schema) -> Call {
    schema.call("SELECT topic, partition, epoch, position FROM factum.relay_lasts ORDER BY topic, partition")
}

/// The row that [`row`] or [`claim`] asked for.
pub(crate) fn decode(row: Option<&Row>) -> Result<Relay, Error> {
    let row = row.ok_or_else(|| damaged("the relay's row"))?;
    Ok(Relay {
        fence: fence(column(row, 0)?, column(row, 1)?),
        checkpoint: place(column(row, 2)?, column(row, 3)?),
    })
}

/// What a new owner reads.
pub(crate) fn claimed(relay: Relay, lasts: &[Row]) -> Result<RelayClaim, Error> {
    let last = |row: &Row| {
        let name: String = column(row, 0)?;
        let broken = || damaged(format!("topic `{name}`"));
        let topic = Topic::new(&name).map_err(|_| broken())?;
        let partition = u32::try_from(column::<i32>(row, 1)?).map_err(|_| broken())?;
        Ok((topic, partition, place(column(row, 2)?, column(row, 3)?)))
    };
    Ok(RelayClaim {
        fence: relay.fence,
        checkpoint: relay.checkpoint,
        lasts: lasts.iter().map(last).collect::<Result<_, Error>>()?,
    })
}

/// Moves the checkpoint, if its owner is still the one who decided so.
pub(crate) fn advance(schema: &Schema, fence: Fence, checkpoint: At) -> Call {
    schema
        .call(
            "WITH written AS (UPDATE factum.relay SET checkpoint_epoch = $3, checkpoint_position = $4 \
             WHERE fence_epoch = $1 AND fence_owner = $2 RETURNING 1) \
             SELECT factum.must((SELECT count(*) FROM written) = 1, 'relay')",
        )
        .with(signed(fence.store.0))
        .with(signed(fence.owner.0))
        .with(signed(checkpoint.epoch.0))
        .with(signed(checkpoint.position.0))
}

/// Notes the last records of partitions, as of the checkpoint that is moved with it.
pub(crate) fn put_lasts<'a>(
    schema: &Schema,
    lasts: impl Iterator<Item = (&'a Topic, u32, At)>,
) -> Call {
    let (mut topics, mut partitions, mut epochs, mut positions) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (topic, partition, at) in lasts {
        topics.push(topic.as_str().to_string());
        partitions.push(small(partition));
        epochs.push(signed(at.epoch.0));
        positions.push(signed(at.position.0));
    }
    schema
        .call(
            "INSERT INTO factum.relay_lasts SELECT * FROM unnest($1, $2, $3, $4) \
             ON CONFLICT (topic, partition) DO UPDATE SET epoch = excluded.epoch, position = excluded.position",
        )
        .with(topics)
        .with(partitions)
        .with(epochs)
        .with(positions)
}

impl Relay {
    /// Whether `input` moves the checkpoint. An older one is no failure: the rows as of the newer one hold, unless it is a
    /// rewind.
    pub(crate) fn is_moved_by(&self, input: &RelayInput) -> bool {
        input.rewind || input.checkpoint >= self.checkpoint
    }
}
