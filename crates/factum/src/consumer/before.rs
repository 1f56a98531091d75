//! What lies in a partition before the place where an owner goes on: the links of the messages there, without the messages.
//!
//! It is read backwards, a stretch at a time: the newest messages are those that say where a chain stands.

use factum_core::{Broker, Error, Link, Message, Timestamp, TopicPartition};

use crate::stretch::read_stretch;

/// How many messages are read at a time.
const STRETCH: u64 = 100;

/// After so many bytes no further stretch is begun. With one of large messages that makes 164 MB at most, of which
/// what the broker gives at a time is held.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// A message with a link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linked {
    pub(super) offset: u64,
    pub(super) link: Link,
    pub(super) timestamp: Timestamp,
}

/// The links of at most `depth` messages before `low`, and from `first` on, in their order: the last ones, whatever their
/// size.
pub(super) async fn before(
    broker: &dyn Broker,
    partition: &TopicPartition,
    first: u64,
    low: u64,
    depth: u64,
) -> Result<Vec<Linked>, Error> {
    let lowest = low.saturating_sub(depth).max(first);
    let (mut stretches, mut bytes, mut to) = (Vec::new(), 0, low);
    while to > lowest && bytes < BYTES_MAX {
        let from = to.saturating_sub(STRETCH).max(lowest);
        let mut stretch = Vec::new();
        read_stretch(broker, partition, from, to, |message| {
            bytes += message.size();
            stretch.extend(linked(message));
        })
        .await?;
        stretches.push(stretch);
        to = from;
    }
    Ok(stretches.into_iter().rev().flatten().collect())
}

fn linked(message: &Message) -> Option<Linked> {
    let link = Link::from_headers(|name| message.headers.get(name));
    Some(Linked {
        offset: message.offset,
        link: link.ok().flatten()?,
        timestamp: message.timestamp,
    })
}
